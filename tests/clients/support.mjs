// What every client test shares: PouchDB as phones use it, fresh databases on the server under test, seeded chance,
// a way to compare two databases leaf by leaf, and a TCP proxy that counts requests and cuts connections.
// Holds no expectation of its own about Settle, and keeps nothing on disk.
//
// SETTLE_URL is the server under test with an operator's credentials, http://name:password@host:port;
// SETTLE_URL_2 a second one (without it, the first plays both parts).

import { EventEmitter } from 'node:events';
import { createHash, randomBytes, randomInt } from 'node:crypto';
import net from 'node:net';
import process from 'node:process';

import PouchDB from 'pouchdb-core';
import HttpAdapter from 'pouchdb-adapter-http';
import MemoryAdapter from 'pouchdb-adapter-memory';
import Replication from 'pouchdb-replication';

EventEmitter.defaultMaxListeners = 200;
PouchDB.plugin(HttpAdapter).plugin(MemoryAdapter).plugin(Replication);

export { PouchDB };

/** Time until a test that waits for something gives up. */
const PATIENCE_MS = 30_000;

function serverFromEnvironment(name, otherwise) {
  const value = process.env[name] ?? otherwise;
  if (!value) throw new Error(`${name} is not set: give it the server's URL, such as http://admin:secret@127.0.0.1:5984`);
  return value.replace(/\/+$/, '');
}

/** URL of the server under test, with credentials, without a final slash. */
export const SERVER = serverFromEnvironment('SETTLE_URL');
/** URL of the second server; the first one when there is none. */
export const SECOND_SERVER = serverFromEnvironment('SETTLE_URL_2', SERVER);

/** One plain HTTP request; `auth` is "name:password", null for none; returns `{status, headers, body}`. */
export async function request(method, path, { base = SERVER, json, body, headers = {}, auth } = {}) {
  const url = new URL(base);
  const login = auth === undefined ? `${decodeURIComponent(url.username)}:${decodeURIComponent(url.password)}` : auth;
  const answer = await fetch(`${url.origin}${path}`, {
    method,
    body: json === undefined ? body : JSON.stringify(json),
    headers: {
      accept: 'application/json',
      ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      ...(login && login !== ':' ? { authorization: `Basic ${Buffer.from(login).toString('base64')}` } : {}),
      ...headers,
    },
  });
  const text = await answer.text();
  let value = text;
  try {
    value = JSON.parse(text);
  } catch {
    // Not JSON: the text itself is the body.
  }
  return { status: answer.status, headers: answer.headers, body: value };
}

/** A name no other test uses. */
export function freshName(prefix) {
  return `${prefix}_${randomBytes(5).toString('hex')}`;
}

/** Creates an empty database on the server for one test and deletes it after the test; returns its name. */
export async function freshDatabase(t, { base = SERVER, prefix = 'clients' } = {}) {
  const name = freshName(prefix);
  const answer = await request('PUT', `/${name}`, { base });
  if (answer.status !== 201) throw new Error(`creating ${name}: ${answer.status} ${JSON.stringify(answer.body)}`);
  t.after(() => request('DELETE', `/${name}`, { base }));
  return name;
}

/** A client-side handle of a database on a server. */
export function remote(name, { base = SERVER, ...options } = {}) {
  return new PouchDB(`${base}/${name}`, { adapter: 'http', ...options });
}

/**
 * Like `remote`, for networks that break: it fetches as browsers do. PouchDB's own node-fetch 2 waits for ever on an
 * answer that was cut short, and PouchDB leaves a failed progress look-up (`info`) unhandled, which ends a Node process.
 */
export function sturdyRemote(name, options) {
  const database = remote(name, { ...options, fetch: browserFetch });
  const info = database.info.bind(database);
  database.info = () => {
    const promise = info();
    const plainThen = promise.then.bind(promise);
    promise.then = (fulfilled, rejected) => {
      const next = plainThen(fulfilled, rejected);
      next.catch(() => {});
      return next;
    };
    return promise;
  };
  return database;
}

/** Node's own fetch in the shape PouchDB expects, one connection for each request. */
export async function browserFetch(url, { headers, method, body, signal }) {
  const answer = await fetch(url, { method, body, signal, headers: [...headers, ['connection', 'close']] });
  answer.buffer = async () => Buffer.from(await answer.arrayBuffer());
  return answer;
}

