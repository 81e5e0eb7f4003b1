// The npm package `prep-fetch`, a client of Per-Resource Events.

import assert from 'node:assert/strict';
import { describe, it } from 'node:test';

import prepare from 'prep-fetch';

import { Api } from './harness/api.js';
import { Pogo } from './harness/pogo.js';
import { within } from './harness/waiting.js';

// It grows its buffers in place.
const isOld = 'resize' in ArrayBuffer.prototype ? false : 'prep-fetch needs node 20';

describe('npm prep-fetch', { skip: isOld }, () => {
  async function world(t) {
    const api = await Api.start(t);
    const pogo = await Pogo.before(t, api);
    const aborts = new AbortController();
    t.after(() => aborts.abort());
    const ask = (path) => {
      const headers = { 'Accept-Events': '"prep"' };
      return within(fetch(pogo.origin + path, { headers, signal: aborts.signal }), 'the response');
    };
    return { api, pogo, ask };
  }

  /** The fields of the next notification; none at the end. */
  async function next(notifications) {
    const { value, done } = await within(notifications.next(), 'a notification');
    if (done) return null;
    const message = await within(value.message(), 'a message');
    // It wants each to be read to its end.
    assert.equal(await within(message.text(), 'the end of the message'), '');
    return message.headers;
  }

  it('is given the representation, a notification of each change, and the end', async (t) => {
    const { api, pogo, ask } = await world(t);
    api.put('/posts/1', { title: 'First' });
    const response = prepare(await ask('/posts/1'));
    const representation = await within(response.getRepresentation(), 'the representation');
    assert.deepEqual(JSON.parse(await representation.text()), { title: 'First' });
    const notifications = (await within(response.getNotifications(), 'the notifications')).notifications();
    assert.equal(await pogo.write('PUT', '/posts/1', { title: 'Second' }), 204);
    const changed = await next(notifications);
    assert.equal(changed.get('method'), 'PUT');
    assert.ok(Date.parse(changed.get('date')) > 0);
    assert.equal(await pogo.write('DELETE', '/posts/1'), 204);
    const gone = await next(notifications);
    assert.deepEqual([gone.get('method'), gone.get('event-id')], ['DELETE', 'absent']);
    assert.equal(await next(notifications), null);
  });

  it('finds no events in what the API refuses', async (t) => {
    const { api, ask } = await world(t);
    api.on('GET /secret', () => ({ status: 403, body: { detail: 'no' } }));
    for (const path of ['/secret', '/nothing']) {
      const response = await ask(path);
      assert.throws(() => prepare(response), /does not allow Notifications/);
    }
  });
});
