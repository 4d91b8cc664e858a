// The console as a district officer uses it: in headless Chromium, on a small screen, with the keyboard alone and without
// JavaScript; and every page looked at for width, contrast, names for screen readers, and the way of the Tab key.
//
// Needs a server of its own, as tests/clients.rs starts one. SETTLE_PICTURES=1 writes docs/console/*.png.

import assert from 'node:assert/strict';
import { before, test } from 'node:test';

import { CLOCK_IS_SET, makeDistrict, PASSWORD } from './district.mjs';
import { ORIGIN } from './handover.mjs';
import { DESK, Officer, PHONE } from './officer.mjs';
import { ask } from './scoped.mjs';
import { SERVER } from './support.mjs';

const OPERATOR = [new URL(SERVER).username, new URL(SERVER).password].map(decodeURIComponent);
let phones;

before(async () => {
  phones = await makeDistrict();
});

test('every page on small and wide screens, in light and dark, for screen readers and for the Tab key', async (t) => {
  const officer = await Officer.sitDown(t);
  const look = async (name, path) => {
    await officer.go(path);
    await officer.tabsThrough(name);
    await officer.inspect(name);
  };
  await look('login', '/login');
  await officer.go('/');
  await officer.logIn(...OPERATOR);
  await officer.inspect('logged-in');
  const pages = {
    start: '/',
    phones: '/devices',
    'phones-of-a-place': '/devices?place=area-hill&pending=true',
    phone: `/devices/${phones.hill}`,
    'stolen-phone': `/devices/${phones.stolen}`,
    exposure: `/devices/${phones.stolen}/exposure?database=medic`,
    handover: '/handover',
    'handover-of-nobody': '/handover?text=nobody',
    replace: '/handover/replace?place=area-hill',
    undo: '/handover/undo?place=area-river',
    'nothing-to-undo': '/handover/undo?place=area-hill',
    accounts: '/accounts',
    account: '/accounts/amina',
    'account-new': '/accounts/new',
    'account-change': '/accounts/amina/change',
    'account-retire': '/accounts/baraka/retire',
    cards: '/cards',
    lent: '/grants',
    lend: '/grants/new?to=amina',
    held: '/escrow',
    'held-document': '/escrow/1',
    audit: '/audit',
    'audit-chosen': '/audit?action=device.cut&from=2020-01-01',
    'who-cared': '/custody?id=hh-4',
    'nobody-cared': '/custody?id=nobody',
    nothing: '/nowhere',
  };
  for (const [name, path] of Object.entries(pages)) await look(name, path);
});

