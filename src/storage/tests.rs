//! The promises of the store, on a real RocksDB in a temporary folder.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::*;

fn open(path: &Path) -> Store {
    let counter = std::cell::Cell::new(0);
    let fresh = || {
        counter.set(counter.get() + 1);
        [counter.get(); 16]
    };
    Store::open(path, Memory::default(), fresh).expect("open")
}

/// Waits for the writer to let go of the folder.
fn reopen(path: &Path) -> Store {
    for _ in 0..200 {
        if let Ok(store) = Store::open(path, Memory::default(), || [9; 16]) {
            return store;
        }
        thread::park_timeout(std::time::Duration::from_millis(20));
    }
    panic!("the store was not released");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("runtime")
}

fn rows(reader: &impl Read, range: &Range) -> Vec<(Vec<u8>, Vec<u8>)> {
    rows_of(reader, Family::Local, range)
}

fn rows_of(reader: &impl Read, family: Family, range: &Range) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    reader
        .scan(family, range, &mut |key, value| {
            rows.push((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Continue(()))
        })
        .expect("scan");
    rows
}

#[test]
fn identity_survives_and_a_second_process_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let (incarnation, server) = (store.incarnation(), store.server_id());
    assert_ne!(incarnation, server);
    let second = Store::open(folder.path(), Memory::default(), || [0; 16]);
    assert!(matches!(second, Err(StorageError::Unusable(_))));
    store.close();
    drop(store);
    let store = reopen(folder.path());
    assert_eq!((store.incarnation(), store.server_id()), (incarnation, server));
}

#[test]
fn a_failed_or_panicking_request_leaves_no_trace() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    runtime().block_on(async {
        let failed: Result<(), StorageError> = store
            .write(|batch| {
                batch.put_bytes(Family::Local, b"a", b"1");
                Err(StorageError::Full)
            })
            .await;
        assert!(matches!(failed, Err(StorageError::Full)));
        let panicked: Result<(), StorageError> = store
            .write(|batch| {
                batch.put_bytes(Family::Local, b"b", b"1");
                panic!("on purpose");
            })
            .await;
        assert!(matches!(panicked, Err(StorageError::Panicked)));
        let written: Result<(), StorageError> = store
            .write(|batch| {
                assert_eq!(batch.get_bytes(Family::Local, b"a")?, None);
                batch.put_bytes(Family::Local, b"c", b"1");
                assert_eq!(batch.get_bytes(Family::Local, b"c")?, Some(b"1".to_vec()));
                Ok(())
            })
            .await;
        assert!(written.is_ok());
    });
    assert_eq!(rows(&store.snapshot(), &Range::prefix(b"")), [(b"c".to_vec(), b"1".to_vec())]);
}

#[test]
fn a_snapshot_does_not_move() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let before = store.snapshot();
    let write = store.write(|batch| {
        batch.put_bytes(Family::Local, b"a", b"1");
        Ok::<(), StorageError>(())
    });
    runtime().block_on(write).expect("write");
    assert_eq!(before.get_bytes(Family::Local, b"a").expect("read"), None);
    assert_eq!(store.snapshot().get_bytes(Family::Local, b"a").expect("read"), Some(b"1".to_vec()));
}

