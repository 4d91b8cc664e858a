// `settle demo` runs this after it has loaded a small district into a scoped database: three real PouchDB phones and a
// supervisor's tablet each pull their own part; one phone works offline, meets a conflict with the district office and
// resolves it as an app would; a household moves from one phone's area to another's; a hostile push changes nothing.
// Prints numbered steps for a reader; the exit code is 1 as soon as anything is not as told. It keeps nothing on disk.
//
// SETTLE_URL: the server with an operator's credentials. SETTLE_PASSWORD: that of the accounts (demo).
// SETTLE_DATABASE or the first argument: the database (medic).

import { randomInt } from 'node:crypto';
import process from 'node:process';

import { ask, documentsIn, idsIn, loginAs, lostSince, ownOf, reconciled, without } from './scoped.mjs';
import { PouchDB, contents, freshName, remote, request, SERVER } from './support.mjs';

const DATABASE = process.argv[2] ?? process.env.SETTLE_DATABASE ?? 'medic';
const PASSWORD = process.env.SETTLE_PASSWORD ?? 'demo';
const WORKERS = ['chw-1', 'chw-2', 'chw-3'];
const SUPERVISOR = 'supervisor-1';

let steps = 0;

function step(title) {
  steps += 1;
  console.log(`\n${steps}. ${title}`);
}

function say(line) {
  console.log(`   ${line}`);
}

function demand(truth, sentence) {
  if (!truth) throw new Error(`not as told: ${sentence}`);
  say(`ok: ${sentence}`);
}

function tally(words) {
  const counts = new Map();
  for (const word of words) counts.set(word, (counts.get(word) ?? 0) + 1);
  return [...counts].sort(([, one], [, other]) => other - one).map(([word, count]) => `${count} ${word}`).join(', ');
}

/** The database on the server, as the operator sees it; it is not made if it is not there. */
const everything = () => remote(DATABASE, { skip_setup: true });

/** Somebody with an account, and a device: its own PouchDB, what it sees of the server, and what it should hold. */
class Person {
  constructor(name, scope) {
    Object.assign(this, { name, scope, base: loginAs(name, PASSWORD) });
    this.device = new PouchDB(freshName(name), { adapter: 'memory' });
    this.title = `${name === SUPERVISOR ? 'tablet' : 'phone'} of ${name}`;
  }

  far() {
    return remote(DATABASE, { base: this.base, skip_setup: true });
  }

  /** Pulls as any PouchDB does, and keeps the token. */
  async pull() {
    const { last_seq: token } = await this.device.replicate.from(this.far());
    this.token = token;
  }

  /** What the documents of the database say that this person should hold. */
  async own() {
    return ownOf(await documentsIn(everything()), this.scope);
  }
}

const short = (rev) => `${rev.split('-')[0]}-${rev.split('-')[1].slice(0, 6)}…`;

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);

/** The district office, which sees everything: a plain HTTP client that knows nothing of PouchDB. */
async function office(method, id, json) {
  return ask(method, `/${DATABASE}/${encodeURIComponent(id)}${json ? '' : '?conflicts=true'}`, { json });
}

/** The three health workers and their supervisor, each with the place and the depths of its account. */
async function people() {
  const { props } = await ask('GET', `/${DATABASE}`);
  if (!props?.scoped) throw new Error(`${DATABASE} is no scoped database: \`settle demo --data\` with a new folder makes one`);
  const { settings } = await office('GET', 'settings');
  const rule = (role) => settings.replication_depth.find((rule) => rule.role === role);
  const found = [];
  for (const name of [...WORKERS, SUPERVISOR]) {
    const account = await ask('GET', `/_users/org.couchdb.user:${name}`);
    const login = await request('GET', `/${DATABASE}`, { base: loginAs(name, PASSWORD) });
    if (login.status !== 200) throw new Error(`${name} cannot enter with the password of this demo: ${login.status}`);
    const { depth, report_depth: reportDepth } = rule(account.roles[0]);
    found.push(new Person(name, { place: account.facility_id, depth, reportDepth, contact: account.contact_id }));
  }
  return found;
}

