//! A store that dies at each call of a run: at no time are there fewer good bytes than before, and the next run ends it.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]

use std::sync::Arc;

use bytes::Bytes;
use hardstorage_storage::{DynStore, FaultStore, Key, MemoryStore, Store as _};
use tokio_util::sync::CancellationToken;

use super::{HealOptions, HealReport, Verdict, judge_bytes, work};
use crate::listing::Objects;
use crate::reader::tests::scenario::{Files, Scenario, noise};
use crate::scrub::object::Class;
use crate::{Deployment, PackKind, layout};

const APPLY: HealOptions = HealOptions {
    apply: true,
    everything: true,
    run_id: None,
};

async fn run(here: &Deployment, copy: &DynStore) -> hardstorage_report::Result<HealReport> {
    work(here, copy, &APPLY, &CancellationToken::new()).await
}

async fn copied(from: &DynStore) -> Arc<MemoryStore> {
    let to = Arc::new(MemoryStore::new());
    for object in Objects::under(from, "").all().await.unwrap() {
        let bytes = from.get(&object.key).await.unwrap().unwrap();
        to.put_new(&object.key, bytes).await.unwrap();
    }
    to
}

async fn scenario() -> (Scenario, Key, Bytes) {
    let scenario = Scenario::new();
    let files: Files = [("base/5/1".to_owned(), noise(1, 200_000))].into();
    let finished = scenario.back_up(1, &files, None).await;
    let pack = finished.packs.iter().find(|pack| pack.kind == PackKind::Data).unwrap();
    let key = layout::pack(scenario.deployment.name(), &pack.id.writer, pack.id.sequence);
    let good = scenario.memory.get(&key).await.unwrap().unwrap();
    (scenario, key, good)
}

#[tokio::test]
async fn a_store_that_dies_at_every_call() {
    let (scenario, key, good) = scenario().await;
    let copy: DynStore = copied(&(scenario.memory.clone() as DynStore)).await;
    scenario.memory.corrupt(&key, |bytes| bytes[5000] ^= 1);
    let bad = scenario.memory.get(&key).await.unwrap().unwrap();
    let spoilt: DynStore = scenario.memory.clone();
    for number in 1.. {
        let memory = copied(&spoilt).await;
        let faults = Arc::new(FaultStore::new(memory.clone() as DynStore));
        faults.dead_from(number);
        let outcome = run(&scenario.through(faults), &copy).await;
        let aside = memory.get(&layout::healing(&key)).await.unwrap();
        let there = memory.get(&key).await.unwrap();
        assert!(
            there.as_ref().is_some_and(|there| *there == good || *there == bad) || aside.as_ref() == Some(&good),
            "call {number}: nothing is left"
        );
        // Where the damaged one has gone already, the copy is not needed any more.
        let from: DynStore = if there.is_none() {
            Arc::new(MemoryStore::new())
        } else {
            copy.clone()
        };
        let report = run(&scenario.through(memory.clone()), &from).await.unwrap();
        assert!(report.ok, "call {number}: {report:?}");
        assert_eq!(memory.get(&key).await.unwrap().as_ref(), Some(&good), "call {number}");
        let store: DynStore = memory;
        assert!(
            Objects::under(&store, layout::HEAL_FOLDER)
                .all()
                .await
                .unwrap()
                .is_empty()
        );
        if outcome.is_ok() {
            assert!(number > 10, "{number} calls are not all of them");
            return;
        }
    }
}

/// Bytes that are whole under another name, or sealed for another place, are not taken.
#[tokio::test]
async fn bytes_of_another_place_are_not_whole() {
    let (scenario, key, good) = scenario().await;
    let here = &scenario.deployment;
    let class = Class::of(here.name(), &key);
    assert!(matches!(
        judge_bytes(here, &class, &key, good.clone()).await.unwrap(),
        Verdict::Whole
    ));
    let other = Key::new(format!("{}1", &key.as_str()[..key.as_str().len() - 1])).unwrap();
    let class = Class::of(here.name(), &other);
    assert!(matches!(
        judge_bytes(here, &class, &other, good.clone()).await.unwrap(),
        Verdict::Bad(_)
    ));
    for at in [0, 70, 5000, good.len() - 1] {
        let mut bytes = good.to_vec();
        bytes[at] ^= 1;
        let class = Class::of(here.name(), &key);
        let verdict = judge_bytes(here, &class, &key, bytes.into()).await.unwrap();
        assert!(matches!(verdict, Verdict::Bad(_)), "byte {at}");
    }
    let short = judge_bytes(here, &Class::of(here.name(), &key), &key, good.slice(..90))
        .await
        .unwrap();
    assert!(matches!(short, Verdict::Bad(_)));
}
