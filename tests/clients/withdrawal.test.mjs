// Stock PouchDB 9, without the helper, whose password is changed in the middle of what it does: with a session cookie or Basic
// credentials, with and without `retry`. Each ends in a defined state, everything is pushed, nothing more comes, and nobody
// asks again and again.
//
// What an app has to know: where a pull was reading documents just then, PouchDB 9 ends the whole `sync()` with `forbidden`, its
// push half included. The next `sync()` gets an empty feed, so it pushes everything and completes.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';

import { Account, ORIGIN, Watch } from './handover.mjs';
import { idsIn } from './scoped.mjs';
import { eventually, freshDatabase, pause, phone, remote, stopped } from './support.mjs';

/** Documents on each side before anything happens; several batches of `BATCH`. */
const DOCUMENTS = 90;
const BATCH = 30;
/** For how long requests are counted after the end, in milliseconds, and how many a second are too many. */
const WATCHED_MS = 3000;
const TOO_MANY = 2;

const LOGINS = {
  cookie: async (account) => ({ cookie: await account.cookie() }),
  Basic: async ({ name, password }) => ({ authorization: `Basic ${Buffer.from(`${name}:${password}`).toString('base64')}` }),
};

/** Where each kind of replication is when the password changes. */
const MOMENTS = {
  push: ['_revs_diff', '_bulk_docs', '_local/'],
  pull: ['_changes', '_bulk_get', '_local/'],
  sync: ['_bulk_docs', '_bulk_get'],
};
const LIVE_MOMENTS = ['_bulk_docs', '_bulk_get'];

/** A phone in use: both sides hold documents, and its account can be withdrawn at any request. */
class Scene {
  static async open(t, login) {
    const scene = new Scene();
    scene.t = t;
    scene.database = await freshDatabase(t);
    scene.account = await Account.open(t, scene.database);
    scene.watch = new Watch(await LOGINS[login](scene.account));
    t.after(() => scene.watch.end());
    scene.device = phone(t);
    scene.office = remote(scene.database);
    scene.far = remote(scene.database, { base: ORIGIN, fetch: scene.watch.fetch });
    await scene.device.bulkDocs(documents('visit', DOCUMENTS));
    await scene.office.bulkDocs(documents('task', DOCUMENTS));
    return scene;
  }

  /** Changes the password at the second request whose path has `where`; then the office writes what nobody may see. */
  withdrawAt(where) {
    let seen = 0;
    return new Promise((resolve, reject) => {
      this.watch.before = async ({ path }) => {
        if (!path.includes(where)) return;
        seen += 1;
        if (seen === 2) await this.withdraw().then(resolve, reject);
      };
    });
  }

  async withdraw() {
    await this.account.changePassword();
    await this.office.bulkDocs(documents('secret', 5));
  }

  /** One run from begin to end: `complete`, or the name of the error. */
  async run(kind, retry) {
    const options = { retry, batch_size: BATCH };
    const runs = {
      push: () => this.device.replicate.to(this.far, options),
      pull: () => this.device.replicate.from(this.far, options),
      sync: () => this.device.sync(this.far, options),
    };
    return runs[kind]().then(() => 'complete', ({ name, error }) => name ?? error);
  }

  async assertAllPushed() {
    const there = (await idsIn(this.office)).filter((id) => id.startsWith('visit'));
    assert.equal(there.length, (await idsIn(this.device)).filter((id) => id.startsWith('visit')).length, 'all is pushed');
  }

  /** A live sync pushes what is written now, pulls nothing, and is quiet. */
  async assertGoesOn(state) {
    await this.device.bulkDocs(documents('visit-late', 10));
    const arrived = async () => (await idsIn(this.office)).filter((id) => id.startsWith('visit')).length === DOCUMENTS + 10;
    await eventually('what was written later is pushed', arrived);
    await this.assertQuiet();
    assert.equal(state.error, null, 'the sync goes on');
    await stopped(state.sync);
    await this.assertEnd();
  }

  async assertEnd() {
    await this.assertAllPushed();
    assert.deepEqual((await idsIn(this.device)).filter((id) => id.startsWith('secret')), [], 'nothing more comes');
    await assertDraining(this);
  }

  /** Whether nothing is asked for a second. */
  async isIdle() {
    const before = this.watch.requests.length;
    await pause(1000);
    return this.watch.requests.length === before;
  }

