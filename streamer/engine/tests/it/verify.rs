//! Verification of backups that were damaged in every part, on a store in memory.

use std::sync::Arc;

use hardstorage_codec::crc32c;
use hardstorage_engine::verify::{VerifyPlan, VerifyResult, run_verify};
use hardstorage_report::{Lsn, Timeline, code};
use hardstorage_storage::Store as _;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, MIB, Names, files, honest, manifest_of};

const ID: &str = "db1.full.20260625T083040Z.0001";
const OTHER: &str = "db1.full.20260626T083040Z.0002";

async fn verify(bench: &Bench, structure_only: bool) -> (VerifyResult, Vec<String>) {
    let plan = VerifyPlan {
        backup: Some(ID.parse().unwrap()),
        structure_only,
        jobs: 2,
        run_id: None,
    };
    let names = Arc::new(Names::default());
    let result = run_verify(&bench.deployment, &plan, names.clone(), CancellationToken::new()).await;
    let names = std::mem::take(&mut *names.0.lock().unwrap());
    (result.unwrap(), names)
}

#[tokio::test]
async fn a_whole_backup_is_proven() {
    let bench = Bench::new().await;
    bench.store_wal(2..6).await;
    bench.back_up(ID, Some(honest())).await;
    let (result, events) = verify(&bench, false).await;
    assert!(result.ok && result.failure().is_none(), "{result:?}");
    assert_eq!((result.files, result.postgres_files), (4, 3));
    assert_eq!(result.wal_until, Some(Lsn(6 * MIB)));
    assert!(result.frames > 0 && result.packs > 0);
    assert_eq!(events.first().map(String::as_str), Some("verify.started"));
    assert!(events.iter().any(|name| name == "verify.progress"), "{events:?}");
    assert_eq!(events.last().map(String::as_str), Some("verify.completed"));

    let (result, _) = verify(&bench, true).await;
    assert!(result.ok && result.frames == 0 && result.level == "structure");
}

#[tokio::test]
async fn a_bad_page_is_named_with_the_file_and_every_backup_that_it_hurts() {
    let bench = Bench::new().await;
    bench.store_wal(2..6).await;
    bench.back_up(ID, Some(honest())).await;
    bench.back_up_after(OTHER, ID).await;
    let pack = bench.data_pack(ID).await;
    assert!(bench.memory.corrupt(&pack, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }));
    let (result, events) = verify(&bench, false).await;
    let failure = result.failure().unwrap();
    assert_eq!((failure.exit_code(), result.ok), (9, false), "{failure}");
    let hurt = result.damage.iter().find(|damage| !damage.files.is_empty()).unwrap();
    assert_eq!(hurt.object, pack.as_str());
    assert!(hurt.frame.is_some());
    assert!(hurt.files.iter().all(|file| file.starts_with("base/5/")), "{hurt:?}");
    assert_eq!(events.last().map(String::as_str), Some("verify.failed"));
    assert_eq!(result.also_hurt, [OTHER.parse().unwrap()]);
}

#[tokio::test]
async fn a_pack_that_is_gone_or_short_fails_the_structure() {
    for short in [true, false] {
        let bench = Bench::new().await;
        bench.store_wal(2..6).await;
        bench.back_up(ID, Some(honest())).await;
        bench.back_up(OTHER, Some(honest())).await;
        let pack = bench.data_pack(ID).await;
        if short {
            assert!(bench.memory.corrupt(&pack, |bytes| bytes.truncate(bytes.len() - 1)));
        } else {
            bench.memory.delete(&pack).await.unwrap();
        }
        for structure in [true, false] {
            let (result, _) = verify(&bench, structure).await;
            assert_eq!(result.failure().unwrap().exit_code(), 9);
            assert!(result.damage.iter().any(|damage| damage.object == pack.as_str()));
            let files: Vec<&String> = result.damage.iter().flat_map(|damage| &damage.files).collect();
            // Every frame of the short one can still be read: who reads them knows that no file is hurt.
            assert_eq!(files.is_empty(), short && !structure);
        }
    }
}

#[tokio::test]
async fn the_backup_is_compared_with_what_postgresql_said_of_it() {
    let files = files();
    let all = || {
        files
            .iter()
            .map(|(path, bytes)| (*path, bytes.len() as u64, crc32c(bytes)))
    };
    let another_crc = all().map(|(path, size, crc)| (path, size, if path == "base/5/1259" { crc ^ 1 } else { crc }));
    let another_size = all().map(|(path, size, crc)| (path, size + u64::from(path == "base/5/1259"), crc));
    let one_more = all().chain([("base/5/2600", 8192, 7)]);
    let cases = [
        (Some(manifest_of(another_crc)), "differ", Some("base/5/1259")),
        (Some(manifest_of(another_size)), "differ", Some("base/5/1259")),
        (Some(manifest_of(one_more)), "1 files of PostgreSQL's", None),
        (None, "is not in the backup", None),
    ];
    for (postgres, reason, file) in cases {
        let bench = Bench::new().await;
        bench.store_wal(2..6).await;
        bench.back_up(ID, postgres).await;
        let (result, _) = verify(&bench, false).await;
        assert_eq!(result.failure().unwrap().exit_code(), 9);
        let [damage] = &result.damage[..] else {
            panic!("{result:?}")
        };
        assert!(damage.reason.contains(reason), "{damage:?}");
        assert_eq!(damage.files.first().map(String::as_str), file);
    }
}

#[tokio::test]
async fn missing_wal_is_told_from_a_hole_behind_the_backup() {
    let bench = Bench::new().await;
    bench.store_wal([2]).await;
    bench.back_up(ID, Some(honest())).await;
    let (result, _) = verify(&bench, true).await;
    assert!(!result.wal_complete && !result.ok);
    assert!(result.failure().unwrap().is(code::repository::WAL_GAP));

    bench.store_wal([3, 4, 6]).await;
    let (result, _) = verify(&bench, true).await;
    assert!(result.wal_complete);
    assert_eq!(result.wal_until, Some(Lsn(5 * MIB)));
    let hole = result.wal_hole.unwrap();
    assert_eq!((hole.from, hole.to, hole.recorded), (Lsn(5 * MIB), Lsn(6 * MIB), None));

    let lost = (Lsn(5 * MIB), Lsn(6 * MIB));
    let evidence = serde_json::json!({"slot": "lost"});
    let put = bench
        .archive
        .put_gap(Timeline(1), lost, "the slot was invalidated", evidence);
    put.await.unwrap();
    let (result, _) = verify(&bench, true).await;
    assert_eq!(
        result.wal_hole.unwrap().recorded.as_deref(),
        Some("the slot was invalidated")
    );

    bench.store_wal([5]).await;
    let (result, _) = verify(&bench, true).await;
    assert!(
        result.ok && result.wal_hole.is_none(),
        "a gap that was filled is none: {result:?}"
    );
}

#[tokio::test]
async fn a_backup_that_is_not_there_is_no_damage() {
    let bench = Bench::new().await;
    for backup in [
        None,
        Some(ID.parse().unwrap()),
        Some("db2.full.20260625T083040Z.0001".parse().unwrap()),
    ] {
        let plan = VerifyPlan {
            backup,
            structure_only: false,
            jobs: 1,
            run_id: None,
        };
        let sink = Arc::new(Names::default());
        let error = run_verify(&bench.deployment, &plan, sink, CancellationToken::new())
            .await
            .unwrap_err();
        assert!(error.is(code::repository::BACKUP_MISSING), "{error}");
    }
}
