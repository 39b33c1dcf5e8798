#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! Sessions against collectors, with virtual clocks and a store that fails.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{BackupId, Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, MemoryStore, Store};
use jiff::Timestamp;

use super::*;
use crate::manifest::{Manifest, StoredManifest, samples, void_backup};
use crate::{Action, BackupState, Deployment, layout};

const ID: &str = "db1.full.20260625T083040Z.68ac";

fn id() -> BackupId {
    ID.parse().unwrap()
}

fn backup() -> Purpose {
    Purpose::Backup { backup_id: id() }
}

fn here() -> ProcessFacts {
    ProcessFacts::current()
}

// As another machine's: nothing can be proven about it from here.
fn elsewhere() -> ProcessFacts {
    ProcessFacts {
        host: "elsewhere".into(),
        ..ProcessFacts::current()
    }
}

fn remote(purpose: Purpose) -> Opening {
    Opening {
        process: elsewhere(),
        ..Opening::new(purpose)
    }
}

struct World {
    seconds: Arc<AtomicI64>,
    memory: Arc<MemoryStore>,
    deployment: Deployment,
}

impl World {
    fn new() -> World {
        let seconds = Arc::new(AtomicI64::new(1_780_000_000));
        let clock = seconds.clone();
        let memory =
            MemoryStore::new().with_clock(move || Timestamp::from_second(clock.load(Ordering::Relaxed)).unwrap());
        let memory = Arc::new(memory);
        World {
            seconds,
            deployment: Deployment::for_tests(memory.clone(), "db1"),
            memory,
        }
    }

