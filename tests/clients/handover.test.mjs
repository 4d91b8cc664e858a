// The helper of `clients/pouchdb/` in Node against the real server: what is unsent, last syncs, receipts, lost documents,
// wipes. `browser.test.mjs` has the same in Chromium.

import assert from 'node:assert/strict';
import { execFile } from 'node:child_process';
import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { test } from 'node:test';
import { promisify } from 'node:util';

import settle, { checkReceipt, plugin } from '../../clients/pouchdb/src/index.js';
import { Account, ORIGIN, scopedDatabase, Watch } from './handover.mjs';
import { contents, freshDatabase, freshName, pause, phone, PouchDB, remote, request } from './support.mjs';
import { ask, idsIn } from './scoped.mjs';

const DEVICE = { name: "Ann's phone", app: 'visits 4.2' };

/** A database, an account, a phone, and a link that is logged in. */
async function scene(t, { options = {}, database, account, device = phone(t) } = {}) {
  database ??= await freshDatabase(t);
  account ??= await Account.open(t, database);
  const watch = new Watch();
  const open = (more = {}) => {
    const link = settle(device, { url: `${ORIGIN}/${database}`, device: DEVICE, fetch: watch.fetch, ...options, ...more });
    t.after(() => link.close());
    return link;
  };
  const link = open();
  await link.logIn(account.credentials);
  return { database, account, device, watch, link, open, office: remote(database) };
}

function visits(from, to) {
  return Array.from({ length: to - from }, (_, place) => ({ _id: `visit-${from + place}`, type: 'data_record' }));
}

test('a device makes its id once, names itself, and stays logged in', async (t) => {
  const { account, device, link, open, watch } = await scene(t);
  const id = await link.device();
  assert.match(id, /^[0-9a-f]{32}$/);
  assert.match(link.standing.device, /^[0-9a-f]{32}$/);
  assert.deepEqual([link.standing.standing, link.standing.named, link.standing.name], ['active', true, DEVICE.name]);
  assert.deepEqual((await account.devices()).map(({ name, app }) => ({ name, app })), [DEVICE]);
  await link.close();
  const later = open();
  assert.equal(await later.device(), id, 'after a restart');
  watch.clear();
  assert.equal((await later.sync()).standing.standing, 'active');
  assert.equal(watch.count('POST', /_session/), 0, 'the session is kept');
  assert.equal((await account.devices()).length, 1);
  assert.deepEqual(await idsIn(device), [], 'and all of it is where the app does not see it');
});

test('unsent is what the server lacks', async (t) => {
  const { account, device, link, office, open, watch } = await scene(t);
  await office.bulkDocs(visits(0, 20));
  await device.bulkDocs(visits(100, 110));
  const { rev } = await device.put({ _id: 'mistake' });
  await device.remove('mistake', rev);
  await device.bulkDocs([{ _id: 'twice', _rev: '1-a' }, { _id: 'twice', _rev: '1-b' }], { new_edits: false });
  await device.put({ _id: '_design/local-index' });
  await office.bulkDocs(visits(20, 25));
  await device.replicate.from(office, { doc_ids: visits(20, 25).map(({ _id }) => _id) });
  const unsent = await link.unsent();
  assert.deepEqual([unsent.documents, unsent.exact], [12, true]);
  assert.ok(unsent.oldest <= new Date() && unsent.oldest > Date.now() - 90_000, `${unsent.oldest}`);

  watch.before = async ({ path }) => {
    if (path.endsWith('_bulk_docs')) throw new TypeError('no network');
  };
  await assert.rejects(link.sync(), { name: 'SettleError', status: 0 });
  assert.equal((await account.devices())[0].pending.documents, 12, 'supervisors know');
  watch.before = async () => {};

  const done = await link.sync();
  assert.deepEqual([done.pushed, done.pulled, done.refused], [13, 20, []]);
  assert.equal((await account.devices())[0].pending.documents, 0);
  watch.clear();
  assert.deepEqual(await link.unsent(), { documents: 0, oldest: null, exact: true });
  assert.equal(watch.requests.length, 0, 'nothing changed: no request');

  const { _rev, ...pulled } = await device.get('visit-3');
  await device.put({ ...pulled, _rev, seen: true });
  assert.equal((await link.unsent()).documents, 1);
  const offline = open({ fetch: () => Promise.reject(new TypeError('no network')) });
  const { documents, exact } = await offline.unsent();
  assert.deepEqual([documents, exact], [1, false]);
  assert.equal((await link.sync()).pushed, 1);
  assert.equal((await offline.unsent()).documents, 0, 'offline, too');
});

