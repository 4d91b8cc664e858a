/// <reference types="pouchdb-core" />
/// <reference types="pouchdb-replication" />
// Needs the types of PouchDB: `npm install --save-dev @types/pouchdb`.

/** What an app says once: where to sync, and who this device is. */
export interface Options {
  /** The database on the server, such as `https://sync.example.org/medic`, without a name or password. */
  url: string;
  /** How the device is shown to supervisors; `id` replaces the id that is made and kept in the database. */
  device?: { id?: string; name?: string; app?: string };
  /** Further local databases that are erased at a wipe. */
  also?: PouchDB.Database[];
  /** Erases what else the app keeps (files, local storage), before the databases; answers the names of what is gone. */
  erase?: () => Promise<string[] | void> | string[] | void;
  /** The server's public key, 64 hex digits. Without it the server is asked for it. */
  key?: string;
  /** Further options of PouchDB's `replicate.from`, such as `selector`. */
  pull?: PouchDB.Replication.ReplicateOptions;
  /** Replaces the platform's `fetch`. */
  fetch?: typeof fetch;
}

export type Credentials = { name: string; password: string } | { link: string };

/** The answer of `GET /_device`. Times are seconds since 1970. */
export interface Standing {
  device: string;
  account: string;
  named: boolean;
  name: string | null;
  standing: 'active' | 'draining' | 'drained' | 'retired' | 'cut';
  cause: null | 'password_changed' | 'disabled' | 'account_retired' | 'account_deleted' | 'device_retired' | 'lost';
  next: 'none' | 'push' | 'reauth' | 'wipe';
  /** A sentence for the person who holds the phone. */
  message: string;
  push_until: number | null;
  escrowed: number;
  receipts: Receipt[];
  wipe: null | { order: string; ordered_at: number };
}

export interface Receipt {
  version: 1;
  server: string;
  incarnation: string;
  database: string;
  database_uuid: string;
  device: string;
  account: string;
  manifest: string;
  documents: number;
  revisions: number;
  escrowed: number;
  root: string;
  position: number;
  time: number;
  key: string;
  signature: string;
}

/** `unchecked`: this platform cannot check Ed25519 signatures, or the server did not say its key. */
export type Signature = 'valid' | 'unchecked';

export interface Kept {
  receipt: Receipt;
  signature: Signature;
}

/** A revision that the server did not take: it stays unsent. */
export interface Refused {
  id: string;
  rev: string;
  reason: string;
}

export interface Unsent {
  /** Documents of which the server lacks a revision. */
  documents: number;
  /** When the first of them was written, to the minute; may be too early, never too late. */
  oldest: Date | null;
  /** False when the server could not be asked: then every document that changed since the last sync counts. */
  exact: boolean;
}

export interface Synced {
  /** Revisions that went to the server. */
  pushed: number;
  /** Revisions that came. */
  pulled: number;
  refused: Refused[];
  /** Set when the standing asked for the proof (`next` was `push`). */
  receipt: Receipt | null;
  signature?: Signature;
  standing: Standing;
}

/** A refusal of the server, or a request without an answer (`status` 0). */
export class SettleError extends Error {
  status: number;
  error: string;
  reason: string;
}

export interface Link {
  /** `fetch` with this session, also as PouchDB's option `fetch`. */
  readonly fetch: typeof fetch;
  /** What the server last said about this device; null before it was asked. */
  readonly standing: Standing | null;
  device(): Promise<string>;
  logIn(credentials: Credentials): Promise<{ name: string; roles: string[]; device: { id: string; standing: string } }>;
  logOut(): Promise<unknown>;
  check(): Promise<Standing>;
  unsent(): Promise<Unsent>;
  sync(): Promise<Synced>;
  finish(): Promise<Kept & { pushed: number; refused: Refused[] }>;
  receipt(): Promise<Kept | null>;
  dropLost(options?: { into?: PouchDB.Database }): Promise<number>;
  /** `every` is in seconds; 300 without it. */
  start(options?: { every?: number }): void;
  stop(): void;
  close(): Promise<void>;
  on(event: 'standing', listener: (standing: Standing) => void): () => void;
  on(event: 'progress', listener: (progress: { pushed?: number; proven?: number }) => void): () => void;
  on(event: 'wiped', listener: (report: { order: string; erased: string[] }) => void): () => void;
  on(event: 'error', listener: (error: Error) => void): () => void;
}

export default function settle(database: PouchDB.Database, options: Options): Link;

/** For `PouchDB.plugin(plugin)`. */
export const plugin: { settle(options: Options): Link };

/** Checks a receipt with a server's public key. */
export function checkReceipt(receipt: Receipt, key: string): Promise<Signature | 'invalid'>;

declare global {
  namespace PouchDB {
    interface Database {
      settle(options: Options): Link;
    }
  }
}
