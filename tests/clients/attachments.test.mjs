// Photos and texts on documents, phone to server and back: every byte, every odd name, nothing fetched twice.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { chance, contents, digestOf, freshDatabase, phone, Proxy, remote, request, revision } from './support.mjs';

const ATTACHMENT_PATH = /^\/[^/]+\/[^/_][^/]*\/.+/;

const FILES = {
  'photo.jpg': { content_type: 'image/jpeg', data: Buffer.from([0, 255, 13, 10, 0, 1, 2, 254, 45, 45]) },
  'notes.txt': { content_type: 'text/plain', data: Buffer.from('line one\r\nline two\nñandú ቤት\n') },
  'nested/path/form.xml': { content_type: 'application/xml', data: Buffer.from('<form>'.repeat(2000)) },
  'odd name + 100% é?#.bin': { content_type: 'application/octet-stream', data: Buffer.from('x') },
  'empty.dat': { content_type: 'application/octet-stream', data: Buffer.alloc(0) },
};

async function assertFiles(database, id, files) {
  const document = await database.get(id);
  assert.deepEqual(Object.keys(document._attachments ?? {}).sort(), Object.keys(files).sort());
  for (const [name, { content_type, data }] of Object.entries(files)) {
    const stub = document._attachments[name];
    assert.equal(stub.content_type, content_type, name);
    assert.equal(stub.length, data.length, name);
    const held = await database.getAttachment(id, name);
    assert.ok(data.equals(Buffer.from(held)), `${database.name}: the bytes of ${name} differ`);
  }
}

test('attachments pushed by a phone arrive byte for byte', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.put({ _id: 'report', _attachments: FILES });
  await device.replicate.to(remote(name));
  await assertFiles(remote(name), 'report', FILES);
});

test('attachments written to the server arrive on a phone byte for byte', async (t) => {
  const name = await freshDatabase(t);
  let rev;
  for (const [file, { content_type, data }] of Object.entries(FILES)) {
    rev = (await remote(name).putAttachment('report', file, rev, data, content_type)).rev;
  }
  const device = phone(t);
  await device.replicate.from(remote(name));
  await assertFiles(device, 'report', FILES);
  const other = phone(t, 'other');
  await other.replicate.from(remote(name));
  assert.deepEqual(await contents(other), await contents(device));
});

test('the digest is of the file itself, for texts too', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await device.put({ _id: 'report', _attachments: FILES });
  await device.replicate.to(remote(name));
  const { _attachments } = await remote(name).get('report');
  for (const [file, { data }] of Object.entries(FILES)) assert.equal(_attachments[file].digest, digestOf(data), file);
});

test('a slash in a name may be written as it is or escaped', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).put({ _id: 'report', _attachments: FILES });
  for (const path of ['nested/path/form.xml', 'nested%2Fpath%2Fform.xml']) {
    const answer = await request('GET', `/${name}/report/${path}`);
    assert.equal(answer.status, 200, path);
    assert.equal(answer.body, '<form>'.repeat(2000), path);
  }
});

test('files that did not change are not fetched again', async (t) => {
  const name = await freshDatabase(t);
  const desk = remote(name);
  await desk.put({ _id: 'report', _attachments: FILES });
  const proxy = await Proxy.start(t);
  const device = phone(t);
  await device.replicate.from(remote(name, { base: proxy.base }));
  assert.equal(proxy.count('GET', ATTACHMENT_PATH), Object.keys(FILES).length);
  await desk.put({ ...(await desk.get('report')), edited: 1 });
  await device.replicate.from(remote(name, { base: proxy.base }));
  assert.equal(proxy.count('GET', ATTACHMENT_PATH), Object.keys(FILES).length, 'an edit of the body fetches no file');
  const changed = { content_type: 'text/plain', data: Buffer.from('other words') };
  const { _rev } = await desk.get('report');
  await desk.putAttachment('report', 'notes.txt', _rev, changed.data, changed.content_type);
  await device.replicate.from(remote(name, { base: proxy.base }));
  assert.equal(proxy.count('GET', ATTACHMENT_PATH), Object.keys(FILES).length + 1, 'one changed file is one fetch');
  await assertFiles(device, 'report', { ...FILES, 'notes.txt': changed });
});

test('edits, removals and additions of files travel both ways', async (t) => {
  const name = await freshDatabase(t);
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  await first.put({ _id: 'report', _attachments: FILES });
  await first.sync(remote(name));
  await second.sync(remote(name));
  const { _rev } = await second.get('report');
  const { rev } = await second.removeAttachment('report', 'photo.jpg', _rev);
  await second.putAttachment('report', 'voice.ogg', rev, Buffer.from([1, 2, 3]), 'audio/ogg');
  await second.sync(remote(name));
  await first.sync(remote(name));
  const { 'photo.jpg': gone, ...kept } = FILES;
  assert.ok(gone);
  const expected = { ...kept, 'voice.ogg': { content_type: 'audio/ogg', data: Buffer.from([1, 2, 3]) } };
  for (const database of [first, remote(name)]) await assertFiles(database, 'report', expected);
});

test('a body edit on the phone keeps the files on the server', async (t) => {
  const name = await freshDatabase(t);
  const device = phone(t);
  await remote(name).put({ _id: 'report', _attachments: FILES });
  await device.sync(remote(name));
  for (let round = 0; round < 3; round += 1) {
    await device.put({ ...(await device.get('report')), round });
    await device.sync(remote(name));
  }
  await assertFiles(remote(name), 'report', FILES);
});

test('a file that only the losing side of a conflict has can be pulled', async (t) => {
  const name = await freshDatabase(t);
  const photo = { content_type: 'image/jpeg', data: Buffer.from('lost side').toString('base64') };
  await remote(name).put({ _id: 'report', step: 1 });
  const device = phone(t);
  await device.replicate.from(remote(name));
  const root = (await remote(name).get('report'))._rev.split('-')[1];
  const branch = (word) => {
    const _rev = revision(2, word);
    return { _id: 'report', _rev, _revisions: { start: 2, ids: [_rev.split('-')[1], root] }, word };
  };
  const [loser, winner] = [branch('left'), branch('right')].sort((a, b) => (a._rev < b._rev ? -1 : 1));
  await remote(name).bulkDocs([{ ...loser, _attachments: { 'lost.jpg': photo } }, winner], { new_edits: false });
  await device.replicate.from(remote(name));
  const held = await device.get('report', { rev: loser._rev, attachments: true, binary: true });
  assert.equal(held._attachments['lost.jpg'].data.toString(), 'lost side');
  assert.deepEqual(await contents(device), await contents(remote(name)));
});

test('many files at once and a large one', { timeout: 120_000 }, async (t) => {
  const random = chance(t);
  const name = await freshDatabase(t);
  const files = {};
  for (let index = 0; index < 60; index += 1) {
    files[`photos/${index}.jpg`] = { content_type: 'image/jpeg', data: random.bytes(random.below(3000)) };
  }
  files['video.mp4'] = { content_type: 'video/mp4', data: random.bytes(3 << 20) };
  const [first, second] = [phone(t, 'first'), phone(t, 'second')];
  await first.put({ _id: 'report', _attachments: files });
  await first.replicate.to(remote(name));
  await second.replicate.from(remote(name));
  await assertFiles(second, 'report', files);
});
