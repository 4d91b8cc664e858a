// What a sync costs in requests: none wasted, none in a tight loop, next to none when nothing is new.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { eventually, freshDatabase, pause, phone, Proxy, remote, stopped } from './support.mjs';

const visits = (count) => Array.from({ length: count }, (_, index) => ({ _id: `visit:${index}`, index }));

const list = (proxy) => proxy.requests.map(({ method, path }) => `${method} ${path.replace(/^\/[^/]+/, '/db')}`).join(', ');

// The device cuts its own feed into batches of at most 100, smaller ones when it is read faster than it fills.
test('a push of 350 documents takes a few batches and no request more than needed', async (t) => {
  const name = await freshDatabase(t);
  const proxy = await Proxy.start(t);
  const device = phone(t);
  await device.bulkDocs(visits(350));
  await device.replicate.to(remote(name, { base: proxy.base }));
  const batches = proxy.count('POST', /_revs_diff$/);
  assert.ok(batches >= 4 && batches <= 10, list(proxy));
  assert.equal(proxy.count('POST', /_bulk_docs$/), batches, list(proxy));
  assert.equal(proxy.count('PUT', /\/_local\//), batches, list(proxy));
  assert.ok(proxy.requests.length <= 3 + 4 * batches, list(proxy));
});

test('a pull of 350 documents takes 4 batches and no request more than needed', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).bulkDocs(visits(350));
  const proxy = await Proxy.start(t);
  const device = phone(t);
  await device.replicate.from(remote(name, { base: proxy.base }));
  assert.equal(proxy.count('POST', /_bulk_get$/), 4, list(proxy));
  assert.equal(proxy.count('GET', /\/visit:/), 0, list(proxy));
  assert.ok(proxy.count('GET', /_changes$/) <= 5, list(proxy));
  // Per batch: the documents, the length of the feed for the progress bar, and the checkpoint.
  assert.ok(proxy.requests.length <= 4 + 5 + 4 * 4, list(proxy));
});

test('a second sync with nothing new costs a handful of requests and writes nothing', async (t) => {
  const name = await freshDatabase(t);
  const proxy = await Proxy.start(t);
  const far = () => remote(name, { base: proxy.base });
  const device = phone(t);
  await device.bulkDocs(visits(350));
  await remote(name).bulkDocs(visits(150).map(({ _id, index }) => ({ _id: `desk ${_id}`, index })));
  await device.replicate.to(far());
  await device.replicate.from(far());
  await device.replicate.to(far());
  for (const [direction, most] of [['to', 6], ['from', 8]]) {
    proxy.requests.length = 0;
    const result = await device.replicate[direction](far());
    assert.equal(result.docs_written, 0);
    assert.ok(proxy.requests.length <= most, `${direction}: ${list(proxy)}`);
    assert.equal(proxy.count('PUT', /./) + proxy.count('POST', /_bulk/), 0, `${direction}: ${list(proxy)}`);
  }
});

test('after new work, a sync sends that work and no more', async (t) => {
  const name = await freshDatabase(t);
  const proxy = await Proxy.start(t);
  const far = () => remote(name, { base: proxy.base });
  const device = phone(t);
  await device.bulkDocs(visits(250));
  await device.sync(far());
  await device.sync(far());
  proxy.requests.length = 0;
  await device.put({ _id: 'new here' });
  assert.equal((await device.replicate.to(far())).docs_read, 1);
  assert.equal(proxy.count('POST', /_revs_diff$/), 1, list(proxy));
  assert.equal(proxy.count('POST', /_bulk_docs$/), 1, list(proxy));
  proxy.requests.length = 0;
  await remote(name).put({ _id: 'new there' });
  await device.replicate.from(far());
  assert.equal(proxy.count('POST', /_bulk_get$/), 1, list(proxy));
  assert.ok(await device.get('new there'));
});

test('idle live sync holds one longpoll instead of asking again and again', async (t) => {
  const name = await freshDatabase(t);
  await remote(name).bulkDocs(visits(20));
  const proxy = await Proxy.start(t);
  const device = phone(t);
  const running = device.sync(remote(name, { base: proxy.base }), { live: true, retry: true });
  const waiting = () => proxy.requests.some(({ query }) => query.includes('feed=longpoll'));
  await eventually('the first round is done', async () => (await device.info()).doc_count === 20 && waiting());
  await pause(1000);
  proxy.requests.length = 0;
  await pause(3000);
  assert.ok(proxy.requests.length <= 1, `${proxy.requests.length} requests while nothing happened: ${list(proxy)}`);
  await remote(name).put({ _id: 'news' });
  await eventually('news wakes the phone', async () => (await device.info()).doc_count === 21);
  await pause(500);
  assert.ok(proxy.requests.length <= 12, `one document cost ${proxy.requests.length} requests: ${list(proxy)}`);
  await stopped(running);
});
