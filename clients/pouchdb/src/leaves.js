// Reading the app's database: which leaf revisions it holds, in the order of its changes, and their documents, a bounded
// part at a time. Design documents are left out everywhere: on a phone they are indexes or come from the server.

/** Documents in one page of revisions. */
const PAGE = 500;
/** Size at which a bundle of documents is full, in characters of JSON (attachments as base64). */
const FULL = 2_000_000;

/**
 * All leaf revisions of documents that changed after local sequence `since`, as pages `{rows: [{id, seq, deleted, revs}], last}`.
 * A document that changes meanwhile comes once more. `last` is the sequence to go on from.
 */
export async function* leaves(database, since) {
  for (;;) {
    const { results } = await database.changes({ since, limit: PAGE, style: 'all_docs' });
    if (results.length === 0) return;
    since = results.at(-1).seq;
    const work = results.filter(({ id }) => !id.startsWith('_design/'));
    const rows = work.map(({ id, seq, deleted, changes }) => ({ id, seq, deleted, revs: changes.map(({ rev }) => rev) }));
    yield { rows, last: since };
  }
}

/** The revisions of some rows in the shape of `_revs_diff` and of manifests: `{id: [rev]}`. */
export function revisionsOf(rows) {
  return Object.fromEntries(rows.map(({ id, revs }) => [id, revs]));
}

/**
 * The documents of `{id: [rev]}` with history and attachments, ready for `new_edits: false`, in bundles of bounded size. A
 * revision that is gone by now is left out.
 */
export async function* documents(database, revisions) {
  let bundle = [];
  let size = 0;
  const wanted = Object.entries(revisions).flatMap(([id, revs]) => revs.map((rev) => ({ id, rev })));
  for (const { id, rev } of wanted) {
    const document = await read(database, id, rev);
    if (!document) continue;
    bundle.push(document);
    size += JSON.stringify(document).length;
    if (size < FULL) continue;
    yield bundle;
    bundle = [];
    size = 0;
  }
  if (bundle.length > 0) yield bundle;
}

async function read(database, id, rev) {
  try {
    return await database.get(id, { rev, revs: true, attachments: true });
  } catch (error) {
    if (error.status === 404) return null;
    throw error;
  }
}
