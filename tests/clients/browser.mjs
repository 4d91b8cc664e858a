// A headless Chromium for client tests, spoken to over its DevTools protocol on a pair of pipes, and a tiny web server on
// loopback for the page it opens. Knows nothing of Settle. The folder with the browser's data can outlive the browser, so a
// test can end it in the middle of something and go on in a new one.

import { spawn } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { accessSync, constants } from 'node:fs';
import http from 'node:http';
import { tmpdir } from 'node:os';
import path from 'node:path';

const FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-sync',
  '--disable-background-networking', '--disable-component-update', '--remote-debugging-pipe'];

/** How long a page may take. */
const PATIENCE_MS = 20_000;

/** The browser to use: CHROMIUM, or what is in the PATH under one of its usual names. */
function executable() {
  if (process.env.CHROMIUM) return process.env.CHROMIUM;
  const folders = (process.env.PATH ?? '').split(path.delimiter);
  for (const name of ['chromium', 'chromium-browser', 'google-chrome']) {
    for (const folder of folders) {
      const file = path.join(folder, name);
      try {
        accessSync(file, constants.X_OK);
        return file;
      } catch {
        // Not here.
      }
    }
  }
  throw new Error('no Chromium: run .ci/deps, or install it and set CHROMIUM to its path');
}

/** A folder for a browser's data, removed after the test. */
export async function profile(t) {
  const folder = await mkdtemp(path.join(tmpdir(), 'settle-chromium-'));
  t.after(() => rm(folder, { recursive: true, force: true, maxRetries: 10, retryDelay: 200 }));
  return folder;
}

/** A browser with one page. */
export class Browser {
  #process;
  #ended;
  #calls = new Map();
  #number = 0;
  #session;

  /** Starts a browser on the data in `folder` and opens `url`. */
  static async open(t, folder, url) {
    const browser = new Browser();
    browser.#start(folder);
    t.after(() => browser.end());
    const { targetId } = await browser.call('Target.createTarget', { url });
    const { sessionId } = await browser.call('Target.attachToTarget', { targetId, flatten: true });
    browser.#session = sessionId;
    await browser.#until(() => browser.run(() => location.href !== 'about:blank' && document.readyState === 'complete'));
    return browser;
  }

  /** Goes to a page and waits until it is there. */
  go(url) {
    return this.leave(() => this.call('Page.navigate', { url }));
  }

  /** Does what leads to another page, and waits until that is there. */
  async leave(act) {
    const loaded = async () => (await this.call('Page.getFrameTree')).frameTree.frame.loaderId;
    const before = await loaded();
    await act();
    await this.#until(async () => (await loaded()) !== before && this.run(() => document.readyState === 'complete'));
  }

  /** Presses a key: Tab, Enter or Space; with Shift if `shift`. */
  async press(key, { shift = false } = {}) {
    const code = { Tab: 9, Enter: 13, Space: 32 }[key];
    const text = { Enter: '\r', Space: ' ' }[key];
    const pressed = { key: key === 'Space' ? ' ' : key, code: key, windowsVirtualKeyCode: code, modifiers: shift ? 8 : 0 };
    await this.call('Input.dispatchKeyEvent', { type: text ? 'keyDown' : 'rawKeyDown', ...pressed, text });
    await this.call('Input.dispatchKeyEvent', { type: 'keyUp', ...pressed });
  }

  /** Types text where the focus is. */
  type(text) {
    return this.call('Input.insertText', { text });
  }

  /** Shows the page so many pixels wide and high, light or dark. */
  async shape({ width, height, dark = false }) {
    await this.call('Emulation.setDeviceMetricsOverride', { width, height, deviceScaleFactor: 1, mobile: width < 600 });
    const scheme = { name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' };
    await this.call('Emulation.setEmulatedMedia', { features: [scheme] });
  }

  /** The upper `height` pixels of the page, or all of it, as a PNG of that scale. */
  async picture({ width, height, scale = 1 }) {
    const whole = await this.run(() => {
      document.activeElement.blur();
      return document.documentElement.scrollHeight;
    });
    const clip = { x: 0, y: 0, width, height: Math.min(whole, height), scale };
    const shot = { format: 'png', captureBeyondViewport: true, clip };
    const { data } = await this.call('Page.captureScreenshot', shot);
    return Buffer.from(data, 'base64');
  }

  /** Runs `work(...values)` in the page; answers what it answers. Values are JSON; `work` sees nothing of this file. */
  async run(work, ...values) {
    const expression = `(${work})(...${JSON.stringify(values)})`;
    const options = { expression, awaitPromise: true, returnByValue: true };
    const { result, exceptionDetails: problem } = await this.call('Runtime.evaluate', options);
    if (problem) throw new Error(`in the page: ${problem.exception?.description ?? problem.text}`);
    return result.value;
  }

  /** Ends the browser at once, as when somebody swipes it away. */
  async end() {
    this.#process.kill('SIGKILL');
    await this.#ended;
  }

  /** Waits for something of a page that comes. While one page goes and another comes, nothing can be asked. */
  async #until(isThere) {
    const deadline = Date.now() + PATIENCE_MS;
    while (!(await isThere().catch(() => false))) {
      if (Date.now() > deadline) throw new Error(`no other page came after ${await this.run(() => location.href)}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #start(folder) {
    const stdio = ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'];
    this.#process = spawn(executable(), [...FLAGS, `--user-data-dir=${folder}`, 'about:blank'], { stdio });
    let complaints = '';
    this.#process.stderr.on('data', (chunk) => {
      complaints = (complaints + chunk).slice(-4000);
    });
    this.#process.stdio[3].on('error', () => {});
    this.#ended = new Promise((resolve) => this.#process.on('close', resolve));
    this.#ended.then(() => {
      for (const { reject } of this.#calls.values()) reject(new Error(`Chromium has ended:\n${complaints}`));
    });
    let rest = '';
    this.#process.stdio[4].setEncoding('utf8').on('data', (chunk) => {
      const messages = (rest + chunk).split('\0');
      rest = messages.pop();
      for (const message of messages) this.#hear(JSON.parse(message));
    });
  }

  #hear({ id, result, error }) {
    const call = this.#calls.get(id);
    this.#calls.delete(id);
    if (error) call?.reject(new Error(error.message));
    else call?.resolve(result);
  }

  /** One call of the DevTools protocol, for the page if there is one. */
  call(method, params) {
    this.#number += 1;
    const id = this.#number;
    const message = { id, method, params, ...(this.#session && { sessionId: this.#session }) };
    this.#process.stdio[3].write(`${JSON.stringify(message)}\0`);
    return new Promise((resolve, reject) => this.#calls.set(id, { resolve, reject }));
  }
}

/** Serves a page on loopback; answers its origin. `files` maps paths to text or to the URL of a file, `folders` prefixes to folders. */
export async function serve(t, files, folders = {}) {
  const find = async (asked) => {
    if (asked in files) return typeof files[asked] === 'string' ? files[asked] : readFile(files[asked]);
    const [prefix, folder] = Object.entries(folders).find(([start]) => asked.startsWith(start)) ?? [];
    if (!folder || asked.includes('..')) return null;
    return readFile(new URL(asked.slice(prefix.length), folder)).catch(() => null);
  };
  const server = http.createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://page');
    const body = await find(pathname);
    const type = pathname.endsWith('.js') ? 'text/javascript' : 'text/html; charset=utf-8';
    response.writeHead(body === null ? 404 : 200, { 'content-type': type, 'cache-control': 'no-store' });
    response.end(body ?? '');
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${server.address().port}`;
}