  /** Counts requests for a while. */
  async assertQuiet() {
    this.watch.clear();
    await pause(WATCHED_MS);
    const { requests } = this.watch;
    const list = requests.map(({ method, path, status }) => `${method} ${path} ${status}`).join('\n');
    assert.ok(requests.length < (TOO_MANY * WATCHED_MS) / 1000, `${requests.length} requests:\n${list}`);
  }
}

function documents(kind, count) {
  return Array.from({ length: count }, (_, number) => ({ _id: `${kind}-${number}` }));
}

/** PouchDB gives no standing; the server does. */
async function assertDraining({ watch, account }) {
  const said = await (await watch.fetch(`${ORIGIN}/_device`)).json();
  assert.deepEqual([said.standing, said.cause, said.next], ['draining', 'password_changed', 'push']);
  const known = await account.devices();
  assert.ok(known.length > 0 && known.every(({ standing }) => standing === 'draining'), JSON.stringify(known));
}

/** A live sync, and how it failed if it did. */
function liveSync({ t, device, far }, retry) {
  const sync = device.sync(far, { live: true, retry, batch_size: BATCH });
  t.after(() => sync.cancel());
  const state = { sync, error: null };
  sync.on('error', (error) => {
    state.error = error;
  });
  return state;
}

async function inOneRun(t, { login, retry, kind, where }) {
  const scene = await Scene.open(t, login);
  const withdrawn = scene.withdrawAt(where);
  const [first] = await Promise.all([scene.run(kind, retry), withdrawn]);
  t.diagnostic(`the first run ended with ${first}`);
  assert.match(first, kind === 'push' ? /^complete$/ : /^(complete|forbidden)$/);
  if (kind === 'push') await scene.assertAllPushed();
  await scene.assertQuiet();
  assert.equal(await scene.run('sync', retry), 'complete', 'the next sync');
  await scene.assertEnd();
}

async function inLiveSync(t, { login, retry, where }) {
  const scene = await Scene.open(t, login);
  const withdrawn = scene.withdrawAt(where);
  let state = liveSync(scene, retry);
  await withdrawn;
  await eventually('the live sync has failed or waits', async () => state.error || (await scene.isIdle()));
  if (state.error) {
    t.diagnostic(`the live sync ended with ${state.error.name}`);
    assert.equal(state.error.name, 'forbidden');
    await scene.assertQuiet();
    state = liveSync(scene, retry);
  }
  await scene.assertGoesOn(state);
}

async function inWaitingLiveSync(t, { login, retry }) {
  const scene = await Scene.open(t, login);
  const state = liveSync(scene, retry);
  const full = async (database) => (await idsIn(database)).length === 2 * DOCUMENTS;
  await eventually('both sides are equal', async () => (await full(scene.device)) && full(scene.office));
  await eventually('the live sync waits', () => scene.isIdle());
  await scene.withdraw();
  await scene.assertGoesOn(state);
}

describe('a password changed', { concurrency: 12 }, () => {
  for (const login of Object.keys(LOGINS)) {
    for (const retry of [true, false]) {
      const title = `${login}, retry ${retry}`;
      for (const [kind, moments] of Object.entries(MOMENTS)) {
        for (const where of moments) {
          test(`${title}: in a ${kind}, at ${where}`, (t) => inOneRun(t, { login, retry, kind, where }));
        }
      }
      for (const where of LIVE_MOMENTS) {
        test(`${title}: in a live sync, at ${where}`, (t) => inLiveSync(t, { login, retry, where }));
      }
      test(`${title}: in a live sync that waits for news`, (t) => inWaitingLiveSync(t, { login, retry }));
    }
  }
});

test('the new password takes over where the old one ended', async (t) => {
  const scene = await Scene.open(t, 'cookie');
  const withdrawn = scene.withdrawAt('_bulk_get');
  await Promise.all([scene.run('sync', false), withdrawn]);
  const watch = new Watch(await LOGINS.cookie(scene.account));
  const far = remote(scene.database, { base: ORIGIN, fetch: watch.fetch });
  await scene.device.sync(far);
  assert.deepEqual(await idsIn(scene.device), await idsIn(scene.office));
  assert.equal((await idsIn(scene.device)).length, 2 * DOCUMENTS + 5);
});
