// Nothing here sleeps: a test waits for the event itself, and fails when it does not come.

export const PATIENCE_MS = 20_000;

/** What `promise` becomes, or a failure that says what did not come. */
export async function within(promise, what) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: nothing within ${PATIENCE_MS} ms`)), PATIENCE_MS);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What has come and was not read yet, in order. */
export class Inbox {
  #name;
  #items = [];
  #ready = null;
  #over = null;

  constructor(name) {
    this.#name = name;
  }

  push(item) {
    this.#items.push(item);
    this.#ready?.();
  }

  /** Nothing more will come; who waits is told. */
  end(why) {
    this.#over ??= new Error(`${this.#name} has ended: ${why}`);
    this.#ready?.();
  }

  /** The next, as long as it may take. */
  async wait() {
    while (!this.#items.length) {
      if (this.#over) throw this.#over;
      await new Promise((resolve) => { this.#ready = resolve; });
    }
    return this.#items.shift();
  }

  next() {
    return within(this.wait(), this.#name);
  }

  /** The next that fits; those before are passed over. */
  find(fits) {
    const look = async () => {
      for (;;) {
        const item = await this.wait();
        if (fits(item)) return item;
      }
    };
    return within(look(), this.#name);
  }

  /** What has come and was not read, which is then read. */
  rest() {
    return this.#items.splice(0);
  }
}
