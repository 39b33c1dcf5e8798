//! The chain under competition, crashes, and clocks that jump.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]

mod anchors;
mod tamper;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Key, ListRequest, MemoryStore, OpenOptions, Store as _};
use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;

use super::*;
use crate::{Clock, DataKey, Deployment, RepoConfig, Surroundings, SystemEntropy, layout};

#[derive(Debug)]
struct TestClock(Mutex<Timestamp>);

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().unwrap()
    }
}

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

struct Bench {
    memory: Arc<MemoryStore>,
    clock: Arc<TestClock>,
    surroundings: Surroundings,
    key: DataKey,
    deployment: Deployment,
}

impl Bench {
    fn new() -> Bench {
        let memory = Arc::new(MemoryStore::new().with_page(3));
        let clock = Arc::new(TestClock(Mutex::new(time("2026-11-26T08:00:00Z"))));
        let surroundings = Surroundings::new(clock.clone(), Arc::new(SystemEntropy));
        let key = DataKey::new(Secret::new([3; 32]), [4; 16], 1, true);
        let deployment = Deployment::for_tests_with(
            memory.clone(),
            "db1",
            surroundings.clone(),
            key.clone(),
            RepoConfig::default(),
        );
        Bench {
            memory,
            clock,
            surroundings,
            key,
            deployment,
        }
    }

    /// The same deployment as it is seen through another store.
    fn through(&self, store: DynStore) -> AuditLog {
        let deployment = Deployment::for_tests_with(
            store,
            "db1",
            self.surroundings.clone(),
            self.key.clone(),
            RepoConfig::default(),
        );
        AuditLog::of(&deployment)
    }

    fn log(&self) -> AuditLog {
        AuditLog::of(&self.deployment)
    }

    fn set(&self, at: Timestamp) {
        *self.clock.0.lock().unwrap() = at;
    }

    async fn keys(&self) -> Vec<Key> {
        let mut request = ListRequest::under("audit/db1/");
        let mut keys = Vec::new();
        loop {
            let page = self.memory.list(&request).await.unwrap();
            keys.extend(page.objects.into_iter().map(|object| object.key));
            match page.next {
                Some(next) => request = request.after(next),
                None => return keys,
            }
        }
    }

    /// Five records across two months.
    async fn five(&self) -> Vec<Key> {
        for at in ["2026-11-26T08:00:00Z", "2026-11-27T08:00:00Z", "2026-12-01T08:00:00Z"] {
            self.set(time(at));
            self.log().append(&event("x")).await.unwrap();
        }
        self.log().append(&event("x")).await.unwrap();
        self.log().append(&event("x")).await.unwrap();
        self.keys().await
    }

    async fn bad(&self, claims: &[Claim]) -> Option<(u64, String)> {
        let verdict = self.log().verify(claims).await.unwrap();
        assert_eq!(
            verdict
                .failure(self.deployment.name())
                .is_some_and(|error| error.exit_code() == 9),
            verdict.first_bad.is_some()
        );
        verdict.first_bad.map(|bad| (bad.sequence, bad.problem))
    }

    async fn get(&self, key: &Key) -> Bytes {
        self.memory.get(key).await.unwrap().unwrap()
    }

    async fn replace(&self, key: &Key, bytes: Bytes) {
        self.memory.delete(key).await.unwrap();
        self.memory.put_new(key, bytes).await.unwrap();
    }
}

fn event(reason: &str) -> AuditEvent {
    AuditEvent::new(AuditAction::BackupHeld, Some("run-7".to_owned()))
        .backup(&"db1.full.20260625T083040Z.68ac".parse().unwrap())
        .reason(reason)
}

fn signer() -> SigningKey {
    SigningKey::new(&Secret::new([9; 32]))
}

