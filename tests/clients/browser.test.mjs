// The helper of `clients/pouchdb/` in headless Chromium, with PouchDB's IndexedDB adapters, on a page from another origin than
// the server: cookies that the browser keeps, a browser that is ended in the middle, purges, and wipes.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { bundle } from '../../clients/pouchdb/bundle.mjs';
import { Browser, profile, serve } from './browser.mjs';
import { Account, ORIGIN, scopedDatabase } from './handover.mjs';
import { ask, idsIn } from './scoped.mjs';
import { eventually, freshDatabase, remote } from './support.mjs';

const DIST = new URL('node_modules/pouchdb/dist/', import.meta.url);
const SCRIPTS = '<script src="/pouchdb.js"></script><script src="/pouchdb.indexeddb.js"></script>';
const FILES = {
  '/module': `<!doctype html>${SCRIPTS}<script type="module">
    import settle from '/src/index.js';
    window.settle = settle;
  </script>`,
  '/script': `<!doctype html>${SCRIPTS}<script src="/dist/settle.js"></script>`,
  '/pouchdb.js': new URL('pouchdb.js', DIST),
  '/pouchdb.indexeddb.js': new URL('pouchdb.indexeddb.js', DIST),
};

/** A page, a database that it may use, and a browser profile. */
async function scene(t, { database, account } = {}) {
  const files = { ...FILES, '/dist/settle.js': await bundle() };
  const page = await serve(t, files, { '/src/': new URL('../../clients/pouchdb/src/', import.meta.url) });
  await allowOrigin(t, page);
  database ??= await freshDatabase(t);
  account ??= await Account.open(t, database);
  const folder = await profile(t);
  const open = (path = '/module') => Browser.open(t, folder, page + path);
  return { database, account, office: remote(database), url: `${ORIGIN}/${database}`, open };
}

/** The server answers pages of this origin, with cookies. */
async function allowOrigin(t, origin) {
  const settings = { 'cors/origins': origin, 'cors/credentials': 'true', 'chttpd/enable_cors': 'true' };
  for (const [key, value] of Object.entries(settings)) await ask('PUT', `/_node/_local/_config/${key}`, { json: value });
  t.after(() => ask('PUT', '/_node/_local/_config/chttpd/enable_cors', { json: 'false' }));
}

for (const [path, adapter] of [['/module', 'indexeddb'], ['/script', 'idb']]) {
  test(`last sync and receipt: loaded as a ${path.slice(1)}, adapter ${adapter}`, async (t) => {
    const { account, database, office, url, open } = await scene(t);
    const file = { content_type: 'text/plain', data: Buffer.from('hej') };
    await office.bulkDocs([{ _id: 'task-1', _attachments: { 'a.txt': file } }, { _id: 'task-2' }]);
    const browser = await open(path);
    const done = await browser.run(async (at, who, kind) => {
      const device = new PouchDB('medic', { adapter: kind });
      const link = settle(device, { url: at, device: { name: 'tablet' } });
      await device.put({ _id: 'visit-1', _attachments: { 'p.txt': { content_type: 'text/plain', data: new Blob(['moin']) } } });
      const offline = await link.unsent();
      await link.logIn(who);
      const { pushed, pulled } = await link.sync();
      const attachment = await (await device.getAttachment('task-1', 'a.txt')).text();
      const { receipt, signature } = await link.finish();
      return { offline, pushed, pulled, attachment, receipt, signature, left: await link.unsent(), cookie: document.cookie };
    }, url, account.credentials, adapter);
    assert.deepEqual([done.offline.documents, done.offline.exact], [1, false]);
    assert.deepEqual([done.pushed, done.pulled, done.attachment], [1, 2, 'hej']);
    assert.deepEqual([done.receipt.database, done.receipt.documents, done.signature], [database, 3, 'valid']);
    assert.deepEqual([done.left.documents, done.cookie], [0, '']);
    assert.equal((await office.getAttachment('visit-1', 'p.txt')).toString(), 'moin');
    assert.equal((await account.devices()).length, 1);
  });
}

