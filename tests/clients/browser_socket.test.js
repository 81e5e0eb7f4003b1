// `WebSocket` of a browser.

import assert from 'node:assert/strict';
import { after, before, describe, it } from 'node:test';

import { decode, encode } from '@msgpack/msgpack';

import { Api } from './harness/api.js';
import { Chromium } from './harness/chromium.js';
import { Pogo } from './harness/pogo.js';
import { Talk } from './harness/talk.js';
import { within } from './harness/waiting.js';

/** In the page: opens a socket, tells what comes, bytes as numbers, and how it is closed. */
function open(url, formats) {
  const socket = new WebSocket(url, formats);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => tell('open', socket.protocol, socket.extensions);
  socket.onmessage = ({ data }) => tell('message', typeof data === 'string' ? data : [...new Uint8Array(data)]);
  socket.onclose = ({ code, reason, wasClean }) => tell('close', code, reason, wasClean);
  globalThis.say = (data) => socket.send(typeof data === 'string' ? data : new Uint8Array(data));
}

/** A page's socket. */
class Socket extends Talk {
  #page;
  #binary;

  static async open(page, url, formats = []) {
    const binary = formats.some((format) => format.includes('msgpack'));
    const socket = new Socket((message) => socket.say(binary ? encode(message) : JSON.stringify(message)));
    socket.#page = page;
    socket.#binary = binary;
    await page.run(open, url, formats);
    [, socket.format, socket.extensions] = await page.said.find(([what]) => what === 'open');
    socket.closed = socket.#listen();
    return socket;
  }

  /** Sends this text, or these bytes. */
  say(data) {
    const sent = this.#page.run((data) => say(data), typeof data === 'string' ? data : [...data]);
    sent.catch((fault) => this.end(fault.message));
  }

  async #listen() {
    for (;;) {
      let said;
      try {
        said = await this.#page.said.wait();
      } catch (fault) {
        return this.end(fault.message);
      }
      const [what, ...words] = said;
      if (what === 'close') {
        this.end(words.join(' '));
        return words;
      }
      this.heard(this.#binary ? decode(Uint8Array.from(words[0])) : JSON.parse(words[0]));
    }
  }
}

