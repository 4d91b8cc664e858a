// The pull: PouchDB's own replication, once, on its own. What it needs beside that is a guard against one of its habits.

import { SettleError } from './wire.js';

/** The server's database to pull from, `Database` being the class of the local one. */
export function sourceOf(Database, wire) {
  const source = new Database(wire.url, { adapter: 'http', fetch: wire.fetch, skip_setup: true });
  const info = source.info.bind(source);
  // PouchDB asks for this to show progress, and leaves a failure unhandled, which would end a Node process.
  source.info = () => info().catch(() => ({ update_seq: 0 }));
  return source;
}

/** Pulls what is new; answers how many revisions came. `options` are PouchDB's. */
export async function pull(database, source, options) {
  try {
    return (await database.replicate.from(source, { ...options, retry: false })).docs_written;
  } catch (cause) {
    throw new SettleError(`pull: ${cause.reason ?? cause.message}`, { status: cause.status, error: cause.name, cause });
  }
}
