// The usual CouchDB tools, unmodified: couchbackup (backup and restore of a database) and nano (the client library that
// most Node services use). They ask in other ways than PouchDB: multipart, spooled feeds, `att_encoding_info`, cookies.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { test } from 'node:test';
import { promisify } from 'node:util';

import couchbackup from '@cloudant/couchbackup';
import Nano from 'nano';

import { conflicted, contents, freshDatabase, remote, revision, SERVER } from './support.mjs';

const backup = promisify(couchbackup.backup);
const restore = promisify(couchbackup.restore);

/** What couchbackup writes for a database, as text. */
async function backedUp(name) {
  const pipe = new PassThrough();
  const text = pipe.toArray();
  await backup(`${SERVER}/${name}`, pipe, { attachments: true, quiet: true });
  return Buffer.concat(await text).toString();
}

test('couchbackup brings a database back with its conflicts, deletions and files', async (t) => {
  const name = await freshDatabase(t, { prefix: 'backup' });
  const source = remote(name);
  await source.bulkDocs(Array.from({ length: 1_200 }, (_, index) => ({ _id: `visit:${index}`, index, name: 'Ñandú 🩺' })));
  await source.put({ ...(await source.get('visit:3')), again: true });
  await source.remove(await source.get('visit:4'));
  await source.bulkDocs(
    ['c', 'd'].map((word) => ({ _id: 'torn', _rev: revision(1, word), word })),
    { new_edits: false },
  );
  await source.putAttachment('photo', 'a b/1.jpg', Buffer.alloc(40_000, 7), 'image/jpeg');
  await source.putAttachment('notes', 'n.txt', Buffer.from('words '.repeat(500)), 'text/plain');

  const text = await backedUp(name);
  const other = await freshDatabase(t, { prefix: 'restored' });
  const pipe = new PassThrough();
  pipe.end(text);
  await restore(pipe, `${SERVER}/${other}`, { attachments: true, quiet: true });

  const target = remote(other);
  assert.deepEqual(await contents(target), await contents(source));
  assert.deepEqual(await conflicted(target), ['torn']);
  const photo = await target.getAttachment('photo', 'a b/1.jpg');
  assert.ok(Buffer.alloc(40_000, 7).equals(Buffer.from(photo)));
});

test('couchrestore refuses a database that is not empty', async (t) => {
  const name = await freshDatabase(t, { prefix: 'backup' });
  await remote(name).put({ _id: 'here' });
  const pipe = new PassThrough();
  pipe.end(await backedUp(name));
  await assert.rejects(restore(pipe, `${SERVER}/${name}`, { quiet: true }), { name: 'DatabaseNotEmpty' });
});

test('nano writes, reads, attaches, lists and follows', async (t) => {
  const name = await freshDatabase(t, { prefix: 'nano' });
  const nano = Nano(SERVER);
  const database = nano.use(name);
  const first = await database.insert({ visit: 1 }, 'visit:1');
  await assert.rejects(database.insert({ visit: 2 }, 'visit:1'), { statusCode: 409, error: 'conflict' });
  const second = await database.insert({ _rev: first.rev, visit: 2 }, 'visit:1');
  assert.equal((await database.head('visit:1')).etag, `"${second.rev}"`);
  await assert.rejects(database.get('nobody'), { statusCode: 404, error: 'not_found' });

  const file = { name: 'card.bin', data: Buffer.from([0, 255, 13, 10]), content_type: 'application/octet-stream' };
  await database.multipart.insert({ kind: 'card' }, [file], 'card');
  assert.ok((await database.attachment.get('card', 'card.bin')).equals(file.data));
  assert.match(String(await database.multipart.get('card')), /"follows":true[^]*filename="card\.bin"[^]*Content-Length: 4\r\n/);
  const streamed = await database.attachment.getAsStream('card', 'card.bin').toArray();
  assert.ok(Buffer.concat(streamed).equals(file.data));

  await database.bulk({ docs: Array.from({ length: 40 }, (_, index) => ({ _id: `visit:${index + 10}` })) });
  const fetched = await database.fetch({ keys: ['visit:1', 'nobody'] });
  assert.deepEqual(fetched.rows.map((row) => row.error ?? row.doc.visit), [2, 'not_found']);
  assert.equal((await database.list({ start_key: 'visit:', end_key: 'visit:\ufff0' })).rows.length, 41);

  const spooled = [];
  const spool = database.changesReader.spool({ since: '0', batchSize: 7 });
  spool.on('batch', (rows) => spooled.push(...rows.map((row) => row.id)));
  await once(spool, 'end');
  assert.equal(new Set(spooled).size, 42);
});

test('nano keeps a session by cookie and reads with it alone', async (t) => {
  const name = await freshDatabase(t, { prefix: 'nano' });
  const { origin, username, password } = new URL(SERVER);
  const nano = Nano(origin);
  await assert.rejects(nano.use(name).info(), { statusCode: 401 });
  await nano.auth(username, password);
  assert.equal((await nano.session()).userCtx.name, username);
  assert.equal((await nano.use(name).info()).db_name, name);
});
