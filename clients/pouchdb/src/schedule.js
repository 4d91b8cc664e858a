// When to sync without being asked: at once, then at an interval, sooner when the browser comes back online, and more and more
// slowly while it fails. There are never less than five seconds between two tries.

/** Shortest and longest wait after a failure, in seconds. */
const SOON = 5;
const LATE = 3600;

export class Schedule {
  #work;
  #timer = null;
  #failures = 0;
  #ended = 0;
  #running = false;

  /** `work` answers a promise of whether it went well. */
  constructor(work) {
    this.#work = work;
  }

  /** Begins; `every` is in seconds. */
  start(every) {
    this.stop();
    this.every = every;
    globalThis.addEventListener?.('online', this.now);
    this.#wait(0);
  }

  /** Ends, after what is running. */
  stop() {
    globalThis.removeEventListener?.('online', this.now);
    clearTimeout(this.#timer);
    this.#timer = null;
    this.#failures = 0;
  }

  /** If it was started: does the next try as soon as may be. */
  now = () => {
    if (this.#timer === null || this.#running) return;
    this.#wait(Math.max(0, this.#ended / 1000 + SOON - Date.now() / 1000));
  };

  #wait(seconds) {
    clearTimeout(this.#timer);
    const timer = setTimeout(async () => {
      this.#running = true;
      this.#failures = (await this.#work()) ? 0 : this.#failures + 1;
      this.#running = false;
      this.#ended = Date.now();
      if (this.#timer !== timer) return;
      this.#wait(this.#failures > 0 ? Math.min(SOON * 2 ** this.#failures, LATE) : Math.max(SOON, this.every));
    }, seconds * 1000);
    this.#timer = timer;
  }
}
