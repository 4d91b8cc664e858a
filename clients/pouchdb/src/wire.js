// How requests reach the server: the address, the session's cookie, and what counts as an error. Nothing is ever repeated
// here. In a browser the browser keeps the cookie; elsewhere nobody does, so it is taken from the answers and sent back.

/** Something that the server refused, or that could not be asked. `status` is 0 when no answer came. */
export class SettleError extends Error {
  constructor(message, { status = 0, error = 'unreachable', reason = message, cause } = {}) {
    super(message, { cause });
    this.name = 'SettleError';
    this.status = status;
    this.error = error;
    this.reason = reason;
  }
}

export class Wire {
  /** The session's cookie, `AuthSession=…`, or null: in browsers always. */
  cookie = null;
  /** Keeps the new cookie whenever the server gave one. */
  keepCookie = async () => {};
  #fetch;
  #server;
  #database;

  /** `url` is the database's, such as `https://sync.example.org/medic`; `fetch` replaces the platform's. */
  constructor(url, fetch = (...request) => globalThis.fetch(...request)) {
    const parsed = new URL(url);
    if (parsed.username || parsed.password) throw new TypeError('no name or password in the URL: call logIn');
    const path = parsed.pathname.replace(/\/+$/, '');
    if (path === '') throw new TypeError(`${url} names no database`);
    this.#database = parsed.origin + path;
    this.#server = this.#database.slice(0, this.#database.lastIndexOf('/'));
    this.#fetch = fetch;
  }

  /** The database's URL without a final slash. */
  get url() {
    return this.#database;
  }

  /** A request to the server itself; `path` begins with a slash. Answers the JSON or throws a `SettleError`. */
  server(method, path, body) {
    return this.#call(method, this.#server + path, body);
  }

  /** A request below the database. */
  database(method, path, body) {
    return this.#call(method, this.#database + path, body);
  }

  /** `fetch` for PouchDB's HTTP adapter: the same session. */
  fetch = async (url, { method, body, headers, signal } = {}) => {
    const answer = await this.#send(url, { method, body, signal, headers: Object.fromEntries(headers ?? []) });
    // PouchDB's build for Node reads attachments this way.
    answer.buffer ??= async () => globalThis.Buffer.from(await answer.arrayBuffer());
    return answer;
  };

  async #call(method, url, body) {
    const headers = { accept: 'application/json', 'content-type': 'application/json' };
    let answer;
    let value;
    try {
      answer = await this.#send(url, { method, headers, body: body && JSON.stringify(body) });
      value = await answer.json();
    } catch (cause) {
      throw new SettleError(`${method} ${url}: no answer, or none that can be read`, { cause, status: answer?.status });
    }
    if (answer.ok) return value;
    const { error, reason } = value;
    throw new SettleError(`${method} ${url}: ${answer.status} ${reason}`, { status: answer.status, error, reason });
  }

  async #send(url, request) {
    const headers = this.cookie ? { ...request.headers, cookie: this.cookie } : request.headers;
    const answer = await this.#fetch(url, { ...request, headers, credentials: 'include' });
    // Browsers show `Set-Cookie` to nobody, so this finds nothing there.
    for (const set of answer.headers.getSetCookie?.() ?? []) {
      const [pair] = set.split(';');
      if (!pair.startsWith('AuthSession=') || pair === this.cookie) continue;
      this.cookie = pair === 'AuthSession=' ? null : pair;
      await this.keepCookie(this.cookie);
    }
    return answer;
  }
}