#[test]
fn a_backup_opens_and_holds_what_was_there() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(&folder.path().join("data"));
    let write = store.write(|batch| {
        batch.put_bytes(Family::Local, b"a", b"1");
        Ok::<(), StorageError>(())
    });
    runtime().block_on(write).expect("write");
    let target = folder.path().join("copy");
    store.backup(&target).expect("backup");
    assert!(matches!(store.backup(&target), Err(StorageError::Unusable(_))));
    let copy = open(&target);
    assert_eq!(copy.snapshot().get_bytes(Family::Local, b"a").expect("read"), Some(b"1".to_vec()));
    assert_eq!(copy.server_id(), store.server_id());
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8, u8),
    Delete(u8),
    Walk,
    ReadAhead,
    Keep,
    RollBack,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        (0..24_u8, any::<u8>()).prop_map(|(key, value)| Step::Put(key, value)),
        (0..24_u8).prop_map(Step::Delete),
        Just(Step::Walk),
        Just(Step::ReadAhead),
        Just(Step::Keep),
        Just(Step::RollBack),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// A batch over committed rows reads like a map, forward and backward, key by key, request by request, and commits as
    /// one: in a family that is kept in order while the batch is open, in a list with an index and in one without.
    #[test]
    fn a_batch_reads_like_a_map(committed in proptest::collection::btree_map(0..24_u8, any::<u8>(), 0..12),
                                steps in proptest::collection::vec(step(), 0..60), from in 0..24_u8, to in 0..30_u8,
                                family in prop_oneof![Just(Family::Local), Just(Family::Documents), Just(Family::Feed)]) {
        let folder = tempfile::tempdir().expect("folder");
        let store = open(folder.path());
        let first = committed.clone();
        let seed = store.write(move |batch| {
            for (key, value) in first {
                batch.put_bytes(family, vec![key], vec![value]);
            }
            Ok::<(), StorageError>(())
        });
        runtime().block_on(seed).expect("seed");
        let mut batch = Batch::new(&store.inner.db, &Default::default(), None, || None);
        let mut model = committed;
        let mut kept = model.clone();
        for step in steps {
            match step {
                Step::Put(key, value) => {
                    batch.put_bytes(family, vec![key], vec![value]);
                    model.insert(key, value);
                }
                Step::Delete(key) => {
                    batch.delete_bytes(family, vec![key]);
                    model.remove(&key);
                }
                Step::Walk => {
                    let all: Vec<_> = model.iter().map(|(key, value)| (vec![*key], vec![*value])).collect();
                    prop_assert_eq!(rows_of(&batch, family, &Range::prefix(b"")), all);
                }
                Step::ReadAhead => {
                    let keys: Vec<Vec<u8>> = (0..24).map(|key| vec![key]).collect();
                    batch.read_ahead(family, &keys).expect("read");
                }
                Step::Keep => {
                    batch.keep();
                    kept = model.clone();
                }
                Step::RollBack => {
                    batch.roll_back();
                    model = kept.clone();
                }
            }
        }
        let to = to.max(from);
        let expected: Vec<(Vec<u8>, Vec<u8>)> = model.range(from..to).map(|(k, v)| (vec![*k], vec![*v])).collect();
        let range = Range::between(vec![from], vec![to]);
        prop_assert_eq!(&rows_of(&batch, family, &range), &expected);
        let backward: Vec<_> = expected.into_iter().rev().collect();
        prop_assert_eq!(&rows_of(&batch, family, &range.reversed()), &backward);
        let keys: Vec<Vec<u8>> = (0..24).map(|key| vec![key]).collect();
        let values: Vec<_> = (0..24).map(|key| model.get(&key).map(|value| vec![*value])).collect();
        prop_assert_eq!(&batch.get_many(family, &keys).expect("read"), &values);
        for (key, value) in keys.iter().zip(&values) {
            prop_assert_eq!(&batch.get_bytes(family, key).expect("read"), value);
        }
        let (layer, _, _) = batch.finish();
        let committed = layer.engine_batch(&store.inner.db).and_then(|batch| Ok(store.inner.db.write(batch)?));
        committed.expect("write");
        let kept: Vec<_> = kept.into_iter().map(|(key, value)| (vec![key], vec![value])).collect();
        prop_assert_eq!(&rows_of(&store.snapshot(), family, &Range::prefix(b"")), &kept);
        store.close();
    }
}