test('what is unsent stays as old as it is while it is edited', async (t) => {
  const { device, link } = await scene(t);
  let { rev } = await device.put({ _id: 'visit' });
  const { oldest } = await link.unsent();
  t.mock.timers.enable({ apis: ['Date'], now: Date.now() + 86_400_000 });
  ({ rev } = await device.put({ _id: 'visit', _rev: rev }));
  assert.deepEqual((await link.unsent()).oldest, oldest);
  await link.sync();
  await device.put({ _id: 'visit', _rev: rev });
  assert.ok((await link.unsent()).oldest - oldest > 86_000_000, 'what was sent does not count any more');
});

test('everything arrives as it is: attachments, conflicts, deletions, histories', async (t) => {
  const { device, link, database, office } = await scene(t);
  const branches = [{ _id: 'c', _rev: '2-b', _revisions: { start: 2, ids: ['b', 'a'] } }, { _id: 'c', _rev: '1-z' }];
  await device.bulkDocs(branches, { new_edits: false });
  const photo = { content_type: 'image/jpeg', data: Buffer.alloc(300_000, 7) };
  const note = { content_type: 'text/plain', data: Buffer.from('moin') };
  const { rev } = await device.put({ _id: 'photo', _attachments: { 'p.jpg': photo, 'note.txt': note } });
  await device.put({ _id: 'photo', _rev: rev, _attachments: (await device.get('photo'))._attachments, edited: true });
  const gone = await device.put({ _id: 'gone', why: 'x' });
  await device.put({ _id: 'gone', _rev: gone.rev, _deleted: true, why: 'moved' });
  await device.bulkDocs(visits(0, 1100));
  await link.sync();
  assert.deepEqual(await contents(office), await contents(device));
  const other = phone(t);
  await other.replicate.from(remote(database));
  assert.deepEqual(await contents(other), await contents(device));
});

test('a document that the server does not take holds up nothing and stays unsent', async (t) => {
  const { device, link, office } = await scene(t);
  await device.bulkDocs([...visits(0, 5), { _id: 'huge', text: 'x'.repeat(8_100_000) }, ...visits(5, 10)]);
  const { pushed, refused } = await link.sync();
  assert.deepEqual([pushed, refused.map(({ id }) => id)], [10, ['huge']]);
  assert.equal((await link.unsent()).documents, 1);
  assert.equal((await office.info()).doc_count, 10);
  await assert.rejects(link.finish(), { error: 'incomplete' }, 'no receipt for what is not there');
  await device.remove(await device.get('huge'));
  assert.deepEqual((await link.sync()).refused, []);
  assert.equal((await link.unsent()).documents, 0);
});

test('a server that lost its data gets it again', async (t) => {
  const { account, database, device, link, office } = await scene(t);
  await device.bulkDocs(visits(0, 30));
  await link.sync();
  await ask('DELETE', `/${database}`);
  await ask('PUT', `/${database}`);
  await ask('PUT', `/${database}/_security`, { json: { members: { roles: ['chw'] }, admins: { roles: ['_admin'] } } });
  assert.equal((await link.sync()).pushed, 30);
  assert.equal((await office.info()).doc_count, 30);
  assert.equal((await account.devices()).length, 1);
});

