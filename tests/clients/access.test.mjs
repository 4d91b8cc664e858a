// How a phone shows who it is: Basic credentials, session cookies, and what it hears when they are wrong.
// PouchDB's node-fetch keeps cookies for the whole process, so the session test fetches as browsers do and sets its own.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { browserFetch, eventually, freshDatabase, freshName, phone, PouchDB, Proxy, remote, request, SERVER } from './support.mjs';

/** A database with one member, who is a fresh user. */
async function memberDatabase(t) {
  const user = freshName('amina');
  const path = `/_users/org.couchdb.user:${user}`;
  const made = await request('PUT', path, { json: { name: user, password: 'garden-gate-42', roles: [], type: 'user' } });
  assert.equal(made.status, 201, JSON.stringify(made.body));
  t.after(async () => {
    const { body } = await request('GET', path);
    await request('DELETE', `${path}?rev=${body._rev}`);
  });
  const name = await freshDatabase(t);
  const security = { admins: { names: [], roles: [] }, members: { names: [user], roles: [] } };
  assert.equal((await request('PUT', `/${name}/_security`, { json: security })).status, 200);
  return { name, user, password: 'garden-gate-42' };
}

function baseAs(user, password, base = SERVER) {
  const url = new URL(base);
  Object.assign(url, { username: user, password });
  return url.href.replace(/\/+$/, '');
}

test('a member syncs with Basic credentials', async (t) => {
  const { name, user, password } = await memberDatabase(t);
  const device = phone(t);
  await device.put({ _id: 'visit' });
  await remote(name).put({ _id: 'task' });
  const far = remote(name, { base: baseAs(user, password) });
  await device.sync(far);
  assert.equal((await device.info()).doc_count, 2);
  assert.equal((await remote(name).info()).doc_count, 2);
});

test('credentials may also come as the auth option', async (t) => {
  const { name, user, password } = await memberDatabase(t);
  const { origin } = new URL(SERVER);
  const far = new PouchDB(`${origin}/${name}`, { adapter: 'http', auth: { username: user, password } });
  assert.equal((await far.info()).doc_count, 0);
});

test('a wrong password ends the sync at once, with retry too', async (t) => {
  const { name, user } = await memberDatabase(t);
  const proxy = await Proxy.start(t);
  const device = phone(t);
  await device.put({ _id: 'visit' });
  const far = remote(name, { base: baseAs(user, 'wrong', proxy.base) });
  await assert.rejects(device.replicate.to(far, { live: true, retry: true }), { status: 401, name: 'unauthorized' });
  assert.ok(proxy.requests.length <= 2, `${proxy.requests.length} requests`);
  assert.equal((await device.info()).doc_count, 1);
});

test('a stranger to the database hears forbidden, not unauthorized', async (t) => {
  const { user, password } = await memberDatabase(t);
  const { name } = await memberDatabase(t);
  const far = remote(name, { base: baseAs(user, password) });
  await assert.rejects(phone(t).replicate.from(far, { retry: true, live: true }), { status: 403, name: 'forbidden' });
});

test('a session cookie is enough to sync', async (t) => {
  const { name, user, password } = await memberDatabase(t);
  const login = await request('POST', '/_session', { auth: null, json: { name: user, password } });
  assert.equal(login.status, 200, JSON.stringify(login.body));
  assert.equal(login.body.name, user);
  const [cookie] = login.headers.get('set-cookie').split(';');
  assert.match(cookie, /^AuthSession=./);
  assert.match(login.headers.get('set-cookie'), /HttpOnly/i);
  const { origin } = new URL(SERVER);
  const far = new PouchDB(`${origin}/${name}`, {
    adapter: 'http',
    fetch: (url, options) => {
      options.headers.set('cookie', cookie);
      return browserFetch(url, options);
    },
  });
  const device = phone(t);
  await device.put({ _id: 'visit', by: user });
  await remote(name).put({ _id: 'task' });
  const running = device.sync(far, { live: true, retry: true });
  await eventually('both documents are on both sides', async () =>
    (await device.info()).doc_count === 2 && (await remote(name).info()).doc_count === 2);
  running.cancel();
  const session = await request('GET', '/_session', { auth: null, headers: { cookie } });
  assert.equal(session.body.userCtx.name, user);
});

test('a wrong password opens no session', async (t) => {
  const { user } = await memberDatabase(t);
  const login = await request('POST', '/_session', { auth: null, json: { name: user, password: 'guess' } });
  assert.equal(login.status, 401);
  assert.equal(login.body.error, 'unauthorized');
});