/** A phone: an in-memory PouchDB, destroyed after the test. */
export function phone(t, label = 'phone') {
  const database = new PouchDB(freshName(label), { adapter: 'memory' });
  t.after(() => database.destroy());
  return database;
}

/** Resolves when `condition()` is truthy, with its value; rejects with `what` after a while. */
export async function eventually(what, condition) {
  const end = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > end) throw new Error(`waited in vain until ${what}`);
    await pause(20);
  }
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

/** Ends a live replication or sync and waits until it has ended. */
export function stopped(replication) {
  return new Promise((resolve) => {
    replication.on('complete', resolve);
    replication.on('error', resolve);
    replication.cancel();
  });
}

/** Deterministic chance (splitmix32). The seed is SETTLE_SEED or fresh, and is told with `t.diagnostic`. */
export function chance(t) {
  const seed = process.env.SETTLE_SEED ? Number(process.env.SETTLE_SEED) : randomInt(2 ** 32);
  t.diagnostic(`seed ${seed} (repeat with SETTLE_SEED=${seed})`);
  let state = seed >>> 0;
  const next = () => {
    state = (state + 0x9e3779b9) >>> 0;
    let mixed = state ^ (state >>> 16);
    mixed = Math.imul(mixed, 0x21f0aaad);
    mixed ^= mixed >>> 15;
    mixed = Math.imul(mixed, 0x735a2d97);
    return (mixed ^ (mixed >>> 15)) >>> 0;
  };
  return {
    seed,
    below: (limit) => next() % limit,
    oneOf: (list) => list[next() % list.length],
    word: () => next().toString(36),
    bytes: (length) => Buffer.from(Array.from({ length }, () => next() & 0xff)),
  };
}

/** CouchDB's digest of an attachment's bytes. */
export function digestOf(bytes) {
  return `md5-${createHash('md5').update(bytes).digest('base64')}`;
}

/** A revision id of the given generation, the same for the same word. */
export function revision(generation, word) {
  return `${generation}-${createHash('md5').update(`${generation} ${word}`).digest('hex')}`;
}

/**
 * Everything a database holds, in a form that two databases can be compared by: per document the winner, whether it is
 * deleted, and every leaf with its history, body and attachments (type, length, digest).
 */
export async function contents(database) {
  const { results } = await database.changes({ since: 0, style: 'all_docs', batch_size: 5000 });
  if (results.length === 0) return {};
  const leaves = results.flatMap(({ id, changes }) => changes.map(({ rev }) => ({ id, rev })));
  const held = {};
  const winners = await database.allDocs({ keys: results.map(({ id }) => id) });
  for (const row of winners.rows) {
    held[row.key] = { winner: row.value.rev, deleted: row.value.deleted === true, leaves: {} };
  }
  const bodies = await database.bulkGet({ docs: leaves, revs: true });
  for (const { id, docs } of bodies.results) {
    for (const { ok } of docs) {
      if (!ok) throw new Error(`${database.name}: a leaf of ${id} cannot be read: ${JSON.stringify(docs)}`);
      held[id].leaves[ok._rev] = leafOf(ok);
    }
  }
  for (const { id, rev } of leaves) {
    if (!held[id].leaves[rev]) throw new Error(`${database.name}: leaf ${rev} of ${id} is listed but not given`);
  }
  return held;
}

function leafOf({ _id, _rev, _revisions, _attachments = {}, ...body }) {
  const files = {};
  for (const [name, { content_type, digest, length }] of Object.entries(_attachments)) {
    files[name] = { content_type, digest, length };
  }
  return { history: _revisions.ids, body, files };
}

/** Ids of the documents that have more than one live leaf in a database. */
export async function conflicted(database) {
  const held = await contents(database);
  return Object.keys(held).filter((id) => {
    const live = Object.values(held[id].leaves).filter((leaf) => !leaf.body._deleted);
    return live.length > 1;
  });
}

/**
 * Where a connection can be cut:
 * - `refused`: nothing reaches the server;
 * - `half-request`: the server gets half of the request's bytes;
 * - `no-response`: the server has answered, the client hears nothing;
 * - `half-response`: the client gets half of the answer's bytes;
 * - `last-byte`: the client gets all but the answer's last byte.
 */