test('a day of an officer: a small screen, the keyboard alone, no JavaScript', async (t) => {
  const officer = await Officer.sitDown(t);
  await officer.withoutScripts();
  await officer.go('/devices');
  assert.equal(await officer.title(), 'Log in');
  await officer.logIn(OPERATOR[0], 'not the password');
  await officer.sees(/Not done/);
  await officer.logIn(...OPERATOR);
  assert.equal(await officer.title(), 'Phones', 'back to the page that was asked for');

  await t.test('what needs attention, and the phone behind it', async () => {
    await officer.follow(/^Start$/);
    await officer.sees(/Waiting for a second person \(1\)/, /3 documents wait for a decision/, /Hill side/);
    if (CLOCK_IS_SET) await officer.sees(/2 silent for more than a week/);
    await officer.follow(/^Hill side$/);
    await officer.sees(/Tecno of the hill/, /14 documents/);
    await officer.follow(/^Tecno of the hill$/);
    await officer.sees(/What to do: It holds work that was not sent/);
  });

  await t.test('the skip link leads past the menu', async () => {
    await officer.browser.press('Tab');
    await officer.browser.press('Enter');
    assert.equal(await officer.browser.run(() => document.activeElement.id), 'content');
    await officer.browser.press('Tab');
    assert.ok(await officer.browser.run(() => document.activeElement.closest('main') !== null));
  });

  await t.test('the second person confirms that a stolen phone is erased', async () => {
    await officer.follow(/^Start$/);
    await officer.follow(/^Samsung A03$/);
    await officer.sees(/A second person must confirm/);
    await officer.fill(/^Why/, 'agreed with Grace');
    await officer.tick(/may be lost/);
    await officer.follow(/^Confirm as the second person$/);
    await officer.sees(/Done\. The phone is told to erase itself/);
  });

  await t.test('a lost phone is cut off', async () => {
    await officer.follow(/^Hand over$/);
    await officer.fill(/^Name, phone number/, 'chausiku');
    await officer.enter();
    await officer.follow(/^Phone lost: phones of chausiku$/);
    await officer.follow(/^Itel A27$/);
    await officer.find(/^Retire the phone$/);
    await officer.fill(/^Why/, 'left on the bus');
    await officer.tick(/lost or stolen/);
    await officer.follow(/^Cut the phone off$/);
    await officer.sees(/Done\. The phone is cut off/, /Cut off, because the phone was reported lost/);
  });

  await t.test('a worker is replaced', async () => {
    await officer.follow(/^Hand over$/);
    await officer.follow(/^Replace baraka at area-hill$/);
    await officer.fill(/^Name of the newcomer/, 'Halima Omari');
    await officer.fill(/^Phone number/, '+255 700 000 044');
    await officer.fill(/^Name to log in with/, 'halima');
    await officer.fill(/^Why/, 'Baraka retires');
    await officer.enter();
    await officer.sees(/nothing has been changed yet/, /The account baraka is retired/, /Mind: it says that it holds work/);
    if (CLOCK_IS_SET) await officer.sees(/it has not called for 12 days/);
    await officer.inspect('replace-preview');
    await officer.follow(/^Replace now$/);
    await officer.sees(/The newcomer’s account is halima|The newcomer's account is halima/);
    const link = await officer.browser.run(() => document.querySelector('code').innerText);
    assert.ok(link.startsWith(`${ORIGIN}/_links/`), link);
    await officer.inspect('replaced');
    assert.equal((await ask('GET', '/_accounts/baraka')).state, 'retired');
  });

  await t.test('an account gets another link', async () => {
    await officer.follow(/^Accounts$/);
    await officer.follow(/^amina$/);
    await officer.fill(/^Why/, 'a second phone');
    await officer.follow(/^Make a link$/);
    await officer.sees(/The link\./);
    await officer.inspect('link');
  });

  await t.test('held back work is decided', async () => {
    await officer.follow(/^Held back$/);
    await officer.sees(/3 documents/, /about somebody who is not here yet/);
    await officer.follow(/^visit-900$/);
    await officer.find(/^Let it in there$/);
    await officer.fill(/^Why/, 'a test of the phone');
    await officer.follow(/^Throw it away$/);
    await officer.sees(/The decision was carried out/, /2 documents/);
  });

  await t.test('who cared, and what was done', async () => {
    await officer.follow(/^Who cared$/);
    await officer.fill(/^Place, household/, 'hh-2');
    await officer.enter();
    await officer.sees(/Halima Omari cared for it/, /Baraka Mushi/);
    await officer.follow(/^Audit$/);
    await officer.sees(/left on the bus/, /Baraka retires/, /agreed with Grace/);
  });

  await officer.follow(/^Log out$/);
  await officer.go('/accounts');
  assert.equal(await officer.title(), 'Log in');
});

test('pages run no script, even one that got into them', async (t) => {
  const officer = await Officer.sitDown(t, DESK);
  const refused = await officer.browser.run(async () => {
    const violation = new Promise((resolve) => document.addEventListener('securitypolicyviolation', resolve, { once: true }));
    const script = document.createElement('script');
    script.textContent = 'window.ran = true';
    document.body.append(script);
    const { effectiveDirective, blockedURI } = await violation;
    return [effectiveDirective, blockedURI, window.ran ?? false];
  });
  assert.deepEqual(refused, ['script-src-elem', 'inline', false]);
  const asked = await officer.browser.run(() => fetch('/').then(() => 'let in', () => 'refused'));
  assert.equal(asked, 'refused', 'nothing is fetched, either');
});

test('an administrator of accounts works in the own district', async (t) => {
  const officer = await Officer.sitDown(t, PHONE);
  await officer.logIn('grace', PASSWORD);
  const menu = await officer.browser.run(() => [...document.querySelectorAll('nav a')].map(({ innerText }) => innerText));
  assert.deepEqual(menu, ['Start', 'Phones', 'Hand over', 'Accounts', 'Lent places', 'Who cared', 'Audit']);
  await officer.inspect('start-of-an-administrator');
});