#[tokio::test]
async fn what_is_recorded_is_read_back_in_order() {
    let bench = Bench::new();
    assert_eq!(bench.log().verify(&[]).await.unwrap(), ChainVerdict::default());
    assert!(bench.log().begin(&event("first")).await.unwrap());
    assert!(!bench.log().begin(&event("again")).await.unwrap());
    bench.five().await;
    let all = bench.log().last(None).await.unwrap();
    let numbers: Vec<u64> = all.iter().map(|listed| listed.sequence).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6]);
    let first = all[0].record.as_ref().unwrap();
    assert_eq!(
        (first.reason.as_deref(), first.action.as_str()),
        (Some("first"), "backup.held")
    );
    assert_eq!(first.actor.run_id.as_deref(), Some("run-7"));
    let last = bench.log().last(Some(2)).await.unwrap();
    assert_eq!(last.iter().map(|listed| listed.sequence).collect::<Vec<_>>(), [5, 6]);
    let verdict = bench.log().verify(&[]).await.unwrap();
    assert_eq!((verdict.good, verdict.first_bad), (6, None));
    assert_eq!(verdict.hash, bench.log().head().await.unwrap().map(|head| head.hash));
    let head = layout::audit_object("audit/db1/", bench.keys().await.last().unwrap());
    assert_eq!(head, Some((Month::parse("202612").unwrap(), 6)));
}

