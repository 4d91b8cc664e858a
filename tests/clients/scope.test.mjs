// Unmodified PouchDB against a scoped database: each phone gets its own area and nothing else, a change of scope
// arrives whole also when it is interrupted, a push outside of the scope neither stops nor repeats, and a move reaches
// everybody.
//
// A bare PouchDB never removes what it lost, so "exactly the right documents" means here: what the phone holds without
// what `_reconcile` tells it to drop is what the documents themselves say that it should hold (`ownOf`).

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { ask, documentsIn, idsIn, loginAs, lostSince, ownOf, reconciled, without } from './scoped.mjs';
import {
  contents, eventually, freshName, phone, Proxy, remote, request, SERVER, stopped, sturdyRemote,
} from './support.mjs';

const PASSWORD = 'garden-gate-42';
const AREAS = ['area-1', 'area-2', 'area-3'];
const HOUSEHOLDS = 6;
const RULES = [{ role: 'chw', depth: 2 }, { role: 'supervisor', depth: 3, report_depth: 2 }];
const DEPTHS = { chw: { depth: 2 }, supervisor: { depth: 3, reportDepth: 2 } };

const place = (_id, type, parent, more = {}) => ({ _id, type, name: _id, ...(parent ? { parent: { _id: parent } } : {}), ...more });
const area = (_id) => place(_id, 'contact', 'centre', { contact_type: 'chw_area' });
const household = (_id, parent) => place(_id, 'clinic', parent);
const patient = (_id, parent) => place(_id, 'person', parent);
const report = (_id, subject, more = {}) =>
  ({ _id, type: 'data_record', form: 'visit', reported_date: 1, fields: { patient_id: subject }, ...more });

/** Each area with its households; each of these with a person, a report about the person and one about itself. */
function district() {
  const documents = [place('district', 'district_hospital'), place('centre', 'health_center', 'district')];
  for (const name of AREAS) {
    documents.push(area(name));
    for (let number = 0; number < HOUSEHOLDS; number += 1) {
      const home = `${name}-home-${number}`;
      documents.push(household(home, name), patient(`${home}-person`, home));
      documents.push(report(`${home}-visit`, home), report(`${home}-report`, `${home}-person`));
    }
  }
  return documents;
}

/** A scoped database with the district in it. */
class World {
  constructor(t) {
    this.t = t;
    this.name = freshName('scoped');
    this.moved = {};
  }

  static async make(t) {
    const world = new World(t);
    await ask('PUT', `/${world.name}?scoped=true`);
    t.after(() => request('DELETE', `/${world.name}`));
    const members = { names: [], roles: Object.keys(DEPTHS) };
    await ask('PUT', `/${world.name}/_security`, { json: { members, admins: { names: [], roles: ['_admin'] } } });
    await world.office.put({ _id: 'settings', settings: { replication_depth: RULES } });
    await world.office.bulkDocs(district());
    return world;
  }

  /** The database as the operator sees it. */
  get office() {
    return remote(this.name);
  }

  /** A new account with a device of its own. */
  async member(role, ...places) {
    const member = new Member(this, role);
    await member.assign(...places);
    this.t.after(() => member.retire());
    return member;
  }

  async move(id, to) {
    await ask('POST', `/${this.name}/_places/${id}/move`, { json: { to } });
    this.moved[id] = to;
  }

  escrow() {
    return ask('GET', `/${this.name}/_escrow`).then(({ rows }) => rows);
  }
}

/** An account, and the phone that its person holds. */
class Member {
  constructor(world, role) {
    this.world = world;
    this.role = role;
    this.user = freshName(role);
    this.base = loginAs(this.user, PASSWORD);
    this.device = phone(world.t, role);
    this.account = { name: this.user, password: PASSWORD, type: 'user', roles: [role] };
  }

  get path() {
    return `/_users/org.couchdb.user:${this.user}`;
  }

  /** Gives the account these places instead of its former ones. */
  async assign(...places) {
    this.account.facility_id = places;
    await ask('PUT', this.path, { json: this.account });
    this.account = await ask('GET', this.path);
  }

  async retire() {
    await request('DELETE', `${this.path}?rev=${this.account._rev}`);
  }

  far(options = {}) {
    return remote(this.world.name, { base: this.base, skip_setup: true, ...options });
  }

  /** The same through a proxy, in a way that survives cut connections. */
  sturdyFar(proxy) {
    return sturdyRemote(this.world.name, { base: loginAs(this.user, PASSWORD, proxy.base), skip_setup: true });
  }

  pull(options) {
    return this.device.replicate.from(this.far(), options);
  }

