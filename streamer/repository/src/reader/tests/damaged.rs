//! Bytes that are not what they were: every one is noticed, named, and hurts no more files than it must.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{Kind, Result, code};
use hardstorage_storage::Store as _;
use tokio_util::sync::CancellationToken;

use super::scenario::{Collect, Scenario, noise, open, samples as sample_files, tiny};
use crate::manifest::samples;
use crate::pack::{FOOTER_LEN, Footer, PACK_HEADER_LEN};
use crate::reader::{CheckedPack, ReadOptions, VerifyDepth, check_pack_bytes, damage_impact};
use crate::table::PackRecord;
use crate::writer::Finished;
use crate::{BackupState, Catalog, CatalogEntry, Content, Damage, PackKind, VerifiedManifest, layout};

fn key_of(scenario: &Scenario, record: &PackRecord) -> hardstorage_storage::Key {
    layout::pack(scenario.deployment.name(), &record.id.writer, record.id.sequence)
}

async fn stored(scenario: &Scenario, record: &PackRecord) -> Vec<u8> {
    let key = key_of(scenario, record);
    scenario.memory.get(&key).await.unwrap().unwrap().to_vec()
}

async fn without_key(scenario: &Scenario, record: &PackRecord, length: usize) -> Result<CheckedPack> {
    let (store, name) = (scenario.deployment.store(), scenario.deployment.name());
    check_pack_bytes(store, name, record.id, length as u64, &CancellationToken::new()).await
}

