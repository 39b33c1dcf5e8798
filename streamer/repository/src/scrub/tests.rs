//! Every place of a pack and of a WAL object, stores that fail or lose objects meanwhile, and what is remembered.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hardstorage_report::{Error, Lsn, SegmentName, SegmentSize, SystemId, Timeline, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Key, MemoryStore, Store as _};
use tokio_util::sync::CancellationToken;

use super::object::Class;
use super::round::Round;
use super::{ScrubOptions, ScrubProgress, ScrubReport, ScrubTarget, pack, scrub};
use crate::listing::Objects;
use crate::reader::tests::scenario::{Files, Scenario, noise};
use crate::wal::{NamedWal, RecordFacts, WalArchive, check_bytes, check_sealed};
use crate::{
    Damage, Deployment, Lineage, PackCipher, PackId, PackKind, PackRecord, Surroundings, decode_directory, layout,
};

fn target(store: DynStore, deployment: Option<&Deployment>) -> ScrubTarget {
    ScrubTarget {
        store,
        name: "db1".parse().unwrap(),
        deployment: deployment.cloned(),
    }
}

fn options(progress: ScrubProgress) -> ScrubOptions {
    ScrubOptions {
        within: Duration::from_hours(24 * 30),
        at_once: true,
        limit: None,
        progress,
        surroundings: Surroundings::default(),
    }
}

async fn run(deployment: &Deployment) -> hardstorage_report::Result<ScrubReport> {
    let target = target(deployment.store().clone(), Some(deployment));
    scrub(&target, &options(ScrubProgress::Repository), &CancellationToken::new()).await
}

async fn names(memory: &Arc<MemoryStore>, folder: &str) -> Vec<Key> {
    let store: DynStore = memory.clone();
    let objects = Objects::under(&store, folder).all().await.unwrap();
    objects.into_iter().map(|object| object.key).collect()
}

fn files() -> Files {
    let small = |seed, length| noise(seed, length);
    [
        ("base/5/1", small(1, 40_000)),
        ("base/5/2", small(2, 50_000)),
        ("base/5/3", small(3, 9_000)),
    ]
    .map(|(name, bytes)| (name.to_owned(), bytes))
    .into()
}

/// The places to flip: all at both ends, and some between.
fn places(length: usize) -> impl Iterator<Item = usize> {
    (0..length).filter(move |at| *at < 200 || *at + 500 > length || at % 1009 == 0)
}

/// Where the frames of a sealed pack lie.
async fn frames(scenario: &Scenario, record: &PackRecord) -> BTreeMap<u32, std::ops::Range<u64>> {
    let key = layout::pack(scenario.deployment.name(), &record.id.writer, record.id.sequence);
    let stored = scenario.memory.get(&key).await.unwrap().unwrap();
    let length = stored.len() as u64;
    let footer = crate::Footer::decode(&stored[stored.len() - crate::FOOTER_LEN..], length).unwrap();
    let directory = &stored[footer.directory_offset as usize..stored.len() - crate::FOOTER_LEN];
    let cipher = PackCipher::new(scenario.deployment.key(), record.id, record.kind);
    let entries = if scenario.deployment.key().seals() {
        cipher.open_directory(&footer, directory).unwrap()
    } else {
        decode_directory(directory, footer.frames).unwrap()
    };
    let spans = entries.iter().map(|entry| {
        let end = entry.offset + crate::FRAME_HEADER_LEN as u64 + u64::from(entry.stored_len);
        entry.offset..end
    });
    (0..).zip(spans).collect()
}

#[tokio::test]
async fn every_place_of_a_pack() {
    for scenario in [Scenario::new(), Scenario::unsealed()] {
        let seals = scenario.deployment.key().seals();
        let finished = scenario.back_up(1, &files(), None).await;
        for record in [
            finished.packs.iter().find(|pack| pack.kind == PackKind::Data).unwrap(),
            finished.packs.iter().find(|pack| pack.kind == PackKind::Meta).unwrap(),
        ] {
            let key = layout::pack(scenario.deployment.name(), &record.id.writer, record.id.sequence);
            let length = scenario.memory.head(&key).await.unwrap().unwrap().size;
            let frames = frames(&scenario, record).await;
            let check = async || pack::check(&scenario.deployment, record.id, length).await.unwrap();
            assert!(check().await.is_none());
            for at in places(length as usize) {
                let flip = || scenario.memory.corrupt(&key, |bytes| bytes[at] ^= 1 << (at % 8));
                assert!(flip());
                let bad = check().await.unwrap_or_else(|| panic!("{at} of {length} is not found"));
                let hit = frames.iter().find(|(_, span)| span.contains(&(at as u64)));
                let found: Vec<u32> = bad.frames.keys().copied().collect();
                match hit {
                    Some((frame, _)) => assert_eq!(found, [*frame], "{at} of {length}: {bad:?}"),
                    // Without a seal, a hash in the directory that went bad speaks against its frame.
                    None if seals => assert!(found.is_empty() && !bad.unknown, "{at} of {length}: {bad:?}"),
                    None => assert!(found.len() <= 1, "{at} of {length}: {bad:?}"),
                }
                let keyless = pack::check_bytes(
                    scenario.deployment.store(),
                    scenario.deployment.name(),
                    record.id,
                    length,
                );
                assert!(keyless.await.is_err(), "{at} of {length} needs a key");
                assert!(flip());
            }
            for cut in [0, 63, 127, 500, length - 1] {
                let whole = scenario.memory.get(&key).await.unwrap().unwrap();
                scenario.memory.corrupt(&key, |bytes| bytes.truncate(cut as usize));
                let bad = pack::check(&scenario.deployment, record.id, cut).await.unwrap();
                assert!(
                    bad.is_some_and(|bad| bad.unknown || !bad.frames.is_empty() || cut > 500),
                    "{cut}"
                );
                scenario.memory.corrupt(&key, |bytes| *bytes = whole.to_vec());
            }
        }
    }
}

