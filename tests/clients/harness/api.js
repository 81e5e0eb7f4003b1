// A REST API in memory, on bare `node:http`: what is PUT at a path is what a GET of it answers, unless a
// test says otherwise.

import { createServer } from 'node:http';

import { Inbox } from './waiting.js';

export class Api {
  #server;
  #resources = new Map();
  #rules = new Map();
  #made = 0;
  /** Every request: `method`, `path`, `headers`, `body`. */
  seen = new Inbox('a request to the API');

  static async start(t) {
    const api = new Api();
    api.#server = createServer((request, response) => api.#serve(request, response));
    await new Promise((resolve) => api.#server.listen(0, '127.0.0.1', resolve));
    t.after(() => api.stop());
    return api;
  }

  get origin() {
    return `http://127.0.0.1:${this.#server.address().port}`;
  }

  /** Changes what a GET answers, without a request that Pogo would see. */
  put(path, value) {
    this.#resources.set(path, value);
  }

  /** Answers requests such as `GET /me` by a function of the request; null stands for the usual answer. */
  on(line, answer) {
    this.#rules.set(line, answer);
  }

  stop() {
    this.#server.closeAllConnections();
    return new Promise((resolve) => this.#server.close(resolve));
  }

  async #serve(request, response) {
    const pieces = [];
    for await (const piece of request) pieces.push(piece);
    const text = Buffer.concat(pieces).toString();
    const { method, url: path, headers } = request;
    const seen = { method, path, headers, body: text ? JSON.parse(text) : undefined };
    const answer = this.#rules.get(`${method} ${path}`)?.(seen) ?? this.#usual(seen);
    this.seen.push(seen);
    const type = typeof answer.body === 'string' ? 'text/html' : 'application/json';
    const fields = { 'Content-Type': type, ...answer.headers };
    response.writeHead(answer.status, answer.body === undefined ? answer.headers : fields);
    response.end(typeof answer.body === 'string' ? answer.body : JSON.stringify(answer.body));
  }

  #usual({ method, path, body }) {
    const resources = this.#resources;
    switch (method) {
      case 'GET': {
        if (resources.has(path)) return { status: 200, body: resources.get(path) };
        const members = [...resources].filter(([other]) => other.startsWith(`${path}/`));
        if (members.length) return { status: 200, body: members.map(([, value]) => value) };
        return { status: 404, body: { detail: 'not found' } };
      }
      case 'PUT':
        resources.set(path, body);
        return { status: 204 };
      case 'POST': {
        const made = `${path}/${++this.#made}`;
        resources.set(made, body);
        return { status: 201, headers: { Location: made }, body };
      }
      case 'DELETE':
        return { status: resources.delete(path) ? 204 : 404 };
      default:
        return { status: 405 };
    }
  }
}
