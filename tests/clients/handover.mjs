// What the tests of handovers share: accounts that can be withdrawn, and a `fetch` that writes down every request, can run
// something before one, and can lose one. Holds no expectation of its own.

import { freshName, request, SERVER } from './support.mjs';
import { ask } from './scoped.mjs';

/** The server's address without credentials. */
export const ORIGIN = new URL(SERVER).origin;

/** An account that may use one database, for one test. */
export class Account {
  #path;

  /** `members` of the database's `_security` become this account's role. */
  static async open(t, database, { roles = ['chw'], places } = {}) {
    const account = new Account();
    account.name = freshName('ann');
    account.password = `of-${account.name}`;
    account.#path = `/_users/org.couchdb.user:${account.name}`;
    const { name, password } = account;
    await ask('PUT', account.#path, { json: { type: 'user', name, password, roles, ...(places && { facility_id: places }) } });
    await ask('PUT', `/${database}/_security`, { json: { members: { roles }, admins: { roles: ['_admin'] } } });
    t.after(async () => {
      const { body } = await request('GET', account.#path);
      await request('DELETE', `${account.#path}?rev=${body._rev}`);
    });
    return account;
  }

  get credentials() {
    return { name: this.name, password: this.password };
  }

  /** Changes members of the account, as an operator does in `_users`. */
  async change(members) {
    await ask('PUT', this.#path, { json: { ...(await ask('GET', this.#path)), ...members } });
  }

  async changePassword() {
    this.password = `${this.password}-new`;
    await this.change({ password: this.password });
  }

  /** A session's cookie, in the manner of an app that knows nothing of devices. */
  async cookie() {
    const { headers } = await request('POST', '/_session', { json: this.credentials, auth: null });
    return headers.getSetCookie()[0].split(';')[0];
  }

  /** The devices of this account, as an operator sees them. */
  async devices() {
    return (await ask('GET', `/_devices?account=${this.name}`)).devices;
  }
}

/** A scoped database with two areas; household `h1` with person `p1` and report `visit1` is in area `river`. */
export async function scopedDatabase(t) {
  const name = freshName('scoped');
  await ask('PUT', `/${name}?scoped=true`);
  t.after(() => request('DELETE', `/${name}`));
  const docs = [
    { _id: 'river', type: 'health_center' },
    { _id: 'market', type: 'health_center' },
    { _id: 'h1', type: 'clinic', parent: { _id: 'river' } },
    { _id: 'p1', type: 'person', parent: { _id: 'h1' } },
    { _id: 'visit1', type: 'data_record', form: 'visit', fields: { patient_id: 'p1' } },
    { _id: 'h2', type: 'clinic', parent: { _id: 'river' } },
  ];
  await ask('POST', `/${name}/_bulk_docs`, { json: { docs } });
  return { name, move: (id, to) => ask('POST', `/${name}/_places/${id}/move`, { json: { to } }) };
}

/** A `fetch` that is watched. */
export class Watch {
  /** Every request: `{method, path, at, bytes}`, `at` in milliseconds. */
  requests = [];
  /** Runs before each request is sent and may wait for something; what it throws is what the client gets. */
  before = async () => {};
  /** Runs before an answer is handed over; what it throws is what the client gets. */
  after = async () => {};
  #headers;
  #ending = new AbortController();

  /** `headers` are added to each request. */
  constructor(headers = {}) {
    this.#headers = headers;
  }

  fetch = async (url, { headers = {}, ...options } = {}) => {
    const { pathname } = new URL(url);
    const given = typeof headers[Symbol.iterator] === 'function' ? Object.fromEntries(headers) : headers;
    const { method = 'GET', body = '' } = options;
    const request = { method, path: decodeURIComponent(pathname), at: Date.now(), bytes: body.length, body };
    this.requests.push(request);
    await this.before(request);
    const signal = AbortSignal.any([this.#ending.signal, ...(options.signal ? [options.signal] : [])]);
    const answer = await fetch(url, { ...options, signal, headers: { ...given, ...this.#headers } });
    answer.buffer = async () => Buffer.from(await answer.arrayBuffer());
    request.status = answer.status;
    await this.after(request, answer);
    return answer;
  };

  /** How many requests matched. */
  count(method, pattern) {
    return this.requests.filter((request) => request.method === method && pattern.test(request.path)).length;
  }

  /** Ends what is still open. PouchDB 9 forgets the waiting feed of a replication that failed. */
  end() {
    this.#ending.abort();
  }

  /** Forgets what was asked so far. */
  clear() {
    this.requests.length = 0;
  }
}
