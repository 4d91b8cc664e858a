// PouchDB as a courier between two servers: nothing is stored on the way.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { conflicted, contents, freshDatabase, PouchDB, Proxy, remote, SECOND_SERVER } from './support.mjs';

async function pair(t) {
  const source = remote(await freshDatabase(t, { prefix: 'source' }));
  const target = remote(await freshDatabase(t, { prefix: 'target', base: SECOND_SERVER }), { base: SECOND_SERVER });
  return { source, target };
}

test('one server is copied to another with files, conflicts and deletions', async (t) => {
  const { source, target } = await pair(t);
  await source.bulkDocs(Array.from({ length: 120 }, (_, index) => ({ _id: `visit:${index}`, index })));
  await source.put({
    _id: 'report',
    _attachments: {
      'photos/1.jpg': { content_type: 'image/jpeg', data: Buffer.alloc(70_000, 3).toString('base64') },
      'notes.txt': { content_type: 'text/plain', data: Buffer.from('some words').toString('base64') },
    },
  });
  await source.remove(await source.get('visit:5'));
  await source.bulkDocs(
    ['c', 'd', 'e'].map((letter) => ({ _id: 'torn', _rev: `1-${letter.repeat(32)}`, letter })),
    { new_edits: false },
  );
  await source.put({ _id: '_design/app', language: 'query', views: {} });
  const result = await PouchDB.replicate(source, target);
  assert.equal(result.ok, true);
  assert.equal(result.doc_write_failures, 0);
  assert.deepEqual(await contents(target), await contents(source));
  assert.deepEqual(await conflicted(target), ['torn']);
  const photo = await target.getAttachment('report', 'photos/1.jpg');
  assert.ok(Buffer.alloc(70_000, 3).equals(Buffer.from(photo)));
});

test('a second copy sends only what is new', async (t) => {
  const { source, target } = await pair(t);
  const proxy = await Proxy.start(t, SECOND_SERVER);
  const courier = () => PouchDB.replicate(source, new PouchDB(target.name.replace(SECOND_SERVER, proxy.base)));
  await source.bulkDocs(Array.from({ length: 250 }, (_, index) => ({ _id: `visit:${index}`, index })));
  await courier();
  proxy.requests.length = 0;
  await source.put({ ...(await source.get('visit:7')), edited: true });
  const result = await courier();
  assert.equal(result.docs_read, 1);
  assert.equal(proxy.count('POST', /_revs_diff$/), 1, 'the first copy left a checkpoint');
  assert.equal(proxy.count('POST', /_bulk_docs$/), 1);
  assert.equal((await target.get('visit:7')).edited, true);
});

test('two servers that were both edited agree after a sync between them', async (t) => {
  const { source, target } = await pair(t);
  await source.bulkDocs(Array.from({ length: 10 }, (_, index) => ({ _id: `visit:${index}`, index })));
  await PouchDB.replicate(source, target);
  for (const [database, by] of [[source, 'one'], [target, 'two']]) {
    await database.put({ ...(await database.get('visit:1')), by });
    await database.remove(await database.get(`visit:${by === 'one' ? 2 : 3}`));
  }
  await PouchDB.sync(source, target);
  assert.deepEqual(await contents(source), await contents(target));
  assert.deepEqual(await conflicted(source), ['visit:1']);
});
