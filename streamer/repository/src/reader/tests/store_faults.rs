//! Stores and sinks that fail: a clean error, never a report that says all is well, and no hanging.

use std::sync::Arc;

use hardstorage_report::{Error, Kind, code};
use hardstorage_storage::{Call, Fault, FaultStore, Gate};
use tokio_util::sync::CancellationToken;

use super::scenario::{Collect, Scenario, open, samples, tiny};
use crate::reader::{ReadOptions, VerifyDepth};

fn down() -> Error {
    Error::new(code::storage::UNREACHABLE, "the store is down")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_storage_call_may_fail() {
    let scenario = Scenario::new();
    let files = samples();
    let finished = scenario.back_up(1, &files, None).await;
    let calm = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
    let deployment = scenario.through(calm.clone());
    let backup = open(&deployment, &finished).await.unwrap();
    backup
        .restore(Arc::new(Collect::default()), None, &tiny())
        .await
        .unwrap();
    backup.verify(VerifyDepth::Structure, &tiny()).await.unwrap();
    let calls = calm.calls();
    assert!(calls > 20);
    for call in 1..=calls {
        let faulty = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
        faulty.at(call, Fault::FailBefore(down()));
        let deployment = scenario.through(faulty.clone());
        let whole = async {
            let backup = open(&deployment, &finished).await?;
            let restored = backup.restore(Arc::new(Collect::default()), None, &tiny()).await?;
            assert!(restored.failure().is_none());
            backup.verify(VerifyDepth::Structure, &tiny()).await
        };
        let error = whole.await.expect_err("a call that failed was not noticed");
        assert_eq!(error.code(), code::storage::UNREACHABLE, "call {call}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_transfer_that_went_wrong_once_is_repeated() {
    let scenario = Scenario::new();
    let files = samples();
    let finished = scenario.back_up(1, &files, None).await;
    let calm = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
    let deployment = scenario.through(calm.clone());
    let backup = open(&deployment, &finished).await.unwrap();
    backup
        .restore(Arc::new(Collect::default()), None, &tiny())
        .await
        .unwrap();
    let reads = calm.calls();
    for call in 1..=reads {
        for fault in [Fault::ShortRead(3), Fault::FlipByte(1000)] {
            let faulty = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
            faulty.at(call, fault);
            let deployment = scenario.through(faulty.clone());
            let backup = open(&deployment, &finished).await.unwrap();
            let sink = Arc::new(Collect::default());
            let report = backup.restore(Arc::clone(&sink), None, &tiny()).await.unwrap();
            assert!(report.failure().is_none(), "call {call}: {report:?}");
            assert_eq!(sink.whole(), files);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_reported_though_it_cannot_be_recorded() {
    let scenario = Scenario::new();
    let finished = scenario.back_up(1, &samples(), None).await;
    let faulty = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
    faulty.every(Call::GetRange, || Fault::FlipByte(500));
    faulty.every(Call::PutNew, || {
        Fault::FailBefore(Error::new(code::storage::READ_ONLY, "no writes here"))
    });
    let error = open(&scenario.through(faulty), &finished).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Verify);
    let record = finished
        .packs
        .iter()
        .find(|pack| pack.kind == crate::PackKind::Data)
        .unwrap();
    let key = crate::layout::pack(scenario.deployment.name(), &record.id.writer, record.id.sequence);
    scenario.memory.corrupt(&key, |bytes| bytes[200] ^= 1);
    let refusing = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
    refusing.every(Call::PutNew, || {
        Fault::FailBefore(Error::new(code::storage::READ_ONLY, "no writes here"))
    });
    let deployment = scenario.through(refusing);
    let backup = open(&deployment, &finished).await.unwrap();
    let report = backup
        .restore(Arc::new(Collect::default()), None, &tiny())
        .await
        .unwrap();
    assert_eq!((report.recorded, report.damages.named.len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_call_of_the_sink_may_fail() {
    let scenario = Scenario::new();
    let finished = scenario.back_up(1, &samples(), None).await;
    let backup = scenario.open(&finished).await;
    for call in 0..30 {
        let sink = Arc::new(Collect {
            fail_at: Some(call),
            ..Collect::default()
        });
        let error = backup.restore(sink, None, &tiny()).await.unwrap_err();
        assert_eq!(error.code(), code::cli::IO);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_ends_when_it_is_told_to() {
    let scenario = Scenario::new();
    let finished = scenario.back_up(1, &samples(), None).await;
    let faulty = Arc::new(FaultStore::new(scenario.deployment.store().clone()));
    let deployment = scenario.through(faulty.clone());
    let backup = open(&deployment, &finished).await.unwrap();
    let gate = Gate::new();
    faulty.at(faulty.calls() + 6, Fault::HoldBefore(gate.clone()));
    let cancel = CancellationToken::new();
    let options = ReadOptions {
        cancel: cancel.clone(),
        ..tiny()
    };
    // Dropped futures must be safe on any runtime: the run is a task of its own here.
    let running = tokio::spawn(async move { backup.restore(Arc::new(Collect::default()), None, &options).await });
    gate.reached().await;
    cancel.cancel();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!(error.code(), code::cli::INTERRUPTED);
    let options = ReadOptions {
        cancel,
        ..ReadOptions::default()
    };
    let backup = scenario.open(&finished).await;
    let error = backup.verify(VerifyDepth::Content, &options).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Aborted);
}