  push(options) {
    return this.device.replicate.to(this.far(), options);
  }

  async own() {
    const scope = { place: this.account.facility_id, ...DEPTHS[this.role], moved: this.world.moved };
    return ownOf(await documentsIn(this.world.office), scope);
  }

  /** The phone holds exactly its own, after it has dropped what the server tells it to drop. */
  async assertOwn(what) {
    const held = await idsIn(this.device);
    const drop = await reconciled(this.base, this.world.name, held);
    assert.deepEqual(without(held, drop), await this.own(), what);
  }

  /** Everything the person may see is the same on the phone, with all revisions. */
  async assertSame() {
    const [here, there] = [await contents(this.device), await contents(this.far())];
    for (const id of Object.keys(there)) assert.deepEqual(here[id], there[id], id);
  }
}

test('a one-shot pull brings exactly the own area', async (t) => {
  const world = await World.make(t);
  for (const [role, place] of [['chw', 'area-1'], ['chw', 'area-3'], ['supervisor', 'centre'], ['chw', 'nowhere']]) {
    const member = await world.member(role, place);
    const { docs_written: written, doc_write_failures: failures } = await member.pull({ batch_size: 7 });
    assert.deepEqual(await idsIn(member.device), await member.own());
    assert.deepEqual(await idsIn(member.far()), await member.own(), 'its list has the same');
    assert.deepEqual([written, failures], [(await member.own()).length, 0]);
    assert.equal((await member.pull()).docs_read, 0, 'there is nothing new');
    await member.assertSame();
  }
});

test('the depths of the settings hold for contacts and for reports', async (t) => {
  const world = await World.make(t);
  const supervisor = await world.member('supervisor', 'centre');
  await supervisor.pull();
  const held = new Set(await idsIn(supervisor.device));
  assert.ok(held.has('area-2-home-1-person') && held.has('area-2-home-1-visit'));
  assert.ok(!held.has('area-2-home-1-report') && !held.has('district'));
  const settings = await world.office.get('settings');
  settings.settings.replication_depth[1] = { role: 'supervisor', depth: 2, report_depth: 1 };
  await world.office.put(settings);
  await supervisor.pull();
  const drop = await reconciled(supervisor.base, world.name, await idsIn(supervisor.device));
  assert.deepEqual(drop, [...held].filter((id) => /-(person|visit)$/.test(id)).sort());
});

test('what lies outside of the scope looks as if it did not exist', async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  const far = member.far();
  for (const id of ['area-2-home-0', 'area-2-home-0-report', 'centre', 'never-was']) {
    await assert.rejects(far.get(id), { status: 404, reason: 'missing' });
    await assert.rejects(far.get(id, { open_revs: 'all', revs: true }).then(assertFound), { status: 404 });
  }
  const { rev } = (await world.office.allDocs({ key: 'area-2-home-0' })).rows[0].value;
  const asked = await far.bulkGet({ docs: [{ id: 'area-2-home-0', rev }, { id: 'never-was', rev }] });
  for (const { docs } of asked.results) assert.equal(docs[0].error.error, 'not_found');
  assert.equal((await far.info()).doc_count, (await member.own()).length);
});

function assertFound(rows) {
  if (!rows.some(({ ok }) => ok)) throw Object.assign(new Error('no leaf'), { status: 404 });
}

test('a live pull brings what happens in the own area and nothing else', { timeout: 120_000 }, async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  const running = member.device.replicate.from(member.far(), { live: true, retry: true });
  for (let round = 0; round < 10; round += 1) {
    for (const name of AREAS) await world.office.put(report(`live-${name}-${round}`, `${name}-home-0-person`));
    await world.office.put({ ...(await world.office.get('area-1-home-1')), round });
  }
  await world.office.remove(await world.office.get('area-1-home-2-report'));
  await eventually('the phone has the last of it', async () =>
    (await member.device.get('live-area-1-9').catch(() => null)) &&
    (await member.device.get('area-1-home-2-report').then(() => false, ({ status }) => status === 404)));
  await stopped(running);
  assert.deepEqual(await idsIn(member.device), await member.own());
  await member.assertSame();
});