function kinds(documents) {
  return tally(documents.map(({ type }) => {
    if (type === 'data_record') return 'reports';
    if (type === 'person') return 'people';
    return type ? 'places' : 'settings';
  }));
}

async function firstPulls(everybody) {
  step('Three phones and a supervisor pull. Each gets its own part, and nothing else');
  for (const person of everybody) {
    await person.pull();
    const documents = await documentsIn(person.device);
    say(`${person.title}: ${documents.length} documents (${kinds(documents)})`);
  }
  for (const person of everybody) {
    if (!same(await idsIn(person.device), await person.own())) throw new Error(`not as told: the ${person.title} holds its own`);
  }
  const { doc_count: there } = await everything().info();
  demand(true, `each holds exactly its own of the ${there} documents on the server`);
  const [phone, tablet] = await Promise.all([everybody[0], everybody.at(-1)].map(({ device }) => documentsIn(device)));
  const about = (documents, id) => documents.filter(({ fields }) => (fields?.patient_id ?? fields?.place_id) === id);
  const home = phone.find(({ type }) => type === 'clinic');
  demand(
    tablet.some(({ _id }) => _id === home._id) && !tablet.some(({ parent }) => parent?._id === home._id),
    'the supervisor gets places and health workers down to the households, and not the people in them',
  );
  demand(
    about(phone, home._id).length > 0 && about(tablet, home._id).length === 0 && about(tablet, home.parent._id).length > 0,
    'and reports about the areas, not those about households, which are below the report depth',
  );
}

/** The report that both sides are going to edit: a household visit. */
function choose(reports) {
  const visit = reports.find(({ form }) => form === 'household_visit');
  if (!visit) throw new Error(`${DATABASE} holds no household visit to edit: load the district first`);
  return visit;
}

/** What the two people are going to write; new at every run. */
const work = { children_under_five: randomInt(1, 1000), office_note: `called the family, call ${randomInt(1, 1000)}` };

/** Edits the visit on both sides and returns it as it was before. */
async function editOnBothSides(device, { _id }) {
  step(`The phone of ${WORKERS[0]} goes offline, and the health worker corrects a visit`);
  const before = await device.get(_id);
  const { children_under_five, office_note } = work;
  const { rev: phoneRev } = await device.put({ ...before, fields: { ...before.fields, children_under_five } });
  say(`on the phone, ${_id} is now ${short(phoneRev)}: children_under_five = ${children_under_five}`);

  step('Meanwhile the district office changes the same visit on the server');
  const onServer = await office('GET', _id);
  demand(onServer._rev === before._rev, `the server still has ${short(before._rev)} and knows nothing of the phone's edit`);
  const { rev: officeRev } = await office('PUT', _id, { ...onServer, fields: { ...onServer.fields, office_note } });
  say(`on the server, ${_id} is now ${short(officeRev)}: office_note = "${office_note}"`);
  return before;
}

async function meet(person, { _id }) {
  step('The phone is online again and syncs');
  const { push, pull } = await person.device.sync(person.far());
  say(`${push.docs_written} document pushed, ${pull.docs_written} pulled, ${push.doc_write_failures} refused`);
  demand(push.docs_written === 1 && push.doc_write_failures === 0, "the server took the phone's edit: nothing is lost");

  step('Both sides hold both edits, and agree which one to show');
  const onPhone = await person.device.get(_id, { conflicts: true });
  const onServer = await office('GET', _id);
  say(`phone:  shows ${short(onPhone._rev)}, keeps ${(onPhone._conflicts ?? []).map(short).join(', ')} beside it`);
  say(`server: shows ${short(onServer._rev)}, keeps ${(onServer._conflicts ?? []).map(short).join(', ')} beside it`);
  demand(onPhone._rev === onServer._rev, 'the winner is the same on both sides');
  demand(onPhone._conflicts?.length === 1 && onPhone._conflicts[0] === onServer._conflicts?.[0], 'so is the conflict');
}

/** For each field the value of the side that changed it; the second side where both did. */
function join(before, ...sides) {
  const joined = { ...before };
  for (const side of sides) {
    for (const [name, value] of Object.entries(side)) {
      if (JSON.stringify(value) !== JSON.stringify(before[name])) joined[name] = value;
    }
  }
  return joined;
}

