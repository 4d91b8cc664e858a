// The everyday life of a phone: push, pull, live sync, conflicts, deletions, filters, long histories.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  conflicted, contents, eventually, freshDatabase, phone, remote, revision, stopped,
} from './support.mjs';

const documents = (count, prefix = 'visit') =>
  Array.from({ length: count }, (_, index) => ({
    _id: `${prefix}:${String(index).padStart(4, '0')}`,
    type: 'data_record',
    form: index % 2 ? 'household_visit' : 'pregnancy',
    fields: { number: index, note: 'ñandú – ናይ ቤት "quoted" \\ / \u2028', nested: [1, 2.5, -0.25, null, true, {}] },
  }));

test('a push brings every document to the server', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.bulkDocs(documents(250));
  const result = await device.replicate.to(remote(name));
  assert.equal(result.ok, true);
  assert.equal(result.docs_written, 250);
  assert.deepEqual(result.errors, []);
  assert.deepEqual(await contents(remote(name)), await contents(device));
});

test('a pull brings every document to the phone', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).bulkDocs(documents(250));
  const device = phone(t);
  const result = await device.replicate.from(remote(name));
  assert.equal(result.docs_written, 250);
  assert.deepEqual(await contents(device), await contents(remote(name)));
});

test('odd ids and design documents survive both ways', async (t) => {
  const name = await freshDatabase(t);
  const ids = ['a/b', 'a b', 'a+b', 'a%2Fb', 'ü', '漢字', 'x?y#z&w=1', '"quoted"', 'c:1,2;3', '_design/phone', 'Z'.repeat(200)];
  const device = phone(t);
  await device.bulkDocs(ids.map((_id) => ({ _id, views: undefined, word: _id })));
  await device.replicate.to(remote(name));
  for (const id of ids) assert.equal((await remote(name).get(id)).word, id);
  const other = phone(t);
  await other.replicate.from(remote(name));
  assert.deepEqual(await contents(other), await contents(device));
});

test('live sync carries changes both ways until it is stopped', async (t) => {
  const name = await freshDatabase(t);
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  const options = { live: true, retry: true };
  const running = [first.sync(remote(name), options), second.sync(remote(name), options)];
  for (let round = 0; round < 5; round += 1) {
    await first.put({ _id: `from-first-${round}`, round });
    await second.put({ _id: `from-second-${round}`, round });
    await remote(name).put({ _id: `from-desk-${round}`, round });
    for (const device of [first, second]) {
      await eventually(`round ${round} is everywhere`, async () => (await device.info()).doc_count === 3 * (round + 1));
    }
  }
  const document = await second.get('from-first-0');
  await second.put({ ...document, answered: true });
  await eventually('an edit comes back', async () => (await first.get('from-first-0')).answered);
  await second.remove(await second.get('from-desk-1'));
  await eventually('a deletion comes through', async () => (await first.info()).doc_count === 14);
  await Promise.all(running.map(stopped));
  assert.deepEqual(await contents(first), await contents(second));
  assert.deepEqual(await contents(first), await contents(remote(name)));
});

test('both sides of a conflict survive, and every party names the same winner', async (t) => {
  const name = await freshDatabase(t);
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  await first.bulkDocs(documents(20));
  await first.sync(remote(name));
  await second.sync(remote(name));
  for (const { _id } of documents(20)) {
    await first.put({ ...(await first.get(_id)), by: 'first' });
    await second.put({ ...(await second.get(_id)), by: 'second' });
  }
  await first.sync(remote(name));
  await second.sync(remote(name));
  await first.sync(remote(name));
  const held = await contents(remote(name));
  assert.deepEqual(await contents(first), held);
  assert.deepEqual(await contents(second), held);
  for (const { leaves } of Object.values(held)) {
    assert.deepEqual(Object.values(leaves).map((leaf) => leaf.body.by).sort(), ['first', 'second']);
  }
  const { _conflicts } = await remote(name).get('visit:0003', { conflicts: true });
  assert.deepEqual((await first.get('visit:0003', { conflicts: true }))._conflicts, _conflicts);
});

test('a conflict resolved on one phone is resolved for all', async (t) => {
  const name = await freshDatabase(t);
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  await first.put({ _id: 'household', by: 'first' });
  await second.put({ _id: 'household', by: 'second' });
  await first.sync(remote(name));
  await second.sync(remote(name));
  assert.deepEqual(await conflicted(second), ['household']);
  const { _conflicts: [loser] } = await second.get('household', { conflicts: true });
  await second.remove('household', loser);
  await second.sync(remote(name));
  await first.sync(remote(name));
  for (const database of [first, second, remote(name)]) assert.deepEqual(await conflicted(database), []);
  assert.deepEqual(await contents(first), await contents(remote(name)));
});

