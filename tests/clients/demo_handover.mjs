// The second half of `settle demo`, after `demo.mjs`: a health worker leaves while the old phone still holds visits, and a phone is
// stolen while its owner works on. Real PouchDB phones with the plugin of `clients/pouchdb`; the office is plain HTTP.
// Prints numbered steps for a reader; the exit code is 1 as soon as anything is not as told. It keeps nothing on disk.
//
// SETTLE_URL, SETTLE_PASSWORD, SETTLE_DATABASE: as for `demo.mjs`.

import process from 'node:process';

import settle from '../../clients/pouchdb/src/index.js';
import { ORIGIN } from './handover.mjs';
import { ask, idsIn } from './scoped.mjs';
import { PouchDB, freshName, request } from './support.mjs';

const DATABASE = process.env.SETTLE_DATABASE ?? 'medic';
const PASSWORD = process.env.SETTLE_PASSWORD ?? 'demo';
const LEAVING = 'chw-3';
const ROBBED = 'chw-1';

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

/** A phone: its own PouchDB, and its link to the server. */
class Phone {
  constructor(name) {
    this.name = name;
    this.database = new PouchDB(freshName('phone'), { adapter: 'memory' });
    const device = { name, app: 'demo' };
    this.link = settle(this.database, { url: `${ORIGIN}/${DATABASE}`, device });
  }

  async close() {
    await this.link.close();
    if (!this.erased) await this.database.destroy();
  }
}

const account = (name) => ask('GET', `/_users/org.couchdb.user:${name}`);

/** A report about the health worker's own area, as an app writes it. */
function visit({ contact_id: contact, facility_id: place }, number) {
  const report = { _id: freshName(`visit-${number}`), type: 'data_record', form: 'stock_count', reported_date: Date.now() };
  return { ...report, contact: { _id: contact, parent: { _id: place } }, fields: { place_id: place, zinc: number } };
}

async function offline(phone) {
  const worker = await account(LEAVING);
  step(`${LEAVING} logs in on a phone, pulls, and goes offline for three weeks`);
  await phone.link.logIn({ name: LEAVING, password: PASSWORD });
  const { pulled, standing } = await phone.link.sync();
  say(`${pulled} documents pulled; the standing of this phone is ${standing.standing}`);
  const visits = [1, 2, 3, 4, 5].map((number) => visit(worker, number));
  await phone.database.bulkDocs(visits);
  const { documents } = await phone.link.unsent();
  demand(documents === visits.length, `${documents} visits are on the phone and nowhere else`);
  return { worker, visits };
}

async function replace({ facility_id: area }) {
  step('Meanwhile somebody else takes over. One request, and first a dry run of it');
  const newcomer = freshName('bea');
  const json = { contact: { name: 'Bea' }, account: { name: newcomer }, reason: 'left the programme' };
  const path = `/${DATABASE}/_places/${area}/replace`;
  const plan = await ask('POST', `${path}?dry_run=true`, { json });
  for (const { device, account: owner } of plan.devices ?? []) say(`may only push from then on: ${device} of ${owner}`);
  demand((await request('GET', `/_accounts/${newcomer}`)).status === 404, 'the dry run changed nothing');
  const done = await ask('POST', path, { json });
  demand(done.link?.token, `the account of ${LEAVING} is retired, ${newcomer} gets a link instead of a password`);
  return { newcomer, token: done.link.token };
}

async function comeBack(phone, visits) {
  step('The old phone comes back. It may push what it holds, and read nothing');
  const read = async (path) => (await phone.link.fetch(`${ORIGIN}/${DATABASE}/${path}`)).status;
  demand((await read('settings')) === 403 && (await read('_all_docs')) === 403, 'reading is refused');
  const wipe = `/_devices/${await phone.link.check().then(({ device }) => device)}/wipe`;
  const early = await request('POST', wipe, { json: { reason: 'left' } });
  demand(early.status === 409, `an order to erase is refused: ${early.body.error}`);
  const { pushed, receipt, standing } = await phone.link.sync();
  say(`"${standing.message}"`);
  demand(pushed === visits.length && standing.standing === 'drained', `${pushed} visits arrived, and the phone is ${standing.standing}`);
  demand(receipt.revisions >= visits.length, `the server signed that all ${receipt.documents} documents are safe, root ${receipt.root.slice(0, 12)}…`);
  demand((await read('settings')) === 401, 'and the phone is cut off for good');
  return wipe;
}

