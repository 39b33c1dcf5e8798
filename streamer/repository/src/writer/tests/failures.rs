//! Stores, ancestors and streams that do not keep their word.

use hardstorage_storage::{Call, Fault, FaultStore};

use super::edits::{Edit, apply};
use super::read_back::must_equal;
use super::*;
use crate::layout;

/// Damaged frames and missing packs are not referred to again; a damaged ancestor costs space only.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_is_stored_anew() {
    let store = Arc::new(MemoryStore::new());
    let deployment = small(store.clone(), true);
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 6 << 20)))]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let read = must_equal(&deployment, &first, &tree).await;

    let bad = *read.frames.iter().min().unwrap();
    let ancestor = AncestorReader::open(&deployment, &first.file_table, &first.pack_list, HashSet::from([bad]));
    let second = backup(&deployment, 2, &tree, Some(ancestor.await.unwrap()), 32 << 10)
        .await
        .unwrap();
    assert!((1..=8).contains(&second.totals.new_pages), "{:?}", second.totals);
    assert!(!must_equal(&deployment, &second, &tree).await.frames.contains(&bad));

    let data = first.packs.iter().find(|pack| pack.kind == PackKind::Data).unwrap();
    let name = layout::pack(deployment.name(), &data.id.writer, data.id.sequence);
    deployment.store().delete(&name).await.unwrap();
    let ancestor = open(&deployment, &first).await.unwrap();
    let third = backup(&deployment, 3, &tree, Some(ancestor), 32 << 10).await.unwrap();
    assert_eq!(third.totals.new_pages, data.total);
    must_equal(&deployment, &third, &tree).await;

    let EntryKind::File(file) = &read.entries[&key("base/1")].kind else {
        panic!("a file")
    };
    let at = file.sections[0][0].column.frames()[0];
    let pack = first.packs[at.pack as usize].id;
    let name = layout::pack(deployment.name(), &pack.writer, pack.sequence);
    assert!(store.corrupt(&name, |bytes| bytes[at.offset as usize + 20] ^= 1));
    let ancestor = open(&deployment, &first).await.unwrap();
    let fourth = backup(&deployment, 4, &tree, Some(ancestor), 32 << 10).await.unwrap();
    assert_eq!(fourth.totals.reused_pages, 0);
    must_equal(&deployment, &fourth, &tree).await;
}