test('a live revision wins over a longer deleted branch, everywhere', async (t) => {
  const name = await freshDatabase(t);
  const path = (start, ...words) => ({ start, ids: words.map((word, index) => revision(start - index, word).split('-')[1]) });
  const branches = [
    { _id: 'd', _rev: revision(2, 'live'), _revisions: path(2, 'live', 'root'), kept: true },
    { _id: 'd', _rev: revision(4, 'gone'), _revisions: path(4, 'gone', 'c', 'b', 'root'), _deleted: true },
  ];
  const device = phone(t);
  await device.bulkDocs([branches[0]], { new_edits: false });
  await remote(name).bulkDocs([branches[1]], { new_edits: false });
  await device.sync(remote(name));
  assert.equal((await remote(name).get('d')).kept, true);
  assert.deepEqual(await contents(device), await contents(remote(name)));
});

test('deletions travel both ways, and a deleted document can return', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.bulkDocs(documents(10));
  await device.sync(remote(name));
  await device.remove(await device.get('visit:0001'));
  await remote(name).remove(await remote(name).get('visit:0002'));
  await remote(name).put({ ...(await remote(name).get('visit:0003')), _deleted: true, why: 'moved away' });
  await device.sync(remote(name));
  for (const id of ['visit:0001', 'visit:0002', 'visit:0003']) {
    for (const database of [device, remote(name)]) await assert.rejects(database.get(id), { status: 404, reason: 'deleted' });
  }
  assert.equal((await device.info()).doc_count, 7);
  await device.put({ _id: 'visit:0001', again: true });
  await remote(name).put({ _id: 'visit:0002', again: true });
  await device.sync(remote(name));
  assert.match((await remote(name).get('visit:0001'))._rev, /^3-/);
  const held = await contents(device);
  assert.deepEqual(held, await contents(remote(name)));
  assert.equal(Object.values(held['visit:0003'].leaves)[0].body.why, 'moved away');
});

test('histories of 1,000 revisions are pushed and pulled whole', { timeout: 120_000 }, async (t) => {
  const name = await freshDatabase(t);
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  let rev = (await first.put({ _id: 'long', step: 1 })).rev;
  for (let step = 2; step <= 1000; step += 1) rev = (await first.put({ _id: 'long', _rev: rev, step })).rev;
  await first.replicate.to(remote(name));
  const { _revisions } = await remote(name).get('long', { revs: true });
  assert.equal(_revisions.start, 1000);
  assert.equal(_revisions.ids.length, 1000);
  await second.replicate.from(remote(name));
  assert.deepEqual(await contents(second), await contents(first));
  await second.put({ _id: 'long', _rev: rev, step: 1001 });
  await second.sync(remote(name));
  await first.sync(remote(name));
  assert.equal((await first.get('long')).step, 1001);
  assert.deepEqual(await conflicted(first), []);
});

test('a phone that went 1,200 edits ahead continues the same branch', { timeout: 120_000 }, async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  let rev = (await device.put({ _id: 'busy', step: 0 })).rev;
  for (let step = 1; step <= 1200; step += 1) {
    rev = (await device.put({ _id: 'busy', _rev: rev, step })).rev;
    if (step % 300 === 0) await device.replicate.to(remote(name));
  }
  assert.equal((await remote(name).get('busy')).step, 1200);
  for (const database of [device, remote(name)]) assert.deepEqual(await conflicted(database), []);
});

test('a pull by doc_ids brings only those documents', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).bulkDocs(documents(300));
  const device = phone(t);
  const wanted = ['visit:0007', 'visit:0100', 'visit:0299', 'not there'];
  await device.replicate.from(remote(name), { doc_ids: wanted });
  assert.deepEqual((await device.allDocs()).rows.map(({ id }) => id), wanted.slice(0, 3));
});

test('a pull by selector brings only what matches', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).bulkDocs(documents(300));
  const device = phone(t);
  const selector = { form: 'household_visit', 'fields.number': { $gte: 200 } };
  await device.replicate.from(remote(name), { selector });
  const rows = (await device.allDocs({ include_docs: true })).rows;
  assert.equal(rows.length, 50);
  for (const { doc } of rows) assert.ok(doc.form === 'household_visit' && doc.fields.number >= 200);
  await remote(name).put({ _id: 'late', form: 'household_visit', fields: { number: 900 } });
  const again = await device.replicate.from(remote(name), { selector });
  assert.equal(again.docs_written, 1);
});

test('a push with a filter on the phone keeps the rest at home', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.bulkDocs(documents(30));
  await device.replicate.to(remote(name), { filter: (document) => document.form === 'pregnancy' });
  assert.equal((await remote(name).info()).doc_count, 15);
});