describe("a browser's WebSocket", () => {
  let chromium;
  before(async () => { chromium = await Chromium.start(); });
  after(() => chromium?.stop());

  async function world(t, configuration) {
    const api = await Api.start(t);
    api.on('GET /page', () => ({ status: 200, body: '<!doctype html><title>a page</title>' }));
    const pogo = await Pogo.before(t, api, configuration);
    const page = (cookies) => chromium.open(`${pogo.origin}/page`, cookies);
    const socket = async (formats, cookies) => Socket.open(await page(cookies), pogo.socket, formats);
    return { api, pogo, page, socket };
  }

  it('has every line of the streaming table, word for word', async (t) => {
    const { api, socket } = await world(t, '[auth]\nverify = "/me"\nexpires_pointer = "/expires"');
    const expires = Math.floor(Date.now() / 1000) + 3600;
    api.on('GET /me', ({ headers }) => (headers.authorization === 'Bearer 7879' ? { status: 200, body: { expires } } : { status: 401 }));
    api.put('/posts/1234', { title: 'First' });
    const { say, answer, event, silent } = table(await socket());
    // AUTH
    say({id: 1, event: "auth", data: {token: '7879'}});
    await answer({id: 1, status: 'ok', data: {expires}});
    // BIND
    say({id: 1, event: "bind", uri: '/posts/1234'});
    await answer({id: 1, status: 'ok'});
    // UPDATE
    say({id: 1, event: "update", uri: '/posts/1234', data: {title: 'Post title'}});
    await answer({id: 1, status: 'ok'});
    await event({event: "update", uri: '/posts/1234', data: {title: 'Post title'}});
    // UNBIND
    say({id: 1, event: "unbind", uri: '/posts/1234'});
    await answer({id: 1, status: 'ok'});
    // INDEX
    say({id: 1, event: "index", uri: '/posts'});
    await answer({id: 1, status: 'ok', data: [{title: 'Post title'}]});
    say({id: 1, event: "unbind", uri: '/posts'});
    await answer({id: 1, status: 'ok'});
    // SHOW
    say({id: 1, event: "show", uri: '/posts/1234'});
    await answer({id: 1, status: 'ok', data: {title: 'Post title'}});
    // CREATE
    api.on('POST /posts', ({ body }) => ({ status: 201, body }));
    say({id: 1, event: "create", uri: '/posts', data: {title: 'Post title'}});
    await answer({id: 1, status: 'ok', data: {title: 'Post title'}});
    // DELETE
    say({id: 1, event: "delete", uri: '/posts/1234', data: {why: 'old'}});
    await answer({id: 1, status: 'ok'});
    await event({event: "delete", uri: '/posts/1234'});
    await silent();
  });

  it('speaks to other pages on a channel and does not hear itself', async (t) => {
    const { socket } = await world(t, '[[channel]]\npattern = "*"\nsubscribe = "anyone"\npublish = "anyone"');
    const [one, other] = [await socket(), await socket()];
    for (const each of [one, other]) await each.must({event: "channel:subscribe", channel: '/courses/23423423'});
    await one.must({event: "someEvent", channel: '/courses/23423423', data: {test: ''}});
    assert.deepEqual(await other.events.next(), {event: "someEvent", channel: '/courses/23423423', data: {test: ''}});
    await one.assertSilent();
    await other.must({event: "channel:unsubscribe", channel: '/courses/23423423'});
    await one.must({event: "someEvent", channel: '/courses/23423423', data: {test: ''}});
    await other.assertSilent();
  });

  it('holds what others write over HTTP, in JSON and in MsgPack', async (t) => {
    const { api, pogo, socket } = await world(t);
    for (const format of ['pogo.v1.json', 'pogo.v1.msgpack']) {
      api.put('/posts/1', { n: 1, text: 'é😀' });
      const page = await socket([format]);
      assert.equal(page.format, format);
      const { data, version } = await page.must({ event: 'bind', uri: '/posts/1', version: null });
      assert.deepEqual(data, { n: 1, text: 'é😀' });
      assert.equal(await pogo.write('PUT', '/posts/1', { n: 2, text: null }), 204);
      const update = await page.events.next();
      assert.deepEqual(update, { event: 'update', uri: '/posts/1', data: { n: 2, text: null }, version: update.version });
      assert.notEqual(update.version, version);
      assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
      assert.equal((await page.events.next()).event, 'delete');
    }
  });

  it('chooses compact keys', async (t) => {
    const { api, pogo, page } = await world(t);
    api.put('/posts/1', { event: 1 });
    const tab = await page();
    await tab.run(open, pogo.socket, ['pogo.v2', 'pogo.v1.json.compact', 'pogo.v1.json']);
    assert.equal((await tab.said.next())[1], 'pogo.v1.json.compact');
    await tab.run((text) => say(text), '{"i":1,"e":"show","u":"/posts/1"}');
    assert.deepEqual(JSON.parse((await tab.said.next())[1]), { i: 1, s: 'ok', d: { event: 1 } });
  });

  it('takes compressed messages and sends them', async (t) => {
    const { api, socket } = await world(t, '[websocket]\ncompression = true\ncompress_from = "64B"');
    const text = (n) => `${n} ${'what is said again and again '.repeat(500)}`;
    api.put('/posts/1', { text: text(1) });
    const page = await socket();
    assert.match(page.extensions, /permessage-deflate/);
    const { data } = await page.must({ event: 'bind', uri: '/posts/1', version: null });
    assert.equal(data.text, text(1));
    await page.must({ event: 'update', uri: '/posts/1', data: { text: text(2) } });
    assert.equal((await page.events.next()).data.text, text(2));
  });

  it('reads what the API refuses as errors', async (t) => {
    const { api, socket } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'not yours' } }));
    const page = await socket();
    const { error } = await page.ask({ event: 'bind', uri: '/secret' });
    assert.deepEqual([error.code, error.http_status, error.data], ['forbidden', 403, { detail: 'not yours' }]);
    assert.equal((await page.ask({ event: 'show', uri: '/nothing' })).error.code, 'not_found');
    assert.equal((await page.ask({ event: 'dance' })).error.code, 'unknown_event');
    await page.must({ event: 'bind', uri: '/nothing' });
  });

  it('sees with its cookies, and nothing of what another sees', async (t) => {
    const { api, pogo, socket } = await world(t);
    let n = 1;
    api.on('GET /me', ({ headers }) => ({ status: 200, body: { n, cookie: headers.cookie } }));
    api.on('PUT /me', ({ body }) => { n = body.n; return { status: 204 }; });
    const pages = [await socket([], { who: 'alice' }), await socket([], { who: 'bob' })];
    for (const page of pages) await page.must({ event: 'bind', uri: '/me' });
    assert.equal(await pogo.write('PUT', '/me', { n: 2 }), 204);
    assert.deepEqual((await pages[0].events.next()).data, { n: 2, cookie: 'who=alice' });
    assert.deepEqual((await pages[1].events.next()).data, { n: 2, cookie: 'who=bob' });
  });

  it('is not let in from a page of another origin', async (t) => {
    const { api, pogo } = await world(t);
    const page = await chromium.open(`${api.origin}/page`);
    await page.run(open, pogo.socket, []);
    assert.deepEqual(await page.said.next(), ['close', 1006, '', false]);
    const allowed = await Pogo.before(t, api, `[websocket]\nallowed_origins = ["${api.origin}"]`);
    const socket = await Socket.open(page, allowed.socket);
    await socket.must({ event: 'ping' });
  });

  it('is closed with 1001 by a drain, comes back with its version, and misses nothing', async (t) => {
    const { api, pogo, page } = await world(t);
    api.put('/posts/1', { n: 1 });
    api.put('/posts/2', { n: 1 });
    const tab = await page();
    const socket = await Socket.open(tab, pogo.socket);
    const held = await socket.must({ event: 'bind', uri: '/posts/1', version: null });
    const other = await socket.must({ event: 'bind', uri: '/posts/2', version: null });
    await pogo.drain();
    const [code, reason, clean] = await within(socket.closed, 'the close');
    assert.deepEqual([code, clean], [1001, true]);
    assert.match(reason, /retry_after=\d+$/);
    assert.equal(await pogo.ended(), 0);
    api.put('/posts/2', { n: 2 });
    const again = await Pogo.before(t, api, '', pogo.address);
    const back = await Socket.open(tab, again.socket);
    assert.deepEqual(await back.must({ event: 'bind', uri: '/posts/1', version: held.version }), { id: 1, status: 'ok', version: held.version });
    assert.deepEqual((await back.must({ event: 'bind', uri: '/posts/2', version: other.version })).data, { n: 2 });
    assert.equal(await again.write('PUT', '/posts/1', { n: 3 }), 204);
    assert.deepEqual((await back.events.next()).data, { n: 3 });
  });
});

/** Messages as they stand: sent, and what comes next, exactly. */
function table(socket) {
  return {
    say: (message) => socket.say(JSON.stringify(message)),
    answer: async (expected) => assert.deepEqual(await socket.events.next(), expected),
    event: async (expected) => assert.deepEqual(await socket.events.next(), expected),
    silent: () => socket.assertSilent(),
  };
}