#[tokio::test]
async fn every_place_of_a_wal_object() {
    let memory = Arc::new(MemoryStore::new());
    let deployment = Deployment::for_tests(memory.clone(), "db1");
    let lineage = Lineage {
        system_id: SystemId(7),
        incarnation: 1,
    };
    let size = SegmentSize::new(1 << 20).unwrap();
    let archive = WalArchive::new(deployment.clone(), lineage, size);
    let segment = SegmentName::containing(Timeline(1), Lsn(5 << 20), size);
    let mut raw = noise(4, 20_000);
    raw.resize(1 << 20, 0);
    archive
        .put_segment(segment, &raw, RecordFacts::default())
        .await
        .unwrap();
    let writer = crate::WriterId::new([1; 16]);
    let next = SegmentName::containing(Timeline(1), Lsn(6 << 20), size);
    let mut tail = archive.tail_writer(next, writer).unwrap();
    tail.put(Lsn(6 << 20), &raw[..9000], RecordFacts::default())
        .await
        .unwrap();
    let keys = names(&memory, "wal/db1/").await;
    assert_eq!(keys.len(), 2);
    for key in keys {
        let named = NamedWal::of(deployment.name(), &key).unwrap();
        let length = memory.head(&key).await.unwrap().unwrap().size;
        check_sealed(&deployment, &key, length, &named).await.unwrap();
        check_bytes(deployment.store(), &key, length, &named).await.unwrap();
        for at in places(length as usize) {
            let flip = || memory.corrupt(&key, |bytes| bytes[at] ^= 1 << (at % 8));
            flip();
            let keyed = check_sealed(&deployment, &key, length, &named).await;
            assert!(!super::is_the_store(&keyed.unwrap_err()), "{key}, {at}");
            let keyless = check_bytes(deployment.store(), &key, length, &named).await;
            assert!(!super::is_the_store(&keyless.unwrap_err()), "{key}, {at}");
            flip();
        }
    }
}

/// Nothing is concluded from a store that does not answer, and the next run reads what this one did not.
#[tokio::test]
async fn a_store_that_fails_is_no_damage() {
    let scenario = Scenario::new();
    scenario.back_up(1, &files(), None).await;
    let faults = Arc::new(FaultStore::new(scenario.memory.clone()));
    let deployment = scenario.through(faults.clone());
    let whole = run(&deployment).await.unwrap();
    assert!(whole.ok && whole.objects > 2 && whole.done >= 1.0, "{whole:?}");
    let before = names(&scenario.memory, "").await;
    faults.every(Call::GetRange, || {
        Fault::FailBefore(Error::new(code::storage::UNREACHABLE, "no answer"))
    });
    let error = run(&deployment).await.unwrap_err();
    assert!(error.is(code::storage::UNREACHABLE), "{error}");
    assert_eq!(names(&scenario.memory, "").await, before);
    faults.clear();
    let again = run(&deployment).await.unwrap();
    // The first run's own record has come.
    assert_eq!((again.ok, again.objects), (true, whole.objects + 1));
}

#[tokio::test]
async fn a_transfer_that_went_wrong_once_is_no_damage() {
    let scenario = Scenario::new();
    scenario.back_up(1, &files(), None).await;
    let faults = Arc::new(FaultStore::new(scenario.memory.clone()));
    let deployment = scenario.through(faults.clone());
    faults.on(Call::GetRange, 2, Fault::FlipByte(7));
    let report = run(&deployment).await.unwrap();
    assert!(report.ok && report.problems.is_empty(), "{report:?}");
    assert!(Damage::load(&deployment).await.unwrap().is_empty());
}

