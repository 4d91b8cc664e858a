//! The raw limits of this machine, measured in the same run as the figures they stand beside.
//!
//! RocksDB alone (`storage::RawStore`) bounds bulk writes, feeds and bulk reads; an empty server (`http::load`) under the
//! same client, connections and requests bounds everything that is one request per document. A figure close to its limit
//! says that Settle adds little; a low limit says that the machine was slow or busy.
//! Never measured for a server that is not ours: it may run elsewhere.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::client::{BATCH, Load, Pace, closed_loop};
use super::{Scale, samples};
use crate::http::load::{Answer, EmptyServer};
use crate::storage::RawStore;

/// An upper limit and what it is the limit of.
#[derive(Debug, Clone)]
pub struct RawLimit {
    /// In the unit of the figure beside it.
    pub value: f64,
    /// What was measured.
    pub what: String,
}

/// What RocksDB does here without a server around it.
#[derive(Debug, Clone, Copy)]
pub struct StorageLimits {
    /// Documents per second in synced batches of [`BATCH`], three rows each.
    pub batches: f64,
    /// Documents per second, each in its own synced batch, one thread.
    pub singles: f64,
    /// Rows per second of a long scan.
    pub scan: f64,
    /// Bodies per second by multi-get of [`BATCH`] random keys.
    pub fetch: f64,
}

impl StorageLimits {
    /// Measures all four in a new folder below `scratch`, with as many sample documents as the workloads write.
    pub fn measure(scratch: &Path, scale: &Scale) -> anyhow::Result<Self> {
        let bodies: Vec<_> = (0..scale.documents).map(|number| samples::with_id(number).into_bytes()).collect();
        let folder = scratch.join("raw");
        let mut store = RawStore::create(&folder)?;
        let batches = store.write(&bodies, BATCH as usize)?;
        let singles = store.write(&bodies[..bodies.len() / 10], 1)?;
        store.flush()?;
        let brief = scale.duration / 5;
        let limits = Self { batches, singles, scan: store.scan(brief)?, fetch: store.fetch(BATCH, brief)? };
        drop(store);
        std::fs::remove_dir_all(&folder)?;
        Ok(limits)
    }

    /// The limit of writing documents in bulk.
    pub fn bulk_writes(self) -> RawLimit {
        RawLimit { value: self.batches, what: "RocksDB batches of 500, synced".to_owned() }
    }

    /// The limit of a feed without documents.
    pub fn feed(self) -> RawLimit {
        RawLimit { value: self.scan, what: "RocksDB scan".to_owned() }
    }

    /// The limit of a feed with documents: each row is scanned, then its body is fetched.
    pub fn feed_with_documents(self) -> RawLimit {
        let value = 1.0 / (1.0 / self.scan + 1.0 / self.fetch);
        RawLimit { value, what: "RocksDB scan + multi-get".to_owned() }
    }

    /// The limit of reading documents in bulk.
    pub fn bulk_reads(self) -> RawLimit {
        RawLimit { value: self.fetch, what: "RocksDB multi-get of 500".to_owned() }
    }

    /// For `--json`.
    pub fn to_json(self) -> Value {
        json!({
            "batches_of_500_synced_documents_per_second": self.batches,
            "single_synced_documents_per_second": self.singles,
            "scan_rows_per_second": self.scan,
            "multi_get_documents_per_second": self.fetch,
        })
    }
}

/// What an empty server reaches with the same load and as many connections.
pub async fn http_limit(connections: u64, duration: Duration, load: Arc<impl Load>) -> anyhow::Result<RawLimit> {
    let server = empty_server(Answer::AtOnce("{\"ok\":true}"))?;
    let Pace { rate, .. } = closed_loop(&server.target(), connections, duration, load, false).await?;
    Ok(RawLimit { value: rate, what: format!("empty server, {connections} connections") })
}

/// An empty server with as many threads as there are processors.
pub fn empty_server(answer: Answer) -> anyhow::Result<EmptyServer> {
    Ok(EmptyServer::start(answer, std::thread::available_parallelism().map_or(1, usize::from))?)
}

#[cfg(test)]
mod tests {
    use super::StorageLimits;
    use crate::commands::bench::Scale;

    #[test]
    fn limits_are_measured_and_leave_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let mut scale = Scale::new(true);
        scale.documents = 1_000;
        scale.duration /= 100;
        let limits = StorageLimits::measure(folder.path(), &scale).unwrap();
        for limit in [limits.bulk_writes(), limits.feed(), limits.feed_with_documents(), limits.bulk_reads()] {
            assert!(limit.value.is_finite() && limit.value > 0.0, "{limit:?}");
        }
        assert!(limits.feed_with_documents().value < limits.bulk_reads().value && limits.singles > 0.0);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
