//! Attachment bytes: stored once by BLAKE3, in chunks, counted by the revisions that refer to them.
//!
//! Bytes arrive hashed. Small ones ride in the batch of their document; large ones are written ahead in pieces under a row
//! with no references, and only the document's own batch makes them count. What a crash leaves without references is
//! removed at the next start. Identity encoding only: coded uploads are inflated before they get here.

use std::ops::ControlFlow;

use settle_protocol::attachment::{RunningMd5, md5_of};

use super::error::DocumentResult;
use super::tables::{ATTACHMENTS, AttachmentRow, CHUNKS, ChunkKey, Count, DatabaseId, REFERENCES, ReferenceKey};
use crate::storage::{Batch, Family, Range, Read, StorageError, StorageResult, Store};

/// Bytes of a chunk. A multiple of three, so that base64 of the chunks is base64 of the whole.
pub const CHUNK_BYTES: usize = 192 << 10;
/// Above this an upload is written ahead instead of being held in memory.
pub const IN_MEMORY_BYTES: usize = 1 << 20;

/// Bytes that arrived, and what they are called by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ArrivedBytes {
    /// BLAKE3.
    pub address: [u8; 32],
    /// MD5.
    pub md5: [u8; 16],
    /// How many.
    pub length: u64,
    /// The bytes; `None`: already written ahead.
    pub bytes: Option<Vec<u8>>,
}

impl ArrivedBytes {
    /// Hashes bytes held in memory.
    #[must_use]
    pub fn in_memory(bytes: Vec<u8>) -> Self {
        let address = *blake3::hash(&bytes).as_bytes();
        Self { address, md5: md5_of(&bytes), length: bytes.len() as u64, bytes: Some(bytes) }
    }
}

/// An upload in progress: hashes as bytes come, and spills to a file beyond [`IN_MEMORY_BYTES`].
pub struct Upload {
    store: Store,
    hasher: blake3::Hasher,
    md5: RunningMd5,
    length: u64,
    buffer: Vec<u8>,
    file: Option<spill::Spill>,
}

/// One file per large upload, removed when dropped.
mod spill {
    use std::fs::File;
    use std::path::{Path, PathBuf};

    pub(super) struct Spill {
        pub(super) file: File,
        path: PathBuf,
    }

    impl Spill {
        pub(super) fn create(folder: &Path) -> std::io::Result<Self> {
            std::fs::create_dir_all(folder)?;
            let path = folder.join(uuid::Uuid::new_v4().simple().to_string());
            let file = File::options().read(true).write(true).create_new(true).open(&path)?;
            Ok(Self { file, path })
        }
    }

    impl Drop for Spill {
        fn drop(&mut self) {
            drop(std::fs::remove_file(&self.path));
        }
    }
}

fn unusable(error: &std::io::Error) -> StorageError {
    match error.kind() {
        std::io::ErrorKind::StorageFull => StorageError::Full,
        _ => StorageError::Unusable(format!("an upload could not be kept: {error}")),
    }
}

impl Upload {
    /// An empty upload.
    #[must_use]
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            hasher: blake3::Hasher::new(),
            md5: RunningMd5::default(),
            length: 0,
            buffer: Vec::new(),
            file: None,
        }
    }

    /// Bytes so far.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.length
    }

    /// Bytes held in memory; the others are in a file.
    #[must_use]
    pub fn buffered(&self) -> u64 {
        self.buffer.len() as u64
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// When the disk refuses them.
    pub fn push(&mut self, bytes: &[u8]) -> StorageResult<()> {
        use std::io::Write;
        self.hasher.update(bytes);
        self.md5.update(bytes);
        self.length += bytes.len() as u64;
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() <= IN_MEMORY_BYTES {
            return Ok(());
        }
        let spill = match &mut self.file {
            Some(spill) => spill,
            empty => empty
                .insert(spill::Spill::create(&self.store.path().join("uploads")).map_err(|error| unusable(&error))?),
        };
        spill.file.write_all(&self.buffer).map_err(|error| unusable(&error))?;
        self.buffer.clear();
        Ok(())
    }

    /// All bytes are there: a large upload is written ahead now.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn finish(mut self) -> DocumentResult<ArrivedBytes> {
        let address = *self.hasher.finalize().as_bytes();
        let md5 = self.md5.clone().finish();
        let length = self.length;
        let Some(spill) = self.file.take() else {
            return Ok(ArrivedBytes { address, md5, length, bytes: Some(self.buffer) });
        };
        write_ahead(&self.store, address, length, spill, self.buffer).await?;
        Ok(ArrivedBytes { address, md5, length, bytes: None })
    }
}

/// Chunks per job of the writer, so that nobody waits long behind a large upload.
const CHUNKS_PER_JOB: usize = 8;

async fn write_ahead(
    store: &Store,
    address: [u8; 32],
    length: u64,
    spill: spill::Spill,
    tail: Vec<u8>,
) -> DocumentResult<()> {
    use std::io::{Read as _, Seek};
    if store.snapshot().get(&ATTACHMENTS, &address)?.is_some_and(|row| row.references > 0) {
        return Ok(());
    }
    let mut file = &spill.file;
    file.rewind().map_err(|error| unusable(&error))?;
    let mut source = file.chain(tail.as_slice());
    let mut number = 0_u32;
    loop {
        let mut chunks = Vec::with_capacity(CHUNKS_PER_JOB);
        while chunks.len() < CHUNKS_PER_JOB {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = (&mut source).take(CHUNK_BYTES as u64).read_to_end(&mut chunk);
            if read.map_err(|error| unusable(&error))? == 0 {
                break;
            }
            chunks.push(chunk);
        }
        if chunks.is_empty() {
            return Ok(());
        }
        let first = number;
        number += chunks.len() as u32;
        store
            .write(move |batch| -> DocumentResult<()> {
                if batch.get(&ATTACHMENTS, &address)?.is_none() {
                    batch.put(&ATTACHMENTS, &address, &AttachmentRow { references: 0, length });
                }
                for (number, chunk) in (first..).zip(chunks) {
                    batch.put(&CHUNKS, &ChunkKey { address, number }, &chunk);
                }
                Ok(())
            })
            .await?;
    }
}

