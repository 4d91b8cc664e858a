// What the helper remembers, in `_local` documents of the app's own database: they never replicate, and they go when the
// database goes. Two tabs may write at the same time, so a change is applied to what is stored now, and again after a conflict.

export class Notes {
  #database;

  constructor(database) {
    this.#database = database;
  }

  /** The note of that name without PouchDB's members; an empty object if there is none. */
  async read(name) {
    const { _id, _rev, ...note } = await this.#stored(name);
    return note;
  }

  /** Changes a note: `edit` gets it and changes it in place. Answers the note as stored. */
  async change(name, edit) {
    for (;;) {
      const { _id, _rev, ...note } = await this.#stored(name);
      edit(note);
      try {
        await this.#database.put({ ...note, _id, ...(_rev && { _rev }) });
        return note;
      } catch (error) {
        if (error.status !== 409) throw error;
      }
    }
  }

  /** Gives a database that took over everything from this one the same device, session and receipt. All is sent. */
  async copyTo(database) {
    const notes = new Notes(database);
    const { device, cookie } = await this.read('settle');
    const { update_seq: sent } = await database.info();
    await notes.change('settle', (note) => Object.assign(note, { device, cookie, sent }));
    const kept = await this.read('settle-receipt');
    await notes.change('settle-receipt', (note) => Object.assign(note, kept));
  }

  async #stored(name) {
    const _id = `_local/${name}`;
    try {
      return await this.#database.get(_id);
    } catch (error) {
      if (error.status !== 404) throw error;
      return { _id };
    }
  }
}

/** A fresh random name, 32 hex digits. */
export function randomName() {
  const bytes = globalThis.crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