test('a receipt: signed, kept, and good for nothing else', async (t) => {
  const { database, device, link, watch } = await scene(t);
  await device.bulkDocs(visits(0, 3));
  const { receipt, signature } = await link.finish();
  assert.equal(signature, 'valid');
  assert.deepEqual([receipt.database, receipt.documents, receipt.revisions], [database, 3, 3]);
  assert.equal(receipt.device, link.standing.device);
  assert.deepEqual(await link.receipt(), { receipt, signature });
  assert.equal((await link.check()).standing, 'active', 'asking for a receipt changes nothing');

  const { key } = await ask('GET', '/_handover/key');
  for (const member of ['server', 'incarnation', 'database', 'database_uuid', 'device', 'account', 'manifest', 'documents',
    'revisions', 'escrowed', 'root', 'position', 'time']) {
    assert.equal(await checkReceipt({ ...receipt, [member]: `${receipt[member]}1` }, key), 'invalid', member);
  }
  assert.equal(await checkReceipt(receipt, key.replace(/^../, (first) => (first === '00' ? '01' : '00'))), 'invalid');

  // A server in the middle that claims more than the real one signed.
  const forging = settle(device, {
    url: `${ORIGIN}/${database}`,
    fetch: async (...request) => {
      const answer = await watch.fetch(...request);
      if (!answer.url.endsWith('_manifest')) return answer;
      const said = await answer.json();
      if (said.receipt) said.receipt.documents += 1;
      return new Response(JSON.stringify(said));
    },
  });
  t.after(() => forging.close());
  await assert.rejects(forging.finish(), { error: 'bad_receipt' });
  assert.deepEqual(await link.receipt(), { receipt, signature }, 'the good one stays');
});

test('a large manifest goes in small parts and on after a crash', async (t) => {
  const { device, link, open, watch } = await scene(t);
  await device.bulkDocs(visits(0, 3000));
  await link.sync();
  watch.clear();
  watch.before = async ({ path }) => {
    if (path.endsWith('/_manifest') && watch.count('POST', /_manifest$/) === 4) throw new TypeError('the app was swiped away');
  };
  await assert.rejects(link.finish(), { status: 0 });
  await link.close();
  watch.before = async () => {};
  const { receipt } = await open().finish();
  assert.equal(receipt.revisions, 3000);
  const parts = watch.requests.filter(({ method, path }) => method === 'POST' && path.endsWith('/_manifest'));
  assert.equal(parts.length, 8, 'six parts, one of them twice, and the final one');
  assert.ok(parts.every(({ bytes }) => bytes < 64_000), `${parts.map(({ bytes }) => bytes)}`);
  assert.equal(new Set(parts.map(({ body }) => JSON.parse(body).manifest)).size, 1);
});

test('a manifest that the server forgot begins again', async (t) => {
  const { database, device, link, watch } = await scene(t);
  await device.bulkDocs(visits(0, 1200));
  await link.sync();
  watch.clear();
  watch.before = async ({ path }) => {
    if (path.endsWith('/_manifest') && watch.count('POST', /_manifest$/) === 2) throw new TypeError('swiped away');
  };
  await assert.rejects(link.finish());
  watch.before = async () => {};
  const note = await device.get('_local/settle');
  await device.put({ ...note, manifest: { ...note.manifest, name: 'nobody-knows-this' } });
  assert.equal((await link.finish()).receipt.revisions, 1200);

  // Between two parts: the second and all that follow of the first manifest reach the server under another name.
  const names = new Set();
  const losing = settle(device, {
    url: `${ORIGIN}/${database}`,
    fetch: (address, options) => {
      const name = /_manifest$/.test(address) && JSON.parse(options.body).manifest;
      const isFirst = name && (names.size === 0 || names.has(name));
      const lost = isFirst && names.has(name);
      if (isFirst) names.add(name);
      return watch.fetch(address, lost ? { ...options, body: options.body.replace(name, 'another') } : options);
    },
  });
  t.after(() => losing.close());
  assert.equal((await losing.finish()).receipt.revisions, 1200);
});

test('a changed password: the work goes, nothing comes, and the new password opens again', async (t) => {
  const { account, device, link, office, watch } = await scene(t);
  await device.bulkDocs(visits(0, 40));
  await link.sync();
  await device.bulkDocs(visits(40, 60));
  await account.changePassword();
  await office.put({ _id: 'secret' });
  const standings = [];
  link.on('standing', ({ standing, next }) => standings.push([standing, next]));
  watch.clear();
  const done = await link.sync();
  assert.deepEqual([done.pushed, done.pulled, done.signature], [20, 0, 'valid']);
  assert.equal(done.receipt.documents, 60);
  assert.deepEqual(standings, [['draining', 'push'], ['drained', 'reauth']]);
  assert.equal(link.standing.cause, 'password_changed');
  assert.notEqual(link.standing.message, '');
  assert.equal(watch.count('GET', /_changes/) + watch.count('POST', /_bulk_get/), 0, 'nobody asks for what is refused');
  assert.equal((await office.info()).doc_count, 61);
  watch.clear();
  await link.sync();
  assert.equal(watch.requests.length, 1, 'and then one request each time');

  await link.logIn(account.credentials);
  assert.equal((await link.sync()).pulled, 1);
  assert.deepEqual([link.standing.standing, (await account.devices()).length], ['active', 1]);
});