test('a live pull goes on with the new scope when the account gains and loses places', { timeout: 180_000 }, async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  const running = member.device.replicate.from(member.far(), { live: true, retry: true });
  let failure = null;
  running.on('error', (error) => { failure = error; });
  const arrives = async (what) => {
    const own = await member.own();
    await eventually(what, async () => without(own, await idsIn(member.device)).length === 0);
  };
  await arrives('the first area is there');
  await member.assign('area-1', 'area-2');
  await arrives('the second area is there');
  await world.office.put(report('later', 'area-2-home-3-person'));
  await arrives('a later report of the second area is there');
  await member.assign('area-3');
  await arrives('the third area is there');
  await world.office.bulkDocs([report('hidden', 'area-1-home-0-person'), report('last', 'area-3-home-0-person')]);
  await arrives('the last report is there');
  assert.equal(failure, null);
  await stopped(running);
  await member.assertOwn();
  await assert.rejects(member.device.get('hidden'), { status: 404 });
});

for (const feed of ['longpoll', 'continuous']) {
  test(`an open ${feed} feed ends cleanly, with its token, when the scope changes`, { timeout: 60_000 }, async (t) => {
    const world = await World.make(t);
    const member = await world.member('chw', 'area-1');
    const { last_seq: since } = await member.pull();
    const query = new URLSearchParams({ feed, since, heartbeat: 100 });
    const { origin } = new URL(SERVER);
    const authorization = `Basic ${Buffer.from(`${member.user}:${PASSWORD}`).toString('base64')}`;
    const answer = await fetch(`${origin}/${world.name}/_changes?${query}`, { headers: { authorization } });
    assert.equal(answer.status, 200);
    const parts = answer.body.getReader();
    const heard = [await parts.read()]; // the first heartbeat or the head: the feed waits
    await member.assign('area-2');
    while (!heard.at(-1).done) heard.push(await parts.read());
    const text = heard.map(({ value }) => Buffer.from(value ?? []).toString()).join('');
    const last = feed === 'longpoll' ? JSON.parse(text) : JSON.parse(text.trim().split('\n').at(-1));
    assert.ok(last.last_seq, text);
    const rest = await ask('GET', `/${world.name}/_changes?${new URLSearchParams({ since: last.last_seq })}`, { base: member.base });
    const told = new Set(rest.results.map(({ id }) => id));
    assert.deepEqual(without(await member.own(), [...told]), ['settings'], 'the next feed tells the new scope');
  });
}

test('a new patient and a report about the patient reach the server and the supervisor', async (t) => {
  const world = await World.make(t);
  const [member, supervisor] = [await world.member('chw', 'area-1'), await world.member('supervisor', 'centre')];
  await Promise.all([member.pull(), supervisor.pull()]);
  await member.device.bulkDocs([
    report('a-report', 'z-patient'), household('new-home', 'area-1'), patient('z-patient', 'new-home'), report('b-visit', 'new-home'),
  ]);
  const push = await member.push();
  assert.deepEqual([push.docs_written, push.doc_write_failures], [4, 0]);
  assert.deepEqual(await world.escrow(), [], 'the order in a batch does not matter');
  await Promise.all([supervisor.pull(), member.pull()]);
  await member.assertOwn();
  await member.assertSame();
  assert.deepEqual(await idsIn(supervisor.device), await supervisor.own());
  assert.ok((await idsIn(supervisor.device)).includes('b-visit'));
});

test('a report that comes before its patient waits in escrow and is admitted later', async (t) => {
  const world = await World.make(t);
  const [member, colleague] = [await world.member('chw', 'area-1'), await world.member('chw', 'area-1')];
  await Promise.all([member.pull(), colleague.pull()]);
  await member.device.put(report('early', 'late-patient'));
  const first = await member.push();
  assert.deepEqual([first.docs_written, first.doc_write_failures], [1, 0]);
  const [row, ...others] = await world.escrow();
  assert.deepEqual(others, []);
  assert.deepEqual([row.id, row.reason, row.account], ['early', 'unknown_subject', member.user]);
  await assert.rejects(world.office.get('early'), { status: 404 });
  await member.pull();
  assert.deepEqual(await reconciled(member.base, world.name, ['early']), [], 'its phone keeps what waits');
  await member.device.put(patient('late-patient', 'area-1-home-0'));
  assert.equal((await member.push()).docs_written, 1, 'only the patient is sent');
  assert.deepEqual(await world.escrow(), []);
  await Promise.all([member.pull(), colleague.pull()]);
  assert.ok((await idsIn(colleague.device)).includes('early'));
  for (const each of [member, colleague]) {
    await each.assertOwn();
    await each.assertSame();
  }
});

test('batches of one bring a report before its patient, in any order of ids', async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-2');
  await member.pull();
  for (let number = 0; number < 5; number += 1) {
    await member.device.put(report(`early-${number}`, `patient-${number}`));
    await member.device.put(patient(`patient-${number}`, 'area-2-home-0'));
  }
  const push = await member.push({ batch_size: 1 });
  assert.deepEqual([push.docs_written, push.doc_write_failures], [10, 0]);
  assert.deepEqual(await world.escrow(), []);
  await member.assertOwn();
  await member.assertSame();
});