    fn pass(&self, seconds: i64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    async fn view(&self) -> SessionView {
        list_sessions(&self.deployment).await.unwrap().pop().unwrap()
    }

    async fn end(&self) -> Ending {
        end_session(&self.deployment, &self.view().await, &SessionTiming::default(), &here())
            .await
            .unwrap()
    }

    async fn open_count(&self) -> usize {
        let sessions = Sessions::look(&self.deployment).await.unwrap();
        let (timing, here) = (SessionTiming::default(), here());
        sessions.open(&self.deployment, None, &timing, &here).await.len()
    }
}

#[tokio::test]
async fn opened_pinned_closed() {
    let world = World::new();
    let mut opening = Opening::new(backup());
    opening.pins = vec!["db1.full.20260624T083040Z.0001".parse().unwrap()];
    opening.run_id = Some("run-7".into());
    let session = Session::open(&world.deployment, opening.clone()).await.unwrap();
    let record = world.view().await.record.unwrap();
    assert_eq!(record.pins, opening.pins);
    assert_eq!((record.writer, record.backup_id()), (session.writer(), Some(&id())));
    assert_eq!(world.open_count().await, 1);
    session.pin(Vec::new()).await.unwrap();
    session.set_adopts(vec![session.writer()]).await.unwrap();
    assert!(world.view().await.record.unwrap().pins.is_empty());
    session.close().await.unwrap();
    assert!(world.view().await.record.unwrap().ended);
    assert_eq!(world.open_count().await, 0);
    assert_eq!(world.end().await, Ending::HadEnded);
    assert_eq!(
        Manifest::load(&world.deployment, &id()).await.unwrap(),
        StoredManifest::Absent,
        "no void was needed"
    );
}

#[tokio::test]
async fn a_silent_backup_is_ended_by_a_void_only() {
    let world = World::new();
    let session = Session::open(&world.deployment, remote(backup())).await.unwrap();
    world.pass(3600);
    assert_eq!(world.end().await, Ending::Lives, "not over an hour");
    world.pass(1);
    assert_eq!(world.open_count().await, 1, "silent, but not ended");
    assert_eq!(world.end().await, Ending::Voided);
    assert_eq!(world.open_count().await, 0);
    assert_eq!(world.end().await, Ending::WasVoid);
    // The writer wakes.
    let key = SigningKey::new(&Secret::new([6; 32]));
    world.deployment.register_signer(&key.public()).await.unwrap();
    let manifest = samples::of(&world.deployment, &key, ID, 0);
    let refused = manifest.commit(&world.deployment, &key, []).await.unwrap_err();
    assert!(refused.is(code::repository::BACKUP_VOID));
    drop(session);
}

#[tokio::test]
async fn a_committed_backup_needs_no_end() {
    let world = World::new();
    let session = Session::open(&world.deployment, remote(backup())).await.unwrap();
    let key = SigningKey::new(&Secret::new([6; 32]));
    world.deployment.register_signer(&key.public()).await.unwrap();
    samples::of(&world.deployment, &key, ID, 0)
        .commit(&world.deployment, &key, [])
        .await
        .unwrap();
    assert_eq!(world.open_count().await, 0, "it died between commit and close");
    world.pass(4000);
    assert_eq!(world.end().await, Ending::Committed);
    drop(session);
}

#[tokio::test]
async fn readers_count_until_they_are_silent() {
    let world = World::new();
    let session = Session::open(&world.deployment, remote(Purpose::Restore))
        .await
        .unwrap();
    assert_eq!(world.open_count().await, 1);
    assert_eq!(world.end().await, Ending::Lives);
    world.pass(3601);
    assert_eq!(world.open_count().await, 0);
    let ending = world.end().await;
    assert_eq!(ending, Ending::Over);
    world.view().await.forget(&world.deployment, 1).await.unwrap();
    assert_eq!(
        list_sessions(&world.deployment).await.unwrap().len(),
        1,
        "the newest tells whose the packs are"
    );
    world.view().await.forget(&world.deployment, 0).await.unwrap();
    assert!(list_sessions(&world.deployment).await.unwrap().is_empty());
    drop(session);
}

#[tokio::test]
async fn a_dead_process_need_not_be_waited_for() {
    let world = World::new();
    let mut dead = here();
    dead.started = Some("1".into());
    let opening = Opening {
        process: dead,
        ..Opening::new(backup())
    };
    let session = Session::open(&world.deployment, opening).await.unwrap();
    assert_eq!(world.end().await, Ending::Voided);
    drop(session);
}

#[tokio::test]
async fn an_unreadable_session_is_open_and_stays() {
    let world = World::new();
    let session = Session::open(&world.deployment, remote(backup())).await.unwrap();
    let key = layout::session(world.deployment.name(), &session.writer(), 1);
    for at in 0..world.memory.get(&key).await.unwrap().unwrap().len() {
        world.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
        let view = world.view().await;
        assert!(
            view.record.as_ref().unwrap_err().is(code::repository::OBJECT_CORRUPT),
            "byte {at}"
        );
        world.memory.corrupt(&key, |bytes| bytes[at] ^= 1);
    }
    world.memory.corrupt(&key, |bytes| bytes[90] ^= 1);
    world.pass(100_000);
    assert_eq!(world.open_count().await, 1);
    assert_eq!(world.end().await, Ending::Lives);
}

#[tokio::test]
async fn either_the_pin_or_the_purge_is_seen() {
    let world = World::new();
    let key = SigningKey::new(&Secret::new([6; 32]));
    world.deployment.register_signer(&key.public()).await.unwrap();
    let ancestor: BackupId = "db1.full.20260624T083040Z.0001".parse().unwrap();
    let gone: BackupId = "db1.full.20260623T083040Z.0001".parse().unwrap();
    let void: BackupId = "db1.full.20260622T083040Z.0001".parse().unwrap();
    for id in [&ancestor, &gone] {
        samples::of(&world.deployment, &key, id.as_str(), 0)
            .commit(&world.deployment, &key, [])
            .await
            .unwrap();
    }
    void_backup(&world.deployment, &void, "test").await.unwrap();
    let purge = |id: BackupId| {
        let deployment = world.deployment.clone();
        async move {
            BackupState::change(&deployment, &id, Action::Delete { reason: "old".into() })
                .await
                .unwrap();
            BackupState::change(&deployment, &id, Action::Purge).await.unwrap();
        }
    };
    // Purge before the pin: the writer sees it, and chooses another ancestor.
    purge(gone.clone()).await;
    let mut opening = remote(backup());
    opening.pins = vec![gone, ancestor.clone(), void];
    let session = Session::open(&world.deployment, opening).await.unwrap();
    assert_eq!(session.usable_pins().await.unwrap(), std::slice::from_ref(&ancestor));
    // Pin before the purge: the collector, which lists after it wrote, sees the pin.
    purge(ancestor.clone()).await;
    let sessions = Sessions::look(&world.deployment).await.unwrap();
    let (timing, here) = (SessionTiming::default(), here());
    let open = sessions.open(&world.deployment, None, &timing, &here).await;
    assert!(
        open.iter()
            .any(|view| view.record.as_ref().unwrap().pins.contains(&ancestor))
    );
    drop(session);
}

fn quick(renew: u64, lost_after: u64) -> SessionTiming {
    SessionTiming {
        renew: Duration::from_millis(renew),
        lost_after: Duration::from_millis(lost_after),
        silent_after: Duration::from_hours(1),
    }
}

async fn until(mut done: impl AsyncFnMut() -> bool) {
    while !done().await {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[tokio::test]
async fn renewed_by_new_objects_through_failures() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = Deployment::for_tests(faults.clone(), "db1");
    let down = || Error::new(code::storage::UNREACHABLE, "down");
    // A write that fails without a trace, and one whose answer and whose check are lost.
    faults.on(Call::PutNew, 3, Fault::FailBefore(down()));
    faults.on(Call::PutNew, 5, Fault::FailAfter(down()));
    faults.on(Call::Get, 2, Fault::FailBefore(down()));
    let opening = Opening {
        timing: quick(5, 60_000),
        ..Opening::new(backup())
    };
    let session = Session::open(&deployment, opening).await.unwrap();
    until(async || session.record().await.sequence >= 9).await;
    session.check().unwrap();
    let writer = session.writer();
    session.close().await.unwrap();
    let sessions = list_sessions(&deployment).await.unwrap();
    let [view] = sessions.as_slice() else {
        panic!("{} sessions", sessions.len())
    };
    assert!(view.writer == writer && view.record.as_ref().unwrap().ended);
    assert!(
        !view.sequences.contains(&3),
        "a number whose fate is unknown is not used again"
    );
}

#[tokio::test]
async fn lost_when_it_cannot_be_renewed() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = Deployment::for_tests(faults.clone(), "db1");
    let opening = Opening {
        timing: quick(5, 50),
        ..Opening::new(backup())
    };
    let session = Session::open(&deployment, opening).await.unwrap();
    session.check().unwrap();
    faults.every(Call::PutNew, || {
        Fault::FailBefore(Error::new(code::storage::UNREACHABLE, "down"))
    });
    session.lost().cancelled().await;
    assert!(session.check().unwrap_err().is(code::repository::SESSION_LOST));
    assert!(session.pin(Vec::new()).await.is_err());
}

#[tokio::test]
async fn lost_when_the_store_hangs() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = Deployment::for_tests(faults.clone(), "db1");
    let opening = Opening {
        timing: quick(5, 50),
        ..Opening::new(backup())
    };
    let session = Session::open(&deployment, opening).await.unwrap();
    faults.every(Call::Clock, || Fault::Delay(Duration::from_hours(1)));
    session.lost().cancelled().await;
}

