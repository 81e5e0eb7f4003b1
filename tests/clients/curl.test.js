// `curl`, as one uses it in a terminal.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import { Api } from './harness/api.js';
import { lines, start, stop } from './harness/child.js';
import { Pogo } from './harness/pogo.js';
import { Inbox, within } from './harness/waiting.js';

describe('curl', () => {
  async function world(t) {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api);
    return { api, pogo };
  }

  /** Its lines as they come, and its exit code. */
  function curl(t, ...args) {
    const running = start('curl', ['--silent', '--no-buffer', ...args]);
    t.after(() => stop(running));
    const out = new Inbox('a line of curl');
    lines(running.child.stdout, (line) => out.push(line), () => out.end('curl has ended'));
    running.child.stderr.resume();
    return { out, ended: () => within(running.ended, 'the end of curl') };
  }

  /** The lines of the next event. */
  async function event(out) {
    const said = [];
    await out.find((line) => {
      if (line !== '' && !/^(retry|:)/.test(line)) said.push(line);
      return line === '' && said.some((each) => each.startsWith('data:'));
    });
    return said;
  }

  it('prints server-sent events until a drain, which is a good end', async (t) => {
    const { api, pogo } = await world(t);
    api.put('/posts/1', { n: 1 });
    const { out, ended } = curl(t, '-H', 'Accept: text/event-stream', `${pogo.origin}/posts/1`);
    const [id, name, data] = await event(out);
    assert.match(id, /^id: [0-9a-f]{32}$/);
    assert.deepEqual([name, data], ['event: update', 'data: {"n":1}']);
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.equal((await event(out))[2], 'data: {"n":2}');
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    assert.deepEqual(await event(out), ['id: absent', 'event: delete', 'data: null']);
    await pogo.drain();
    assert.equal(await ended(), 0);
    assert.equal(await pogo.ended(), 0);
  });

  it('is not sent again what its Last-Event-ID names', async (t) => {
    const { api, pogo } = await world(t);
    api.put('/posts/1', { n: 1 });
    const sse = ['-H', 'Accept: text/event-stream', `${pogo.origin}/posts/1`];
    const [id] = await event(curl(t, ...sse).out);
    const { out } = curl(t, '-H', `Last-Event-ID: ${id.slice(4)}`, ...sse);
    await out.find((line) => line === ': this is the latest');
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.equal((await event(out))[2], 'data: {"n":2}');
  });

  it('follows over HTTP/2 as well', async (t) => {
    const { api, pogo } = await world(t);
    api.put('/posts/1', { n: 1 });
    const { out, ended } = curl(t, '--http2-prior-knowledge', '-H', 'Accept: text/event-stream', `${pogo.origin}/posts/1`);
    assert.equal((await event(out))[2], 'data: {"n":1}');
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.equal((await event(out))[2], 'data: {"n":2}');
    await pogo.drain();
    assert.equal(await ended(), 0);
  });

  it('waits for the next state', async (t) => {
    const { api, pogo } = await world(t);
    api.put('/posts/1', { n: 1 });
    const now = curl(t, '-i', '-H', 'Prefer: wait=30', `${pogo.origin}/posts/1`);
    const tag = (await now.out.find((line) => /^etag: /i.test(line))).slice(6);
    assert.equal(await now.ended(), 0);
    api.seen.rest();
    const later = curl(t, '-i', '-H', 'Prefer: wait=30', '-H', `If-None-Match: ${tag}`, `${pogo.origin}/posts/1`);
    await api.seen.find(({ headers }) => headers['if-none-match'] === tag);
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.match(await later.out.next(), /^HTTP\/1\.1 200/);
    await later.out.find((line) => line === '{"n":2}');
    assert.equal(await later.ended(), 0);
  });

  it('fails with what the API answers', async (t) => {
    const { api, pogo } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'no' } }));
    for (const [path, status] of [['/nothing', '404'], ['/secret', '403']]) {
      const { out, ended } = curl(t, '--fail', '-w', '%{http_code}\\n', '-H', 'Accept: text/event-stream', pogo.origin + path);
      assert.equal(await out.next(), status);
      assert.equal(await ended(), 22);
    }
  });
});
