// Python's `websockets`, which compresses unless it is told not to.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';
import { fileURLToPath } from 'node:url';

import { Api } from './harness/api.js';
import { lines, start, stop } from './harness/child.js';
import { Pogo } from './harness/pogo.js';
import { Talk } from './harness/talk.js';
import { within } from './harness/waiting.js';

const PYTHON = process.env.PYTHON ?? '/usr/bin/python3';
const PROGRAM = fileURLToPath(new URL('python/talk.py', import.meta.url));

/** A socket that Python holds. */
async function open(t, url, compression = 'deflate') {
  const running = start(PYTHON, [PROGRAM, url, compression], { stdio: ['pipe', 'pipe', 'inherit'] });
  t.after(() => stop(running));
  const { stdin, stdout } = running.child;
  const talk = new Talk((message) => stdin.write(`${JSON.stringify(message)}\n`));
  stdin.on('error', (fault) => talk.end(fault.message));
  lines(stdout, (line) => talk.heard(JSON.parse(line)), () => talk.end('Python has ended'));
  talk.extensions = await talk.events.next();
  talk.ended = () => within(running.ended, 'the end of Python');
  return talk;
}

describe("Python's websockets", () => {
  const TEXT = 'what is said again and again '.repeat(1000);

  it('holds what others write, compressed and not', async (t) => {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api, '[websocket]\ncompression = true\ncompress_from = "64B"');
    api.put('/posts/1', { n: 1, text: TEXT });
    const sockets = [await open(t, pogo.socket), await open(t, pogo.socket, '')];
    assert.deepEqual(sockets.map(({ extensions }) => extensions), [['permessage-deflate'], []]);
    for (const each of sockets) {
      const { data } = await each.must({ event: 'bind', uri: '/posts/1', version: null });
      assert.deepEqual(data, { n: 1, text: TEXT });
    }
    // What it sends is compressed as well.
    await sockets[0].must({ event: 'update', uri: '/posts/1', data: { n: 2, text: TEXT } });
    for (const each of sockets) assert.deepEqual((await each.events.next()).data, { n: 2, text: TEXT });
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    for (const each of sockets) assert.equal((await each.events.next()).event, 'delete');
    assert.equal((await sockets[0].ask({ event: 'show', uri: '/posts/1' })).error.code, 'not_found');
  });

  it('is closed with 1001 by a drain', async (t) => {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api);
    const socket = await open(t, pogo.socket);
    assert.deepEqual(socket.extensions, [], 'compression is off by default');
    await socket.must({ event: 'ping' });
    await pogo.drain();
    const { closed: [code, reason] } = await socket.events.next();
    assert.equal(code, 1001);
    assert.match(reason, /retry_after=\d+$/);
    assert.deepEqual([await socket.ended(), await pogo.ended()], [0, 0]);
  });
});
