// Phones in a restore drill: not a test of its own. tests/restore/phones.rs starts it, stops and restores the server in between,
// and looks at the server; here are only the phones. After each step it prints "done STEP" and waits for a line.
//
// SETTLE_URL, SETTLE_DATABASE, and the accounts `live`, `retired`, `offline` with the passwords `pass-of-NAME`.

import assert from 'node:assert/strict';
import process from 'node:process';
import { createInterface } from 'node:readline';

import { PouchDB, SERVER, request } from './support.mjs';

const DATABASE = process.env.SETTLE_DATABASE;
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();

async function step(name) {
  console.log(`done ${name}`);
  const line = await lines.next();
  assert.equal(line.value, 'go');
}

/** A phone: a local database, and the server's database seen with the phone's own cookie. */
async function phone(name) {
  const body = { name, password: `pass-of-${name}`, device: { id: `phone-of-${name}`, name } };
  const login = await request('POST', '/_session', { auth: null, json: body });
  assert.equal(login.status, 200, JSON.stringify(login.body));
  const [cookie] = login.headers.get('set-cookie').split(';');
  const url = new URL(`${SERVER}/${DATABASE}`);
  url.username = '';
  url.password = '';
  const remote = new PouchDB(url.href, {
    skip_setup: true,
    fetch(address, options) {
      options.headers.set('cookie', cookie);
      options.credentials = 'omit';
      return fetch(address, options);
    },
  });
  return { name, local: new PouchDB(`phone-${name}-${process.pid}`, { adapter: 'memory' }), remote };
}

async function write(of, prefix, count) {
  const person = (number) => ({ _id: `${of.name}-${prefix}-${number}`, type: 'person', parent: { _id: 'place' } });
  const rows = await of.local.bulkDocs(Array.from({ length: count }, (_, number) => person(number)));
  assert.ok(rows.every((row) => row.ok));
}

async function until(condition, what) {
  const end = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > end) throw new Error(`gave up waiting: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// PouchDB asks for the database's information without looking at the outcome; a browser only logs that, Node would end.
process.on('unhandledRejection', (error) => console.log(`unhandled: ${error.message}`));

const live = await phone('live');
const retired = await phone('retired');
const offline = await phone('offline');

// Before the backup: everybody has synced something.
const running = live.local.sync(live.remote, { live: true, retry: true, heartbeat: 1000, back_off_function: () => 200 });
running.on('error', (error) => console.log(`the live sync ended: ${error.name}`));
await write(live, 'before', 10);
for (const one of [retired, offline]) {
  await write(one, 'before', 10);
  await one.local.sync(one.remote);
}
const on = async (of, id) => of.remote.get(id).then(() => true, () => false);
await until(() => on(live, 'live-before-9'), 'the live phone to push');
await step('before');

// After the backup: a hundred documents from the live phone, some of the others; all of it arrives.
await write(live, 'after', 100);
for (const one of [retired, offline]) {
  await write(one, 'after', 150);
  await one.local.sync(one.remote);
}
await until(() => on(live, 'live-after-99'), 'the live phone to push');
await until(async () => (await live.remote.get('offline-after-149').catch(() => null)) !== null, 'the others');
await step('after');

// The server was restored. The live phone was never stopped; it makes one more visit.
await write(live, 'later', 1);
await until(() => on(live, 'live-later-0'), 'the live phone to push again');
await until(() => on(live, 'live-after-0'), 'the live phone to begin again');
// The phone that syncs now and then: one ordinary sync, which must not fail.
await offline.local.sync(offline.remote);
// The withdrawn one may push what it holds, and gets nothing.
const before = (await retired.local.info()).doc_count;
await retired.local.replicate.to(retired.remote);
await live.local.put({ _id: 'live-secret', type: 'person', parent: { _id: 'place' } });
await until(() => on(live, 'live-secret'), 'the secret to arrive');
const pulled = await retired.local.replicate.from(retired.remote).then((result) => result.docs_written, () => 0);
assert.equal(pulled, 0);
assert.equal((await retired.local.info()).doc_count, before);
await assert.rejects(retired.remote.get('live-secret'));
await step('restored');
running.cancel();
process.exit(0);