for (const where of ['_bulk_docs', '_bulk_get', '_changes']) {
  test(`a password that is changed at ${where}`, async (t) => {
    const { account, device, link, office, watch } = await scene(t);
    await device.bulkDocs(visits(0, 30));
    await office.bulkDocs(visits(100, 130));
    watch.before = async ({ path }) => {
      if (!path.endsWith(where)) return;
      watch.before = async () => {};
      await account.changePassword();
    };
    const { standing } = await link.sync();
    assert.equal(standing.standing, 'draining');
    const { receipt } = await link.sync();
    assert.ok(receipt.documents >= 30);
    assert.equal((await office.info()).doc_count, 60, 'everything was pushed');
    assert.deepEqual((await idsIn(device)).filter((id) => id.length > 8), [], 'nothing was pulled');
    await link.logIn(account.credentials);
    assert.equal((await link.sync()).pulled, 30);
  });
}

test('with two databases the last step is done once in each', async (t) => {
  const one = await scene(t);
  const database = await freshDatabase(t);
  await ask('PUT', `/${database}/_security`, { json: { members: { roles: ['chw'] }, admins: { roles: ['_admin'] } } });
  const id = await one.link.device();
  const two = await scene(t, { database, account: one.account, options: { device: { ...DEVICE, id } } });
  await Promise.all([one.device.bulkDocs(visits(0, 3)), two.device.bulkDocs(visits(0, 4))]);
  await Promise.all([one.link.sync(), two.link.sync()]);
  assert.equal(one.link.standing.device, two.link.standing.device);
  await ask('POST', `/_devices/${one.link.standing.device}/retire`);
  const first = await one.link.sync();
  assert.deepEqual([first.receipt.documents, first.standing.standing], [3, 'draining']);
  one.watch.clear();
  assert.equal((await one.link.sync()).receipt, null);
  assert.equal(one.watch.count('POST', /_manifest/), 0, 'not again and again');
  await one.device.put({ _id: 'late' });
  assert.equal((await one.link.sync()).receipt.documents, 4, 'but for what is new');
  const second = await two.link.sync();
  assert.deepEqual([second.receipt.documents, second.standing.standing], [4, 'drained']);
});

test('a retired device proves that it is empty, and a lost answer does not lose the receipt', async (t) => {
  const { account, device, link, office, watch } = await scene(t);
  await device.bulkDocs(visits(0, 10));
  await ask('POST', `/_devices/${link.standing.device}/retire`, { json: { reason: 'new phone' } });
  watch.after = async ({ path, body }) => {
    if (path.endsWith('/_manifest') && JSON.parse(body).final) throw new TypeError('no network');
  };
  await assert.rejects(link.sync(), { status: 0 });
  watch.after = async () => {};
  assert.equal((await link.check()).standing, 'drained');
  const { receipt, signature } = await link.receipt();
  assert.deepEqual([receipt.documents, signature], [10, 'valid']);
  assert.equal((await office.info()).doc_count, 10);
  assert.equal((await account.devices())[0].evidence, 'manifest');
  await device.put({ _id: 'too-late' });
  watch.clear();
  assert.equal((await link.sync()).pushed, 0);
  assert.ok(watch.requests.length <= 2, `${watch.requests.length} requests`);
});

