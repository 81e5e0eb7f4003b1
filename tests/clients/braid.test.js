// The npm package `braid-http`, the reference client of Braid-HTTP.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { fetch as braid } from 'braid-http';

import { Api } from './harness/api.js';
import { Pogo } from './harness/pogo.js';
import { Inbox, within } from './harness/waiting.js';

describe('npm braid-http', () => {
  async function world(t, configuration) {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api, configuration);
    const aborts = new AbortController();
    t.after(() => aborts.abort());
    return { api, pogo, signal: aborts.signal };
  }

  /** Subscribes; gives the response, and updates as they come. */
  async function subscribe(url, options) {
    const updates = new Inbox('an update');
    const response = await within(braid(url, { subscribe: true, ...options }), 'the response');
    response.subscribe((update) => updates.push(update), (fault) => updates.end(fault));
    return { response, updates };
  }

  const state = (update) => JSON.parse(update.body_text);

  it('is given the first state, what others write, and that it is gone and back', async (t) => {
    const { api, pogo, signal } = await world(t);
    api.put('/posts/1', { title: 'First' });
    const { response, updates } = await subscribe(`${pogo.origin}/posts/1`, { signal });
    assert.equal(response.status, 209);
    const first = await updates.next();
    assert.deepEqual(state(first), { title: 'First' });
    assert.equal(response.headers.get('current-version'), JSON.stringify(first.version[0]));
    assert.equal(await pogo.write('PUT', '/posts/1', { title: 'Zweite 😀\r\n' }), 204);
    const second = await updates.next();
    assert.deepEqual(state(second), { title: 'Zweite 😀\r\n' });
    assert.notDeepEqual(second.version, first.version);
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    const gone = await updates.next();
    assert.deepEqual([gone.status, gone.body.length], ['404', 0]);
    assert.equal(await pogo.write('PUT', '/posts/1', { title: 'First' }), 204);
    const back = await updates.next();
    assert.deepEqual([state(back), back.version], [{ title: 'First' }, first.version]);
  });

  it('comes back after a drain with the parents that it holds', async (t) => {
    const { api, pogo, signal } = await world(t);
    api.put('/posts/1', { n: 1 });
    let held = null;
    const options = { signal, retry: true, parents: () => held };
    const { updates } = await subscribe(`${pogo.origin}/posts/1`, options);
    held = (await updates.next()).version;
    await pogo.drain();
    assert.equal(await pogo.ended(), 0);
    api.seen.rest();
    const again = await Pogo.before(t, api, '', pogo.address);
    const returns = await api.seen.find(({ path }) => path === '/posts/1');
    assert.equal(returns.headers.parents, JSON.stringify(held[0]));
    assert.equal(await again.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.deepEqual(state(await updates.next()), { n: 2 }, 'what it held is not sent again');
  });

  it('lives on heartbeats where nothing happens', async (t) => {
    const { api, pogo, signal } = await world(t);
    api.put('/posts/1', 1);
    let beats = 0;
    const beaten = new Promise((resolve) => {
      const onBytes = (bytes) => {
        if (bytes.every((byte) => byte === 10 || byte === 13) && ++beats === 2) resolve();
      };
      subscribe(`${pogo.origin}/posts/1`, { signal, heartbeats: 1, onBytes });
    });
    await within(beaten, 'two heartbeats');
  });

  it('is refused where the API refuses', async (t) => {
    const { api, pogo } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'no' } }));
    for (const [path, status] of [['/secret', 403], ['/nothing', 404]]) {
      const response = await braid(pogo.origin + path, { subscribe: true });
      assert.equal(response.status, status);
      assert.throws(() => response.subscribe(() => {}), /unexpected subscription status/);
    }
  });

  it('has its subscription ended when it may not see it any more', async (t) => {
    const { api, pogo } = await world(t);
    api.put('/posts/1', 1);
    const { updates } = await subscribe(`${pogo.origin}/posts/1`, {});
    assert.equal(state(await updates.next()), 1);
    api.on('GET /posts/1', () => ({ status: 403, body: { detail: 'no' } }));
    assert.equal(await pogo.write('PUT', '/posts/1', 2), 204);
    const last = await updates.next().catch((fault) => fault);
    assert.ok(last instanceof Error || last.status === '403', JSON.stringify(last));
    await assert.rejects(updates.next(), /Connection closed/);
  });
});