async function succeed({ newcomer, token }, visits, { facility_id: area }) {
  step(`${newcomer} logs in with the link, and finds the work of the predecessor`);
  const phone = new Phone(newcomer);
  await phone.link.logIn({ link: token });
  await phone.link.sync();
  const held = new Set(await idsIn(phone.database));
  demand(visits.every(({ _id }) => held.has(_id)), `${held.size} documents, the late visits among them`);
  const again = await request('POST', '/_session', { json: { link: token }, auth: null });
  demand(again.status === 401, 'the link works once');
  const { history } = await ask('GET', `/${DATABASE}/_custody/${area}`);
  for (const { account: holder, from, until } of history) {
    const day = (time) => (time ? new Date(time * 1000).toISOString().slice(0, 10) : '…');
    say(`custody of ${area}: ${holder ?? '?'} from ${day(from)} to ${day(until)}`);
  }
  const { _provenance: provenance } = await ask('GET', `/${DATABASE}/${visits[0]._id}?provenance=true`);
  const { account: author, received_after_handover: late } = [provenance].flat().at(0) ?? {};
  demand(author === LEAVING && late === true, `${visits[0]._id}: by ${author}, received after the handover`);
  await phone.close();
}

async function erase(phone, wipe) {
  step('Now the old phone may be erased');
  const ordered = await ask('POST', wipe, { json: { reason: 'left the programme' } });
  say(`ordered: ${JSON.stringify(ordered.wipe ?? ordered)}`);
  phone.link.on('wiped', () => { phone.erased = true; });
  await phone.link.sync();
  demand(phone.erased, 'the app erased its database, and reported it');
}

/** Reads a feed until it ends; answers how long that took from `since`. */
async function endOf(answer, since) {
  const reader = answer.body.getReader();
  try {
    while (!(await reader.read()).done);
  } catch {
    // Cut off in the middle is an end, too.
  }
  return Date.now() - since();
}

async function stolen() {
  step(`${ROBBED} has two phones. One of them is stolen, with an open feed`);
  const [lost, kept] = [new Phone(`${ROBBED}, old phone`), new Phone(`${ROBBED}, new phone`)];
  for (const { link } of [lost, kept]) await link.logIn({ name: ROBBED, password: PASSWORD });
  const feed = await lost.link.fetch(`${ORIGIN}/${DATABASE}/_changes?feed=continuous&heartbeat=10000&since=0`);
  demand(feed.status === 200, 'the thief reads along');
  let cutAt = 0;
  const ended = endOf(feed, () => cutAt);
  const device = await lost.link.device();
  cutAt = Date.now();
  await ask('POST', `/_devices/${(await lost.link.check()).device ?? device}/cut`, { json: { reason: 'stolen on the market' } });
  const took = await ended;
  demand(took < 1000, `cut: the feed ended after ${took} ms`);
  const { status } = await lost.link.fetch(`${ORIGIN}/${DATABASE}/settings`);
  demand(status === 401, 'the stolen phone is let in no more, to push neither');
  const { standing } = await kept.link.sync();
  demand(standing.standing === 'active', `${ROBBED} keeps working on the other phone, with the same password`);
  await Promise.all([lost.close(), kept.close()]);
}

async function main() {
  console.log('\nTwo phones that must not keep what they hold, and must not lose it');
  const old = new Phone(`${LEAVING}, old phone`);
  const { worker, visits } = await offline(old);
  const { newcomer, token } = await replace(worker);
  const wipe = await comeBack(old, visits);
  await succeed({ newcomer, token }, visits, worker);
  await erase(old, wipe);
  await old.close();
  await stolen();
  console.log('\nDone: nothing was lost, and nobody read what was no longer theirs.');
}

try {
  await main();
} catch (error) {
  console.error(`\nStep ${steps} failed: ${error.message ?? JSON.stringify(error)}`);
  process.exitCode = 1;
}
