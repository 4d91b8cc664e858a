// Since when something is unsent. PouchDB keeps no times, so the helper notes, at most once a minute, which local sequence
// was being written when: a change is as old as the last mark at or before it. Answers may be too old, never too young.

/** Shortest distance of two marks in seconds. */
const STEP = 60;
/** Marks that are kept; beyond it every second one goes. */
const MOST = 500;

export class Times {
  #notes;
  #last = 0;
  #writing = Promise.resolve();
  #feed;

  /** Begins to watch the database. */
  constructor(database, notes) {
    this.#notes = notes;
    this.#feed = database.changes({ since: 'now', live: true });
    this.#feed.on('change', ({ seq }) => this.#note(seq));
    this.#feed.on('error', () => {});
  }

  /** When local sequence `seq` was first written, in seconds since 1970; the present if nobody saw it. */
  async of(seq) {
    await this.#writing;
    const { marks = [] } = await this.#notes.read('settle-times');
    const mark = marks.filter(([at]) => at <= seq).at(-1) ?? marks[0];
    if (mark) return mark[1];
    await this.#note(seq);
    return seconds();
  }

  /** Forgets the marks that no change after `sent` needs. */
  async forget(sent) {
    const { marks = [] } = await this.#notes.read('settle-times');
    const useless = marks.filter(([at]) => at <= sent).length - 1;
    if (useless < 1) return;
    await this.#notes.change('settle-times', (note) => {
      note.marks = note.marks.slice(useless);
    });
  }

  /** Stops watching. */
  close() {
    this.#feed.cancel();
    return this.#writing;
  }

  #note(seq) {
    const now = seconds();
    if (now - this.#last < STEP) return this.#writing;
    this.#last = now;
    const add = (note) => {
      note.marks = [...(note.marks ?? []), [seq, now]];
      if (note.marks.length > MOST) note.marks = note.marks.filter((_, place) => place % 2 === 0);
    };
    // A mark that cannot be written (the database is being destroyed) is no reason to fail.
    this.#writing = this.#writing.then(() => this.#notes.change('settle-times', add)).catch(() => {});
    return this.#writing;
  }
}

function seconds() {
  return Math.floor(Date.now() / 1000);
}