/// Counts one more reference, writing the bytes if they are not there.
///
/// # Errors
/// When the store fails; [`StorageError::Overloaded`] (try again) in the rare case that bytes written ahead were removed
/// in between.
pub(super) fn refer(batch: &mut Batch<'_>, database: DatabaseId, arrived: &ArrivedBytes) -> StorageResult<()> {
    let row = batch.get(&ATTACHMENTS, &arrived.address)?;
    if row.is_none_or(|row| row.references == 0) {
        match (&arrived.bytes, row) {
            (Some(bytes), _) => {
                for (number, chunk) in (0..).zip(bytes.chunks(CHUNK_BYTES)) {
                    batch.put(&CHUNKS, &ChunkKey { address: arrived.address, number }, &chunk.to_vec());
                }
            }
            // Written ahead by this upload, unless the last holder of the same bytes was removed in between.
            (None, Some(_)) if batch.get(&CHUNKS, &ChunkKey { address: arrived.address, number: 0 })?.is_some() => {}
            (None, Some(_)) => return Err(StorageError::Overloaded),
            (None, None) => return Err(StorageError::Overloaded),
        }
    }
    count(batch, database, arrived.address, arrived.length, 1)
}

/// Counts one more reference to bytes that are stored.
pub(super) fn refer_again(batch: &mut Batch<'_>, database: DatabaseId, address: [u8; 32]) -> StorageResult<()> {
    count(batch, database, address, 0, 1)
}

/// Takes one reference away; the last one takes the bytes with it.
pub(super) fn release(batch: &mut Batch<'_>, database: DatabaseId, address: [u8; 32]) -> StorageResult<()> {
    count(batch, database, address, 0, -1)
}

fn count(
    batch: &mut Batch<'_>,
    database: DatabaseId,
    address: [u8; 32],
    length: u64,
    change: i64,
) -> StorageResult<()> {
    let key = ReferenceKey { database, address };
    let of_database = batch.get(&REFERENCES, &key)?.map_or(0, |count| count.0).saturating_add_signed(change);
    if of_database == 0 {
        batch.delete(&REFERENCES, &key);
    } else {
        batch.put(&REFERENCES, &key, &Count(of_database));
    }
    count_all(batch, address, length, change)
}

fn count_all(batch: &mut Batch<'_>, address: [u8; 32], length: u64, change: i64) -> StorageResult<()> {
    let row = batch.get(&ATTACHMENTS, &address)?.unwrap_or(AttachmentRow { references: 0, length });
    let references = row.references.saturating_add_signed(change);
    if references > 0 {
        batch.put(&ATTACHMENTS, &address, &AttachmentRow { references, ..row });
        return Ok(());
    }
    batch.delete(&ATTACHMENTS, &address);
    for number in 0..row.length.div_ceil(CHUNK_BYTES as u64) {
        batch.delete(&CHUNKS, &ChunkKey { address, number: number as u32 });
    }
    Ok(())
}

/// Takes all references of a deleted database away.
pub(super) async fn release_database(store: &Store, database: DatabaseId) -> DocumentResult<()> {
    const AT_A_TIME: usize = 256;
    loop {
        let mut addresses: Vec<[u8; 32]> = Vec::new();
        let range = Range::prefix(&database.to_be_bytes());
        store.snapshot().scan(Family::AttachmentReferences, &range, &mut |key, _| {
            addresses.extend(key.get(4..).and_then(|address| <[u8; 32]>::try_from(address).ok()));
            let full = addresses.len() >= AT_A_TIME;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        if addresses.is_empty() {
            return Ok(());
        }
        store
            .write(move |batch| -> DocumentResult<()> {
                for address in addresses {
                    // Read again beside the data: somebody else may have released these references meanwhile.
                    let key = ReferenceKey { database, address };
                    let Some(Count(count)) = batch.get(&REFERENCES, &key)? else { continue };
                    batch.delete(&REFERENCES, &key);
                    count_all(batch, address, 0, -i64::try_from(count).unwrap_or(i64::MAX))?;
                }
                Ok(())
            })
            .await?;
    }
}

/// At start, before anything is uploaded: removes bytes that were written ahead and never referred to.
///
/// # Errors
/// When the store fails.
pub async fn remove_unreferred(store: &Store) -> DocumentResult<()> {
    let mut unreferred = Vec::new();
    store.snapshot().scan(Family::Attachments, &Range::prefix(b""), &mut |key, value| {
        if ATTACHMENTS.decode(value)?.references == 0 {
            unreferred.extend(<[u8; 32]>::try_from(key));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    drop(std::fs::remove_dir_all(store.path().join("uploads")));
    if unreferred.is_empty() {
        return Ok(());
    }
    store
        .write(move |batch| -> DocumentResult<()> {
            for address in unreferred {
                count_all(batch, address, 0, 0)?;
            }
            Ok(())
        })
        .await
}

/// One chunk of stored bytes.
///
/// # Errors
/// [`StorageError::Corrupt`] when it is not there.
pub fn chunk(reader: &impl Read, address: [u8; 32], number: u32) -> StorageResult<Vec<u8>> {
    let chunk = reader.get(&CHUNKS, &ChunkKey { address, number })?;
    chunk.ok_or(StorageError::Corrupt { table: Family::AttachmentChunks.name(), problem: "a chunk is missing" })
}
