// The program itself, before an API, on a port that the system gives it.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { lines, start, stop } from './child.js';
import { Inbox, within } from './waiting.js';

const PROGRAM = process.env.POGO_PROGRAM ?? fileURLToPath(new URL('../../../target/debug/pogo', import.meta.url));

export class Pogo {
  #running;
  #folder;
  #upstream;
  #log = new Inbox("a line of Pogo's log");

  /** With these lines of configuration, and, if it is to come back where it was, at this address. */
  static async before(t, api, configuration = '', listen = '127.0.0.1:0') {
    const pogo = new Pogo();
    pogo.#folder = mkdtempSync(join(tmpdir(), 'pogo-clients-'));
    pogo.#upstream = api.origin;
    t.after(() => pogo.#stop());
    pogo.#configure(configuration, listen);
    const environment = { PATH: process.env.PATH, POGO_CLIENTS: process.env.POGO_CLIENTS ?? '' };
    pogo.#running = start(PROGRAM, [], { cwd: pogo.#folder, env: environment });
    let last = '';
    const take = (line) => {
      last = line;
      pogo.#log.push(line.startsWith('{') ? JSON.parse(line) : { message: line });
    };
    const { stderr, stdout } = pogo.#running.child;
    lines(stderr, take, () => pogo.#log.end(last));
    stdout.resume();
    pogo.address = (await pogo.#line('listening')).address;
    return pogo;
  }

  get origin() {
    return `http://${this.address}`;
  }

  get socket() {
    return `ws://${this.address}`;
  }

  /** A write by somebody else; its status. */
  async write(method, path, body, headers = {}) {
    const fields = { 'Content-Type': 'application/json', ...headers };
    const text = body === undefined ? undefined : JSON.stringify(body);
    const answer = await within(fetch(this.origin + path, { method, headers: fields, body: text }), `${method} ${path}`);
    await answer.arrayBuffer();
    return answer.status;
  }

  /** Goes by another configuration from now on. */
  async reload(configuration) {
    this.#configure(configuration, '127.0.0.1:0');
    this.#running.child.kill('SIGHUP');
    await this.#line('the configuration was reloaded');
  }

  /** Begins to drain. */
  async drain() {
    this.#running.child.kill('SIGTERM');
    await this.#line('draining; a second signal ends at once');
  }

  /** The exit code, when it has drained. */
  ended() {
    return within(this.#running.ended, 'the end of Pogo');
  }

  #line(message) {
    return this.#log.find((line) => line.message === message);
  }

  #configure(configuration, listen) {
    const text = `listen = "${listen}"\nupstream = "${this.#upstream}"\nworkers = 2\n${configuration}\n[log]\nformat = "json"\n`;
    writeFileSync(join(this.#folder, 'pogo.toml'), text);
  }

  async #stop() {
    if (this.#running) await stop(this.#running);
    rmSync(this.#folder, { recursive: true, force: true });
  }
}
