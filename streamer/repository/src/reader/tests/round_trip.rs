//! What was written comes back, whatever the files, the layers and the windows are.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use proptest::prelude::*;

use super::scenario::{Collect, Files, Scenario, key, meta, noise, samples, tiny};
use crate::PackKind;
use crate::layer::SECTION_LEN;
use crate::reader::{ReadOptions, Selection, VerifyDepth};
use crate::table::EntryKind;

fn small() -> ReadOptions {
    ReadOptions {
        jobs: 2,
        ..ReadOptions::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_file_comes_back_in_wide_and_in_tiny_windows() {
    let scenario = Scenario::new();
    let files = samples();
    let finished = scenario.back_up(1, &files, None).await;
    assert!(finished.packs.len() > 3, "the sample fills several packs");
    let backup = scenario.open(&finished).await;
    for options in [small(), tiny()] {
        let told = Arc::new(AtomicU64::new(0));
        let options = ReadOptions {
            progress: Some(Arc::new({
                let told = Arc::clone(&told);
                move |bytes| {
                    told.fetch_add(bytes, Ordering::Relaxed);
                }
            })),
            ..options
        };
        let sink = Arc::new(Collect::default());
        let report = backup.restore(Arc::clone(&sink), None, &options).await.unwrap();
        assert!(report.failure().is_none(), "{report:?}");
        assert_eq!(sink.whole(), files);
        let bytes = files.values().map(|file| file.len() as u64).sum::<u64>();
        assert_eq!((report.files, report.bytes), (files.len() as u64, bytes));
        assert_eq!(told.load(Ordering::Relaxed), bytes);
        assert_eq!(report.damaged_files, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn layers_come_back_from_several_packs() {
    let scenario = Scenario::new();
    let mut files = samples();
    let first = scenario.back_up(1, &files, None).await;
    let mut history = vec![(first, files.clone())];
    for step in 2u8..6 {
        let large = files.get_mut("base/6/large").unwrap();
        for page in [3usize, 17 * usize::from(step), 200] {
            let patch = noise(u64::from(step) * 1000 + page as u64, 8192);
            large[page * 8192..page * 8192 + 8192].copy_from_slice(&patch);
        }
        large[100 * 8192..101 * 8192].fill(0);
        large.truncate(2_500_000 - usize::from(step) * 3000);
        files
            .get_mut("base/5/8192")
            .unwrap()
            .extend_from_slice(&noise(u64::from(step), 5000));
        files.insert(format!("base/7/{step}"), noise(u64::from(step), 20_000));
        files.remove("base/5/511");
        let before = &history.last().unwrap().0;
        let next = scenario.back_up(step, &files, Some(before)).await;
        assert!(next.totals.reused_pages > 100, "the writer refers to older pages");
        history.push((next, files.clone()));
    }
    for (finished, files) in &history {
        let backup = scenario.open(finished).await;
        for options in [small(), tiny()] {
            let sink = Arc::new(Collect::default());
            let report = backup.restore(Arc::clone(&sink), None, &options).await.unwrap();
            assert!(report.failure().is_none(), "{report:?}");
            assert_eq!(&sink.whole(), files);
        }
        let report = backup.verify(VerifyDepth::Content, &small()).await.unwrap();
        assert!(report.content.failure().is_none(), "{report:?}");
        assert_eq!(report.content.files, files.len() as u64);
        assert_eq!(report.packs, finished.packs.len() as u64);
    }
}

/// A layer may stay in a stack although every page of it was replaced since: its pack is then needed by nobody, and listed
/// nowhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_whose_pages_were_all_replaced_is_no_damage() {
    let scenario = Scenario::new();
    let mut files = samples();
    let first = scenario.back_up(1, &files, None).await;
    let mut change = |seed: u64| {
        files.get_mut("base/6/large").unwrap()[3 * 8192..4 * 8192].copy_from_slice(&noise(seed, 8192));
        files.clone()
    };
    let second = scenario.back_up(2, &change(1000), Some(&first)).await;
    let wanted = change(2000);
    let third = scenario.back_up(3, &wanted, Some(&second)).await;
    let replaced = second.packs.iter().find(|pack| {
        let is_new = !first.packs.iter().any(|old| old.id == pack.id);
        is_new && pack.kind == PackKind::Data
    });
    let replaced = replaced.unwrap().id;
    assert!(
        third.packs.iter().all(|pack| pack.id != replaced),
        "the pack is not needed"
    );
    let backup = scenario.open(&third).await;
    let sink = Arc::new(Collect::default());
    let report = backup.restore(Arc::clone(&sink), None, &small()).await.unwrap();
    assert!(report.failure().is_none(), "{report:?}");
    assert_eq!(sink.whole(), wanted);
    let report = backup.verify(VerifyDepth::Content, &small()).await.unwrap();
    assert!(report.content.failure().is_none(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_table_is_streamed_in_order_and_looked_up() {
    let scenario = Scenario::new();
    let mut files = samples();
    for number in 0..3000 {
        files.insert(format!("base/9/{number:05}"), noise(number, (number % 50) as usize));
    }
    let finished = scenario.back_up(1, &files, None).await;
    let backup = scenario.open(&finished).await;
    assert_eq!(backup.entry_count(), files.len() as u64 + 1);
    let mut entries = backup.entries();
    let mut names = Vec::new();
    while let Some(entry) = entries.next().await.unwrap() {
        let found = backup.lookup(&entry.key).await.unwrap();
        assert_eq!(found.as_ref(), Some(&entry));
        names.push(entry.key);
    }
    assert!(names.is_sorted());
    let expected: BTreeSet<_> = files.keys().map(|name| key(name)).chain([key("base")]).collect();
    assert_eq!(names.into_iter().collect::<BTreeSet<_>>(), expected);
    assert!(backup.lookup(&key("base/5/nothing")).await.unwrap().is_none());
    assert!(backup.lookup(&key("")).await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_is_selected_is_restored() {
    let scenario = Scenario::new();
    let files = samples();
    let finished = scenario.back_up(1, &files, None).await;
    let backup = scenario.open(&finished).await;
    let select: Selection =
        Arc::new(|entry| matches!(entry.kind, EntryKind::File(_)) && entry.key.path.starts_with(b"base/6/"));
    let sink = Arc::new(Collect::default());
    let report = backup.restore(Arc::clone(&sink), Some(select), &small()).await.unwrap();
    assert_eq!(report.files, 1);
    assert_eq!(sink.whole().keys().collect::<Vec<_>>(), ["base/6/large"]);
    let all = backup
        .restore(Arc::new(Collect::default()), None, &small())
        .await
        .unwrap();
    assert!(report.frames < all.frames && report.read_bytes < all.read_bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_small_files_share_is_decoded_once() {
    let scenario = Scenario::new();
    let files: Files = (0..30)
        .map(|number| (format!("a/{number:02}"), noise(number + 1, 1000)))
        .collect();
    let finished = scenario.back_up(1, &files, None).await;
    let report = scenario
        .open(&finished)
        .await
        .restore(Arc::new(Collect::default()), None, &small())
        .await
        .unwrap();
    assert_eq!((report.files, report.frames), (30, 1));
}

/// Some file with pages of noise, of zeros and of text.
fn file() -> impl Strategy<Value = Vec<u8>> {
    let page = prop_oneof![
        2 => any::<u64>().prop_map(|seed| noise(seed, 8192)),
        2 => Just(vec![0; 8192]),
        1 => any::<u8>().prop_map(|byte| vec![byte; 8192]),
    ];
    (proptest::collection::vec(page, 0..20), 0usize..8192, any::<u64>()).prop_map(|(pages, rest, seed)| {
        let mut file = pages.concat();
        file.extend_from_slice(&noise(seed, rest));
        file
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn any_files_over_two_backups(
        first in proptest::collection::btree_map("[a-d]{1,2}", file(), 0..10),
        second in proptest::collection::btree_map("[a-d]{1,2}", file(), 0..4),
        kept in any::<u16>(), edit in any::<u16>(), wide in any::<bool>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let scenario = Scenario::new();
            let before = scenario.back_up(1, &first, None).await;
            let mut files: Files = first
                .iter()
                .enumerate()
                .filter(|(index, _)| kept >> (index % 16) & 1 == 1)
                .map(|(index, (name, bytes))| {
                    let mut bytes = bytes.clone();
                    if edit >> (index % 16) & 1 == 1 && bytes.len() > 9000 {
                        bytes[8500] ^= 1;
                        bytes.truncate(bytes.len() - 300);
                    }
                    (name.clone(), bytes)
                })
                .collect();
            files.extend(second);
            let after = scenario.back_up(2, &files, Some(&before)).await;
            let options = if wide { small() } else { tiny() };
            for (finished, files) in [(&before, &first), (&after, &files)] {
                let sink = Arc::new(Collect::default());
                let backup = scenario.open(finished).await;
                let report = backup.restore(Arc::clone(&sink), None, &options).await.unwrap();
                assert!(report.failure().is_none(), "{report:?}");
                assert_eq!(&sink.whole(), files);
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_longer_than_a_section_goes_on_in_the_next_window() {
    let scenario = Scenario::new();
    let size = SECTION_LEN + 3 * 8192 + 5;
    let mut writer = scenario.writer(1, None).await;
    writer.start_file(meta("base/5/16384.long", size)).await.unwrap();
    let mut at = 0u64;
    while at < size {
        let length = (size - at).min(1 << 20) as usize;
        let mut piece = vec![0; length];
        // Something at the start of the file, around the border of the sections, and at the end.
        if at == 0 || at + (1 << 20) >= SECTION_LEN {
            piece = noise(at + 1, length);
        }
        writer.write(&piece).await.unwrap();
        at += length as u64;
    }
    writer.end_file().await.unwrap();
    let finished = writer.finish().await.unwrap();
    let backup = scenario.open(&finished).await;
    for options in [small(), tiny()] {
        let report = backup.verify(VerifyDepth::Content, &options).await.unwrap();
        assert!(report.content.failure().is_none(), "{report:?}");
        assert_eq!((report.content.files, report.content.bytes), (1, size));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_repository_without_encryption_is_read_the_same_way() {
    let scenario = Scenario::unsealed();
    let files = samples();
    let finished = scenario.back_up(1, &files, None).await;
    let backup = scenario.open(&finished).await;
    let sink = Arc::new(Collect::default());
    let report = backup.restore(Arc::clone(&sink), None, &tiny()).await.unwrap();
    assert!(report.failure().is_none(), "{report:?}");
    assert_eq!(sink.whole(), files);
    let report = backup.verify(VerifyDepth::Content, &small()).await.unwrap();
    assert!(report.content.failure().is_none(), "{report:?}");
}
