// Two phones and a desk edit the same documents at random, sync in any order, and must end up with the same leaves,
// the same histories and the same winners everywhere. A seed that fails can be repeated with SETTLE_SEED.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { chance, conflicted, contents, digestOf, freshDatabase, phone, remote, stopped } from './support.mjs';

const DOCUMENTS = 12;

/** One random edit of one random document in one database. Files are named after their bytes, as apps do. */
async function edit(random, database, who) {
  const _id = `visit:${random.below(DOCUMENTS)}`;
  const current = await database.get(_id, { conflicts: true }).catch(() => null);
  const choice = random.below(10);
  const file = random.bytes(random.below(400));
  const stamp = { who, word: random.word() };
  if (!current) {
    await database.put({ _id, ...stamp });
  } else if (choice < 2) {
    await database.put({ _id, _rev: current._rev, _deleted: true, ...stamp });
  } else if (choice < 4 && current._conflicts) {
    await database.remove(_id, random.oneOf(current._conflicts));
  } else if (choice < 6) {
    const name = `photos/${digestOf(file).replaceAll('/', '.')}`;
    await database.putAttachment(_id, name, current._rev, file, random.oneOf(['image/jpeg', 'text/plain']));
  } else {
    const { _conflicts, ...kept } = current;
    await database.put({ ...kept, ...stamp });
  }
}

async function assertAgreed(databases) {
  const [first, ...others] = await Promise.all(databases.map(contents));
  for (const other of others) assert.deepEqual(other, first);
}

test('two phones and a desk agree after any order of edits and syncs', { timeout: 180_000 }, async (t) => {
  const random = chance(t);
  const name = await freshDatabase(t);
  const desk = remote(name);
  const phones = { first: phone(t, 'first'), second: phone(t, 'second') };
  for (let step = 0; step < 300; step += 1) {
    const who = random.oneOf(['first', 'second', 'desk']);
    const database = phones[who] ?? desk;
    const action = random.below(12);
    if (action < 9 || who === 'desk') await edit(random, database, who);
    else if (action === 9) await database.replicate.to(desk, { batch_size: 1 + random.below(10) });
    else if (action === 10) await database.replicate.from(desk, { batch_size: 1 + random.below(10) });
    else await database.sync(desk);
  }
  for (const database of [phones.first, phones.second, phones.first]) await database.sync(desk);
  await assertAgreed([phones.first, phones.second, desk]);
  t.diagnostic(`${(await conflicted(desk)).length} of ${DOCUMENTS} documents are in conflict`);
});

test('two phones in live sync agree while both write without pause', { timeout: 180_000 }, async (t) => {
  const random = chance(t);
  const name = await freshDatabase(t);
  const phones = [phone(t, 'first'), phone(t, 'second')];
  const running = phones.map((device) => device.sync(remote(name), { live: true, retry: true }));
  for (let step = 0; step < 60; step += 1) {
    await Promise.all(phones.map((device, index) => edit(random, device, `phone ${index}`).catch(expectConflict)));
  }
  await Promise.all(running.map(stopped));
  for (const device of [...phones, phones[0]]) await device.sync(remote(name));
  await assertAgreed([...phones, remote(name)]);
});

/** In live sync the winner may change between reading and writing: then the write is refused, as it should be. */
function expectConflict(error) {
  if (error.name !== 'conflict') throw error;
}
