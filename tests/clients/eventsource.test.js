// `EventSource` of a browser.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { Api } from './harness/api.js';
import { Chromium } from './harness/chromium.js';
import { Pogo } from './harness/pogo.js';

/** In the page: tells every event that comes, and after an error what the browser makes of it. */
function follow(url, options) {
  const events = new EventSource(url, options);
  for (const name of ['update', 'delete', 'change', 'unbind', 'message']) {
    events.addEventListener(name, ({ type, data, lastEventId }) => tell(type, JSON.parse(data), lastEventId));
  }
  events.onerror = () => tell('error', ['CONNECTING', 'OPEN', 'CLOSED'][events.readyState]);
}

describe("a browser's EventSource", () => {
  let chromium;
  before(async () => { chromium = await Chromium.start(); });
  after(() => chromium?.stop());

  async function world(t, configuration) {
    const api = await Api.start(t);
    api.on('GET /page', () => ({ status: 200, body: '<!doctype html><title>a page</title>' }));
    const pogo = await Pogo.before(t, api, configuration);
    return { api, pogo, open: (cookies) => chromium.open(`${pogo.origin}/page`, cookies) };
  }

  it('holds the first state, what others write, and that it is gone and back', async (t) => {
    const { api, pogo, open } = await world(t);
    api.put('/posts/1', { title: 'First' });
    const page = await open();
    await page.run(follow, '/posts/1');
    const [type, data, first] = await page.said.next();
    assert.deepEqual([type, data], ['update', { title: 'First' }]);
    assert.match(first, /^[0-9a-f]{32}$/);
    assert.equal(await pogo.write('PUT', '/posts/1', { title: 'Second\n"…"' }), 204);
    const [, second, version] = await page.said.next();
    assert.deepEqual(second, { title: 'Second\n"…"' });
    assert.notEqual(version, first);
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    assert.deepEqual(await page.said.next(), ['delete', null, 'absent']);
    assert.equal(await pogo.write('PUT', '/posts/1', { title: 'First' }), 204);
    assert.deepEqual(await page.said.next(), ['update', { title: 'First' }, first]);
  });

  it('follows a collection that somebody adds to', async (t) => {
    const { api, pogo, open } = await world(t);
    api.put('/posts/a', { n: 1 });
    const page = await open();
    await page.run(follow, '/posts');
    assert.deepEqual((await page.said.next())[1], [{ n: 1 }]);
    assert.equal(await pogo.write('POST', '/posts', { n: 2 }), 201);
    assert.deepEqual((await page.said.next())[1], [{ n: 1 }, { n: 2 }]);
  });

  it('comes back after a drain with the id of what it holds, and is sent what is new', async (t) => {
    const { api, pogo, open } = await world(t);
    api.put('/posts/1', { n: 1 });
    const page = await open();
    await page.run(follow, '/posts/1');
    const [, , version] = await page.said.next();
    await pogo.drain();
    assert.deepEqual(await page.said.next(), ['error', 'CONNECTING']);
    assert.equal(await pogo.ended(), 0);
    api.put('/posts/1', { n: 2 });
    api.seen.rest();
    await Pogo.before(t, api, '', pogo.address);
    const returns = await api.seen.find(({ path }) => path === '/posts/1');
    assert.equal(returns.headers['last-event-id'], version);
    const come = await page.said.find(([type]) => type !== 'error');
    assert.deepEqual(come.slice(0, 2), ['update', { n: 2 }]);
  });

  it('is not sent again what it holds when it comes back', async (t) => {
    const { api, pogo, open } = await world(t, '[subscriptions]\nmax_lifetime = "1s"');
    api.put('/posts/1', { n: 1 });
    const page = await open();
    await page.run(follow, '/posts/1');
    const [, , version] = await page.said.next();
    assert.deepEqual(await page.said.next(), ['error', 'CONNECTING']);
    const returns = await api.seen.find(({ headers }) => headers['last-event-id']);
    assert.equal(returns.headers['last-event-id'], version);
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    const come = await page.said.find(([type]) => type !== 'error');
    assert.deepEqual(come.slice(0, 2), ['update', { n: 2 }]);
  });

  it('gives up where the API says 404 or 403', async (t) => {
    const { api, open } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'no' } }));
    const page = await open();
    for (const path of ['/nothing', '/secret']) {
      await page.run(follow, path);
      assert.deepEqual(await page.said.next(), ['error', 'CLOSED']);
    }
  });

  it('is told when it may not see it any more, and is refused when it comes back', async (t) => {
    const { api, pogo, open } = await world(t);
    api.put('/posts/1', { n: 1 });
    const page = await open();
    await page.run(follow, '/posts/1');
    assert.equal((await page.said.next())[0], 'update');
    api.on('GET /posts/1', () => ({ status: 403, body: { detail: 'no' } }));
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.deepEqual((await page.said.next()).slice(0, 2), ['unbind', { reason: 'forbidden' }]);
    assert.deepEqual(await page.said.next(), ['error', 'CONNECTING']);
    assert.deepEqual(await page.said.next(), ['error', 'CLOSED']);
  });

  it("sees with its own cookies, and nothing of another's", async (t) => {
    const { api, pogo, open } = await world(t);
    api.put('/posts/1', { n: 1 });
    let n = 1;
    api.on('GET /me', ({ headers }) => ({ status: 200, body: { n, cookie: headers.cookie ?? null } }));
    api.on('PUT /me', ({ body }) => { n = body.n; return { status: 204 }; });
    const pages = [await open({ who: 'alice' }), await open({ who: 'bob' }), await open()];
    const seen = ['who=alice', 'who=bob', null];
    for (const page of pages) await page.run(follow, '/me');
    for (const [i, page] of pages.entries()) assert.deepEqual((await page.said.next())[1], { n: 1, cookie: seen[i] });
    assert.equal(await pogo.write('PUT', '/me', { n: 2 }), 204);
    for (const [i, page] of pages.entries()) assert.deepEqual((await page.said.next())[1], { n: 2, cookie: seen[i] });
  });

  it('reads across origins what the API lets that origin read, and nothing else', async (t) => {
    const { api, pogo } = await world(t);
    const origin = `http://localhost:${new URL(pogo.origin).port}`;
    const allowed = { 'Access-Control-Allow-Origin': origin, 'Access-Control-Allow-Credentials': 'true' };
    let n = 1;
    api.on('GET /open', ({ headers }) => ({ status: 200, headers: allowed, body: { n, for: headers.cookie } }));
    api.put('/closed', { n: 1 });
    api.on('PUT /open', ({ body }) => { n = body.n; return { status: 204 }; });
    // Another origin, and still the same site: so it has its cookies.
    const page = await chromium.open(`${origin}/page`, {});
    await page.run(follow, `${pogo.origin}/closed`, { withCredentials: true });
    assert.deepEqual(await page.said.next(), ['error', 'CLOSED']);
    await page.run(follow, `${pogo.origin}/open`, { withCredentials: true });
    assert.deepEqual((await page.said.next()).slice(0, 2), ['update', { n: 1 }]);
    assert.equal(await pogo.write('PUT', '/open', { n: 2 }), 204);
    assert.deepEqual((await page.said.next()).slice(0, 2), ['update', { n: 2 }]);
  });

  it('only hears that something changed where the route says notify', async (t) => {
    const { api, pogo, open } = await world(t, '[[route]]\npath = "/posts/{id}"\npush = "notify"');
    api.put('/posts/1', { n: 1 });
    const page = await open();
    await page.run(follow, '/posts/1');
    // What the API answered to the request itself, and then once whatever happened.
    assert.deepEqual((await page.said.next()).slice(0, 2), ['update', { n: 1 }]);
    assert.deepEqual((await page.said.next()).slice(0, 2), ['change', null]);
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    assert.deepEqual((await page.said.next()).slice(0, 2), ['change', null]);
  });
});
