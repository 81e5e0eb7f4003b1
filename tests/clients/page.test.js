// The page of the quickstart, in two windows of a browser.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { lines, start, stop } from './harness/child.js';
import { Chromium } from './harness/chromium.js';
import { Inbox } from './harness/waiting.js';

const PROGRAM = process.env.POGO_QUICKSTART ?? fileURLToPath(new URL('../../target/debug/examples/quickstart', import.meta.url));

/** In the page: when the list's titles are these. */
function shows(titles) {
  const shown = () => JSON.stringify([...document.querySelectorAll('#items .title')].map((each) => each.value || each.textContent));
  return new Promise((resolve) => {
    const look = () => shown() === JSON.stringify(titles) && resolve(true);
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true, characterData: true });
    look();
  });
}

/** In the page: becomes this user, as if chosen. */
function become(name) {
  const who = document.getElementById('who');
  who.value = name;
  who.dispatchEvent(new Event('change'));
}

/** In the page: adds an item. */
function add(title, isPrivate) {
  document.getElementById('title').value = title;
  document.getElementById('private').checked = isPrivate;
  document.getElementById('add').requestSubmit();
}

describe('the page of the quickstart', () => {
  let chromium;
  before(async () => { chromium = await Chromium.start(); });
  after(() => chromium?.stop());

  it('keeps two windows in step, each with what its user may see', async (t) => {
    const running = start(PROGRAM, ['--port', '0', '--api-port', '0']);
    t.after(() => stop(running));
    const said = new Inbox('a line of the quickstart');
    lines(running.child.stdout, (line) => said.push(line), () => said.end('it has ended'));
    running.child.stderr.resume();
    const url = (await said.find((line) => line.endsWith('/app'))).trim();
    const alice = await chromium.open(url), bob = await chromium.open(url);
    assert.ok(await alice.run(shows, ['Water the plants', 'Book the train', 'Return the books']));
    await alice.run(become, 'alice');
    await bob.run(become, 'bob');
    const alices = ['Water the plants', 'Book the train', 'Present for Bob', 'Return the books'];
    const bobs = ['Water the plants', 'Book the train', 'Return the books', 'Surprise party'];
    assert.ok(await alice.run(shows, alices));
    assert.ok(await bob.run(shows, bobs));
    await alice.run(add, 'A secret', true);
    assert.ok(await alice.run(shows, [...alices, 'A secret']));
    await alice.run(add, 'Tea', false);
    assert.ok(await alice.run(shows, [...alices, 'A secret', 'Tea']));
    assert.ok(await bob.run(shows, [...bobs, 'Tea']));
    assert.equal(await bob.run(() => document.body.textContent.includes('A secret')), false);
  });
});
