//! A restore that is tried again under its id, over an archive in memory.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hardstorage_engine::restore::{
    MARKER, Onto, RecoveryTarget, RestoreOptions, RestoreRequest, TargetTimeline, plan_restore, run_restore,
};
use hardstorage_report::{Error, Kind, PointKind, RestoreReport, Result, code};
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, Names, honest};

const BACKUP: &str = "db1.full.20260625T083040Z.0001";

async fn bench() -> Bench {
    let bench = Bench::new().await;
    bench.store_wal(2..4).await;
    bench.back_up(BACKUP, Some(honest())).await;
    bench
}

async fn restore(
    bench: &Bench,
    data: &Path,
    id: Option<&str>,
    proof: impl AsyncFnOnce(&Path) -> Result<Option<String>>,
) -> Result<RestoreReport> {
    let request = RestoreRequest {
        backup: Some(BACKUP.parse().unwrap()),
        target: data.to_owned(),
        goal: RecoveryTarget::Immediate,
        inclusive: true,
        action: None,
        timeline: TargetTimeline::Latest,
        tablespace_mapping: Vec::new(),
        owner: None,
        running_as_root: false,
        repository_path: None,
        wal_dir: None,
        wal_in_target: false,
        retry_id: id.map(str::to_owned),
        onto: Onto::Empty,
    };
    let plan = plan_restore(&bench.deployment, &request).await?;
    let options = RestoreOptions {
        jobs: 1,
        restore_command: "false".to_owned(),
        run_id: None,
        recovery: None,
    };
    let sink = Arc::new(Names::default());
    run_restore(
        &bench.deployment,
        &plan,
        &options,
        sink,
        CancellationToken::new(),
        proof,
    )
    .await
}

/// Every file with its content; the moment of `recovery.signal` and the like does not count.
fn content(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}

#[tokio::test]
async fn what_was_found_wrong_is_looked_at_or_tried_again() {
    let bench = bench().await;
    let root = tempfile::tempdir().unwrap();
    let wrong = async |_: &Path| Err(Error::new(code::engine::FILE_CORRUPT, "a proof says no"));
    let fine = async |data: &Path| {
        assert!(data.join(MARKER).exists(), "the marker is removed last");
        Ok(Some("fine".to_owned()))
    };
    let data = root.path().join("watched");
    assert!(restore(&bench, &data, None, wrong).await.is_err());
    assert!(data.join("global/pg_control").exists() && !data.join(MARKER).exists());

    let data = root.path().join("data");
    let error = restore(&bench, &data, Some("run-1"), wrong).await.unwrap_err();
    assert!(error.is(code::engine::FILE_CORRUPT), "{error}");
    fs::write(data.join("half"), "x").unwrap();
    let before = content(&data);
    for other in [None, Some("run-2")] {
        let error = restore(&bench, &data, other, fine).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Conflict, "{error}");
    }
    assert_eq!(content(&data), before, "it is not theirs");
    let done = restore(&bench, &data, Some("run-1"), fine).await.unwrap();
    assert_eq!(done.verifybackup.as_deref(), Some("fine"));
    assert_eq!(done.course.target.kind, PointKind::Immediate);
    assert!(!data.join("half").exists() && !data.join(MARKER).exists());
    let error = restore(&bench, &data, Some("run-1"), fine).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Conflict, "it is done: {error}");
}

/// Killed between the result and the removal of the last marker: nothing is written again.
#[tokio::test]
async fn one_that_was_done_is_only_ended() {
    let bench = bench().await;
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    let proof = async |_: &Path| Ok(None);
    let first = restore(&bench, &data, Some("run-1"), proof).await.unwrap();
    fs::write(data.join("postgresql.conf"), "edited since").unwrap();
    let before = content(&data);
    let report = serde_json::to_string(&first).unwrap();
    // Half a result is none.
    let whole = format!("run-1\n{report}");
    fs::write(data.join(MARKER), &whole).unwrap();
    let never = async |_: &Path| Err(Error::new(code::engine::FILE_CORRUPT, "it was proven already"));
    assert!(restore(&bench, &data, Some("run-2"), never).await.is_err());
    assert_eq!(restore(&bench, &data, Some("run-1"), never).await.unwrap(), first);
    assert_eq!(content(&data), before);

    fs::write(data.join(MARKER), &whole[..whole.len() - 1]).unwrap();
    restore(&bench, &data, Some("run-1"), proof).await.unwrap();
    assert_ne!(content(&data), before, "begun anew");
}