test('refused documents do not stop a push, and are not sent again', async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  await member.pull();
  const { _rev } = await world.office.get('area-2-home-0');
  await member.device.put(report('good-1', 'area-1-home-0-person'));
  await member.device.put(report('foreign', 'area-2-home-0-person'));
  await member.device.put(household('area-2-home-0', 'area-1')); // pulls somebody else's household over
  await member.device.put({ ...(await member.device.get('settings')), settings: { replication_depth: [] } });
  await member.device.put({ _id: '_design/spy', views: {} });
  await member.device.put(report('good-2', 'area-1-home-1-person'));
  const proxy = await Proxy.start(t);
  const push = (options) => member.device.replicate.to(member.sturdyFar(proxy), options);
  const first = await push({ batch_size: 1 });
  assert.deepEqual([first.docs_written, first.doc_write_failures], [6, 0]);
  const reasons = Object.fromEntries((await world.escrow()).map(({ id, reason }) => [id, reason]));
  assert.deepEqual(reasons, {
    foreign: 'out_of_scope', 'area-2-home-0': 'out_of_scope', settings: 'reserved', '_design/spy': 'reserved',
  });
  assert.equal((await world.office.get('area-2-home-0'))._rev, _rev);
  assert.deepEqual((await world.office.get('settings')).settings.replication_depth, RULES);
  await world.office.get('good-1');
  await world.office.get('good-2');
  proxy.requests.length = 0;
  await push();
  await push({ checkpoint: false, since: 0 }); // as after the loss of the checkpoint
  assert.equal(proxy.count('POST', /_bulk_docs$/), 0, 'nothing is sent again');
  await member.device.put(report('good-3', 'area-1-home-2-person'));
  assert.equal((await push()).docs_written, 1);
  await world.office.get('good-3');
  assert.equal((await world.escrow()).length, 4);
});

test('a live push with retry goes on behind a refused document', { timeout: 120_000 }, async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  const proxy = await Proxy.start(t);
  const running = member.device.sync(member.sturdyFar(proxy), { live: true, retry: true });
  const denied = [];
  running.on('denied', (event) => denied.push(event));
  for (let number = 0; number < 5; number += 1) {
    await member.device.put(report(`foreign-${number}`, 'area-3-home-0-person'));
    await member.device.put(report(`good-${number}`, 'area-1-home-0-person'));
    await eventually(`report ${number} is there`, () => world.office.get(`good-${number}`).catch(() => null));
  }
  await eventually('all refused ones wait', async () => (await world.escrow()).length === 5);
  await stopped(running);
  assert.deepEqual(denied, []);
  proxy.requests.length = 0;
  await member.device.replicate.to(member.sturdyFar(proxy));
  assert.equal(proxy.count('POST', /_bulk_docs$/), 0, 'nothing is sent again');
});

/** Pulls in small batches until the given one is there, then cancels. */
function pullPart(member, batches) {
  return new Promise((resolve, reject) => {
    let seen = 0;
    const running = member.device.replicate.from(member.far(), { batch_size: 4, batches_limit: 1 });
    running.on('change', () => {
      seen += 1;
      if (seen === batches) running.cancel();
    });
    running.on('complete', resolve);
    running.on('error', reject);
  });
}

for (const changes of [[['area-2']], [['area-1', 'area-2']], [['area-2'], ['area-3']], [['area-2'], ['area-1']],
  [['area-1', 'area-3'], ['area-2', 'area-3'], ['area-2'], ['area-1'], ['area-2', 'area-1']]]) {
  const title = changes.map((places) => places.join('+')).join(', then ');
  test(`a pull that is cancelled in the middle of a change of scope ends whole: ${title}`, { timeout: 120_000 }, async (t) => {
    for (const batches of [1, 2, 4]) {
      const world = await World.make(t);
      const member = await world.member('chw', 'area-1');
      await member.pull();
      for (const places of changes) {
        await member.assign(...places);
        await pullPart(member, batches);
      }
      await world.office.put(report('during', 'area-2-home-0-person'));
      await member.pull({ batch_size: 4 });
      await member.assertOwn(`cancelled after ${batches} batches`);
      await member.assertSame();
      assert.equal((await member.pull()).docs_written, 0);
    }
  });
}

