// The npm package `ws`; patches are followed by `fast-json-patch`.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { describe, it } from 'node:test';

import { decode, encode } from '@msgpack/msgpack';
import jsonpatch from 'fast-json-patch';
import WebSocket from 'ws';

import { Api } from './harness/api.js';
import { Pogo } from './harness/pogo.js';
import { Talk } from './harness/talk.js';
import { within } from './harness/waiting.js';

class Socket extends Talk {
  static async open(t, url, formats = [], options = {}) {
    const client = new WebSocket(url, formats, options);
    t.after(() => client.terminate());
    const binary = () => client.protocol.includes('msgpack');
    const socket = new Socket((message) => client.send(binary() ? encode(message) : JSON.stringify(message)));
    socket.client = client;
    client.on('message', (data, isBinary) => {
      assert.equal(isBinary, binary());
      socket.heard(isBinary ? decode(data) : JSON.parse(data));
    });
    socket.closed = new Promise((resolve) => {
      client.on('close', (code, reason) => {
        socket.end(code);
        resolve([code, reason.toString()]);
      });
    });
    await within(new Promise((resolve, reject) => client.on('open', resolve).on('error', reject)), 'the handshake');
    return socket;
  }
}

/** With so much beside each scalar that only those are told which differ. */
function atLength(value) {
  if (Array.isArray(value)) return value.map(atLength);
  if (value === null || typeof value !== 'object') return [value, '7'.repeat(500)];
  return Object.fromEntries(Object.entries(value).map(([name, each]) => [name, atLength(each)]));
}

/** What a handshake that fails is answered with. */
function refused(url, options) {
  const client = new WebSocket(url, options);
  const status = new Promise((resolve, reject) => {
    client.on('unexpected-response', (request, response) => {
      resolve(response.statusCode);
      request.destroy();
    });
    client.on('open', () => reject(new Error('it was let in'))).on('error', reject);
  });
  return within(status.finally(() => client.terminate()), 'the refusal');
}

