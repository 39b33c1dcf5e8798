//! What a restore plans, and what it refuses, over an archive in memory.

use std::path::Path;
use std::sync::Arc;

use hardstorage_engine::restore::{
    Onto, RecoveryTarget, RestoreOptions, RestorePlan, RestoreRequest, StopAt, TargetTimeline, plan_restore,
    run_restore,
};
use hardstorage_report::{Lsn, RestoreReport, Result, code};
use hardstorage_repository::wal::{CommitAt, RecordFacts, RestorePoint, ServerTime};
use jiff::{SignedDuration, Timestamp};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MIB, Names, files, honest, manifest_of, noise, segment};

/// The end of the bench's backups: 0/300100 at this second.
const STOPPED: i64 = 1_780_000_060;

fn second(at: i64) -> Timestamp {
    Timestamp::from_second(STOPPED + at).unwrap()
}

fn clock(at: i64) -> ServerTime {
    ServerTime::from_timestamp(second(at))
}

/// A backup with two segments of WAL, and a third that tells of these facts.
async fn archived(facts: RecordFacts, within: RecordFacts) -> Bench {
    let bench = Bench::new().await;
    bench.store_wal([2]).await;
    for (number, facts) in [(3, within), (4, facts)] {
        let raw = noise(number + 100, MIB as usize);
        bench.archive.put_segment(segment(number), &raw, facts).await.unwrap();
    }
    bench.back_up("db1.full.20260625T083040Z.0001", Some(honest())).await;
    bench
}

async fn plan(bench: &Bench, target: &Path, goal: RecoveryTarget, inclusive: bool) -> RestorePlan {
    let request = RestoreRequest {
        backup: Some("db1.full.20260625T083040Z.0001".parse().unwrap()),
        target: target.join("data"),
        goal,
        inclusive,
        action: None,
        timeline: TargetTimeline::Latest,
        tablespace_mapping: Vec::new(),
        owner: None,
        running_as_root: false,
        repository_path: None,
        wal_dir: None,
        wal_in_target: false,
        retry_id: None,
        onto: Onto::Empty,
    };
    plan_restore(&bench.deployment, &request).await.unwrap()
}

/// Runs a plan with one thread; gives also the names of the events.
async fn run(bench: &Bench, plan: &RestorePlan) -> (Result<RestoreReport>, Vec<String>) {
    let options = RestoreOptions {
        jobs: 1,
        restore_command: "false".to_owned(),
        run_id: None,
        recovery: None,
    };
    let sink = Arc::new(Names::default());
    let (cancel, proof) = (CancellationToken::new(), async |_: &Path| Ok(None));
    let done = run_restore(&bench.deployment, plan, &options, sink.clone(), cancel, proof).await;
    let names = std::mem::take(&mut *sink.0.lock().unwrap());
    (done, names)
}

#[tokio::test]
async fn what_lies_at_a_time_belongs_to_the_stop_that_is_found() {
    let commit = CommitAt {
        lsn: Lsn(4 * MIB + 800),
        time: clock(10),
    };
    let mut facts = RecordFacts::default();
    facts.note_commit(commit);
    facts.note_complete(clock(20));
    let bench = archived(facts, RecordFacts::default()).await;
    let root = tempfile::tempdir().unwrap();
    let micro = SignedDuration::from_micros(1);
    for (time, inclusive, stop_at, stops_behind) in [
        (second(9), true, StopAt::Time(second(9)), true),
        (second(9), false, StopAt::Time(second(9)), false),
        // Exactly at the commit: with it, and without it.
        (second(10), true, StopAt::Lsn(commit.lsn), true),
        (second(10), false, StopAt::Time(second(10)), false),
        // Behind it, whoever excludes the time wants the transaction before it all the same.
        (second(10) + micro, true, StopAt::Lsn(commit.lsn), true),
        (second(10) + micro, false, StopAt::Lsn(commit.lsn), true),
        (second(20), false, StopAt::Lsn(commit.lsn), true),
    ] {
        let found = plan(&bench, root.path(), RecoveryTarget::Time(time), inclusive).await;
        assert!(found.problems.is_empty(), "{time} {inclusive}: {:?}", found.problems);
        assert_eq!(
            (&found.stop_at, found.inclusive),
            (&stop_at, stops_behind),
            "{time} {inclusive}"
        );
    }
    let found = plan(&bench, root.path(), RecoveryTarget::Time(second(21)), true).await;
    assert_eq!(found.problems[0].code, "conflict.target_unreachable");
}