#[test]
fn a_part_of_a_request_fails_alone_and_a_rehearsal_changes_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let put = |batch: &mut Batch<'_>, key: &[u8]| batch.put_bytes(Family::Local, key, b"x");
    let there = |reader: &Batch<'_>, key: &[u8]| reader.get_bytes(Family::Local, key).expect("read").is_some();
    let all = |reader: &Batch<'_>| rows(reader, &Range::prefix(b"")).len();
    let work = move |batch: &mut Batch<'_>| -> StorageResult<()> {
        put(batch, b"a");
        let failed: StorageResult<()> = batch.part(|batch| {
            put(batch, b"b");
            batch.part(|batch| {
                put(batch, b"c");
                StorageResult::Ok(())
            })?;
            assert!(there(batch, b"a") && there(batch, b"b") && there(batch, b"c"));
            Err(StorageError::Overloaded)
        });
        assert!(failed.is_err() && all(batch) == 1, "the part and the part within it are gone");
        batch.part(|batch| {
            put(batch, b"d");
            batch.announce(7, 1);
            StorageResult::Ok(())
        })?;
        assert_eq!(all(batch), 2);
        Ok(())
    };
    let heard = store.announcements().follow(7, 0);
    store.rehearse(work).expect("rehearsed");
    assert_eq!((rows(&store.snapshot(), &Range::prefix(b"")).len(), *heard.borrow()), (0, 0));
    let runtime = runtime();
    runtime.block_on(store.write(work)).expect("written");
    let kept: Vec<Vec<u8>> = rows(&store.snapshot(), &Range::prefix(b"")).into_iter().map(|(key, _)| key).collect();
    assert_eq!(kept, [b"a".to_vec(), b"d".to_vec()]);
    assert_eq!(*heard.borrow(), 1, "what a part announces is heard");
    let panicked: StorageResult<()> = runtime.block_on(store.write(move |batch| {
        put(batch, b"e");
        batch.part(|_| panic!("a mistake"))
    }));
    assert!(matches!(panicked, Err(StorageError::Panicked)));
    let next = store.write(move |batch| {
        put(batch, b"f");
        StorageResult::Ok(())
    });
    runtime.block_on(next).expect("written");
    assert!(store.snapshot().get_bytes(Family::Local, b"e").expect("read").is_none());
}

const FOLLOWED: Table<String, Vec<u8>> = Table::new(Family::Accounts);

#[test]
fn marks_of_rows_end_with_a_write_and_only_with_one() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let write = |family: Family, key: &str| {
        let key = key.as_bytes().to_vec();
        let written = store.write(move |batch| -> Result<(), StorageError> {
            batch.put_bytes(family, key, b"1");
            Ok(())
        });
        runtime().block_on(written).expect("written");
    };
    let versions = store.row_versions();
    let mark = |key: &str| versions.mark(&FOLLOWED, &key.to_owned()).expect("nobody writes");
    let (ann, bea) = (mark("ann"), mark("bea"));
    write(Family::Local, "ann");
    assert!(versions.holds(&ann), "another family");
    write(Family::Accounts, "ann");
    assert_eq!((versions.holds(&ann), versions.holds(&bea)), (false, true));
    let ann = mark("ann");
    let failed = store.write(|batch| -> Result<(), StorageError> {
        batch.delete_bytes(Family::Accounts, b"ann");
        Err(StorageError::Full)
    });
    runtime().block_on(failed).expect_err("taken back");
    assert!(versions.holds(&ann), "nothing was written");
    let deleted = store.write(|batch| -> Result<(), StorageError> {
        batch.delete_bytes(Family::Accounts, b"ann");
        Ok(())
    });
    runtime().block_on(deleted).expect("deleted");
    assert!(!versions.holds(&ann));
    store.erase_prefix(Family::Accounts, b"b").expect("erased");
    assert!(!versions.holds(&bea), "without a batch");
    let unfollowed: Table<String, Vec<u8>> = Table::new(Family::Local);
    assert_eq!(versions.mark(&unfollowed, &"ann".to_owned()), None, "a family whose writes move no number");
}