export const STAGES = ['refused', 'half-request', 'no-response', 'half-response', 'last-byte'];

/**
 * A TCP proxy in front of a server, for clients that send `Connection: close` (PouchDB's node-fetch does):
 * one connection is one request. `requests` lists what came, `plan(request, number)` names the stage at which a request
 * is cut, or null to let it pass; numbers begin at 1.
 */
export class Proxy {
  requests = [];
  plan = () => null;
  problem = null;
  cuts = 0;
  #target;
  #listener;
  #sockets = new Set();

  static async start(t, base = SERVER) {
    const proxy = new Proxy();
    proxy.#target = new URL(base);
    proxy.#listener = net.createServer((client) => proxy.#serve(client));
    await new Promise((resolve) => proxy.#listener.listen(0, '127.0.0.1', resolve));
    t.after(() => proxy.close());
    return proxy;
  }

  /** The server's URL as seen through the proxy, with credentials. */
  get base() {
    const url = new URL(this.#target);
    url.hostname = '127.0.0.1';
    url.port = String(this.#listener.address().port);
    return url.href.replace(/\/+$/, '');
  }

  /** How many requests matched, by method and a pattern of the path. */
  count(method, pattern) {
    return this.requests.filter((request) => request.method === method && pattern.test(request.path)).length;
  }

  /** Cuts every open connection now. */
  cutAll() {
    this.cuts += this.#sockets.size > 0 ? 1 : 0;
    for (const socket of this.#sockets) socket.destroy();
  }

  close() {
    this.cutAll();
    this.#listener.close();
    if (this.problem) throw this.problem;
  }

  #keep(socket) {
    this.#sockets.add(socket);
    socket.on('error', () => {});
    socket.on('close', () => this.#sockets.delete(socket));
  }

  #serve(client) {
    this.#keep(client);
    let head = Buffer.alloc(0);
    const gather = (chunk) => {
      head = Buffer.concat([head, chunk]);
      const end = head.indexOf('\r\n\r\n');
      if (end < 0) return;
      client.off('data', gather);
      this.#exchange(client, head, head.subarray(0, end).toString('latin1'), end + 4);
    };
    client.on('data', gather);
  }

  #exchange(client, begun, head, headLength) {
    const [, method, path] = /^(\S+) (\S+)/.exec(head) ?? [];
    if (!/^connection: close$/im.test(head)) this.problem = new Error(`not one request per connection: ${head}`);
    const request = { method, path: decodeURIComponent(path.split('?')[0]), query: path.split('?')[1] ?? '' };
    this.requests.push(request);
    const stage = this.plan(request, this.requests.length);
    if (stage) this.cuts += 1;
    if (stage === 'refused') {
      client.resetAndDestroy();
      return;
    }
    const upstream = net.connect(Number(this.#target.port || 80), this.#target.hostname);
    this.#keep(upstream);
    const total = headLength + Number(/^content-length: (\d+)$/im.exec(head)?.[1] ?? 0);
    const limit = stage === 'half-request' ? Math.floor(total / 2) : Infinity;
    forward(client, upstream, begun, limit);
    answer(client, upstream, stage);
    client.on('close', () => upstream.destroy());
  }
}

/** Sends what the client says upstream, up to `limit` bytes, then cuts both sides. */
function forward(client, upstream, begun, limit) {
  let sent = 0;
  const send = (chunk) => {
    const part = chunk.subarray(0, Math.max(0, limit - sent));
    sent += part.length;
    const cut = sent >= limit;
    upstream.write(part, () => {
      if (!cut) return;
      upstream.destroy();
      client.resetAndDestroy();
    });
  };
  send(begun);
  client.on('data', send);
}

/** Brings the server's answer to the client, or the part of it that the stage allows. */
function answer(client, upstream, stage) {
  const parts = [];
  upstream.on('data', (chunk) => {
    if (stage === null) client.write(chunk);
    if (stage === 'no-response') client.resetAndDestroy();
    parts.push(stage === null ? Buffer.alloc(0) : chunk);
  });
  upstream.on('end', () => {
    if (stage === null) {
      client.end();
      return;
    }
    const whole = Buffer.concat(parts);
    client.end(whole.subarray(0, stage === 'last-byte' ? whole.length - 1 : Math.floor(whole.length / 2)));
  });
  upstream.on('close', () => client.end());
}
