// The helper as apps see it: one `Link` between a local PouchDB and a database on a Settle server. It keeps the order of
// things (tell, push, pull, prove, erase); each of them lives in a file of its own. No request is ever repeated here: whoever
// calls `sync` decides when to try again, or lets `start` do it.

import { leaves } from './leaves.js';
import { canPurge, copyKept, purgeLost } from './lost.js';
import { Manifest } from './manifest.js';
import { Notes, randomName } from './notes.js';
import { pull, sourceOf } from './pull.js';
import { Push } from './push.js';
import { checkReceipt } from './receipt.js';
import { Schedule } from './schedule.js';
import { Times } from './times.js';
import { SettleError, Wire } from './wire.js';

export { SettleError, checkReceipt };

/** Links a local PouchDB with a database on a Settle server. Sends nothing yet. */
export default function settle(database, options) {
  return new Link(database, options);
}

/** For `PouchDB.plugin(plugin)`: then `db.settle(options)` is `settle(db, options)`. */
export const plugin = {
  settle(options) {
    return settle(this, options);
  },
};

class Link {
  #database;
  #options;
  #wire;
  #notes;
  #times;
  #source;
  #push;
  #manifest;
  #schedule;
  #ready;
  #queue = Promise.resolve();
  #listeners = new Map();
  #standing = null;
  #proven = null;
  #erased = null;
  #reported = false;
  #closed = null;

  constructor(database, options) {
    this.#database = database;
    this.#options = { device: {}, also: [], pull: {}, ...options };
    this.#wire = new Wire(options.url, options.fetch);
    this.#notes = new Notes(database);
    this.#times = new Times(database, this.#notes);
    this.#push = new Push(database, this.#wire, this.#notes);
    this.#manifest = new Manifest(database, this.#wire, this.#notes, this.#push);
    this.#schedule = new Schedule(() => this.sync().then(() => true, (error) => this.#emit('error', error)));
    this.#source = sourceOf(database.constructor, this.#wire);
    this.#ready = this.#prepare();
    this.#ready.catch(() => {});
  }