test('a browser that is ended in the middle of a manifest goes on where it was', async (t) => {
  const { account, office, url, open } = await scene(t);
  let browser = await open();
  await browser.run(async (at, who) => {
    const device = new PouchDB('medic', { adapter: 'indexeddb' });
    window.link = settle(device, { url: at });
    await link.logIn(who);
    await device.bulkDocs(Array.from({ length: 2500 }, (_, number) => ({ _id: `visit-${number}` })));
    await link.sync();
    window.proven = 0;
    link.on('progress', ({ proven }) => {
      window.proven = proven ?? 0;
    });
    link.finish();
  }, url, account.credentials);
  await eventually('a part has arrived', () => browser.run(() => window.proven >= 1000));
  const before = await browser.run(() => link.device());
  await browser.end();

  browser = await open();
  const done = await browser.run(async (at, who) => {
    const parts = [];
    const device = new PouchDB('medic', { adapter: 'indexeddb' });
    const link = settle(device, {
      url: at,
      fetch: (address, request) => {
        if (address.endsWith('/_manifest')) parts.push(JSON.parse(request.body));
        return fetch(address, request);
      },
    });
    await link.logIn(who);
    const { receipt, signature } = await link.finish();
    return { device: await link.device(), receipt, signature, sizes: parts.map(({ revs }) => Object.keys(revs).length) };
  }, url, account.credentials);
  assert.equal(done.device, before);
  assert.deepEqual([done.receipt.documents, done.signature], [2500, 'valid']);
  assert.ok(done.sizes.reduce((sum, size) => sum + size, 0) <= 1500, `sent again: ${done.sizes}`);
  assert.equal((await office.info()).doc_count, 2500);
});

test('lost documents are purged, never deleted, and come back', async (t) => {
  const { name: database, move } = await scopedDatabase(t);
  const account = await Account.open(t, database, { places: ['river'] });
  const { url, office, open } = await scene(t, { database, account });
  const browser = await open();
  const held = await browser.run(async (at, who) => {
    window.device = new PouchDB('medic', { adapter: 'indexeddb' });
    window.link = settle(device, { url: at });
    window.ids = async () => (await device.allDocs()).rows.map(({ id }) => id);
    await link.logIn(who);
    await link.sync();
    return ids();
  }, url, account.credentials);
  assert.deepEqual(held, ['h1', 'h2', 'p1', 'river', 'visit1']);
  await move('h1', 'market');
  const after = await browser.run(async () => {
    await link.sync();
    const dropped = await link.dropLost();
    const kept = await ids();
    const { pushed } = await link.sync();
    const { results } = await device.changes();
    return { dropped, kept, pushed, traces: results.map(({ id }) => id).sort() };
  });
  assert.deepEqual(after, { dropped: 3, kept: ['h2', 'river'], pushed: 0, traces: ['h2', 'river'] });
  assert.deepEqual(await idsIn(office), ['h1', 'h2', 'market', 'p1', 'river', 'visit1'], 'nothing was deleted');
  await move('h1', 'river');
  const again = await browser.run(async () => {
    await link.sync();
    return { held: await ids(), unsent: (await link.unsent()).documents };
  });
  assert.deepEqual(again, { held, unsent: 0 });
});

test('a wipe order leaves nothing in the browser', async (t) => {
  const { account, office, url, open } = await scene(t);
  const browser = await open('/script');
  const device = await browser.run(async (at, who) => {
    window.device = new PouchDB('medic', { adapter: 'indexeddb' });
    window.others = new PouchDB('medic-settings', { adapter: 'idb' });
    window.link = settle(device, { url: at, also: [others] });
    await link.logIn(who);
    await Promise.all([device.put({ _id: 'visit-1' }), others.put({ _id: 'pin' })]);
    return link.standing.device;
  }, url, account.credentials);
  await ask('POST', `/_devices/${device}/retire`);
  const proved = await browser.run(async () => {
    const { receipt, signature, standing } = await link.sync();
    return { documents: receipt.documents, signature, standing: standing.standing };
  });
  assert.deepEqual(proved, { documents: 1, signature: 'valid', standing: 'drained' });
  assert.equal((await office.info()).doc_count, 1);
  await ask('POST', `/_devices/${device}/wipe`, { json: { reason: 'new phone' } });
  const left = await browser.run(async () => {
    const wiped = new Promise((resolve) => link.on('wiped', resolve));
    await link.sync();
    return { wiped: await wiped, databases: (await indexedDB.databases()).map(({ name }) => name) };
  });
  assert.deepEqual(left.wiped.erased, ['medic', 'medic-settings']);
  assert.deepEqual(left.databases, []);
  const [{ wipe }] = await account.devices();
  assert.equal(wipe.state, 'reported');

  // The next person in this browser is another device, and no alarm.
  await browser.run(async (at, who) => {
    const link = settle(new PouchDB('medic', { adapter: 'indexeddb' }), { url: at });
    await link.logIn(who);
    await link.sync();
  }, url, account.credentials);
  const alarms = (await account.devices()).map(({ alarm }) => alarm);
  assert.deepEqual(alarms, [null, null]);
});
