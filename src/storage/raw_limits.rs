//! What RocksDB alone can do on this machine: the ceiling that `settle bench` puts beside Settle's own figures.
//!
//! It writes, scans and fetches rows of the shape that a document has in the store (head, body, change: three rows), with
//! nothing around them: no revisions, no JSON, no HTTP. It opens its own folder with plain options.
//! Never touches a Settle store, and nothing here is used by `settle serve`.

use std::path::Path;
use std::time::{Duration, Instant};

use rocksdb::{ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options, WriteBatch, WriteOptions};

const FAMILIES: [&str; 3] = ["documents", "bodies", "changes"];
/// Block cache and write buffer are left at RocksDB's defaults except this one, in bytes.
const WRITE_BUFFER: usize = 64 * 1024 * 1024;
/// Filler of the document and change rows, in bytes: about what a tree of one revision needs.
const HEAD_ROW: [u8; 60] = [7; 60];

/// A throw-away RocksDB database.
#[derive(Debug)]
pub struct RawStore {
    database: DB,
    documents: u64,
}

impl RawStore {
    /// Creates a database in `folder`, which should be empty and on the disk to be measured.
    pub fn create(folder: &Path) -> Result<Self, rocksdb::Error> {
        let mut options = Options::default();
        options.create_if_missing(true);
        options.create_missing_column_families(true);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_write_buffer_size(WRITE_BUFFER);
        let families = FAMILIES.map(|name| ColumnFamilyDescriptor::new(name, options.clone()));
        let database = DB::open_cf_descriptors(&options, folder, families)?;
        Ok(Self { database, documents: 0 })
    }

    /// Writes one document per body, `per_batch` of them in each synced batch, and returns documents per second.
    pub fn write(&mut self, bodies: &[Vec<u8>], per_batch: usize) -> Result<f64, rocksdb::Error> {
        let began = Instant::now();
        for bodies in bodies.chunks(per_batch.max(1)) {
            self.write_batch(bodies)?;
        }
        Ok(rate(bodies.len() as u64, began.elapsed()))
    }

    fn write_batch(&mut self, bodies: &[Vec<u8>]) -> Result<(), rocksdb::Error> {
        let [documents, by_key, changes] = FAMILIES.map(|name| self.family(name));
        let mut batch = WriteBatch::default();
        for (number, body) in (self.documents..).zip(bodies) {
            let key = scattered(number);
            batch.put_cf(documents, key, HEAD_ROW);
            batch.put_cf(by_key, key, body);
            batch.put_cf(changes, number.to_be_bytes(), HEAD_ROW);
        }
        let mut options = WriteOptions::default();
        options.set_sync(true);
        self.database.write_opt(batch, &options)?;
        self.documents += bodies.len() as u64;
        Ok(())
    }

    /// Moves everything from memory into table files, so that the reads below are those of a store in use.
    pub fn flush(&self) -> Result<(), rocksdb::Error> {
        FAMILIES.iter().try_for_each(|name| self.database.flush_cf(self.family(name)))
    }

    /// Scans the change rows from the first to the last, again and again for `duration`, and returns rows per second.
    pub fn scan(&self, duration: Duration) -> Result<f64, rocksdb::Error> {
        let (began, mut rows, mut bytes) = (Instant::now(), 0, 0);
        while began.elapsed() < duration {
            let mut cursor = self.database.raw_iterator_cf(self.family("changes"));
            cursor.seek_to_first();
            while let Some((key, value)) = cursor.item() {
                rows += 1;
                bytes += key.len() + value.len();
                cursor.next();
            }
            cursor.status()?;
        }
        std::hint::black_box(bytes);
        Ok(rate(rows, began.elapsed()))
    }

    /// Fetches bodies in random order, `per_call` at a time, for `duration`, and returns documents per second.
    pub fn fetch(&self, per_call: u64, duration: Duration) -> Result<f64, rocksdb::Error> {
        let (began, mut asked, mut found, mut bytes) = (Instant::now(), 0, 0, 0);
        while began.elapsed() < duration && self.documents > 0 {
            let numbers = (asked..asked + per_call).map(|number| mixed(number) % self.documents);
            let mut keys: Vec<_> = numbers.map(scattered).collect();
            keys.sort_unstable();
            for body in self.database.batched_multi_get_cf(self.family("bodies"), &keys, true) {
                if let Some(body) = body? {
                    found += 1;
                    bytes += body.len();
                }
            }
            asked += per_call;
        }
        std::hint::black_box(bytes);
        Ok(rate(found, began.elapsed()))
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.database.cf_handle(name).expect("`create` made every family of FAMILIES")
    }
}

/// A key as scattered as document ids are.
fn scattered(number: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&mixed(number).to_be_bytes());
    key[8..].copy_from_slice(&number.to_be_bytes());
    key
}

/// The finalizer of splitmix64.
fn mixed(number: u64) -> u64 {
    let number = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    number ^ (number >> 31)
}

fn rate(count: u64, elapsed: Duration) -> f64 {
    count as f64 / elapsed.as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::RawStore;
    use std::time::Duration;

    #[test]
    fn what_was_written_is_scanned_and_fetched() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RawStore::create(folder.path()).unwrap();
        let bodies = vec![vec![b'x'; 500]; 1_000];
        assert!(store.write(&bodies, 500).unwrap() > 0.0);
        assert_eq!(store.documents, 1_000);
        store.flush().unwrap();
        let rows = store.database.iterator_cf(store.family("changes"), rocksdb::IteratorMode::Start);
        assert_eq!(rows.count(), 1_000);
        assert!(store.scan(Duration::from_millis(1)).unwrap() > 0.0);
        assert!(store.fetch(500, Duration::from_millis(1)).unwrap() > 0.0);
    }
}