/// Half of the writers have the next month already: a name that came from the writer's own clock would let two of them
/// have one number.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_eight_that_append_at_the_turn_of_a_month_each_gets_a_number() {
    for _ in 0..20 {
        let bench = Bench::new();
        let mut tasks = Vec::new();
        for number in 0..8 {
            let at = time(if number % 2 == 0 {
                "2026-11-30T23:59:59Z"
            } else {
                "2026-12-01T00:00:01Z"
            });
            let clock = Arc::new(TestClock(Mutex::new(at)));
            let surroundings = Surroundings::new(clock, Arc::new(SystemEntropy));
            let log = AuditLog::of(&Deployment::for_tests_with(
                bench.memory.clone(),
                "db1",
                surroundings,
                bench.key.clone(),
                RepoConfig::default(),
            ));
            // The first is there: the month of the first of all comes from the descriptor, which is each one's own here.
            if number == 0 {
                log.append(&event("first")).await.unwrap();
            }
            tasks.push(tokio::spawn(async move {
                for _ in 0..3 {
                    log.append(&event("x")).await.unwrap();
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        let verdict = bench.log().verify(&[]).await.unwrap();
        assert_eq!((verdict.good, verdict.first_bad), (25, None));
    }
}

#[tokio::test]
async fn a_process_may_die_at_every_call() {
    for dies in 1.. {
        let bench = Bench::new();
        bench.five().await;
        let faults = Arc::new(FaultStore::new(bench.memory.clone()));
        faults.dead_from(dies);
        let died = bench.through(faults).append(&event("dies")).await.is_err();
        bench.log().append(&event("goes on")).await.unwrap();
        let verdict = bench.log().verify(&[]).await.unwrap();
        assert_eq!(verdict.first_bad, None, "{dies}");
        // The record is there or not; the next follows it or the one before.
        assert!(
            verdict.good == 7 || (died && verdict.good == 6),
            "{dies}: {}",
            verdict.good
        );
        if !died {
            assert!(dies > 3);
            return;
        }
    }
}

#[tokio::test]
async fn a_lost_answer_makes_no_second_record() {
    let bench = Bench::new();
    bench.five().await;
    let faults = Arc::new(FaultStore::new(bench.memory.clone()));
    faults.on(Call::PutNew, 1, Fault::FailAfter(Error::new(code::storage::IO, "lost")));
    let record = bench.through(faults).append(&event("lost")).await.unwrap();
    assert_eq!(record.sequence, 6);
    assert_eq!(bench.log().verify(&[]).await.unwrap().good, 6);
}

#[tokio::test]
async fn an_append_costs_three_requests() {
    let bench = Bench::new();
    bench.log().append(&event("x")).await.unwrap();
    bench.log().append(&event("x")).await.unwrap();
    let faults = Arc::new(FaultStore::new(bench.memory.clone()));
    bench.through(faults.clone()).append(&event("x")).await.unwrap();
    let calls: Vec<Call> = faults.log().into_iter().map(|(call, _)| call).collect();
    // A store in the network is asked nothing by a confirmation or a sync.
    assert_eq!(calls, [Call::List, Call::Get, Call::Confirm, Call::PutNew, Call::Sync]);
    // A year later the months are looked up, and no record but the last is.
    bench.set(time("2027-12-01T00:00:00Z"));
    let faults = Arc::new(FaultStore::new(bench.memory.clone()));
    bench.through(faults.clone()).append(&event("x")).await.unwrap();
    assert_eq!((faults.count(Call::Get), faults.count(Call::PutNew)), (1, 1));
    assert_eq!(bench.log().verify(&[]).await.unwrap().good, 4);
}

/// A process that knows the end of the chain from before asks once; others may have gone on far meanwhile, or a month.
#[tokio::test]
async fn a_head_that_is_known_from_before_is_only_a_guess() {
    let bench = Bench::new();
    let faults = Arc::new(FaultStore::new(bench.memory.clone()));
    let log = bench.through(faults.clone());
    log.append(&event("first")).await.unwrap();
    let before = faults.calls();
    log.append(&event("second")).await.unwrap();
    assert_eq!(
        (faults.count(Call::List), faults.count(Call::Get)),
        (2, 0),
        "only at first"
    );
    assert_eq!(
        faults.calls() - before,
        3,
        "the head confirmed, the record, its name durable"
    );
    for (at, count) in [("2026-11-27T08:00:00Z", 70), ("2026-12-01T08:00:00Z", 2)] {
        bench.set(time(at));
        for _ in 0..count {
            bench.log().append(&event("another's")).await.unwrap();
        }
        assert!(log.append(&event("ours")).await.is_ok());
    }
    let ahead = bench.through(bench.memory.clone());
    ahead.look_ahead().await.unwrap();
    bench.log().append(&event("another's")).await.unwrap();
    assert_eq!(ahead.append(&event("ours")).await.unwrap().sequence, 78);
    // What was known is gone from the store: the chain goes on where it ends.
    let keys = bench.keys().await;
    bench.memory.delete(keys.last().unwrap()).await.unwrap();
    assert_eq!(ahead.append(&event("after a cut")).await.unwrap().sequence, 78);
    assert_eq!(bench.bad(&[]).await, None);
}

#[tokio::test]
async fn in_a_directory_it_is_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let options = OpenOptions {
        create: true,
        ..OpenOptions::default()
    };
    let url = format!("file://{}/repository", folder.path().display());
    let store = hardstorage_storage::open(&url, &options).await.unwrap();
    let bench = Bench::new();
    let faults = Arc::new(FaultStore::new(store));
    let log = bench.through(faults.clone());
    for month in [
        "2026-11", "2026-11", "2026-12", "2027-01", "2027-01", "2029-03", "2026-12", "2029-03",
    ] {
        bench.set(time(&format!("{month}-05T00:00:00Z")));
        log.append(&event("x")).await.unwrap();
    }
    assert_eq!(log.verify(&[]).await.unwrap().good, 8);
    // The newest is found behind older months, and by one listing.
    let before = faults.count(Call::List);
    assert_eq!(log.newest().await.unwrap(), Some((Month::parse("202903").unwrap(), 8)));
    assert_eq!(faults.count(Call::List), before + 1);
    assert_eq!(log.last(None).await.unwrap().len(), 8);
}

#[tokio::test]
async fn a_store_that_takes_no_writes_says_so() {
    let bench = Bench::new();
    let store: DynStore = Arc::new(hardstorage_storage::ReadOnly::new(bench.memory.clone()));
    let error = bench.through(store).append(&event("x")).await.unwrap_err();
    assert!(error.is(code::storage::READ_ONLY), "{error}");
}

proptest! {
    #[test]
    fn clocks_that_jump_bring_nothing_out_of_order(jumps in proptest::collection::vec(-900i64..900, 1..25)) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            for days in &jumps {
                let at = bench.surroundings.now() + SignedDuration::from_hours(24 * days);
                bench.set(at);
                bench.log().append(&event("x")).await.unwrap();
            }
            let keys = bench.keys().await;
            let names: Vec<_> = keys.iter().map(|key| layout::audit_object("audit/db1/", key).unwrap().1).collect();
            prop_assert_eq!(names, (1..=jumps.len() as u64).collect::<Vec<_>>());
            let verdict = bench.log().verify(&[]).await.unwrap();
            prop_assert_eq!((verdict.good, verdict.first_bad), (jumps.len() as u64, None));
            Ok(())
        })?;
    }
}
