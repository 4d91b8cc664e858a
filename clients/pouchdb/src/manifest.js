// The last step: everything this device holds, told to the server in parts, until the server signs that it has all of it.
// How far it got is noted after each part, so a crash costs one part; memory holds one part at a time.

import { leaves, revisionsOf } from './leaves.js';
import { randomName } from './notes.js';
import { SettleError } from './wire.js';

/** How often a manifest is begun again because the server counted other revisions than this device. */
const BEGINNINGS = 3;

export class Manifest {
  #database;
  #wire;
  #notes;
  #push;

  constructor(database, wire, notes, push) {
    this.#database = database;
    this.#wire = wire;
    this.#notes = notes;
    this.#push = push;
  }

  /**
   * Sends the manifest, and what the server lacks of it. Answers `{receipt, upto}`: all changes up to local sequence `upto`
   * are in it. `onPart` hears how many revisions the server knows of.
   */
  async finish(onPart) {
    for (let begun = 1; ; begun += 1) {
      try {
        return await this.#once(onPart);
      } catch (error) {
        if (error.status !== 409 || error.error !== 'conflict' || begun === BEGINNINGS) throw error;
        await this.forget();
      }
    }
  }

  /** The name of the manifest that is open, or null. */
  async open() {
    return (await this.#notes.read('settle')).manifest?.name ?? null;
  }

  /** Forgets the manifest that is open. */
  async forget() {
    await this.#notes.change('settle', (note) => delete note.manifest);
  }

  async #once(onPart) {
    for (;;) {
      const { name, seq, received } = await this.#parts(onPart);
      const { receipt, missing } = await this.#send({ manifest: name, revs: {}, final: true, total: received });
      if (receipt) return { receipt, upto: seq };
      const { sent } = await this.#push.send(missing);
      if (sent > 0) continue;
      const lacking = Object.keys(missing);
      throw new SettleError(`the server lacks ${lacking.length} documents and does not take them, such as ${lacking[0]}`,
        { status: 409, error: 'incomplete' });
    }
  }

  /** Sends what is not in the manifest yet; answers how far it is. */
  async #parts(onPart) {
    let progress = await this.#progress();
    for await (const { rows, last } of leaves(this.#database, progress.seq)) {
      const { name } = progress;
      const { received, missing } = await this.#send({ manifest: name, revs: revisionsOf(rows), final: false });
      const counted = rows.reduce((sum, { revs }) => sum + revs.length, progress.received);
      if (received !== counted) {
        const problem = `the server knows ${received} revisions of the manifest, not ${counted}`;
        throw new SettleError(problem, { status: 409, error: 'conflict' });
      }
      await this.#push.send(missing);
      progress = await this.#keep({ name, seq: last, received });
      onPart(received);
    }
    return progress;
  }

  /** Where to go on: the noted place if the server still knows of the manifest, else the beginning of a new one. */
  async #progress() {
    const { manifest } = await this.#notes.read('settle');
    if (manifest && (await this.#isKnown(manifest.name))) return manifest;
    return this.#keep({ name: randomName(), seq: 0, received: 0 });
  }

  async #isKnown(name) {
    try {
      await this.#wire.database('GET', `/_manifest/${name}`);
      return true;
    } catch (error) {
      if (error.status === 404) return false;
      throw error;
    }
  }

  async #keep(manifest) {
    await this.#notes.change('settle', (note) => {
      note.manifest = manifest;
    });
    return manifest;
  }

  #send(part) {
    return this.#wire.database('POST', '/_manifest', part);
  }
}
