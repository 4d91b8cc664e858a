// Networks that break. A proxy cuts the connection at every request in turn, at five stages of the exchange; after that
// nothing may be lost, nothing may be there twice, and the sync must get through by itself or at the next attempt.
//
// One thing PouchDB 9 cannot survive, whatever the server does: when a `_changes` request of a pull fails while one batch
// is being written and others wait, it drops the waiting ones, yet the failed run goes on in the background and may write
// a checkpoint beyond them (pouchdb-replication: `abortReplication`, then `getChanges` and `onChangesComplete`). So pulls
// in several batches are cut everywhere but at `_changes`, and pulls in one batch everywhere.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import {
  chance, conflicted, contents, eventually, freshDatabase, pause, phone, Proxy, remote, STAGES, stopped, sturdyRemote,
} from './support.mjs';

/** More requests than any of these syncs needs. */
const MOST_REQUESTS = 60;
const SMALL_BATCHES = { batch_size: 8 };
const ONE_BATCH = { batch_size: 1000 };
const FEED = /_changes$/;
const NOTHING = /^$/;
const QUICK_RETRY = { retry: true, back_off_function: () => 5 };

/** A little of everything: plain documents, a file, a deletion and a conflict. */
async function fill(database) {
  await database.bulkDocs(Array.from({ length: 16 }, (_, index) => ({ _id: `visit:${index}`, index })));
  await database.put({
    _id: 'photo',
    _attachments: { 'a/b.jpg': { content_type: 'image/jpeg', data: Buffer.alloc(5000, 7).toString('base64') } },
  });
  await database.remove(await database.get('visit:3'));
  await database.bulkDocs(
    ['1-aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa', '1-bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb'].map((_rev) => ({ _id: 'torn', _rev, by: _rev })),
    { new_edits: false },
  );
}

/** The outcome of a replication that may fail: its error, or null. */
async function attempt(replication) {
  try {
    await replication;
    return null;
  } catch (error) {
    return error;
  }
}

/**
 * Runs `replicate(prepared, proxied remote, options)` once for each request it makes, cutting that one, and after each
 * run once more undisturbed; `check` must then hold. Requests to `spared` paths are never cut. Returns how many were.
 */
async function cutEachRequest(t, { stage, spared, prepare, replicate, check }) {
  for (let number = 1; number <= MOST_REQUESTS; number += 1) {
    const proxy = await Proxy.start(t);
    const prepared = await prepare();
    let seen = 0;
    proxy.plan = ({ path }) => (!spared.test(path) && (seen += 1) === number ? stage : null);
    const far = () => sturdyRemote(prepared.name, { base: proxy.base });
    const failure = await attempt(replicate(prepared, far(), { retry: false }));
    if (proxy.cuts === 0) {
      assert.equal(failure, null);
      return number - 1;
    }
    proxy.plan = () => null;
    await pause(50); // Node's fetch hands the end of the cut connection to a request that is sent in the same moment
    const second = await attempt(replicate(prepared, far(), { retry: false }));
    assert.equal(second, null, `after a cut at request ${number} (${stage}) the next attempt failed`);
    await check(prepared, `cut at request ${number}, ${stage}, first attempt: ${failure?.message ?? 'got through'}`);
    proxy.close();
  }
  throw new Error(`still not through after ${MOST_REQUESTS} requests`);
}