test('a wipe order erases everything, and the report is sent until it arrives', async (t) => {
  const [device, others] = ['visits', 'settings'].map((name) => new PouchDB(freshName(name), { adapter: 'memory' }));
  const erase = () => ['photos on the card'];
  const { account, link, watch } = await scene(t, { device, options: { also: [others], erase } });
  await Promise.all([device.bulkDocs(visits(0, 10)), others.put({ _id: 'pin' })]);
  const order = `/_devices/${link.standing.device}/wipe`;
  await ask('POST', `/_devices/${link.standing.device}/retire`, { json: { reason: 'new phone' } });
  assert.equal((await request('POST', order, { json: { reason: 'new phone' } })).status, 409, 'not before the last step');
  assert.equal((await link.sync()).signature, 'valid');
  assert.equal((await device.info()).doc_count, 10, 'nothing is erased without an order');
  await ask('POST', order, { json: { reason: 'new phone' } });

  const wiped = [];
  link.on('wiped', ({ erased }) => wiped.push(erased));
  const names = [device.name, others.name, 'photos on the card'];
  watch.after = async ({ path }) => {
    if (path.endsWith('wipe_reported')) throw new TypeError('no network');
  };
  await assert.rejects(link.sync(), { status: 0 });
  await assert.rejects(device.info(), /destroyed/);
  await assert.rejects(others.info(), /destroyed/);
  assert.deepEqual(wiped, [], 'not yet reported');
  watch.after = async () => {};
  await link.sync();
  assert.deepEqual(wiped, [names]);
  watch.clear();
  await assert.rejects(link.sync(), { error: 'erased' });
  assert.equal(watch.requests.length, 0, 'an erased device does not call again');
  const [{ wipe, alarm }] = await account.devices();
  assert.deepEqual([wipe.state, wipe.erased, alarm], ['reported', names, null]);
});

test('two people may order a wipe without the last step', async (t) => {
  const device = new PouchDB(freshName('visits'), { adapter: 'memory' });
  const { account, link, watch } = await scene(t, { device });
  await device.bulkDocs(visits(0, 10));
  const [second, password] = [freshName('second'), 'of-the-second'];
  await ask('POST', '/_accounts', { json: { name: second, password, roles: ['account_admin'], link: false } });
  t.after(() => ask('DELETE', `/_accounts/${second}`));
  await ask('POST', `/_devices/${link.standing.device}/retire`, { json: { reason: 'fell into the river' } });
  const order = `/_devices/${link.standing.device}/wipe`;
  const override = { json: { override: { reason: 'fell into the river' } } };
  assert.equal((await request('POST', order, override)).status, 202);
  // Whatever the device does first, it pushes; here the network breaks before it can.
  watch.before = async ({ path }) => {
    if (!path.endsWith('_device')) throw new TypeError('no network');
  };
  await assert.rejects(link.sync(), { status: 0 });
  assert.equal((await device.info()).doc_count, 10, 'one person alone erases nothing');
  watch.before = async () => {};
  assert.equal((await request('POST', order, { ...override, auth: `${second}:${password}` })).status, 200);
  const { message } = await link.check();
  assert.match(message, /although work on it may be lost/);
  await link.sync();
  await assert.rejects(device.info(), /destroyed/);
  const [{ wipe, evidence }] = await account.devices();
  assert.deepEqual([wipe.state, evidence], ['reported', 'overridden']);
});

test('a phone that only went quiet keeps its work until two people order the wipe', { timeout: 120_000 }, async (t) => {
  const device = new PouchDB(freshName('visits'), { adapter: 'memory' });
  const { account, link, watch, office } = await scene(t, { device });
  await device.bulkDocs(visits(0, 10));
  const [second, password] = [freshName('second'), 'of-the-second'];
  await ask('POST', '/_accounts', { json: { name: second, password, roles: ['account_admin'], link: false } });
  t.after(() => ask('DELETE', `/_accounts/${second}`));
  const quiet = '/_node/_local/_config/settle/quiet_seconds';
  const usual = await ask('GET', quiet);
  await ask('PUT', quiet, { json: '0' });
  t.after(() => ask('PUT', quiet, { json: usual }));

  await ask('POST', `/_devices/${link.standing.device}/retire`, { json: { reason: 'new phone' } });
  // Everything arrives but the manifest.
  watch.before = async ({ path }) => {
    if (path.endsWith('/_manifest')) throw new TypeError('no network');
  };
  await assert.rejects(link.sync(), { status: 0 });
  assert.equal((await office.info()).doc_count, 10);
  // The next call says that nothing is unsent: while it said so of ten documents, its silence means nothing.
  await assert.rejects(link.sync(), { status: 0 });
  const known = async () => (await account.devices())[0];
  // The server looks every half minute.
  for (let tries = 0; (await known()).evidence === null && tries < 450; tries += 1) await pause(100);
  assert.deepEqual([(await known()).standing, (await known()).evidence], ['drained', 'inferred']);

  const order = `/_devices/${link.standing.device}/wipe`;
  assert.equal((await request('POST', order, { json: { reason: 'new phone' } })).status, 409, 'an inference is no proof');
  const { pushed, receipt } = await link.sync();
  assert.deepEqual([pushed, receipt, (await device.info()).doc_count], [0, null, 10], 'nothing is erased');
  await device.put({ _id: 'visit-late', type: 'data_record' });
  await assert.rejects(link.sync().then(() => link.sync()), { status: 0 }, 'more work ends the inference');
  assert.equal((await office.info()).doc_count, 11);
  const override = { json: { override: { reason: 'its screen is broken' } } };
  assert.equal((await request('POST', order, override)).status, 202);
  await link.check();
  assert.equal((await device.info()).doc_count, 11, 'one person alone erases nothing');
  assert.equal((await request('POST', order, { ...override, auth: `${second}:${password}` })).status, 200);
  const { message } = await link.check();
  assert.match(message, /although work on it may be lost/);
  await link.sync();
  await assert.rejects(device.info(), /destroyed/);
  assert.deepEqual([(await known()).wipe.state, (await known()).evidence], ['reported', 'overridden']);
});