/// What is collected between the listing and the reading is neither damage nor lost.
#[tokio::test]
async fn what_goes_meanwhile_is_passed_over() {
    let scenario = Scenario::new();
    scenario.back_up(1, &files(), None).await;
    let faults = Arc::new(FaultStore::new(scenario.memory.clone()));
    let deployment = scenario.through(faults.clone());
    faults.every(Call::GetRange, || Fault::RemoveFirst);
    let report = run(&deployment).await.unwrap();
    assert!(
        report.ok && report.problems.is_empty() && report.vanished >= 2,
        "{report:?}"
    );
    assert_eq!(names(&scenario.memory, "packs/").await, []);
}

/// What is bad is read again by every run, recorded once, and forgotten when it is gone.
#[tokio::test]
async fn what_is_bad_stays_in_mind_until_it_is_gone() {
    let scenario = Scenario::new();
    let finished = scenario.back_up(1, &files(), None).await;
    let record = &finished.packs[0];
    let key = layout::pack(scenario.deployment.name(), &record.id.writer, record.id.sequence);
    scenario.memory.corrupt(&key, |bytes| bytes[200] ^= 1);
    let first = run(&scenario.deployment).await.unwrap();
    assert!(
        !first.ok && !first.problems[0].known && first.problems[0].recorded == 1,
        "{first:?}"
    );
    let mut daily = options(ScrubProgress::Repository);
    daily.at_once = false;
    daily.within = Duration::from_hours(24 * 36_500);
    let again = async || {
        let target = target(scenario.deployment.store().clone(), Some(&scenario.deployment));
        scrub(&target, &daily, &CancellationToken::new()).await.unwrap()
    };
    let second = again().await;
    assert_eq!(second.problems.len(), 1, "{second:?}");
    // There is no backup that would be whole.
    assert!(second.problems[0].known && second.problems[0].recorded == 0 && !second.ok);
    assert_eq!(names(&scenario.memory, "scrub/").await.len(), 1);
    scenario.memory.delete(&key).await.unwrap();
    assert!(again().await.ok);

    // Its own record is one of the objects.
    let own = names(&scenario.memory, "scrub/").await.remove(0);
    scenario.memory.corrupt(&own, |bytes| bytes[100] ^= 1);
    let third = again().await;
    assert!(
        !third.ok && third.problems[0].reason.contains(own.as_str()),
        "{third:?}"
    );
    assert!(again().await.ok);
}

#[tokio::test]
async fn a_run_that_is_stopped_is_gone_on_with_from_a_file_too() {
    let scenario = Scenario::new();
    scenario.back_up(1, &files(), None).await;
    let root = tempfile::tempdir().unwrap();
    let progress = ScrubProgress::File {
        path: root.path().join("state.json"),
        repository_id: [3; 16],
    };
    let target = target(scenario.deployment.store().clone(), None);
    let before = names(&scenario.memory, "").await;
    let mut limited = options(progress.clone());
    limited.limit = Some(1);
    let (mut objects, mut runs) = (0, 0);
    loop {
        let report = scrub(&target, &limited, &CancellationToken::new()).await.unwrap();
        assert!(report.keyless && report.ok && report.objects == 1, "{report:?}");
        (objects, runs) = (objects + report.objects, runs + 1);
        if report.done >= 1.0 {
            break;
        }
    }
    assert_eq!((objects, runs), (before.len() as u64, before.len()));
    assert_eq!(names(&scenario.memory, "").await, before);
    let stopped = CancellationToken::new();
    stopped.cancel();
    let error = scrub(&target, &options(progress), &stopped).await.unwrap_err();
    assert!(error.is(code::cli::INTERRUPTED), "{error}");
    let foreign = ScrubProgress::File {
        path: root.path().join("state.json"),
        repository_id: [4; 16],
    };
    let error = scrub(&target, &options(foreign), &CancellationToken::new())
        .await
        .unwrap_err();
    assert!(error.is(code::repository::SCRUB_STATE), "{error}");
}

#[test]
fn a_round_is_kept_as_it_is() {
    let mut round = Round::first("2026-11-22T03:00:00Z".parse().unwrap());
    round.bad.insert("packs/db1/x".to_owned());
    let text = serde_json::to_string(&round).unwrap();
    assert_eq!(serde_json::from_str::<Round>(&text).unwrap(), round);
    let pack = PackId {
        writer: crate::WriterId::new([1; 16]),
        sequence: 2,
    };
    let name = "db1".parse().unwrap();
    let class = Class::of(&name, &layout::pack(&name, &pack.writer, 2));
    assert!(matches!(class, Class::Pack(found) if found == pack));
    assert!(matches!(
        Class::of(&name, &Key::new("packs/db1/other").unwrap()),
        Class::Strange
    ));
}