for (const stage of STAGES) {
  test(`a push cut at every request (${stage}) loses nothing`, { timeout: 180_000 }, async (t) => {
    const device = phone(t);
    await fill(device);
    const expected = await contents(device);
    const prepare = async () => ({ name: await freshDatabase(t) });
    const replicate = (_, far, options) => device.replicate.to(far, { ...SMALL_BATCHES, ...options });
    const check = async ({ name }, what) => {
      assert.deepEqual(await contents(remote(name)), expected, what);
      assert.deepEqual(await conflicted(remote(name)), ['torn'], what);
    };
    const cuts = await cutEachRequest(t, { stage, spared: NOTHING, prepare, replicate, check });
    assert.ok(cuts > 10, `only ${cuts} requests were cut`);
  });

  test(`a pull cut at every request (${stage}) loses nothing`, { timeout: 180_000 }, async (t) => {
    const name = await freshDatabase(t);
    await fill(remote(name));
    const expected = await contents(remote(name));
    const prepare = async () => ({ name, device: phone(t) });
    const check = async ({ device }, what) => {
      assert.deepEqual(await contents(device), expected, what);
      assert.deepEqual(await conflicted(device), ['torn'], what);
    };
    const pull = (batches) => ({ device }, far, options) => device.replicate.from(far, { ...batches, ...options });
    const whole = { stage, spared: NOTHING, prepare, replicate: pull(ONE_BATCH), check };
    const parts = { stage, spared: FEED, prepare, replicate: pull(SMALL_BATCHES), check };
    const cuts = [await cutEachRequest(t, whole), await cutEachRequest(t, parts)];
    assert.ok(cuts[0] >= 8 && cuts[1] >= 10, `only ${cuts} requests were cut`);
  });
}

test('with retry, a sync gets through a network that cuts a third of all requests', { timeout: 120_000 }, async (t) => {
  const random = chance(t);
  const name = await freshDatabase(t);
  const device = phone(t);
  await fill(device);
  await remote(name).bulkDocs(Array.from({ length: 30 }, (_, index) => ({ _id: `desk:${index}`, index })));
  const proxy = await Proxy.start(t);
  proxy.plan = () => (random.below(3) === 0 ? random.oneOf(STAGES) : null);
  const far = sturdyRemote(name, { base: proxy.base, skip_setup: true });
  await device.replicate.to(far, { ...SMALL_BATCHES, ...QUICK_RETRY });
  await device.replicate.from(far, { ...ONE_BATCH, ...QUICK_RETRY });
  t.diagnostic(`${proxy.cuts} of ${proxy.requests.length} requests were cut`);
  assert.ok(proxy.cuts > 0);
  assert.deepEqual(await contents(device), await contents(remote(name)));
  assert.deepEqual(await conflicted(device), ['torn']);
});

test('live sync survives connections that break again and again', { timeout: 120_000 }, async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  const proxy = await Proxy.start(t);
  const far = sturdyRemote(name, { base: proxy.base });
  const running = device.sync(far, { live: true, ...QUICK_RETRY });
  for (let round = 0; round < 12; round += 1) {
    await device.put({ _id: `phone:${round}`, round });
    await remote(name).put({ _id: `desk:${round}`, round });
    if (round % 3 !== 0) await pause(round * 9);
    proxy.cutAll();
  }
  const everywhere = async () =>
    (await device.info()).doc_count === 24 && (await remote(name).info()).doc_count === 24;
  await eventually('all 24 documents are on both sides', everywhere);
  await stopped(running);
  assert.ok(proxy.cuts > 5, `only ${proxy.cuts} cuts`);
  assert.deepEqual(await contents(device), await contents(remote(name)));
  assert.deepEqual(await conflicted(device), []);
});

test('an interrupted push goes on where it stopped', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.bulkDocs(Array.from({ length: 200 }, (_, index) => ({ _id: `visit:${index}`, index })));
  const proxy = await Proxy.start(t);
  let batches = 0;
  proxy.plan = ({ path }) => (/_bulk_docs$/.test(path) && (batches += 1) === 8 ? 'refused' : null);
  const far = () => sturdyRemote(name, { base: proxy.base });
  const options = { batch_size: 20, retry: false };
  assert.notEqual(await attempt(device.replicate.to(far(), options)), null);
  assert.equal((await remote(name).info()).doc_count, 140);
  proxy.requests.length = 0;
  await device.replicate.to(far(), options);
  assert.equal(proxy.count('POST', /_bulk_docs$/), 3, 'only the three missing batches are sent');
  assert.equal((await remote(name).info()).doc_count, 200);
});