test('a one-time link logs the phone in, once', async (t) => {
  const database = await freshDatabase(t);
  const name = freshName('bea');
  const { link: made } = await ask('POST', '/_accounts', { json: { name, roles: ['chw'] } });
  t.after(() => ask('DELETE', `/_accounts/${name}`));
  await ask('PUT', `/${database}/_security`, { json: { members: { roles: ['chw'] }, admins: { roles: ['_admin'] } } });
  const device = phone(t);
  await device.bulkDocs(visits(0, 3));
  const link = settle(device, { url: `${ORIGIN}/${database}`, device: DEVICE });
  t.after(() => link.close());
  await link.logIn({ link: made.token });
  assert.deepEqual([link.standing.account, link.standing.standing], [name, 'active']);
  assert.equal((await link.sync()).pushed, 3);
  const another = settle(phone(t), { url: `${ORIGIN}/${database}`, device: DEVICE });
  t.after(() => another.close());
  await assert.rejects(another.logIn({ link: made.token }), { status: 401 });
});

test('lost documents go, are never deleted, and come back', async (t) => {
  const { name: database, move } = await scopedDatabase(t);
  const account = await Account.open(t, database, { places: ['river'] });
  const { device, link, open, office, watch } = await scene(t, { database, account });
  await link.sync();
  assert.deepEqual(await idsIn(device), ['h1', 'h2', 'p1', 'river', 'visit1']);
  await link.finish();
  await move('h1', 'market');
  await link.sync();
  await device.put({ _id: 'visit2', type: 'data_record', form: 'visit', fields: { patient_id: 'h2' } });
  const fresh = phone(t);
  await assert.rejects(link.dropLost({ into: fresh }), /sync first/);
  await link.sync();
  assert.equal(await link.dropLost({ into: fresh }), 3);
  await link.close();
  assert.deepEqual(await idsIn(fresh), ['h2', 'river', 'visit2']);

  watch.clear();
  const after = settle(fresh, { url: `${ORIGIN}/${database}`, device: DEVICE, fetch: watch.fetch });
  t.after(() => after.close());
  assert.equal(await after.device(), await link.device());
  assert.deepEqual(await after.receipt(), await link.receipt());
  assert.equal((await after.unsent()).documents, 0);
  assert.equal(watch.requests.length, 0, 'all that is known is kept');
  assert.equal((await after.sync()).pushed, 0, 'nothing is pushed');
  assert.deepEqual(await idsIn(office), ['h1', 'h2', 'market', 'p1', 'river', 'visit1', 'visit2']);
  assert.deepEqual(await idsIn(fresh), ['h2', 'river', 'visit2']);
  await move('h1', 'river');
  await after.sync();
  assert.deepEqual(await idsIn(fresh), ['h1', 'h2', 'p1', 'river', 'visit1', 'visit2'], 'in reach again');
  assert.equal((await account.devices()).length, 1);
  assert.equal((await open().check()).standing, 'active');
});

