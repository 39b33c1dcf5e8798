//! A collection that dies before or after any of its calls leaves what the next one finishes.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hardstorage_report::{Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, Gate, MemoryStore};
use jiff::Timestamp;

use super::world::{DAY, HOUR, World, id, options, pack, write_packs};
use crate::Purpose;
use crate::collect::{CollectOptions, Waits, collect};

/// Two backups to collect, one to keep that shares a pack, and a writer that died.
async fn ready() -> (World, Arc<FaultStore>) {
    let seconds = Arc::new(AtomicI64::new(1_780_100_000));
    let clock = seconds.clone();
    let now = move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap();
    let memory = Arc::new(MemoryStore::new().with_clock(now));
    let faults = Arc::new(FaultStore::new(memory.clone() as DynStore));
    let world = World::over(seconds, memory, faults.clone()).await;
    let one = world.backup(1, &[]).await;
    world.backup(2, &[pack(one, 1)]).await;
    world.backup(3, &[pack(one, 1)]).await;
    let dead = world.open(Purpose::Backup { backup_id: id(4) }, &[]).await;
    write_packs(&world.deployment, dead.writer(), &[]).await.unwrap();
    for number in [1, 2] {
        world.mark_deleted(number).await;
    }
    collect(&world.deployment, &options()).await.unwrap();
    world.pass(DAY + HOUR);
    (world, faults)
}

/// Everything but the audit chain, which tells of a purge for each time that one was begun.
async fn kept(world: &World) -> Vec<String> {
    let mut keys = world.keys("").await;
    keys.retain(|key| !key.starts_with("audit/"));
    keys
}

#[tokio::test]
async fn killed_at_every_call_the_next_run_finishes() {
    let (world, faults) = ready().await;
    let before = [
        Call::PutNew,
        Call::Get,
        Call::GetRange,
        Call::Head,
        Call::List,
        Call::Delete,
        Call::Sync,
    ];
    let counts = before.map(|call| (call, faults.count(call)));
    world.collect().await;
    let (expected, manifests) = (world.packs().await, kept(&world).await);
    let mut kills = 0;
    for (call, base) in counts {
        let calls = faults.count(call) - base;
        for number in 1..=calls {
            for after in [false, true] {
                let (world, faults) = ready().await;
                let down = Error::new(code::storage::UNREACHABLE, "killed");
                let fault = if after {
                    Fault::FailAfter(down)
                } else {
                    Fault::FailBefore(down)
                };
                faults.on(call, faults.count(call) + number, fault);
                // Some calls are answered all the same: a lost answer of a create is looked up.
                let _ = collect(&world.deployment, &options()).await;
                assert!(world.is_committed(3).await);
                let found = world.packs().await;
                assert!(
                    expected
                        .iter()
                        .all(|pack| found.iter().any(|found| found.sequence == pack.sequence))
                );
                world.collect().await;
                assert_eq!(world.packs().await.len(), expected.len(), "{call:?} {number} {after}");
                assert_eq!(kept(&world).await.len(), manifests.len(), "{call:?} {number} {after}");
                kills += 1;
            }
        }
    }
    assert!(kills > 80, "{kills} kills");
}

#[tokio::test]
async fn nothing_is_purged_without_a_record_of_it() {
    let (world, faults) = ready().await;
    world.backup(5, &[]).await;
    world.mark_deleted(3).await;
    faults.every(Call::PutNew, || {
        Fault::FailBefore(Error::new(code::storage::DENIED, "no"))
    });
    let refused = collect(&world.deployment, &options()).await;
    assert!(refused.unwrap_err().is(code::storage::DENIED));
    faults.clear();
    let catalog = world.deployment.backups().await.unwrap();
    let state = catalog.get(&id(3)).unwrap().state.as_ref().unwrap();
    assert!(state.deleted.is_some() && state.purged.is_none());
}

/// Both sides write, then read: a reader that was told that its pin counts, before the purge was written, is seen.
#[tokio::test]
async fn a_pin_that_came_before_the_purge_is_seen() {
    let (world, faults) = ready().await;
    world.backup(5, &[]).await;
    world.mark_deleted(3).await;
    let gate = Gate::new();
    // The first object that the collector makes is the record in the audit chain, the second the purge.
    faults.on(
        Call::PutNew,
        faults.count(Call::PutNew) + 2,
        Fault::HoldBefore(gate.clone()),
    );
    let deployment = world.deployment.clone();
    let at_once = CollectOptions {
        reader_grace: Duration::ZERO,
        ..options()
    };
    let collecting = tokio::spawn(async move { collect(&deployment, &at_once).await });
    gate.reached().await;
    let reader = world.open(Purpose::Restore, &[id(3)]).await;
    assert_eq!(reader.usable_pins().await.unwrap(), [id(3)]);
    gate.open();
    let done = collecting.await.unwrap().unwrap();
    assert_eq!((done.purged, done.waiting[&id(3)]), (vec![id(3)], Waits::Pinned));
    assert!(world.is_committed(3).await);
    reader.close().await.unwrap();
}
