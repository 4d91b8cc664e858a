// Somebody at the console, in a browser: finds controls with Tab alone, reads pages, and looks at each one as people do who
// use a small screen, a screen reader, or the dark. What is wrong with a page is an error here.

import assert from 'node:assert/strict';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import process from 'node:process';

import { Browser, profile } from './browser.mjs';
import { ORIGIN } from './handover.mjs';

export const PHONE = { width: 360, height: 740 };
export const DESK = { width: 1280, height: 860 };
const AXE = new URL('node_modules/axe-core/axe.min.js', import.meta.url);
/** Where pictures of the pages go, if they are wanted. */
const PICTURES = process.env.SETTLE_PICTURES ? new URL('../../docs/console/', import.meta.url) : null;
/** Pictures for docs/console.md: pages by name, with the widths that are shown. A picture is the upper part of its page. */
const SHOWN = {
  start: [360, 1280], phones: [360], phone: [360], handover: [360], 'replace-preview': [360], replaced: [1280], lent: [360],
  held: [360], 'who-cared': [360],
};
/** Bytes of a picture. */
const PICTURE_BYTES = 85_000;
/** More controls than any page has. */
const MANY = 200;

/** What the focus is on: its name as it is read out, and what could be wrong with how it is shown. Runs in the page. */
function focused() {
  const element = document.activeElement;
  if (!element || element === document.body) return { name: '', where: -1, problem: null };
  const { outlineStyle, outlineWidth } = getComputedStyle(element);
  const box = element.getBoundingClientRect();
  const name = element.getAttribute('aria-label') ?? element.labels?.[0]?.textContent ?? element.textContent;
  let problem = null;
  if (outlineStyle === 'none' || parseFloat(outlineWidth) < 2) problem = 'its focus is not shown';
  if (box.bottom < 0 || box.top > innerHeight || box.width === 0) problem = 'it is not on the screen';
  return { name: name.trim().replace(/\s+/g, ' '), where: [...document.querySelectorAll('*')].indexOf(element), problem };
}

/** What Tab must reach, in this order: places among all elements. One of several radio buttons stands for all. Runs in the page. */
function controls() {
  const all = [...document.querySelectorAll('*')];
  const wanted = 'a[href], button, input:not([type=hidden]), select, textarea, summary';
  const one = ({ type, checked, form, name }) => type !== 'radio' || checked || !form?.querySelector(`[name="${name}"]:checked`);
  return [...document.querySelectorAll(wanted)].filter((element) => element.checkVisibility() && one(element)).map((element) => all.indexOf(element));
}

/** One person and a browser. */
export class Officer {
  #axe;
  #scriptless = false;

  static async sitDown(t, shape = PHONE) {
    const officer = new Officer();
    officer.browser = await Browser.open(t, await profile(t), `${ORIGIN}/_console/`);
    officer.#axe = await readFile(AXE, 'utf8');
    await officer.browser.shape(shape);
    return officer;
  }

  go(path) {
    return this.browser.go(`${ORIGIN}/_console${path}`);
  }

  /** The words of the page. */
  text() {
    return this.browser.run(() => document.querySelector('main').innerText);
  }

  title() {
    return this.browser.run(() => document.querySelector('h1').innerText);
  }

  /** What the page says must match. */
  async sees(...patterns) {
    const text = await this.text();
    for (const pattern of patterns) assert.match(text, pattern);
  }

  /** Presses Tab until the focus is on something of this name. */
  async find(name) {
    const seen = [];
    for (let count = 0; count < MANY; count += 1) {
      await this.browser.press('Tab');
      const now = await this.browser.run(focused);
      assert.equal(now.problem, null, `${await this.title()}: ${now.name}: ${now.problem}`);
      if (name.test(now.name)) return;
      seen.push(now.name);
    }
    assert.fail(`${await this.title()}: Tab does not reach ${name}, only ${[...new Set(seen)].join(' | ')}`);
  }

  /** Fills a field. */
  async fill(name, text) {
    await this.find(name);
    await this.browser.type(text);
  }

  /** Ticks a box. */
  async tick(name) {
    await this.find(name);
    await this.browser.press('Space');
  }

  /** Follows a link, or presses a button, with Enter. */
  async follow(name) {
    await this.find(name);
    await this.enter();
  }

  /** Presses Enter, which leads to another page. */
  enter() {
    return this.browser.leave(() => this.browser.press('Enter'));
  }

  async logIn(name, password) {
    await this.fill(/^Name/, name);
    await this.fill(/^Password/, password);
    await this.enter();
  }

  /** Switches scripts off, as they are in some browsers. Only `inspect` needs them. */
  async withoutScripts() {
    this.#scriptless = true;
    await this.#scripts(false);
  }

  #scripts(allowed) {
    return this.browser.call('Emulation.setScriptExecutionDisabled', { value: !allowed });
  }

  /** Looks at the page: wide and dark, small and light; takes a picture of this name. */
  async inspect(name) {
    await this.#scripts(true);
    const scripts = await this.browser.run(() => document.querySelectorAll('script, [onclick], [onload], [style]').length);
    assert.equal(scripts, 0, `${name}: no script and no style of its own`);
    for (const shape of [{ ...DESK, dark: true }, DESK, PHONE]) {
      await this.browser.shape(shape);
      const width = await this.browser.run(() => document.scrollingElement.scrollWidth);
      assert.ok(width <= shape.width, `${name} scrolls sideways: ${width} of ${shape.width} pixels`);
      if (shape !== DESK) await this.#isAccessible(`${name}, ${shape.width} px, ${shape.dark ? 'dark' : 'light'}`);
      if (!shape.dark) await this.#picture(name, shape);
    }
    await this.#scripts(!this.#scriptless);
  }

  async #isAccessible(name) {
    await this.browser.call('Runtime.evaluate', { expression: `window.axe ?? (() => { ${this.#axe} })()` });
    const found = await this.browser.run(async () => {
      const { violations } = await axe.run(document, { resultTypes: ['violations'] });
      return violations.map(({ id, impact, help, nodes }) => ({ id, impact, help, nodes: nodes.map(({ html, failureSummary }) => [html, failureSummary]) }));
    });
    assert.deepEqual(found, [], name);
  }

  async #picture(name, { width }) {
    if (!PICTURES || !SHOWN[name]?.includes(width)) return;
    await mkdir(PICTURES, { recursive: true });
    const upper = width === PHONE.width ? { width, height: 900 } : { width, height: 900, scale: 0.75 };
    const picture = await this.browser.picture(upper);
    assert.ok(picture.length < PICTURE_BYTES, `${name}: a picture of ${picture.length} bytes`);
    await writeFile(new URL(`${name}-${width}.png`, PICTURES), picture);
  }

  /** Tab reaches every control of the page, in the order of the page, and each shows that it has the focus. */
  async tabsThrough(name) {
    const expected = await this.browser.run(controls);
    const reached = [];
    for (let count = 0; count < MANY && reached.at(-1) !== expected.at(-1); count += 1) {
      await this.browser.press('Tab');
      const { where, problem, name: at } = await this.browser.run(focused);
      assert.equal(problem, null, `${name}: ${at}: ${problem}`);
      // A date is one control with several stops.
      if (reached.at(-1) !== where) reached.push(where);
    }
    assert.deepEqual(reached, expected, `${name}: Tab goes through the page as it is read`);
  }
}
