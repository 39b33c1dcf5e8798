//! What backups consist of.

use super::edits::{Edit, apply};
use super::read_back::must_equal;
use super::*;
use crate::Totals;

#[tokio::test(flavor = "multi_thread")]
async fn an_unchanged_cluster_costs_its_table_only() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let tree = Tree::from([
        ("base".to_owned(), None),
        ("base/1".to_owned(), Some(noise(1, 3 << 20))),
        ("base/2".to_owned(), Some(noise(2, 40_000))),
    ]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let ancestor = open(&deployment, &first).await.unwrap();
    let second = backup(&deployment, 2, &tree, Some(ancestor), 32 << 10).await.unwrap();
    let read = must_equal(&deployment, &second, &tree).await;
    assert_eq!(second.totals.new_pages, 0);
    assert_eq!(second.totals.reused_pages, first.totals.new_pages);
    assert!(second.totals.stored_bytes < 8_000, "{:?}", second.totals);
    assert!(
        read.frames
            .iter()
            .all(|(pack, _)| pack.writer == WriterId::new([1; 16]))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_taken_over_can_be_asked_for_while_it_is_written() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let mut tree = Tree::from([("base/1".to_owned(), Some(noise(1, 3 << 20)))]);
    let first = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    // As many new pages as there are old ones, and zeros, which are neither.
    tree.insert("base/2".to_owned(), Some(noise(2, 3 << 20)));
    tree.insert("base/3".to_owned(), Some(vec![0; 3 << 20]));
    let mut options = WriterOptions::new(WriterId::new([2; 16]), BLOCK);
    options.ancestor = Some(open(&deployment, &first).await.unwrap());
    options.memory = 0;
    let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
    let pages = writer.pages();
    assert_eq!(pages.reuse(), None, "nothing was seen yet");
    send(&mut writer, &tree, 32 << 10).await.unwrap();
    // The file that is the same comes first, and the buffers hold less than what follows it.
    let early = pages.reuse().unwrap();
    assert!(early >= 0.5, "{early}");
    let finished = writer.finish().await.unwrap();
    let Totals {
        new_pages,
        reused_pages,
        ..
    } = finished.totals;
    assert_eq!(new_pages, reused_pages);
    assert_eq!(pages.reuse(), Some(0.5));
}

#[tokio::test(flavor = "multi_thread")]
async fn layers_are_stacked_and_merged() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let mut tree = Tree::from([("base/1".to_owned(), Some(noise(1, 4 << 20)))]);
    let mut last = backup(&deployment, 1, &tree, None, 32 << 10).await.unwrap();
    let mut most = 0;
    let mut depths = Vec::new();
    for number in 2..16u8 {
        apply(
            &mut tree,
            &Edit::Page {
                file: 1,
                page: usize::from(number) * 7,
                zero: number % 5 == 0,
            },
            u64::from(number),
        );
        let ancestor = open(&deployment, &last).await.unwrap();
        last = backup(&deployment, number, &tree, Some(ancestor), 32 << 10)
            .await
            .unwrap();
        let read = must_equal(&deployment, &last, &tree).await;
        let EntryKind::File(file) = &read.entries[&key("base/1")].kind else {
            panic!("a file")
        };
        depths.push(file.sections[0].len());
        most = most.max(file.sections[0].len());
        assert!(last.totals.new_pages <= 1);
    }
    assert_eq!(most, super::section::MAX_LAYERS, "{depths:?}");
    assert!(depths.contains(&1), "merged once: {depths:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn zero_pages_are_free_and_tiny_files_share_frames() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let mut tree = Tree::from([("zeros".to_owned(), Some(vec![0; 40 << 20]))]);
    for number in 0..300 {
        tree.insert(format!("tiny/{number}"), Some(noise(number, 100 + number as usize)));
    }
    let finished = backup(&deployment, 1, &tree, None, 64 << 10).await.unwrap();
    let read = must_equal(&deployment, &finished, &tree).await;
    assert_eq!(finished.totals.zero_pages, 40 * 128);
    assert_eq!(finished.totals.new_pages, 300);
    let bytes: usize = (0..300).map(|number| 100 + number).sum();
    assert!(
        read.frames.len() <= bytes.div_ceil(64 << 10) + 1,
        "{} frames",
        read.frames.len()
    );
    assert!(finished.totals.stored_bytes < 200_000, "{:?}", finished.totals);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_beyond_a_section_are_cut() {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    let size = SECTION_LEN as usize + 100_000;
    let mut bytes = vec![0; size];
    for at in [0, 5_000_000, SECTION_LEN as usize - 10, size - 5_000] {
        let new = noise(at as u64, 5_000);
        bytes[at..at + 5_000].copy_from_slice(&new);
    }
    let mut tree = Tree::from([("big".to_owned(), Some(bytes))]);
    let first = backup(&deployment, 1, &tree, None, 256 << 10).await.unwrap();
    must_equal(&deployment, &first, &tree).await;
    tree.get_mut("big").unwrap().as_mut().unwrap()[size - 1] ^= 1;
    let ancestor = open(&deployment, &first).await.unwrap();
    let second = backup(&deployment, 2, &tree, Some(ancestor), 256 << 10).await.unwrap();
    assert_eq!(second.totals.new_pages, 1);
    must_equal(&deployment, &second, &tree).await;
}

/// The same stream makes the same objects, whatever the threads do.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_stored_depends_on_the_stream_only() {
    let mut tree = Tree::new();
    for number in 0..40u64 {
        let mut bytes = noise(number, 90_000 * (number as usize % 7));
        let half = bytes.len() / 2;
        bytes[half..].fill(0);
        tree.insert(format!("base/{number}"), Some(bytes));
    }
    let mut finished = Vec::new();
    for (jobs, piece) in [(1, 8192), (4, 50_000)] {
        let deployment = small(Arc::new(MemoryStore::new()), true);
        let mut options = WriterOptions::new(WriterId::new([1; 16]), BLOCK);
        options.jobs = jobs;
        let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
        send(&mut writer, &tree, piece).await.unwrap();
        finished.push(writer.finish().await.unwrap());
    }
    assert_eq!(finished[0].packs, finished[1].packs);
    assert_eq!(finished[0].pack_list, finished[1].pack_list);
    assert_eq!(finished[0].file_table, finished[1].file_table);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_renames_the_version_directory() {
    let deployment = small(Arc::new(MemoryStore::new()), true);
    let content = Some(noise(1, 100_000));
    let name = |version: &str| EntryKey {
        tablespace: 16_400,
        path: format!("{version}/5/1234").into_bytes(),
    };
    let mut last: Option<Finished> = None;
    for (number, version) in [(1, "PG_17_202406281"), (2, "PG_18_202506291")] {
        let mut options = WriterOptions::new(WriterId::new([number; 16]), BLOCK);
        if let Some(last) = &last {
            let ancestor = open(&deployment, last).await.unwrap();
            options.ancestor = Some(ancestor.with_version_directory("PG_17_202406281"));
        }
        let mut writer = BackupWriter::begin(&deployment, options).await.unwrap();
        let bytes = content.as_ref().unwrap();
        let meta = FileMeta {
            key: name(version),
            size: bytes.len() as u64,
            mode: 0o600,
            mtime: 0,
        };
        writer.start_file(meta).await.unwrap();
        writer.write(bytes).await.unwrap();
        writer.end_file().await.unwrap();
        last = Some(writer.finish().await.unwrap());
    }
    assert_eq!(last.unwrap().totals.new_pages, 0);
}