#[tokio::test]
async fn lost_at_once_when_voided() {
    let deployment = Deployment::for_tests(Arc::new(MemoryStore::new()), "db1");
    let opening = Opening {
        timing: quick(5, 60_000),
        ..Opening::new(backup())
    };
    let session = Session::open(&deployment, opening).await.unwrap();
    void_backup(&deployment, &id(), "by a person").await.unwrap();
    session.lost().cancelled().await;
    assert!(session.check().is_err());
}

#[tokio::test]
async fn a_dropped_session_is_renewed_no_more() {
    let memory: DynStore = Arc::new(MemoryStore::new());
    let faults = Arc::new(FaultStore::new(memory));
    let deployment = Deployment::for_tests(faults.clone(), "db1");
    let opening = Opening {
        timing: quick(1, 60_000),
        ..Opening::new(Purpose::Verify)
    };
    let session = Session::open(&deployment, opening).await.unwrap();
    until(async || faults.count(Call::PutNew) > 3).await;
    let task = session.dissolve();
    task.await.unwrap();
    let after = faults.count(Call::PutNew);
    assert!(
        !list_sessions(&deployment).await.unwrap()[0]
            .record
            .as_ref()
            .unwrap()
            .ended
    );
    assert_eq!(faults.count(Call::PutNew), after);
}