async function resolve({ device }, before) {
  step('The app resolves the conflict on the phone: it joins both edits and deletes the loser');
  const { _conflicts: [loserRev], ...winner } = await device.get(before._id, { conflicts: true });
  const loser = await device.get(before._id, { rev: loserRev });
  const fields = join(before.fields ?? {}, loser.fields, winner.fields);
  const { rev } = await device.put({ ...winner, fields });
  await device.remove(before._id, loserRev);
  say(`${short(rev)} holds both edits, ${short(loserRev)} is deleted`);
}

async function compare(person, { _id }) {
  step('After the next sync both sides are the same');
  await person.device.sync(person.far());
  const onPhone = await person.device.get(_id, { conflicts: true });
  const onServer = await office('GET', _id);
  demand(onPhone._rev === onServer._rev, `the winner is ${short(onServer._rev)} on the phone and on the server`);
  demand(!onPhone._conflicts && !onServer._conflicts, 'no conflict is left on either side');
  const kept = Object.entries(work).every(([field, value]) => onServer.fields[field] === value);
  demand(kept, 'the work of both people is in the document');
  const [here, there] = [await contents(person.device), await contents(person.far())];
  const agreed = same(Object.keys(here).sort(), Object.keys(there).sort());
  const winners = Object.keys(there).every((id) => here[id]?.winner === there[id].winner);
  demand(agreed && winners, `all ${Object.keys(there).length} documents of ${person.name} have the same winner on both sides`);
}

const move = (id, to, query = '') => ask('POST', `/${DATABASE}/_places/${id}/move${query}`, { json: { to } });

/** Moves a household from the phone that holds the most to the next one; tells what is going to happen first. */
async function moveHousehold(giver, taker) {
  const documents = await documentsIn(giver.device);
  const home = documents.find(({ type }) => type === 'clinic');
  const [from, to] = [giver.scope.place, taker.scope.place];
  step(`The office moves the ${home.name} from ${from} to ${to}. First a dry run: who will notice?`);
  const plan = await move(home._id, to, '?dry_run=true');
  for (const { name, gains, loses, devices } of plan.accounts) {
    const ago = devices.map((device) => `last pull ${device.last_pull_seconds_ago ?? '?'} s ago`).join(', ');
    say(`${name}: gains ${gains}, loses ${loses} (${devices.length} device: ${ago})`);
  }
  const loses = plan.accounts.find(({ name }) => name === giver.name)?.loses;
  const gains = plan.accounts.find(({ name }) => name === taker.name)?.gains;
  demand(plan.accounts.length === 2 && loses > 0 && loses === gains, 'only these two are affected, one gains what the other loses');
  demand((await office('GET', home._id)).parent._id === from, 'the dry run changed nothing');
  const { moved } = await move(home._id, to);
  demand(moved === plan.documents, `now it is done: one request, ${moved} documents follow the household`);
  return home;
}

async function lateReport(giver, home) {
  step(`The phone of ${giver.name} does not know yet. It comes back with a report about the household`);
  const report = { _id: freshName('late'), type: 'data_record', form: 'household_visit', reported_date: Date.now() };
  report.contact = { _id: giver.scope.contact, parent: { _id: giver.scope.place } };
  report.fields = { place_id: home._id, danger_signs: 'fever' };
  await giver.device.put(report);
  await giver.device.replicate.to(giver.far());
  const stored = await request('GET', `/${DATABASE}/${report._id}`);
  demand(stored.status === 200, 'the report is accepted: the phone pulled before the move, so its work counts');
  return report._id;
}

