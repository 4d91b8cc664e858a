// The last step: everything this device holds, told to the server in parts, until the server signs that it has all of it.
// How far it got is noted after each part, so a crash costs one part; memory holds one part at a time.

import { leaves, revisionsOf } from './leaves.js';
import { randomName } from './notes.js';
import { SettleError } from './wire.js';

/** How often what is missing at the very end is sent again before giving up. */
const PATIENCE = 3;

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

  /** Sends the manifest, and what the server lacks of it; answers the receipt. `onPart` hears how many revisions arrived. */
  async finish(onPart) {
    for (let tries = 0; ; tries += 1) {
      const { name, received: total } = await this.#parts(onPart);
      // The total: what the server forgot of the manifest must not be taken for a device without work.
      const { receipt, missing } = await this.#send({ manifest: name, revs: {}, final: true, total });
      if (receipt) {
        await this.forget();
        return receipt;
      }
      const lacking = Object.keys(missing ?? {});
      if (tries === PATIENCE) {
        throw new SettleError(`the server lacks ${lacking.length} documents and takes them not, such as ${lacking[0]}`,
          { status: 409, error: 'incomplete' });
      }
      await this.#push.send(missing);
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

  /** Sends what is not in the manifest yet; answers its name and how much the server has of it. */
  async #parts(onPart) {
    const { name, seq, received: before } = await this.#progress();
    let total = before;
    for await (const { rows, last } of leaves(this.#database, seq)) {
      const { received, missing } = await this.#send({ manifest: name, revs: revisionsOf(rows), final: false });
      await this.#push.send(missing ?? {});
      await this.#keep({ name, seq: last, received });
      total = received;
      onPart(received);
    }
    return { name, received: total };
  }

  /** Where to go on: the noted place if the server still knows as much of the manifest, else the beginning of a new one. */
  async #progress() {
    const { manifest } = await this.#notes.read('settle');
    if (manifest && (await this.#received(manifest.name)) >= manifest.received) return manifest;
    return this.#keep({ name: randomName(), seq: 0, received: 0 });
  }

  async #received(name) {
    try {
      return (await this.#wire.database('GET', `/_manifest/${name}`)).received;
    } catch (error) {
      if (error.status === 404) return 0;
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
