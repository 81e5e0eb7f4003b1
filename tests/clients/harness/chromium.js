// Chromium without a window, spoken to over its DevTools protocol through a pipe: it ends when the pipe does.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { start, stop } from './child.js';
import { Inbox, within } from './waiting.js';

const PROGRAM = process.env.CHROMIUM ?? 'chromium';
const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--no-default-browser-check',
  '--disable-background-networking', '--disable-component-update', '--disable-sync', '--disable-extensions',
  '--disable-default-apps', '--disable-dev-shm-usage', '--disable-breakpad',
  // Nothing but this machine is asked for anything.
  '--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost',
  '--remote-debugging-pipe',
];

export class Chromium {
  #running;
  #home;
  #last = 0;
  #calls = new Map();
  #pages = new Map();

  static async start() {
    const chromium = new Chromium();
    const home = mkdtempSync(join(tmpdir(), 'pogo-chromium-'));
    chromium.#home = home;
    chromium.#running = start(PROGRAM, [...FLAGS, `--user-data-dir=${home}/profile`], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
      env: { ...process.env, HOME: home, XDG_CONFIG_HOME: home, XDG_CACHE_HOME: home },
    });
    chromium.#listen();
    try {
      await chromium.call('Browser.getVersion');
    } catch (fault) {
      await chromium.stop();
      throw fault;
    }
    return chromium;
  }

  /** A page of this address, in a profile of its own: its cookies are nobody else's. */
  async open(url, cookies = {}) {
    const { browserContextId } = await this.call('Target.createBrowserContext');
    const list = Object.entries(cookies).map(([name, value]) => ({ name, value, url }));
    if (list.length) await this.call('Storage.setCookies', { browserContextId, cookies: list });
    const { targetId } = await this.call('Target.createTarget', { url: 'about:blank', browserContextId });
    const { sessionId } = await this.call('Target.attachToTarget', { targetId, flatten: true });
    const page = new Page(this, sessionId);
    this.#pages.set(sessionId, page);
    await page.go(url);
    return page;
  }

  call(method, params = {}, sessionId = undefined) {
    const id = ++this.#last;
    const answer = new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
    this.#running.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return within(answer, `Chromium's answer to ${method}`);
  }

  #listen() {
    const { stdio } = this.#running.child;
    let text = '';
    stdio[4].setEncoding('utf8');
    stdio[4].on('data', (piece) => {
      text += piece;
      const whole = text.split('\0');
      text = whole.pop();
      whole.forEach((message) => this.#take(JSON.parse(message)));
    });
    // The end of the process tells the rest.
    for (const pipe of [stdio[3], stdio[4]]) pipe.on('error', () => {});
    const fail = (why) => this.#calls.forEach(({ reject }) => reject(new Error(`Chromium has ended: ${why}`)));
    this.#running.ended.then(fail, fail);
  }

  #take({ id, result, error, method, params, sessionId }) {
    if (id === undefined) return this.#pages.get(sessionId)?.heard(method, params);
    const { resolve, reject } = this.#calls.get(id);
    this.#calls.delete(id);
    return error ? reject(new Error(error.message)) : resolve(result);
  }

  async stop() {
    try {
      // So that its own children end first.
      await this.call('Browser.close');
      await within(this.#running.ended, 'the end of Chromium');
    } finally {
      await stop(this.#running);
      rmSync(this.#home, { recursive: true, force: true, maxRetries: 20 });
    }
  }
}

export class Page {
  #chromium;
  #session;
  #loaded = null;
  /** What the page says with `tell(…)`, and what it does not catch. */
  said = new Inbox('a word of the page');

  constructor(chromium, session) {
    this.#chromium = chromium;
    this.#session = session;
  }

  async go(url) {
    await this.#call('Page.enable');
    await this.#call('Runtime.enable');
    await this.#call('Runtime.addBinding', { name: 'pogoTell' });
    const source = 'globalThis.tell = (...words) => pogoTell(JSON.stringify(words));';
    await this.#call('Page.addScriptToEvaluateOnNewDocument', { source });
    const loaded = new Promise((resolve) => { this.#loaded = resolve; });
    const { errorText } = await this.#call('Page.navigate', { url });
    if (errorText) throw new Error(`${url}: ${errorText}`);
    await within(loaded, `${url} to load`);
  }

  /** Runs a function in the page with these arguments; gives what it returns, or what that becomes. */
  async run(body, ...args) {
    const expression = `(${body})(...${JSON.stringify(args)})`;
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails: fault } = await this.#call('Runtime.evaluate', options);
    if (fault) throw new Error(fault.exception?.description ?? fault.text);
    return result.value;
  }

  heard(method, params) {
    if (method === 'Page.loadEventFired') this.#loaded?.();
    if (method === 'Runtime.bindingCalled') this.said.push(JSON.parse(params.payload));
    if (method === 'Runtime.exceptionThrown') this.said.end(params.exceptionDetails.exception?.description);
  }

  #call(method, params) {
    return this.#chromium.call(method, params, this.#session);
  }
}