/// Offsets in every region of a pack: header, first and last frame, directory, every field of the footer.
fn regions(pack: &[u8]) -> Vec<usize> {
    let footer = Footer::decode(&pack[pack.len() - FOOTER_LEN..], pack.len() as u64).unwrap();
    let directory = footer.directory_offset as usize;
    let mut at = vec![0, 10, 12, 20, 40, 60];
    at.extend([
        PACK_HEADER_LEN,
        PACK_HEADER_LEN + 3,
        PACK_HEADER_LEN + 5,
        PACK_HEADER_LEN + 9,
        PACK_HEADER_LEN + 14,
    ]);
    at.extend([PACK_HEADER_LEN + 16, PACK_HEADER_LEN + 40, directory - 1]);
    at.extend([directory, directory + 20, pack.len() - FOOTER_LEN - 1]);
    at.extend([0, 8, 12, 20, 50, 60].map(|field| pack.len() - FOOTER_LEN + field));
    at
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flipped_byte_in_any_region_names_the_pack() {
    let scenario = Scenario::new();
    let files = sample_files();
    let finished = scenario.back_up(1, &files, None).await;
    let first = |kind| {
        finished
            .packs
            .iter()
            .find(|pack| pack.kind == kind && !pack.holds_the_list())
    };
    let last = finished.packs.iter().find(|pack| pack.holds_the_list());
    for record in [first(PackKind::Data), first(PackKind::Meta), last]
        .into_iter()
        .flatten()
    {
        let pack = stored(&scenario, record).await;
        let key = key_of(&scenario, record);
        for at in regions(&pack) {
            scenario.memory.corrupt(&key, |bytes| bytes[at] ^= 0x10);
            let named = match open(&scenario.deployment, &finished).await {
                Err(error) => {
                    assert_eq!(error.kind(), Kind::Verify, "{error}");
                    error.to_string()
                }
                Ok(backup) => {
                    let report = backup
                        .verify(VerifyDepth::Content, &ReadOptions::default())
                        .await
                        .unwrap();
                    let failure = report
                        .content
                        .failure()
                        .unwrap_or_else(|| panic!("{key} byte {at} was not noticed"));
                    assert_eq!(failure.kind(), Kind::Verify);
                    failure.to_string()
                }
            };
            assert!(named.contains(key.as_str()), "{key} byte {at}: {named}");
            let keyless = without_key(&scenario, record, pack.len()).await;
            assert_eq!(keyless.unwrap_err().kind(), Kind::Verify, "{key} byte {at}");
            scenario.memory.corrupt(&key, |bytes| bytes[at] ^= 0x10);
        }
        let whole = without_key(&scenario, record, pack.len()).await.unwrap();
        assert_eq!(whole.header.id, record.id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_hurts_its_files_only_and_is_recorded() {
    let scenario = Scenario::new();
    let files = sample_files();
    let finished = scenario.back_up(1, &files, None).await;
    let backup = scenario.open(&finished).await;
    for (number, record) in finished
        .packs
        .iter()
        .filter(|pack| pack.kind == PackKind::Data)
        .enumerate()
    {
        let key = key_of(&scenario, record);
        scenario.memory.corrupt(&key, |bytes| bytes[PACK_HEADER_LEN + 100] ^= 1);
        let sink = Arc::new(Collect::default());
        let report = backup.restore(Arc::clone(&sink), None, &tiny()).await.unwrap();
        let damage = &report.damages.named[0];
        assert_eq!(report.damages.named.len(), 1, "{report:?}");
        assert_eq!((damage.object.as_str(), damage.frame), (key.as_str(), Some(0)));
        assert!(!damage.files.is_empty());
        assert_eq!(report.damaged_files, damage.files.len() as u64);
        let mut expected = files.clone();
        expected.retain(|name, _| !damage.files.contains(name));
        assert_eq!(sink.whole(), expected, "every other file is whole");
        assert_eq!(report.failure().unwrap().code(), code::repository::OBJECT_CORRUPT);
        assert_eq!(report.recorded, 1);
        let known = Damage::load(&scenario.deployment).await.unwrap();
        assert!(known.contains(record.id, 0));
        assert_eq!(known.len(), number + 1);
        let hurt = backup.files_in(&BTreeSet::from([(record.id, 0)])).await.unwrap();
        assert_eq!(hurt, damage.files);
        scenario.memory.corrupt(&key, |bytes| bytes[PACK_HEADER_LEN + 100] ^= 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_next_backup_heals_what_was_recorded() {
    let scenario = Scenario::new();
    let files = sample_files();
    let first = scenario.back_up(1, &files, None).await;
    let record = first.packs.iter().find(|pack| pack.kind == PackKind::Data).unwrap();
    let key = key_of(&scenario, record);
    scenario.memory.corrupt(&key, |bytes| bytes[PACK_HEADER_LEN + 100] ^= 1);
    let backup = scenario.open(&first).await;
    let report = backup
        .verify(VerifyDepth::Content, &ReadOptions::default())
        .await
        .unwrap();
    assert_eq!(report.content.recorded, 1);
    let known = Damage::load(&scenario.deployment).await.unwrap();
    let damaged = known.iter().map(|(pack, frame, _)| (pack, frame)).collect();
    let second = scenario.back_up_without(2, &files, &first, damaged).await;
    assert!(second.totals.reused_pages > 0);
    let report = scenario
        .open(&second)
        .await
        .verify(VerifyDepth::Content, &ReadOptions::default())
        .await
        .unwrap();
    // The pack's own structure is untouched: the flip lies in a frame that nobody refers to any more.
    assert!(report.content.failure().is_none(), "{report:?}");
}

/// Removes or cuts each pack in turn.
async fn without(scenario: &Scenario, finished: &Finished, record: &PackRecord, cut: Option<usize>) {
    let key = key_of(scenario, record);
    let before = stored(scenario, record).await;
    match cut {
        None => assert!(scenario.memory.delete(&key).await.unwrap()),
        Some(length) => assert!(scenario.memory.corrupt(&key, |bytes| bytes.truncate(length))),
    }
    let files = sample_files();
    match open(&scenario.deployment, finished).await {
        Err(error) => {
            assert_eq!(error.kind(), Kind::Verify);
            assert!(error.to_string().contains(key.as_str()), "{error}");
        }
        Ok(backup) => {
            for depth in [VerifyDepth::Structure, VerifyDepth::Content] {
                let report = backup.verify(depth, &tiny()).await.unwrap();
                let named = &report.content.damages.named;
                let damage = named
                    .iter()
                    .find(|damage| damage.object == key.as_str() && damage.frame.is_none());
                let damage = damage.unwrap_or_else(|| panic!("{key} {cut:?} {depth:?}: {report:?}"));
                // How long the pack with the list should be stands nowhere: then it is damaged, not short.
                assert!(damage.pack_missing || record.holds_the_list());
                assert!(report.content.failure().is_some());
                let hurt: BTreeSet<_> = named.iter().flat_map(|damage| &damage.files).collect();
                assert_eq!(report.content.damaged_files, hurt.len() as u64, "{report:?}");
                if record.kind == PackKind::Data && cut.is_none_or(|cut| cut < before.len() - 1) {
                    assert!(!hurt.is_empty(), "{report:?}");
                }
            }
            let sink = Arc::new(Collect::default());
            let report = backup.restore(Arc::clone(&sink), None, &tiny()).await.unwrap();
            for (name, bytes) in sink.whole() {
                assert_eq!(&bytes, &files[&name]);
            }
            if record.kind == PackKind::Data {
                let hurt: BTreeSet<_> = report.damages.named.iter().flat_map(|damage| &damage.files).collect();
                assert_eq!(sink.whole().len() + hurt.len(), files.len(), "{report:?}");
                if cut.is_some() {
                    assert!(report.damages.named.iter().all(|damage| damage.frame.is_some()));
                }
            }
        }
    }
    scenario.memory.delete(&key).await.unwrap();
    scenario.memory.put_new(&key, before.into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_short_pack_is_named() {
    let scenario = Scenario::new();
    let finished = scenario.back_up(1, &sample_files(), None).await;
    for record in &finished.packs {
        let length = stored(&scenario, record).await.len();
        for cut in [None, Some(length / 2), Some(length - 1), Some(10), Some(0)] {
            without(&scenario, &finished, record, cut).await;
        }
    }
    let backup = scenario.open(&finished).await;
    let report = backup.verify(VerifyDepth::Content, &tiny()).await.unwrap();
    assert!(report.content.failure().is_none(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn roots_of_another_backup_or_key_are_refused() {
    let scenario = Scenario::new();
    let first = scenario.back_up(1, &sample_files(), None).await;
    let mut other = sample_files();
    other.insert("more".into(), noise(1, 100));
    let second = scenario.back_up(2, &other, None).await;
    let mut mixed = first.file_table.clone();
    mixed.hash = second.file_table.hash;
    let error = crate::reader::BackupReader::open(&scenario.deployment, &mixed, &first.pack_list)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Verify);
    mixed = first.file_table.clone();
    mixed.length += 1;
    let error = crate::reader::BackupReader::open(&scenario.deployment, &mixed, &first.pack_list)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), Kind::Verify);
    let foreign = Scenario::with_keys(8).through(scenario.deployment.store().clone());
    assert_eq!(open(&foreign, &first).await.unwrap_err().kind(), Kind::Verify);
}

fn entry(scenario: &Scenario, id: &str, finished: &Finished) -> CatalogEntry {
    let mut manifest = samples::of(&scenario.deployment, &SigningKey::new(&Secret::new([1; 32])), id, 0);
    manifest.file_table = finished.file_table.clone();
    manifest.pack_list = finished.pack_list.clone();
    CatalogEntry {
        backup_id: id.parse().unwrap(),
        content: Content::Committed(Box::new(VerifiedManifest {
            manifest,
            hash: [0; 32],
            stored_bytes: 0,
        })),
        state: Ok(BackupState::default()),
        damage: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bad_frame_names_every_backup_that_needs_it() {
    let scenario = Scenario::new();
    let mut files = sample_files();
    let first = scenario.back_up(1, &files, None).await;
    files.insert("base/6/large".into(), noise(1234, 2_500_000));
    let second = scenario.back_up(2, &files, Some(&first)).await;
    let third = scenario.back_up(3, &sample_files(), None).await;
    let ids = [
        "db1.full.20260625T083040Z.0001",
        "db1.full.20260625T083040Z.0002",
        "db1.full.20260625T083040Z.0003",
    ];
    let entries = ids.iter().zip([&first, &second, &third]);
    let catalog = Catalog {
        entries: entries.map(|(id, finished)| entry(&scenario, id, finished)).collect(),
        strange: Vec::new(),
        gone: BTreeMap::new(),
        vanished: false,
    };
    let damage = Damage::load(&scenario.deployment).await.unwrap();
    assert_eq!(
        damage_impact(&scenario.deployment, &catalog, &damage).await.unwrap(),
        []
    );

    // The first frame holds small files, which the second backup took over; the last frames hold the large one.
    let pack = first.packs.iter().rfind(|pack| pack.kind == PackKind::Data).unwrap();
    for (pack, hurt) in [(first.packs[0].id, vec![ids[0], ids[1]]), (pack.id, vec![ids[0]])] {
        Damage::record(&scenario.deployment, pack, 0, "test", None)
            .await
            .unwrap();
        let damage = Damage::load(&scenario.deployment).await.unwrap();
        let found = damage_impact(&scenario.deployment, &catalog, &damage).await.unwrap();
        let names: Vec<_> = found.iter().map(|backup| backup.backup_id.as_str()).collect();
        assert_eq!(names, hurt);
        assert!(
            found
                .iter()
                .all(|backup| !backup.files.is_empty() && backup.unreadable.is_none())
        );
        let key = layout::damage(scenario.deployment.name(), &pack.writer, pack.sequence, 0);
        assert!(scenario.memory.delete(&key).await.unwrap());
    }

    // A file table that is lost hurts its backup as a whole.
    let table = first.file_table.frames[0];
    Damage::record(&scenario.deployment, first.packs[0].id, 0, "test", None)
        .await
        .unwrap();
    let damage = Damage::load(&scenario.deployment).await.unwrap();
    let key = layout::pack(scenario.deployment.name(), &table.pack.writer, table.pack.sequence);
    assert!(scenario.memory.delete(&key).await.unwrap());
    let found = damage_impact(&scenario.deployment, &catalog, &damage).await.unwrap();
    assert!(
        found[0]
            .unreadable
            .as_ref()
            .is_some_and(|reason| reason.contains(key.as_str()))
    );
}