describe('npm ws', () => {
  async function world(t, configuration) {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api, configuration);
    return { api, pogo, socket: (formats, options) => Socket.open(t, pogo.socket, formats, options) };
  }

  it('holds what others write, as text and as MsgPack', async (t) => {
    const { api, pogo, socket } = await world(t);
    api.put('/posts/1', { n: 1 });
    const sockets = [await socket(), await socket(['pogo.v1.msgpack'])];
    assert.deepEqual(sockets.map(({ client }) => client.protocol), ['', 'pogo.v1.msgpack']);
    for (const each of sockets) await each.must({ event: 'bind', uri: '/posts/1' });
    assert.equal(await pogo.write('PUT', '/posts/1', { n: 2 }), 204);
    for (const each of sockets) assert.deepEqual(await each.events.next(), { event: 'update', uri: '/posts/1', data: { n: 2 } });
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    for (const each of sockets) assert.deepEqual(await each.events.next(), { event: 'delete', uri: '/posts/1' });
  });

  it('is sent less when it compresses, and may send compressed', async (t) => {
    const { api, socket } = await world(t, '[websocket]\ncompression = true\ncompress_from = "64B"');
    const text = 'what is said again and again '.repeat(1000);
    api.put('/posts/1', { text });
    // The default of the package, made to compress everything, with and without memory of its own.
    for (const threshold of [0, 1 << 20]) {
      const compressed = await socket([], { perMessageDeflate: { threshold } });
      assert.match(compressed.client.extensions, /^permessage-deflate/);
      const before = compressed.client._socket.bytesRead;
      assert.equal((await compressed.must({ event: 'show', uri: '/posts/1' })).data.text, text);
      assert.ok(compressed.client._socket.bytesRead - before < 1000);
    }
    const plain = await socket([], { perMessageDeflate: false });
    assert.equal(plain.client.extensions, '');
    assert.equal((await plain.must({ event: 'show', uri: '/posts/1' })).data.text, text);
    assert.ok(plain.client._socket.bytesRead > text.length);
  });

  it('is told what became of the members of a collection', async (t) => {
    const { api, pogo, socket } = await world(t, '[[route]]\npath = "/posts"\nitems = [""]');
    api.on('GET /posts', () => ({ status: 200, body: [{ id: 1, n: 1 }] }));
    api.put('/posts/1', { id: 1, n: 1 });
    const one = await socket();
    await one.must({ event: 'bind', uri: '/posts', version: null, items: true, state: false });
    api.on('GET /posts', () => ({ status: 200, body: [{ id: 1, n: 2 }] }));
    assert.equal(await pogo.write('PUT', '/posts/1', { id: 1, n: 2 }), 204);
    const { event, item, data } = await one.events.next();
    assert.deepEqual([event, item, data], ['update', '/posts/1', { id: 1, n: 2 }]);
  });

  it('is told when a binding has ended by itself', async (t) => {
    const { api, socket } = await world(t);
    api.put('/posts/1', 1);
    const one = await socket();
    const { expires } = await one.must({ event: 'bind', uri: '/posts/1', ttl: 1 });
    assert.ok(expires >= Date.now() / 1000 - 1, `${expires}`);
    assert.deepEqual(await one.events.next(), { event: 'unbind', uri: '/posts/1', reason: 'ttl' });
  });

  it('follows patches through every document of the JSON Patch test suite', async (t) => {
    const { api, pogo, socket } = await world(t, '[views]\nmin_interval = "0s"');
    const read = (name) => JSON.parse(readFileSync(new URL(`../fixtures/json-patch-tests/${name}.json`, import.meta.url)));
    const cases = [...read('tests'), ...read('spec_tests')].filter((each) => !each.disabled && 'expected' in each);
    const states = cases.flatMap(({ doc, expected }) => [doc, expected]).map((v) => ({ ballast: '7'.repeat(2000), v: atLength(v) }));
    api.put('/document', states[0]);
    const one = await socket();
    let { data, version } = await one.must({ event: 'bind', uri: '/document', delta: true });
    let patches = 0, last = states[0];
    for (const state of states) {
      // To the letter: another order of members is news.
      if (JSON.stringify(state) === JSON.stringify(last)) continue;
      last = state;
      assert.equal(await pogo.write('PUT', '/document', state), 204);
      const event = await one.events.next();
      assert.deepEqual([event.event, event.from], ['patch', version]);
      data = jsonpatch.applyPatch(data, event.patch, true).newDocument;
      version = event.version;
      assert.deepEqual(data, state, JSON.stringify(event));
      patches += 1;
    }
    assert.ok(patches > 100, `${patches}`);
  });

  it('is refused at the door from another origin, and gets nothing with a bad token where one is needed', async (t) => {
    const { api, pogo } = await world(t, '[auth]\nrequired = true\nverify = "/me"');
    api.on('GET /me', ({ headers }) => ({ status: headers.authorization === 'Bearer good' ? 200 : 401, body: {} }));
    assert.equal(await refused(pogo.socket, { origin: 'http://elsewhere.example' }), 403);
    const bad = await Socket.open(t, pogo.socket, [], { headers: { Authorization: 'Bearer bad' } });
    assert.equal((await bad.ask({ event: 'bind', uri: '/me' })).error.code, 'unauthorized');
    assert.equal((await bad.ask({ event: 'auth', data: { token: 'bad' } })).error.code, 'unauthorized');
    await bad.must({ event: 'auth', data: { token: 'good' } });
    await bad.must({ event: 'bind', uri: '/me' });
    const good = await Socket.open(t, pogo.socket, [], { headers: { Authorization: 'Bearer good' } });
    await good.must({ event: 'ping' });
  });

  it('reads errors of the API, and is closed with 1009 for a message that is too long', async (t) => {
    const { api, socket } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'no' } }));
    const one = await socket();
    assert.equal((await one.ask({ event: 'bind', uri: '/secret' })).error.code, 'forbidden');
    assert.equal((await one.ask({ event: 'show', uri: '/nothing' })).error.code, 'not_found');
    one.client.send('not JSON');
    assert.equal((await one.events.next()).error.code, 'bad_request');
    one.client.send('x'.repeat(65 * 1024));
    assert.equal((await within(one.closed, 'the close'))[0], 1009);
  });

  it('answers pings, has its own answered, and may cut a message into frames', async (t) => {
    const { api, socket } = await world(t, '[websocket]\nping_interval = "1s"\npong_timeout = "2s"');
    api.put('/posts/1', 1);
    const one = await socket();
    for (let pings = 0; pings < 3; pings++) await within(new Promise((resolve) => one.client.once('ping', resolve)), 'a ping');
    const pong = new Promise((resolve) => one.client.once('pong', resolve));
    one.client.ping('hello');
    assert.equal((await within(pong, 'a pong')).toString(), 'hello');
    const text = '{"id":"cut","event":"show","uri":"/posts/1"}';
    one.client.send(text.slice(0, 10), { fin: false });
    one.client.send(text.slice(10), { fin: true });
    assert.deepEqual(await one.events.next(), { id: 'cut', status: 'ok', data: 1 });
  });

  it('is closed with 1001 by a drain, after its answers', async (t) => {
    const { api, pogo, socket } = await world(t);
    api.put('/posts/1', 1);
    const one = await socket();
    const answer = one.ask({ event: 'show', uri: '/posts/1' });
    await api.seen.find(({ path }) => path === '/posts/1');
    await pogo.drain();
    assert.equal((await answer).data, 1);
    const [code, reason] = await within(one.closed, 'the close');
    assert.equal(code, 1001);
    assert.match(reason, /retry_after=\d+$/);
    assert.equal(await pogo.ended(), 0);
  });
});
