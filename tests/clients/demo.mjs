// `settle demo` runs this after it has loaded a small district: a real PouchDB phone pulls the database, works offline,
// meets a conflict with the supervisor's desk, resolves it as an app would, and both sides end up the same.
// Prints numbered steps for a reader; the exit code is 1 as soon as anything is not as told. It keeps nothing on disk.
//
// SETTLE_URL: the server with credentials. SETTLE_DATABASE or the first argument: the database (medic).

import { randomInt } from 'node:crypto';
import process from 'node:process';

import { PouchDB, contents, freshName, remote, request, SERVER } from './support.mjs';

const DATABASE = process.argv[2] ?? process.env.SETTLE_DATABASE ?? 'medic';

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

/** The database on the server; it is not made if it is not there. */
const far = () => remote(DATABASE, { skip_setup: true });

const short = (rev) => `${rev.split('-')[0]}-${rev.split('-')[1].slice(0, 6)}…`;

/** The supervisor's desk: a plain HTTP client that knows nothing of PouchDB. */
async function desk(method, id, json) {
  const answer = await request(method, `/${DATABASE}/${encodeURIComponent(id)}${json ? '' : '?conflicts=true'}`, { json });
  if (answer.status >= 300) throw new Error(`${method} ${id}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Pulls everything and tells what came. */
async function firstPull(device) {
  step('The phone pulls the database');
  await device.replicate.from(far());
  const documents = (await device.allDocs({ include_docs: true })).rows.map(({ doc }) => doc);
  say(`${documents.length} documents arrived: ${tally(documents.map(({ type }) => type ?? 'other'))}`);
  const reports = documents.filter(({ type }) => type === 'data_record');
  say(`reports by form: ${tally(reports.map(({ form }) => form ?? 'no form'))}`);
  const { doc_count: there } = await far().info();
  demand(documents.length === there, `the phone holds all ${there} documents of the server`);
  return reports;
}

/** The report that both sides are going to edit: a household visit if there is one. */
function choose(reports) {
  const visit = reports.find(({ form }) => /house|home|visit/i.test(form ?? '')) ?? reports[0];
  if (!visit) throw new Error(`${DATABASE} holds no report (type data_record) to edit: load the district first`);
  return visit;
}

/** What the two people are going to write; new at every run. */
const work = { children_under_five: randomInt(1, 1000), supervisor_note: `called the family, call ${randomInt(1, 1000)}` };

/** Edits the visit on both sides and returns it as it was before. */
async function editOnBothSides(device, { _id }) {
  step('The phone goes offline, and the health worker corrects a visit');
  const before = await device.get(_id);
  const { children_under_five, supervisor_note } = work;
  const { rev: phoneRev } = await device.put({ ...before, fields: { ...before.fields, children_under_five } });
  say(`on the phone, ${_id} is now ${short(phoneRev)}: children_under_five = ${children_under_five}`);

  step('Meanwhile the supervisor changes the same visit on the server');
  const onServer = await desk('GET', _id);
  demand(onServer._rev === before._rev, `the server still has ${short(before._rev)} and knows nothing of the phone's edit`);
  const { rev: deskRev } = await desk('PUT', _id, { ...onServer, fields: { ...onServer.fields, supervisor_note } });
  say(`on the server, ${_id} is now ${short(deskRev)}: supervisor_note = "${supervisor_note}"`);
  return before;
}

async function meet(device, { _id }) {
  step('The phone is online again and syncs');
  const { push, pull } = await device.sync(far());
  say(`${push.docs_written} document pushed, ${pull.docs_written} pulled, ${push.doc_write_failures} refused`);
  demand(push.docs_written === 1 && push.doc_write_failures === 0, "the server took the phone's edit: nothing is lost");

  step('Both sides hold both edits, and agree which one to show');
  const onPhone = await device.get(_id, { conflicts: true });
  const onServer = await desk('GET', _id);
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

async function resolve(device, before) {
  step('The app resolves the conflict on the phone: it joins both edits and deletes the loser');
  const { _conflicts: [loserRev], ...winner } = await device.get(before._id, { conflicts: true });
  const loser = await device.get(before._id, { rev: loserRev });
  const fields = join(before.fields ?? {}, loser.fields, winner.fields);
  const { rev } = await device.put({ ...winner, fields });
  await device.remove(before._id, loserRev);
  say(`${short(rev)} holds both edits, ${short(loserRev)} is deleted`);
  await device.sync(far());
}

async function compare(device, { _id }) {
  step('After the next sync both sides are the same');
  const onPhone = await device.get(_id, { conflicts: true });
  const onServer = await desk('GET', _id);
  demand(onPhone._rev === onServer._rev, `the winner is ${short(onServer._rev)} on the phone and on the server`);
  demand(!onPhone._conflicts && !onServer._conflicts, 'no conflict is left on either side');
  const kept = Object.entries(work).every(([field, value]) => onServer.fields[field] === value);
  demand(kept, 'the work of both people is in the document');
  const [here, there] = [await contents(device), await contents(far())];
  const same = Object.keys(there).every((id) => here[id]?.winner === there[id].winner);
  demand(same, `all ${Object.keys(there).length} documents have the same winner on both sides`);
}

async function main() {
  const { host } = new URL(SERVER);
  console.log(`A phone (PouchDB ${PouchDB.version}) and the database ${DATABASE} at ${host}`);
  const device = new PouchDB(freshName('phone'), { adapter: 'memory' });
  const visit = choose(await firstPull(device));
  const before = await editOnBothSides(device, visit);
  await meet(device, before);
  await resolve(device, before);
  await compare(device, before);
  await device.destroy();
  console.log('\nDone: every step went as told.');
}

try {
  await main();
} catch (error) {
  console.error(`\nStep ${steps} failed: ${error.message ?? JSON.stringify(error)}`);
  process.exitCode = 1;
}
