// Documents that moved out of this account's reach: the server names them, and they go from this device without a deletion
// that could ever be pushed. PouchDB can forget a document for good (`purge`) in its IndexedDB adapter only; everywhere else
// what is still in reach is copied to a fresh database.

import { documents, leaves, revisionsOf } from './leaves.js';

/** Whether the database can forget documents for good. */
export function canPurge(database) {
  return typeof database._purge === 'function';
}

/** Asks for lost documents, page by page: yields `{kept, lost}`, rows as of `leaves`. Deleted documents count as kept. */
async function* judged(database, wire) {
  for await (const { rows } of leaves(database, 0)) {
    const ids = rows.filter(({ deleted }) => !deleted).map(({ id }) => id);
    const { drop } = ids.length > 0 ? await wire.database('POST', '/_reconcile', { ids }) : { drop: [] };
    const gone = new Set(drop);
    yield { kept: rows.filter(({ id }) => !gone.has(id)), lost: rows.filter(({ id }) => gone.has(id)) };
  }
}

/**
 * Forgets the lost documents of `database`; answers how many. Revisions written since the server was asked stay, and with
 * them their document.
 */
export async function purgeLost(database, wire) {
  let dropped = 0;
  for await (const { lost } of judged(database, wire)) {
    for (const { id, revs } of lost) {
      const purged = await Promise.allSettled(revs.map((rev) => database.purge(id, rev)));
      if (purged.every(({ status }) => status === 'fulfilled')) dropped += 1;
    }
  }
  return dropped;
}

/** Copies what is not lost from `database` into the empty database `fresh`; answers how many documents were left behind. */
export async function copyKept(database, wire, fresh) {
  let dropped = 0;
  for await (const { kept, lost } of judged(database, wire)) {
    dropped += lost.length;
    for await (const bundle of documents(database, revisionsOf(kept))) {
      const failed = (await fresh.bulkDocs(bundle, { new_edits: false })).find(({ error }) => error);
      if (failed) throw new Error(`${failed.id} cannot be copied: ${failed.reason}`);
    }
  }
  return dropped;
}
