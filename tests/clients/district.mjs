// A district as its officers know it, made through the API: four areas with their workers and phones, one of them long silent,
// one stolen, one whose worker was replaced; work that is held back, and a place that is lent. Holds no expectation of its own.
//
// SETTLE_CLOCK names the file of the server's clock (tests/support/clock.rs). Without it everything happens on one day.

import { rename, writeFile } from 'node:fs/promises';
import process from 'node:process';

import { request, SERVER } from './support.mjs';
import { ask, loginAs } from './scoped.mjs';

export const PASSWORD = 'tidal-copper-41';
export const DATABASE = 'medic';
const DAY = 86_400;

/** The workers: account, name, place, and what the place is called. */
const WORKERS = [
  ['amina', 'Amina Juma', 'area-harbour', 'Harbour'],
  ['baraka', 'Baraka Mushi', 'area-hill', 'Hill side'],
  ['chausiku', 'Chausiku Said', 'area-market', 'Market'],
  ['fatuma', 'Fatuma Ali', 'area-river', 'River bank'],
];

/** Whether the server's clock can be set. */
export const CLOCK_IS_SET = Boolean(process.env.SETTLE_CLOCK);

/** Puts the server's clock so many days from now. */
async function goTo(days) {
  const file = process.env.SETTLE_CLOCK;
  if (!file) return;
  await writeFile(`${file}.next`, `${days < 0 ? '-' : '+'}${Math.abs(days) * DAY}\n`);
  await rename(`${file}.next`, file);
}

const below = (...ids) => ids.reduceRight((parent, _id) => ({ _id, ...(parent && { parent }) }), undefined);
const household = (number, area, name) => ({ _id: `hh-${number}`, type: 'clinic', name, parent: below(area, 'district') });

/** Places and people; `number` counts households. */
function documents() {
  const areas = WORKERS.flatMap(([account, name, area, called]) => [
    { _id: area, type: 'health_center', name: called, parent: below('district'), contact: below(`per-${account}`, area, 'district') },
    { _id: `per-${account}`, type: 'person', name, parent: below(area, 'district') },
  ]);
  const families = [['Mwangi', 'area-harbour'], ['Otieno', 'area-hill'], ['Kamau', 'area-market'], ['Njeri', 'area-river']];
  const households = families.flatMap(([name, area], number) => [
    household(number + 1, area, `${name} household`),
    { _id: `pat-${number + 1}`, type: 'person', name: `Neema ${name}`, parent: below(`hh-${number + 1}`, area, 'district') },
    { _id: `visit-${number + 1}`, type: 'data_record', form: 'visit', fields: { patient_id: `pat-${number + 1}` } },
  ]);
  const settings = { _id: 'settings', settings: { permissions: { can_edit: ['chw'] } } };
  return [settings, { _id: 'district', type: 'district_hospital', name: 'Lake district' }, ...areas, ...households];
}

/** A phone that somebody is logged in on. */
class Phone {
  #cookie;

  static async of(account, name) {
    const phone = new Phone();
    const device = { id: `phone-of-${account}`, name, app: 'Medic 5.1' };
    const login = await request('POST', '/_session', { json: { name: account, password: PASSWORD, device }, auth: null });
    if (login.status !== 200) throw new Error(`${account}: ${login.status} ${JSON.stringify(login.body)}`);
    phone.#cookie = login.headers.getSetCookie()[0].split(';')[0];
    phone.id = login.body.device.id;
    return phone;
  }

  send(method, path, json) {
    return ask(method, path, { json, auth: null, headers: { cookie: this.#cookie } });
  }

  /** Fetches, and says how much it has not sent. */
  async call(pending) {
    await this.send('GET', `/${DATABASE}/_changes`);
    await this.send('POST', '/_device', { pending });
  }
}

/** Makes the district; gives the ids of its phones. */
export async function makeDistrict() {
  await goTo(-12);
  await ask('PUT', `/${DATABASE}?scoped=true`);
  const security = { members: { roles: ['chw', 'steward'] }, admins: { roles: ['_admin'] } };
  await ask('PUT', `/${DATABASE}/_security`, { json: security });
  await ask('POST', `/${DATABASE}/_bulk_docs`, { json: { docs: documents() } });
  const account = (name, fullname, role, place, more) =>
    ask('POST', '/_accounts', { json: { name, fullname, password: PASSWORD, roles: [role], places: [place], ...more } });
  for (const [number, [name, fullname, area]] of WORKERS.entries()) {
    await account(name, fullname, 'chw', area, { contact: `per-${name}`, phone: `+255 700 000 00${number}`, locale: 'sw' });
  }
  await account('grace', 'Grace Officer', 'account_admin', 'district');
  await account('daudi', 'Daudi Kweka', 'chw', 'area-hill');
  const hill = await Phone.of('baraka', 'Tecno of the hill');
  await hill.call(14);
  const old = await Phone.of('fatuma', 'Fatuma’s phone');
  await old.call(0);

  await goTo(-9);
  const contact = { name: 'Esther Nyambura', phone: '+255 700 000 021' };
  const replaced = { contact, account: { name: 'esther', password: PASSWORD }, reason: 'Fatuma moved to another district' };
  await ask('POST', `/${DATABASE}/_places/area-river/replace`, { json: replaced });
  const stolen = await Phone.of('daudi', 'Samsung A03');
  await stolen.call(2);

  await goTo(-2);
  const asGrace = { base: loginAs('grace', PASSWORD, SERVER) };
  await ask('POST', `/_devices/${stolen.id}/cut`, { ...asGrace, json: { reason: 'stolen at the ferry' } });
  const override = { reason: 'nobody will find it again' };
  await ask('POST', `/_devices/${stolen.id}/wipe`, { ...asGrace, json: { override } });

  await goTo(0);
  const harbour = await Phone.of('amina', 'Nokia C12');
  await harbour.call(0);
  const river = await Phone.of('esther', 'Esther’s phone');
  await river.call(1);
  const market = await Phone.of('chausiku', 'Itel A27');
  await market.call(3);
  const visit = { type: 'data_record', form: 'visit', contact: { _id: 'per-chausiku' } };
  const docs = ['pat-91', 'pat-92', 'pat-93'].map((patient, number) => ({
    ...visit, _id: `visit-${900 + number}`, _rev: '1-0123456789abcdef0123456789abcdef', fields: { patient_id: patient },
  }));
  await market.send('POST', `/${DATABASE}/_bulk_docs`, { new_edits: false, docs });
  const until = Math.floor(Date.now() / 1000) + 14 * DAY;
  const grant = { to: 'amina', database: DATABASE, place: 'area-market', rights: 'write', until };
  await ask('POST', '/_grants', { json: { ...grant, reason: 'covers while Chausiku is on leave' } });
  return { hill: hill.id, old: old.id, stolen: stolen.id, market: market.id };
}