  /** The id by which this device names itself: made once, kept in the database. */
  async device() {
    return (await this.#ready).device;
  }

  /** Logs in with `{name, password}` or `{link}`, naming the device. Answers what the server said. */
  async logIn(credentials) {
    const answer = await this.#alone(async ({ device: id }) => {
      const { name, app } = this.#options.device;
      const said = await this.#wire.server('POST', '/_session', { ...credentials, device: { id, name, app } });
      await this.#check();
      return said;
    });
    this.#schedule.now();
    return answer;
  }

  /** Ends the session. What is unsent stays here. */
  logOut() {
    return this.#alone(() => this.#wire.server('DELETE', '/_session'));
  }

  /** `fetch` with this session, for whatever else an app wants to ask, also as PouchDB's option `fetch`. */
  get fetch() {
    return this.#wire.fetch;
  }

  /** What the server last said about this device, as `GET /_device`; null before it was asked. */
  get standing() {
    return this.#standing;
  }

  /** Asks for the standing now. */
  check() {
    return this.#alone(() => this.#check());
  }

  /** How many documents the server lacks, and since when: `{documents, oldest, exact}`. Works offline (see `exact`). */
  unsent() {
    return this.#alone(() => this.#unsent());
  }

  /**
   * Tells the server what is unsent, then does what the standing asks for: push and pull; push only; push and prove; erase.
   * A withdrawn right is no error. Rejects when the server cannot be reached or wants a login (`status` 401).
   */
  sync() {
    return this.#alone(async () => {
      const done = { pushed: 0, pulled: 0, refused: [], receipt: null };
      const { next, standing, push_until: until, wipe } = this.#erased ? this.#standing : await this.#tell();
      if (next === 'wipe') await this.#wipe(wipe);
      else if (standing === 'active' || until !== null) await this.#exchange(done);
      return { ...done, standing: this.#standing };
    });
  }

  /** Pushes, sends the manifest, checks the receipt and keeps it: `{receipt, signature}`. */
  finish() {
    return this.#alone(() => this.#finish());
  }

  /** The receipt that was kept last, `{receipt, signature}`, or null. */
  async receipt() {
    await this.#ready;
    const kept = await this.#notes.read('settle-receipt');
    return kept.receipt ? kept : null;
  }

  /**
   * Drops what is out of reach by now; answers how many documents. Nothing may be unsent. Where PouchDB cannot purge, give an
   * empty database as `into`: it gets everything that stays, to be used from then on instead of the present one.
   */
  dropLost({ into } = {}) {
    return this.#alone(async () => {
      if (!into && !canPurge(this.#database)) throw new TypeError('no purge in this adapter: give an empty database as `into`');
      await this.#demandAllSent();
      if (!into) return purgeLost(this.#database, this.#wire);
      const dropped = await copyKept(this.#database, this.#wire, into);
      await this.#demandAllSent();
      await this.#notes.copyTo(into);
      return dropped;
    });
  }

  /** Syncs now, every `every` seconds, and when the browser is online again; more slowly after failures (event `error`). */
  start({ every = 300 } = {}) {
    this.#schedule.start(every);
  }

  /** Ends what `start` began, after the sync that is running. */
  stop() {
    this.#schedule.stop();
  }

  /** Ends all work of this link; the database stays open. */
  close() {
    this.stop();
    this.#closed ??= this.#queue.then(() => Promise.all([this.#times.close(), this.#source.close()])).then(() => {});
    return this.#closed;
  }

  /** Calls `listener` at each `event`: `standing`, `progress`, `wiped`, `error`. Answers how to stop that. */
  on(event, listener) {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => listeners.delete(listener);
  }

  #emit(event, value) {
    for (const listener of this.#listeners.get(event) ?? []) listener(value);
  }

  /** One thing at a time, each after the one before, whether that went well or not. */
  #alone(work) {
    const turn = this.#queue.then(async () => {
      // After its report the device must not call again: that would raise an alarm.
      if (this.#reported) throw new SettleError('this device was erased', { error: 'erased' });
      return work(await this.#ready);
    });
    this.#queue = turn.catch(() => {});
    return turn;
  }

  async #prepare() {
    const note = await this.#notes.change('settle', (stored) => {
      stored.device = this.#options.device.id ?? stored.device ?? randomName();
    });
    this.#wire.cookie = note.cookie ?? null;
    this.#wire.keepCookie = (cookie) => this.#erased ?? this.#notes.change('settle', (stored) => {
      stored.cookie = cookie;
    });
    return note;
  }

  async #check() {
    return this.#heard(await this.#wire.server('GET', '/_device'));
  }

  /** Tells the server what is unsent; it answers with the standing. */
  async #tell() {
    const { documents, oldest } = await this.#unsent();
    const { name, app } = this.#options.device;
    const since = oldest ? { oldest_pending: Math.floor(oldest / 1000) } : {};
    return this.#heard(await this.#wire.server('POST', '/_device', { pending: documents, ...since, name, app }));
  }

  async #heard(standing) {
    const changed = JSON.stringify(standing) !== JSON.stringify(this.#standing);
    this.#standing = standing;
    if (standing.standing === 'active') this.#proven = null;
    // A receipt whose answer never came here, because the app or the network ended just then.
    const open = await this.#manifest.open();
    const missed = open && standing.receipts?.find(({ manifest }) => manifest === open);
    if (missed) await this.#keep(missed, await this.#key());
    if (changed) this.#emit('standing', standing);
    return standing;
  }

  async #unsent() {
    const { documents, exact } = await this.#push.unsent();
    const oldest = documents > 0 ? new Date(1000 * (await this.#times.of((await this.#push.point()) + 1))) : null;
    return { documents, oldest, exact };
  }

  async #demandAllSent() {
    const { documents, exact } = await this.#unsent();
    if (documents > 0 || !exact) throw new SettleError('sync first: only when all is sent is it known what may be dropped');
  }

  async #exchange(done) {
    const { standing } = this.#standing;
    try {
      if (this.#standing.next === 'push' && !(await this.#isProven())) {
        Object.assign(done, await this.#finish());
        return;
      }
      await this.#pushAll(done);
      if (standing === 'active') {
        done.pulled = await pull(this.#database, this.#source, this.#options.pull);
        // What came is now known to be on both sides, and what was written meanwhile goes too.
        await this.#pushAll(done);
      }
      if (done.pushed > 0) await this.#tell();
    } catch (error) {
      if (![401, 403].includes(error.status) || (await this.#check()).standing === standing) throw error;
      // The right was withdrawn a moment ago. The standing says so; what could be pushed has been pushed.
    }
  }

  async #pushAll(done) {
    const { sent, refused } = await this.#push.everything();
    done.pushed += sent;
    done.refused = refused;
    await this.#times.forget(await this.#push.point());
    if (sent > 0) this.#emit('progress', { pushed: done.pushed });
  }

  async #finish() {
    const key = await this.#key();
    const done = { pushed: 0, refused: [] };
    await this.#pushAll(done);
    const { receipt, upto } = await this.#manifest.finish((proven) => this.#emit('progress', { proven }));
    const kept = await this.#keep(receipt, key);
    this.#proven = upto;
    await this.#tell();
    return { ...done, ...kept };
  }

  /** Whether the server has a receipt for everything already, and waits for another database of this device. */
  async #isProven() {
    if (this.#proven === null) return false;
    for await (const page of leaves(this.#database, this.#proven)) return page.rows.length === 0;
    return true;
  }

  /** The key that signs receipts: the app's, or the server's own word for it; null when it does not say. */
  async #key() {
    if (this.#options.key) return this.#options.key;
    return this.#wire.server('GET', '/_handover/key').then(({ key }) => key, () => null);
  }

  async #keep(receipt, key) {
    const signature = key ? await checkReceipt(receipt, key) : 'unchecked';
    if (signature === 'invalid') throw new SettleError('the signature of the receipt is wrong', { error: 'bad_receipt' });
    const kept = { receipt, signature };
    await this.#notes.change('settle-receipt', (note) => Object.assign(note, kept));
    await this.#manifest.forget();
    return kept;
  }

  /** Erases everything, then reports. When the report fails, the next `sync` sends it again. */
  async #wipe({ order }) {
    if (!this.#erased) {
      this.stop();
      const others = (await this.#options.erase?.()) ?? [];
      await this.#times.close();
      const databases = [this.#database, ...this.#options.also];
      this.#erased = [...databases.map(({ name }) => name), ...others];
      await Promise.all(databases.map((database) => database.destroy()));
    }
    await this.#wire.server('POST', '/_device/wipe_reported', { order, erased: this.#erased });
    this.#reported = true;
    this.#emit('wiped', { order, erased: this.#erased });
  }
}
