// The push: what the server lacks, sending it, and how far everything is known to be there. The point that is reached is
// kept on both sides; the lower of the two counts, so a restored or emptied server gets again what it lost.

import { documents, leaves, revisionsOf } from './leaves.js';
import { SettleError } from './wire.js';

export class Push {
  #database;
  #wire;
  #notes;
  #point = null;

  constructor(database, wire, notes) {
    this.#database = database;
    this.#wire = wire;
    this.#notes = notes;
  }

  /** The local sequence up to which the server has everything, as far as this device knows. No request. */
  async point() {
    return (await this.#notes.read('settle')).sent ?? 0;
  }

  /**
   * Looks at everything after the point: answers how many documents have a revision that the server lacks. `exact` is
   * false when the server gave no answer; then all documents that changed since count.
   */
  async unsent() {
    const found = { documents: 0, exact: true };
    let reached = await this.point();
    const before = reached;
    for await (const { rows, last } of leaves(this.#database, reached)) {
      let lacking = rows;
      try {
        const missing = found.exact ? await this.#missing(rows) : revisionsOf(rows);
        lacking = rows.filter(({ id }) => missing[id]);
      } catch (error) {
        if (!(error instanceof SettleError)) throw error;
        found.exact = false;
      }
      found.documents += lacking.length;
      if (found.exact && found.documents === 0) reached = last;
    }
    if (reached > before) await this.#keep(reached);
    return found;
  }

  /** Sends everything that the server lacks. Answers `{sent, refused: [{id, rev, reason}]}`, counted in revisions. */
  async everything() {
    const total = { sent: 0, refused: [] };
    const theirs = await this.#theirPoint();
    let reached = Math.min(theirs, await this.point());
    for await (const { rows, last } of leaves(this.#database, reached)) {
      const { sent, refused } = await this.send(await this.#missing(rows));
      total.sent += sent;
      total.refused.push(...refused);
      if (total.refused.length > 0) continue;
      reached = last;
      await this.#keep(reached);
    }
    if (reached !== theirs) await this.#wire.database('PUT', await this.#path(), { sent: reached });
    return total;
  }

  /** Sends these revisions, `{id: [rev]}`. */
  async send(revisions) {
    const total = { sent: 0, refused: [] };
    for await (const bundle of documents(this.#database, revisions)) {
      const refused = await this.#post(bundle);
      total.sent += bundle.length - refused.length;
      total.refused.push(...refused);
    }
    return total;
  }

  async #missing(rows) {
    if (rows.length === 0) return {};
    const answer = await this.#wire.database('POST', '/_revs_diff', revisionsOf(rows));
    return Object.fromEntries(Object.entries(answer).map(([id, { missing }]) => [id, missing]));
  }

  /** One `_bulk_docs`; a bundle that is too large or has a bad document is halved, so that one cannot hold up the rest. */
  async #post(bundle) {
    try {
      const rows = await this.#wire.database('POST', '/_bulk_docs', { docs: bundle, new_edits: false });
      const reasons = new Map(rows.filter(({ error }) => error).map(({ id, error, reason }) => [id, reason ?? error]));
      return bundle.filter(({ _id }) => reasons.has(_id)).map((document) => refusal(document, reasons.get(document._id)));
    } catch (error) {
      if (![400, 412, 413].includes(error.status)) throw error;
      if (bundle.length === 1) return [refusal(bundle[0], error.reason)];
      const middle = Math.ceil(bundle.length / 2);
      return [...(await this.#post(bundle.slice(0, middle))), ...(await this.#post(bundle.slice(middle)))];
    }
  }

  async #keep(sent) {
    await this.#notes.change('settle', (note) => {
      note.sent = sent;
    });
  }

  async #path() {
    // The database's own id: a database that was destroyed and made again starts from its own beginning.
    this.#point ??= `/_local/settle-${encodeURIComponent(await this.#database.id())}`;
    return this.#point;
  }

  async #theirPoint() {
    try {
      return (await this.#wire.database('GET', await this.#path())).sent ?? 0;
    } catch (error) {
      if (error.status === 404) return 0;
      throw error;
    }
  }
}

function refusal({ _id, _rev }, reason) {
  return { id: _id, rev: _rev, reason };
}
