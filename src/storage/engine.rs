//! Opening RocksDB: options by workload. Nothing above `storage` names the engine.

use std::path::Path;

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, Options, WriteBufferManager,
};

use super::error::{StorageError, StorageResult};
use super::family::{FAMILIES, Family, Workload};

const MIB: usize = 1 << 20;

/// Files of the lowest level are written anew only when they are this old. Without it RocksDB writes each of them once more as
/// soon as no snapshot needs the numbers of its rows any more: half of all the work behind a bulk write.
const LOWEST_LEVEL_REST: &str = "bottommost_file_compaction_delay=86400";

/// Rows of one database are put into a write buffer from where the one before went, not from its top: a batch is in order, and
/// what it removes lies beside what it adds. A quarter less time for the commit of a move (docs/performance.md).
const NEAR_THE_LAST: &str = "memtable_insert_with_hint_prefix_extractor=rocksdb.FixedPrefix.4";

/// Memory that the engine may use.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// Cache of uncompressed blocks, in bytes.
    pub cache_bytes: usize,
    /// All write buffers together, in bytes.
    pub write_buffer_bytes: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Self { cache_bytes: 32 * MIB, write_buffer_bytes: 32 * MIB }
    }
}

/// Opens the engine in a folder, creating what is missing.
pub(super) fn open(path: &Path, memory: Memory) -> StorageResult<DB> {
    let cache = Cache::new_lru_cache(memory.cache_bytes);
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    options.set_max_background_jobs(2);
    options.set_max_open_files(512);
    options.set_keep_log_file_num(4);
    options.set_max_total_wal_size(256 * MIB as u64);
    options.set_bytes_per_sync(MIB as u64);
    options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(memory.write_buffer_bytes, false));
    let mut families = Vec::with_capacity(FAMILIES.len());
    for (_, name, workload) in FAMILIES {
        let options = family_options(workload, &cache, memory.write_buffer_bytes)?;
        families.push(ColumnFamilyDescriptor::new(name, options));
    }
    Ok(DB::open_cf_descriptors(&options, path, families)?)
}

fn family_options(workload: Workload, cache: &Cache, write_buffer_bytes: usize) -> StorageResult<Options> {
    let mut options = Options::default();
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_format_version(5);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    // On every level. ZSTD on the lowest one saved 6 to 10 % of the disk (docs/performance.md); but merging files and taking
    // blocks apart compete with requests for the same cores.
    options.set_compression_type(DBCompressionType::Lz4);
    options.set_level_compaction_dynamic_level_bytes(true);
    let buffer = match workload {
        Workload::Bodies | Workload::Blobs => write_buffer_bytes / 2,
        Workload::Point | Workload::Log | Workload::Ranges => write_buffer_bytes / 4,
        Workload::Small => write_buffer_bytes / 16,
    };
    options.set_write_buffer_size(buffer.max(MIB));
    match workload {
        Workload::Point => {
            blocks.set_bloom_filter(10.0, false);
            blocks.set_block_size(4 << 10);
            // Most look-ups of new documents miss: this answers them without a search.
            options.set_memtable_prefix_bloom_ratio(0.05);
            options.set_memtable_whole_key_filtering(true);
        }
        Workload::Bodies => {
            blocks.set_bloom_filter(10.0, false);
            blocks.set_block_size(16 << 10);
        }
        Workload::Log | Workload::Ranges => blocks.set_block_size(16 << 10),
        Workload::Blobs => {
            options.set_enable_blob_files(true);
            options.set_min_blob_size(4 << 10);
            options.set_enable_blob_gc(true);
        }
        Workload::Small => {}
    }
    options.set_block_based_table_factory(&blocks);
    if matches!(workload, Workload::Ranges) {
        options = options.get_options_from_string(NEAR_THE_LAST)?;
    }
    Ok(options.get_options_from_string(LOWEST_LEVEL_REST)?)
}

/// The engine's handle of a family.
pub(super) fn family_handle(db: &DB, family: Family) -> StorageResult<&ColumnFamily> {
    let problem = "the column family is missing";
    db.cf_handle(family.name()).ok_or(StorageError::Corrupt { table: family.name(), problem })
}