test('a pull that is cut in the middle of a change of scope ends whole', { timeout: 180_000 }, async (t) => {
  for (const stage of ['refused', 'half-response', 'no-response']) {
    for (const number of [1, 2, 3, 5]) {
      const world = await World.make(t);
      const member = await world.member('chw', 'area-1');
      const proxy = await Proxy.start(t);
      const pull = () => member.device.replicate.from(member.sturdyFar(proxy), { batch_size: 4, retry: false });
      await pull();
      await member.assign('area-2');
      let seen = 0;
      proxy.plan = ({ path }) => (/_bulk_get$|_local/.test(path) && (seen += 1) === number ? stage : null);
      await pull().catch(() => {});
      assert.equal(proxy.cuts, 1);
      proxy.plan = () => null;
      await pull();
      await member.assertOwn(`${stage} at request ${number}`);
      await member.assertSame();
      proxy.close();
    }
  }
});

test('a phone that was away during 500 changes of scope converges in one sync', { timeout: 240_000 }, async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  const { last_seq: since } = await member.pull();
  const before = await member.own();
  await member.device.put(report('written-offline', 'area-1-home-0-person'));
  const choices = [['area-2'], ['area-1'], ['area-1', 'area-2'], ['area-3'], ['area-2', 'area-3']];
  for (let change = 0; change < 500; change += 1) {
    await member.assign(...choices[change % choices.length]);
    if (change % 50 === 0) await world.office.put(report(`meanwhile-${change}`, `${AREAS[(change / 50) % 3]}-home-0-person`));
  }
  assert.equal((await member.push()).doc_write_failures, 0);
  await world.office.get('written-offline');
  await member.pull();
  await member.assertOwn();
  await member.assertSame();
  const lost = await lostSince(member.base, world.name, since);
  const own = await member.own();
  assert.deepEqual(without(own, lost), own, 'nothing that it has is told as lost');
  assert.deepEqual(without(without(before, own), lost), [], 'everything that it lost is told');
  assert.equal((await member.pull()).docs_written, 0, 'one sync was enough');
});

test('two phones and a supervisor converge after a move', { timeout: 120_000 }, async (t) => {
  const world = await World.make(t);
  const giver = await world.member('chw', 'area-1');
  const taker = await world.member('chw', 'area-2');
  const supervisor = await world.member('supervisor', 'centre');
  const everybody = [giver, taker, supervisor];
  const sync = (member) => member.device.sync(member.far());
  const { pull: { last_seq: since } } = await sync(giver);
  for (const member of [taker, supervisor]) await sync(member);
  const edit = async ({ device }, id, more) => device.put({ ...(await device.get(id)), ...more });
  await edit(giver, 'area-1-home-0', { roof: 'tin' });
  await edit(giver, 'area-1-home-0-person', { phone: '1' });
  await giver.device.put(report('written-before', 'area-1-home-0'));
  await edit(supervisor, 'area-1-home-0-person', { phone: '2' });
  await world.move('area-1-home-0', 'area-2');
  await edit(supervisor, 'area-1-home-0', { checked: true });
  await giver.push(); // late: it does not know of the move yet
  assert.deepEqual(await world.escrow(), []);
  for (let round = 0; round < 2; round += 1) for (const member of everybody) await sync(member);
  const moved = ['', '-person', '-report', '-visit'].map((end) => `area-1-home-0${end}`);
  assert.deepEqual(without(await lostSince(giver.base, world.name, since), ['written-before']), moved);
  for (const member of everybody) {
    await member.assertOwn();
    await member.assertSame();
  }
  const held = new Set(await idsIn(taker.device));
  for (const id of [...moved, 'written-before']) assert.ok(held.has(id), id);
  await edit(taker, 'area-1-home-0-person', { phone: '3' });
  await sync(taker);
  await sync(supervisor);
  await supervisor.assertSame();
  assert.deepEqual(await world.escrow(), []);
});


test('a late report comes through a sync in both directions at once', async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  await member.device.sync(member.far());
  await world.move('area-1-home-0', 'area-2');
  await member.device.put(report('late', 'area-1-home-0-person'));
  await member.device.sync(member.far());
  assert.equal((await world.office.get('late').catch(() => null))?._id, 'late');
});


test('a phone that pushes again what a move took away fills no escrow', async (t) => {
  const world = await World.make(t);
  const member = await world.member('chw', 'area-1');
  await member.pull();
  await world.move('area-1-home-0', 'area-2');
  await member.pull();
  const push = await member.push(); // the first one: PouchDB asks about everything that it holds
  assert.equal(push.doc_write_failures, 0);
  assert.deepEqual((await world.escrow()).map(({ id }) => id), []);
  await member.assertOwn();
});