/** The next pull of everybody: what each gained, and what it lost. The late report never was in its author's scope. */
async function nextPulls(everybody, giver, taker, late) {
  step('The next pull of each tells exactly what it gained and lost');
  for (const person of everybody) {
    const before = await idsIn(person.device);
    // An app asks for what it lost; a bare PouchDB learns nothing of that, and keeps what it has.
    const lost = without(await lostSince(person.base, DATABASE, person.token), [late]);
    await person.pull();
    const held = await idsIn(person.device);
    const gained = without(held, before);
    say(`${person.title}: gained ${gained.length}, lost ${lost.length}`);
    const own = await person.own();
    const drop = without(before, own);
    const told = same(gained, without(own, before)) && same(lost, without(drop, [late]));
    if (!told) throw new Error(`not as told: ${person.name} gained ${gained} and lost ${lost}`);
    const reconcile = await reconciled(person.base, DATABASE, held);
    if (!same(reconcile, drop)) throw new Error(`not as told: _reconcile tells ${person.name} to drop ${reconcile}`);
    Object.assign(person, { gained, lost });
  }
  const exchanged = giver.lost.length > 0 && same([...giver.lost, late].sort(), taker.gained);
  const others = everybody.filter((person) => person !== giver && person !== taker);
  const quiet = others.every(({ gained, lost }) => gained.length + lost.length === 0);
  demand(exchanged, `${taker.name} gained what ${giver.name} lost, and the late report`);
  demand(quiet, `${others.map(({ name }) => name).join(' and ')} gained and lost nothing`);
  demand(true, '_reconcile names the same for an app that asks what to drop, and the late report that came too late to stay');
}

async function hostilePush(person, victim) {
  step(`A hostile app on the phone of ${person.name} pushes what it must not write`);
  const before = await office('GET', 'settings');
  const settings = structuredClone(await person.device.get('settings'));
  settings.settings.replication_depth = [{ role: 'chw', depth: -1 }];
  await person.device.put(settings);
  const forged = freshName('forged');
  const fields = { place_id: victim.scope.place, zinc: 0 };
  await person.device.put({ _id: forged, type: 'data_record', form: 'stock_count', contact: { _id: victim.name }, fields });
  const push = await person.device.replicate.to(person.far());
  demand(push.docs_written === 2 && push.doc_write_failures === 0, 'PouchDB takes both as delivered, and does not try again');
  demand((await office('GET', 'settings'))._rev === before._rev, 'the settings on the server are what they were');
  const { status } = await request('GET', `/${DATABASE}/${forged}`);
  demand(status === 404, `the forged report about ${victim.scope.place} does not exist, for anybody`);
  const { rows } = await ask('GET', `/${DATABASE}/_escrow`);
  for (const { number, id, account, reason } of rows) say(`escrow ${number}: ${id} by ${account}, ${reason}`);
  const reasons = new Map(rows.filter(({ account }) => account === person.name).map(({ id, reason }) => [id, reason]));
  demand(
    rows.length === 2 && reasons.get('settings') === 'reserved' && reasons.get(forged) === 'out_of_scope',
    'both wait in escrow for a person to decide',
  );
  for (const { number } of rows) await ask('POST', `/${DATABASE}/_escrow/${number}/discard`, { json: {} });
  demand((await ask('GET', `/${DATABASE}/_escrow`)).total_rows === 0, 'the office discards them');
}

async function homesOn({ device }) {
  return (await documentsIn(device)).filter(({ type }) => type === 'clinic').length;
}

async function main() {
  const { host } = new URL(SERVER);
  console.log(`Three phones and a tablet (PouchDB ${PouchDB.version}) and the scoped database ${DATABASE} at ${host}`);
  const everybody = await people();
  await firstPulls(everybody);
  const [worker] = everybody;
  const before = await editOnBothSides(worker.device, choose(await documentsIn(worker.device)));
  await meet(worker, before);
  await resolve(worker, before);
  await compare(worker, before);
  for (const person of everybody) await person.pull();
  const homes = await Promise.all(everybody.slice(0, WORKERS.length).map(homesOn));
  const most = homes.indexOf(Math.max(...homes));
  const [giver, taker, other] = [0, 1, 2].map((step) => everybody[(most + step) % WORKERS.length]);
  const home = await moveHousehold(giver, taker);
  const late = await lateReport(giver, home);
  await nextPulls(everybody, giver, taker, late);
  await hostilePush(other, giver);
  await Promise.all(everybody.map(({ device }) => device.destroy()));
  console.log('\nDone: every step went as told.');
}

try {
  await main();
} catch (error) {
  console.error(`\nStep ${steps} failed: ${error.message ?? JSON.stringify(error)}`);
  process.exitCode = 1;
}
