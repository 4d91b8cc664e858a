// What the demo and the tests of scoped databases share: other people's logins, what a database holds, what was lost,
// and a second opinion on who gets which documents, computed from the documents themselves. It covers what these tests
// need: contacts with parents, reports about a contact's id, and the settings. Holds no expectation of its own.

import { request, SERVER } from './support.mjs';

/** A server's URL with somebody else's credentials. */
export function loginAs(user, password, base = SERVER) {
  const url = new URL(base);
  Object.assign(url, { username: user, password });
  return url.href.replace(/\/+$/, '');
}

/** Like `request`, but any answer that is no success is an error that says what was asked. */
export async function ask(method, path, options) {
  const answer = await request(method, path, options);
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
  return answer.body;
}

/** Every document of a database that its handle may see. */
export async function documentsIn(database) {
  return (await database.allDocs({ include_docs: true })).rows.map(({ doc }) => doc);
}

/** The sorted ids of a database. */
export async function idsIn(database) {
  return (await database.allDocs()).rows.map(({ id }) => id).sort();
}

/** Of one sorted list what is not in another. */
export function without(ids, others) {
  const known = new Set(others);
  return ids.filter((id) => !known.has(id));
}

/**
 * The ids an account should hold of all `documents`: by its place, its depths, and the person it stands for. `moved`
 * gives the parent of each place that was moved while somebody edited it: the move stands, whichever revision wins (S17).
 */
export function ownOf(documents, { place, depth = 64, reportDepth = 64, contact = null, moved = {} }) {
  const places = [place].flat();
  const byId = new Map(documents.map((document) => [document._id, document]));
  const parentOf = (id) => moved[id] ?? byId.get(id)?.parent?._id;
  const depthOf = (id) => {
    for (let at = id, steps = 0; at && steps <= 64; at = parentOf(at), steps += 1) {
      if (places.includes(at)) return steps;
    }
    return null;
  };
  const isOwn = (document) => {
    if (document._id === 'settings' || document._id === contact) return true;
    const record = document.type === 'data_record';
    const steps = depthOf(record ? document.fields.place_id ?? document.fields.patient_id : document._id);
    if (steps === null || steps > depth) return false;
    return !record || steps <= reportDepth || document.contact?._id === contact;
  };
  return documents.filter(isOwn).map(({ _id }) => _id).sort();
}

/** The ids a device is told that it lost since a token, page by page, as an app would ask. */
export async function lostSince(base, database, since, limit = 100) {
  const lost = [];
  for (let token = since; ;) {
    const query = new URLSearchParams({ since: token, style: 'all_docs', lost: 'true', limit });
    const page = await ask('GET', `/${database}/_changes?${query}`, { base });
    lost.push(...page.results.filter((row) => row.lost).map(({ id }) => id));
    if (page.results.length === 0 && page.pending === 0) return [...new Set(lost)].sort();
    token = page.last_seq;
  }
}

/** Which of these ids the server tells a device to drop. */
export async function reconciled(base, database, ids) {
  return (await ask('POST', `/${database}/_reconcile`, { base, json: { ids } })).drop.sort();
}