test('documents that are out of reach by now do not hold up the last step', async (t) => {
  const { name: database, move } = await scopedDatabase(t);
  const account = await Account.open(t, database, { places: ['river'] });
  const { device, link } = await scene(t, { database, account });
  await link.sync();
  await device.put({ ...(await device.get('p1')), late: true });
  await move('h1', 'market');
  await account.changePassword();
  const { receipt, signature, refused } = await link.sync();
  assert.deepEqual([receipt.documents, signature, refused], [5, 'valid', []]);
});

test('a cut device is told so, asks little, and erases nothing', async (t) => {
  const { account, device, link, watch, office } = await scene(t);
  await device.bulkDocs(visits(0, 10));
  await ask('POST', `/_devices/${link.standing.device}/cut`, { json: { reason: 'stolen' } });
  const standings = [];
  link.on('standing', ({ standing }) => standings.push(standing));
  watch.clear();
  link.start({ every: 5 });
  await pause(4000);
  link.stop();
  assert.deepEqual(standings, ['cut']);
  assert.ok(watch.requests.length <= 2, `${watch.requests.length} requests in 4 seconds`);
  assert.equal((await device.info()).doc_count, 10);
  assert.equal((await office.info()).doc_count, 0);
  await assert.rejects(link.logIn(account.credentials), { status: 401, reason: 'cut' });
});

test('without a network, start waits longer and longer', async (t) => {
  const { link, watch } = await scene(t);
  const errors = [];
  link.on('error', (error) => errors.push(error.status));
  watch.clear();
  watch.before = async () => {
    throw new TypeError('no network');
  };
  link.start({ every: 5 });
  await pause(4000);
  link.stop();
  assert.deepEqual(errors, [0]);
  assert.ok(watch.requests.length <= 2, `${watch.requests.length} requests in 4 seconds`);
});

test('as a plugin of PouchDB, and what it does not accept', async (t) => {
  const Own = PouchDB.defaults({});
  Own.plugin(plugin);
  const device = new Own(freshName('plugin'), { adapter: 'memory' });
  t.after(() => device.destroy());
  const link = device.settle({ url: `${ORIGIN}/medic`, device: { id: 'given-by-the-app' } });
  assert.equal(await link.device(), 'given-by-the-app');
  await assert.rejects(link.sync(), { status: 401 });
  await assert.rejects(link.dropLost(), TypeError, 'this adapter cannot purge');
  await link.close();
  assert.throws(() => settle(device, { url: 'http://ann:secret@127.0.0.1/medic' }), /logIn/);
  assert.throws(() => settle(device, { url: 'http://127.0.0.1/' }), /names no database/);
});

test('the example of the README runs as written', async (t) => {
  const database = await freshDatabase(t, { prefix: 'medic' });
  const account = await Account.open(t, database);
  const page = await readFile(new URL('../../clients/pouchdb/README.md', import.meta.url), 'utf8');
  const [, example] = /## A complete example[^]*?```js\n([^]*?)```/.exec(page);
  const own = [
    ["from 'pouchdb-settle'", `from '${new URL('../../clients/pouchdb/src/index.js', import.meta.url)}'`],
    ['http://127.0.0.1:5984/medic', `${ORIGIN}/${database}`],
    ["name: 'ann', password: 'of-ann'", `name: '${account.name}', password: '${account.password}'`],
  ].reduce((text, [shown, real]) => {
    assert.ok(text.includes(shown), shown);
    return text.replace(shown, real);
  }, example);
  // Beside PouchDB, so that Node finds it, in a folder of its own, so that the phone's files stay together.
  const modules = new URL('node_modules/.settle/', import.meta.url);
  await mkdir(modules, { recursive: true });
  const folder = await mkdtemp(`${modules.pathname}example-`);
  t.after(() => rm(folder, { recursive: true, force: true }));
  await writeFile(`${folder}/example.mjs`, own);
  const { stdout } = await promisify(execFile)(process.execPath, ['example.mjs'], { cwd: folder });
  const today = new Date().toISOString().slice(0, 10);
  assert.deepEqual(stdout.trim().split('\n'), [
    `2 unsent since ${today}`,
    'active, next: none. This device is in use.',
    '2 went, 0 came, active',
    '0 unsent',
    'active, next: none. This device is in use.',
    '2 documents are safe, signature valid',
  ]);
  assert.equal((await request('GET', `/${database}/visit-7`)).body.form, 'visit');
});