/// A fault at every single storage call of a backup: it fails, without a panic, or it is a whole backup.
#[tokio::test(flavor = "multi_thread")]
async fn every_failing_call_fails_the_backup() {
    let mut tree = Tree::from([("base/1".to_owned(), Some(noise(1, 3 << 20)))]);
    let inner: DynStore = Arc::new(MemoryStore::new());
    let first = backup(&small(inner.clone(), true), 1, &tree, None, 32 << 10)
        .await
        .unwrap();
    apply(
        &mut tree,
        &Edit::Length {
            file: 1,
            length: 5 << 20,
        },
        3,
    );
    let mut writer = 1;
    let mut failed = 0;
    loop {
        writer += 1;
        let store = Arc::new(FaultStore::new(inner.clone()));
        let deployment = small(store.clone(), true);
        let broken = Fault::FailBefore(Error::new(code::storage::IO, "as the test wants"));
        store.at(u64::from(writer) - 1, broken);
        let result = async {
            let ancestor = open(&deployment, &first).await?;
            backup(&deployment, writer, &tree, Some(ancestor), 32 << 10).await
        };
        match result.await {
            Err(error) => {
                assert!(error.is(code::storage::IO), "{error:?}");
                failed += 1;
            }
            Ok(finished) => {
                must_equal(&small(inner.clone(), true), &finished, &tree).await;
                // Beyond the last call nothing fails.
                assert!(
                    store.calls() < u64::from(writer) - 1,
                    "a fault at call {} was not seen",
                    writer - 1
                );
                break;
            }
        }
    }
    assert!(failed >= 15, "{failed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_to_an_upload_is_no_failure_and_a_foreign_pack_is() {
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 100_000)))]);
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    let deployment = small(store.clone(), true);
    backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    // The same writer id again: its packs are there, with the same bytes, as after an answer that was lost.
    let again = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    must_equal(&deployment, &again, &tree).await;
    let other = Tree::from([("base/1".to_owned(), Some(noise(2, 100_000)))]);
    let error = backup(&deployment, 1, &other, None, 32 << 10).await.unwrap_err();
    assert!(error.is(code::repository::COMMIT_CONFLICT), "{error:?}");
    assert!(store.count(Call::UploadFinish) >= 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_breaks_its_word_is_refused() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let meta = |size| FileMeta {
        key: key("base/1"),
        size,
        mode: 0o600,
        mtime: 0,
    };
    let begin = || BackupWriter::begin(&deployment, WriterOptions::new(WriterId::new([1; 16]), BLOCK));
    let mut writer = begin().await.unwrap();
    assert!(writer.write(b"x").await.unwrap_err().is(code::repository::FILE_SIZE));
    writer.start_file(meta(10)).await.unwrap();
    assert!(
        writer
            .start_file(meta(10))
            .await
            .unwrap_err()
            .is(code::repository::FILE_SIZE)
    );
    writer.write(b"123").await.unwrap();
    assert!(writer.end_file().await.unwrap_err().is(code::repository::FILE_SIZE));
    writer.abort().await;

    let mut writer = begin().await.unwrap();
    writer.start_file(meta(2)).await.unwrap();
    assert!(writer.write(b"123").await.unwrap_err().is(code::repository::FILE_SIZE));
    assert!(writer.finish().await.is_err());
    let options = WriterOptions::new(WriterId::new([1; 16]), 1000);
    assert!(
        BackupWriter::begin(&deployment, options)
            .await
            .unwrap_err()
            .is(code::repository::BLOCK_SIZE)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cancelling_ends_a_backup_that_waits_for_the_store() {
    let gate = hardstorage_storage::Gate::new();
    let store = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
    store.on(Call::UploadWrite, 1, Fault::HoldBefore(gate.clone()));
    let deployment = small(store, true);
    let cancel = CancellationToken::new();
    let mut options = WriterOptions::new(WriterId::new([1; 16]), BLOCK);
    options.cancel = cancel.clone();
    let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 60 << 20)))]);
    let stuck = tokio::spawn(async move {
        let result = send(&mut writer, &tree, 32 << 10).await;
        writer.abort().await;
        result
    });
    gate.reached().await;
    cancel.cancel();
    let error = stuck.await.unwrap().unwrap_err();
    assert!(error.is(code::cli::INTERRUPTED), "{error:?}");
}

/// A pack that changed its length is not referred to any more, though what lies in it can still be read: a commit would
/// refuse it.
#[tokio::test(flavor = "multi_thread")]
async fn packs_of_another_length_are_left() {
    let store = Arc::new(MemoryStore::new());
    let deployment = small(store.clone(), true);
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 6 << 20)))]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    for pack in first.packs.iter().filter(|pack| pack.kind == PackKind::Meta) {
        let name = layout::pack(deployment.name(), &pack.id.writer, pack.id.sequence);
        assert!(store.corrupt(&name, |bytes| bytes.push(0)));
    }
    let ancestor = open(&deployment, &first).await.unwrap();
    let second = backup(&deployment, 2, &tree, Some(ancestor), 32 << 10).await.unwrap();
    must_equal(&deployment, &second, &tree).await;
    assert_eq!(second.totals.new_pages, 0, "the pages themselves are sound");
    let old = |pack: &&crate::PackRecord| pack.kind == PackKind::Meta && pack.id.writer == WriterId::new([1; 16]);
    assert_eq!(second.packs.iter().find(old), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ancestor_whose_roots_are_damaged_is_none() {
    let store = Arc::new(MemoryStore::new());
    let deployment = small(store.clone(), true);
    let tree = Tree::from([("base/1".to_owned(), Some(noise(1, 100_000)))]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let open = || AncestorReader::open_unless_damaged(&deployment, &first.file_table, &first.pack_list, HashSet::new());
    assert!(open().await.unwrap().is_some());
    let at = first.file_table.frames[0];
    let name = layout::pack(deployment.name(), &at.pack.writer, at.pack.sequence);
    assert!(store.corrupt(&name, |bytes| bytes[at.offset as usize + 20] ^= 1));
    assert!(open().await.unwrap().is_none());
}