#[tokio::test]
async fn a_restore_point_before_the_end_of_the_backup_hides_the_one_after_it() {
    let point = |name: &str, lsn: u64| RestorePoint {
        name: name.to_owned(),
        lsn: Lsn(lsn),
        time: clock(1),
    };
    let told = |points: Vec<RestorePoint>| RecordFacts {
        restore_points: points,
        ..RecordFacts::default()
    };
    let within = told(vec![point("twice", 3 * MIB + 0x50), point("after", 3 * MIB + 0x180)]);
    let behind = told(vec![point("twice", 4 * MIB + 0x50), point("last", 4 * MIB + 0x180)]);
    let bench = archived(behind, within).await;
    let root = tempfile::tempdir().unwrap();
    for (name, reached) in [("twice", false), ("after", true), ("last", true), ("never", false)] {
        let found = plan(&bench, root.path(), RecoveryTarget::Name(name.to_owned()), true).await;
        assert_eq!(found.problems.is_empty(), reached, "{name}: {:?}", found.problems);
    }
}

#[tokio::test]
async fn targets_that_mean_nothing_are_refused() {
    let bench = archived(RecordFacts::default(), RecordFacts::default()).await;
    let root = tempfile::tempdir().unwrap();
    for (goal, inclusive, refused) in [
        (RecoveryTarget::Immediate, false, Some("usage.invalid")),
        (RecoveryTarget::Latest, false, Some("usage.invalid")),
        (RecoveryTarget::Name("x".to_owned()), false, Some("usage.invalid")),
        (RecoveryTarget::Xid(0), true, Some("conflict.target_unreachable")),
        (
            RecoveryTarget::Xid(1 << 32 | 2),
            true,
            Some("conflict.target_unreachable"),
        ),
        (RecoveryTarget::Xid(1 << 32 | 3), false, None),
        // No record begins in the noise of this archive; at its stop the backup is what it is.
        (
            RecoveryTarget::Lsn(Lsn(3 * MIB + 0x108)),
            true,
            Some("conflict.target_unreachable"),
        ),
        (RecoveryTarget::Lsn(Lsn(3 * MIB + 0x100)), true, None),
        (
            RecoveryTarget::Lsn(Lsn(3 * MIB + 0xF8)),
            true,
            Some("conflict.target_unreachable"),
        ),
        (
            RecoveryTarget::Lsn(Lsn(5 * MIB)),
            true,
            Some("conflict.target_unreachable"),
        ),
    ] {
        let found = plan(&bench, root.path(), goal.clone(), inclusive).await;
        let code = found.problems.first().map(|problem| problem.code.as_str());
        assert_eq!(code, refused, "{goal:?}: {:?}", found.problems);
    }
}

/// Nothing that can be started is ever there when a file is missing.
#[tokio::test]
async fn a_file_that_the_backup_lacks_is_missed_before_anything_can_start() {
    let all = files();
    let told = all
        .iter()
        .map(|(path, bytes)| (*path, bytes.len() as u64, hardstorage_codec::crc32c(bytes)));
    for lost in ["base/5/99", "postgresql.auto.conf"] {
        let bench = Bench::new().await;
        bench.store_wal(2..4).await;
        let manifest = manifest_of(told.clone().chain([(lost, 3, 7)]));
        bench.back_up("db1.full.20260625T083040Z.0001", Some(manifest)).await;
        let root = tempfile::tempdir().unwrap();
        let plan = plan(&bench, root.path(), RecoveryTarget::Immediate, true).await;
        let (done, names) = run(&bench, &plan).await;
        let error = done.unwrap_err();
        assert!(error.is(code::engine::FILE_CORRUPT), "{lost}: {error}");
        assert!(!root.path().join("data").exists(), "{lost}");
        assert!(!names.iter().any(|name| name == "restore.recovery_armed"), "{names:?}");
    }
}

/// The two small files that are read first are read side by side. Whichever fails, the other one's thread makes no file
/// behind the back of who removes everything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_when_one_of_the_first_files_is_damaged() {
    const ID: &str = "db1.full.20260625T083040Z.0001";
    let bench = Bench::new().await;
    bench.store_wal(2..4).await;
    let mut all = files();
    // Large, so that it is still being written when the other one is known to be lost.
    all.insert("backup_manifest", noise(4, 8 << 20));
    all.insert("postgresql.auto.conf", noise(5, 500));
    bench.back_up_files(ID, all).await;
    let pack = bench.data_pack(ID).await;
    assert!(
        bench
            .memory
            .corrupt(&pack, |bytes| bytes.truncate(bytes.len() * 9 / 10))
    );
    let root = tempfile::tempdir().unwrap();
    let plan = plan(&bench, root.path(), RecoveryTarget::Immediate, true).await;
    for turn in 0..20 {
        let (done, _) = run(&bench, &plan).await;
        let error = done.unwrap_err();
        assert!(error.is(code::repository::OBJECT_CORRUPT), "{turn}: {error}");
        assert!(!root.path().join("data").exists(), "{turn}: something is left");
    }
}
