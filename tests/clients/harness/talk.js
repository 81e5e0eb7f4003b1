// What is said over one socket: requests that are answered by their `id`, and events.

import assert from 'node:assert/strict';

import { Inbox, within } from './waiting.js';

export class Talk {
  #send;
  #waiting = new Map();
  #last = 0;
  /** Events, and errors that answer no request. */
  events = new Inbox('an event');

  constructor(send) {
    this.#send = send;
  }

  /** The answer to this message. */
  async ask(message) {
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#send({ id, ...message });
    return within(answer, `the answer to ${message.event}`);
  }

  /** The same; it must be `ok`. */
  async must(message) {
    const answer = await this.ask(message);
    assert.equal(answer.status, 'ok', JSON.stringify(answer));
    return answer;
  }

  /** That nothing was sent which has not been read: an answer comes behind it. */
  async assertSilent() {
    await this.must({ event: 'ping' });
    assert.deepEqual(this.events.rest(), []);
  }

  heard(message) {
    const waiting = this.#waiting.get(message.id);
    if (!waiting) return this.events.push(message);
    this.#waiting.delete(message.id);
    waiting.resolve(message);
  }

  end(why) {
    this.events.end(why);
    this.#waiting.forEach(({ reject }) => reject(new Error(`the socket was closed: ${why}`)));
  }
}