#[test]
fn no_mark_is_given_while_a_row_is_being_written() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let mut batch = Batch::new(&store.inner.db, &Default::default(), None, || None);
    batch.put_bytes(Family::Accounts, b"ann", b"1");
    batch.keep();
    let (layer, _, _) = batch.finish();
    let versions = store.row_versions();
    let mark = || versions.mark(&FOLLOWED, &"ann".to_owned());
    let before = mark().expect("nobody writes");
    let failed = versions.around(&layer, || {
        assert_eq!(mark(), None);
        assert!(!versions.holds(&before), "ended before the engine has it");
        Err(StorageError::Full)
    });
    failed.expect_err("passed on");
    assert!(mark().is_some_and(|after| after != before), "whatever came of it");
}

#[test]
fn what_was_prepared_is_taken_over_unless_something_that_it_read_was_written() {
    let folder = tempfile::tempdir().expect("folder");
    let store = open(folder.path());
    let runtime = runtime();
    let put = |key: &'static [u8]| {
        let written = store.write(move |batch| {
            batch.put_bytes(Family::Feed, key, b"1");
            StorageResult::Ok(())
        });
        runtime.block_on(written).expect("written");
    };
    put(b"gone");
    let prepare = || {
        let prepared = store.prepare(|batch| {
            let missing = batch.get_bytes(Family::Feed, b"single")?;
            let many = batch.get_many(Family::Feed, &[b"m1".to_vec(), b"m2".to_vec()])?;
            batch.read_ahead(Family::Feed, &[b"read-ahead".to_vec()])?;
            let counted = batch.unnoted(|batch| batch.get_bytes(Family::Feed, b"counted"))?;
            let ranged = rows_of(batch, Family::Feed, &Range::prefix(b"r/")).len();
            batch.put_bytes(Family::Feed, b"own", b"2");
            batch.announce(9, 4);
            Ok::<_, StorageError>((missing.is_none(), many.len(), counted.is_none(), ranged))
        });
        runtime.block_on(prepared).expect("prepared").1
    };
    let adopt = |prepared: Prepared| {
        let adopted = store.write(|batch| Ok::<_, StorageError>(batch.adopt(prepared)));
        runtime.block_on(adopted).expect("written")
    };
    let own = || store.snapshot().get_bytes(Family::Feed, b"own").expect("read");
    for key in [b"single".as_slice(), b"m2", b"read-ahead", b"r/", b"r/x"] {
        let prepared = prepare();
        put(key);
        assert!(!adopt(prepared), "{}", String::from_utf8_lossy(key));
        assert_eq!(own(), None);
    }
    let removed = prepare();
    let removal = store.write(|batch| {
        batch.delete_bytes(Family::Feed, b"r/x");
        StorageResult::Ok(())
    });
    runtime.block_on(removal).expect("written");
    assert!(!adopt(removed), "a removal");
    let heard = store.announcements().follow(9, 0);
    let prepared = prepare();
    for key in [b"counted".as_slice(), b"r", b"r0", b"other", b"own"] {
        put(key);
    }
    assert!(adopt(prepared));
    assert_eq!((own(), *heard.borrow()), (Some(b"2".to_vec()), 4), "it is behind what others wrote");

    let prepared = prepare();
    let mut batch = Batch::new(&store.inner.db, &store.inner.hasher, None, || None);
    batch.put_bytes(Family::Feed, b"single", b"1");
    batch.keep();
    assert!(!batch.adopt(prepared), "written by another request of the same batch");
    let prepared = prepare();
    let mut batch = Batch::new(&store.inner.db, &store.inner.hasher, None, || None);
    batch.put_bytes(Family::Feed, b"other", vec![0; 65 << 20]);
    batch.keep();
    store.inner.preparations.note(&batch.finish().0);
    assert!(!adopt(prepared), "too much was written to look through");
    let failed = store.prepare(|_| Err::<(), _>(StorageError::Full));
    assert!(matches!(runtime.block_on(failed), Err(StorageError::Full)));
    store.close();
}
