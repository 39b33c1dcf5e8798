//! Rule by rule.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_report::code;
use hardstorage_storage::Store as _;

use super::world::{DAY, HOUR, World, id, options, pack};
use crate::collect::{CollectOptions, Waits, collect};
use crate::manifest::void_backup;
use crate::{Action, Damage, Purpose, WriterId, layout};

#[tokio::test]
async fn a_deleted_backup_gives_back_what_no_other_needs() {
    let world = World::new().await;
    let one = world.backup(1, &[]).await;
    let two = world.backup(2, &[pack(one, 1)]).await;
    world.mark_deleted(1).await;

    // Young: it can be taken back. Nothing is purged.
    let careful = CollectOptions {
        apply: true,
        ..CollectOptions::default()
    };
    let done = collect(&world.deployment, &careful).await.unwrap();
    assert_eq!(done.waiting[&id(1)], Waits::Undelete);
    world.act(1, Action::Undelete).await;
    world.mark_deleted(1).await;

    // What would go is told first, and nothing is touched by telling.
    let before = world.keys("").await;
    let only_told = CollectOptions {
        apply: false,
        ..options()
    };
    let told = collect(&world.deployment, &only_told).await.unwrap();
    assert_eq!((told.purged, told.packs_later.objects), (vec![id(1)], 1));
    assert_eq!(world.keys("").await, before);

    // Purged, and readers that can write no session have their day.
    let done = world.collect().await;
    assert_eq!(done.purged, [id(1)]);
    assert_eq!((done.waiting[&id(1)], done.packs_later.objects), (Waits::Readers, 1));
    assert!(world.is_committed(1).await);
    world.pass(DAY - 1);
    assert_eq!(world.collect().await.waiting[&id(1)], Waits::Readers);
    world.pass(1);
    let done = world.collect().await;
    assert_eq!(
        (done.released.clone(), done.packs.objects),
        (vec![id(1)], 1),
        "{done:?}"
    );
    assert_eq!(
        world.packs().await,
        BTreeSet::from([pack(one, 1), pack(two, 1), pack(two, 2)])
    );
    assert!(!world.is_committed(1).await && world.is_committed(2).await);
    let left = world.keys("manifests/db1/db1.full.20260625T083040Z.0001/").await;
    assert_eq!(left, [layout::gone(world.deployment.name(), &id(1), &one).to_string()]);
    // The session tells whose the shared pack is, as long as it is there.
    assert_eq!(world.keys(&format!("sessions/db1/{one}/")).await.len(), 1);

    world.backup(3, &[]).await;
    world.mark_deleted(2).await;
    world.collect().await;
    world.pass(DAY);
    world.collect().await;
    assert!(
        world
            .packs()
            .await
            .iter()
            .all(|pack| pack.writer != one && pack.writer != two)
    );
    assert!(world.keys(&format!("sessions/db1/{one}/")).await.is_empty());
    let again = world.collect().await;
    assert_eq!((again.packs.objects, again.small), (0, 0), "{again:?}");
}

#[tokio::test]
async fn the_last_whole_backup_is_never_purged() {
    let world = World::new().await;
    world.backup(1, &[]).await;
    world.backup(2, &[]).await;
    for number in [1, 2] {
        world.mark_deleted(number).await;
    }
    let done = world.collect().await;
    assert!(done.purged.is_empty());
    assert!(done.waiting.values().all(|waits| *waits == Waits::LastWhole));
    // One that is damaged does not count as whole.
    let three = world.backup(3, &[]).await;
    Damage::record(&world.deployment, pack(three, 1), 0, "hash", Some(&id(3)))
        .await
        .unwrap();
    assert!(world.collect().await.purged.is_empty());
    world.backup(4, &[]).await;
    assert_eq!(world.collect().await.purged, [id(1), id(2)]);
}

#[tokio::test]
async fn a_hold_protects_and_so_does_a_pin() {
    let world = World::new().await;
    let one = world.backup(1, &[]).await;
    world.backup(2, &[]).await;
    world.mark_deleted(1).await;
    world.act(1, Action::Hold { reason: "audit".into() }).await;
    assert_eq!(world.collect().await.waiting[&id(1)], Waits::Held);
    world.act(1, Action::Release).await;

    let reader = world.open(Purpose::Restore, &[id(1)]).await;
    assert_eq!(reader.usable_pins().await.unwrap(), [id(1)]);
    world.collect().await;
    world.pass(DAY);
    // Renewed, by the clock of the store.
    reader.pin(vec![id(1)]).await.unwrap();
    assert_eq!(world.collect().await.waiting[&id(1)], Waits::Pinned);
    assert!(world.packs().await.contains(&pack(one, 1)));
    // One that comes now sees the purge.
    let late = world.open(Purpose::Restore, &[id(1)]).await;
    assert!(late.usable_pins().await.unwrap().is_empty());
    late.close().await.unwrap();
    reader.close().await.unwrap();
    assert_eq!(world.collect().await.released, [id(1)]);
}

#[tokio::test]
async fn a_writer_that_died_is_voided_before_its_packs_go() {
    let world = World::new().await;
    world.backup(1, &[]).await;
    let session = world.open(Purpose::Backup { backup_id: id(2) }, &[]).await;
    let writer = session.writer();
    super::world::write_packs(&world.deployment, writer, &[]).await.unwrap();
    assert_eq!(world.collect().await.packs.objects, 0, "it is alive");
    world.pass(HOUR + 1);
    let done = world.collect().await;
    assert_eq!((done.voided, done.packs.objects), (vec![id(2)], 2));
    assert!(world.packs().await.iter().all(|pack| pack.writer != writer));
    // It wakes, with its commit in hand: its packs are gone.
    let woken = world.commit(2, writer, &[]).await;
    assert!(woken.unwrap_err().is(code::repository::BACKUP_VOID));
    assert!(world.deployment.backups().await.unwrap().get(&id(2)).is_none());
    // What it wrote meanwhile goes with the next collection, and its manifest's name stays free.
    let done = world.collect().await;
    assert_eq!(done.packs.objects, 2, "{done:?}");
    assert_eq!(
        world.keys("manifests/db1/db1.full.20260625T083040Z.0002/").await.len(),
        1
    );
    assert!(done.problems.is_empty());
}

#[tokio::test]
async fn a_session_that_ended_without_a_commit_is_voided_too() {
    let world = World::new().await;
    let session = world.open(Purpose::Backup { backup_id: id(2) }, &[]).await;
    let writer = session.writer();
    session.close().await.unwrap();
    assert_eq!(world.collect().await.voided, [id(2)]);
    // A request that was on its way arrives.
    let late = world.commit(2, writer, &[]).await;
    assert!(late.unwrap_err().is(code::repository::BACKUP_VOID));
}

#[tokio::test]
async fn a_void_without_packs_leaves_one_marker() {
    let world = World::new().await;
    let session = world.open(Purpose::Backup { backup_id: id(2) }, &[]).await;
    void_backup(&world.deployment, &id(2), "by hand").await.unwrap();
    // Its session lives: it may still write packs that the void's session explains.
    world.collect().await;
    assert_eq!(world.keys("sessions/db1/").await.len(), 1);
    session.close().await.unwrap();
    world.collect().await;
    assert!(world.keys("sessions/db1/").await.is_empty());
    assert_eq!(world.keys("manifests/db1/").await.len(), 1);
}

#[tokio::test]
async fn adopted_packs_stay() {
    let world = World::new().await;
    let session = world.open(Purpose::Backup { backup_id: id(2) }, &[]).await;
    let dead = session.writer();
    super::world::write_packs(&world.deployment, dead, &[]).await.unwrap();
    world.pass(HOUR + 1);
    let heir = world.open(Purpose::Backup { backup_id: id(3) }, &[]).await;
    heir.set_adopts(vec![dead]).await.unwrap();
    let done = world.collect().await;
    assert_eq!((done.voided, done.packs.objects), (vec![id(2)], 0));
    world.commit(3, heir.writer(), &[pack(dead, 1)]).await.unwrap();
    heir.close().await.unwrap();
    // The commit lists one of them; the other goes, and the void's session stays for the one.
    assert_eq!(world.collect().await.packs.objects, 1);
    assert!(world.packs().await.contains(&pack(dead, 1)));
    assert_eq!(world.keys(&format!("sessions/db1/{dead}/")).await.len(), 1);
}

#[tokio::test]
async fn what_nobody_knows_is_an_alarm_and_what_cannot_be_read_stops_the_packs() {
    let world = World::new().await;
    let one = world.backup(1, &[]).await;
    let two = world.backup(2, &[]).await;
    let stranger = WriterId::new([0xee; 16]);
    super::world::write_packs(&world.deployment, stranger, &[])
        .await
        .unwrap();
    let done = world.collect().await;
    assert_eq!(done.packs.objects, 0);
    assert!(done.problems[0].contains(&stranger.to_string()), "{:?}", done.problems);

    world.mark_deleted(1).await;
    world.collect().await;
    world.pass(DAY);
    // The pack list of the one that stays cannot be read.
    let list = layout::pack(world.deployment.name(), &two, 2);
    world.memory.corrupt(&list, |bytes| bytes[100] ^= 1);
    let done = world.collect().await;
    assert_eq!(done.packs.objects, 0);
    assert!(world.packs().await.contains(&pack(one, 1)));
    assert!(
        done.problems
            .iter()
            .any(|problem| problem.contains("nobody knows what it needs"))
    );
    world.memory.corrupt(&list, |bytes| bytes[100] ^= 1);
    // A session that cannot be read may pin anything.
    let session = world.open(Purpose::Verify, &[]).await;
    let key = layout::session(world.deployment.name(), &session.writer(), 1);
    world.memory.corrupt(&key, |bytes| bytes[100] ^= 1);
    assert_eq!(world.collect().await.packs.objects, 0);
    world.memory.corrupt(&key, |bytes| bytes[100] ^= 1);
    assert_eq!(world.collect().await.packs.objects, 2);

    // A manifest that cannot be read, too; and a state that cannot be read protects its backup.
    world.backup(3, &[]).await;
    world.mark_deleted(2).await;
    let state = layout::state(world.deployment.name(), &id(2), 1);
    world.memory.corrupt(&state, |bytes| bytes[100] ^= 1);
    assert!(world.collect().await.purged.is_empty());
    world.memory.corrupt(&state, |bytes| bytes[100] ^= 1);
    let manifest = layout::manifest(world.deployment.name(), &id(3));
    world.memory.corrupt(&manifest, |bytes| bytes[300] ^= 1);
    let done = world.collect().await;
    assert_eq!(done.waiting[&id(2)], Waits::LastWhole);
}

#[tokio::test]
async fn a_marker_hides_no_backup_unless_it_is_real() {
    let world = World::new().await;
    let one = world.backup(1, &[]).await;
    let key = layout::gone(world.deployment.name(), &id(1), &one);
    world
        .memory
        .put_new(&key, bytes::Bytes::from_static(b"{}"))
        .await
        .unwrap();
    assert!(world.deployment.backups().await.unwrap().get(&id(1)).is_some());
    world.collect().await;
    assert!(world.is_committed(1).await);
    assert_eq!(world.packs().await.len(), 2);
}

#[tokio::test]
async fn damage_records_go_with_their_packs() {
    let world = World::new().await;
    let one = world.backup(1, &[]).await;
    let two = world.backup(2, &[]).await;
    for writer in [one, two] {
        Damage::record(&world.deployment, pack(writer, 1), 0, "hash", None)
            .await
            .unwrap();
    }
    world.backup(3, &[]).await;
    world.mark_deleted(1).await;
    let at_once = CollectOptions {
        reader_grace: Duration::ZERO,
        ..options()
    };
    collect(&world.deployment, &at_once).await.unwrap();
    // A pack that a backup still lists is hurt, even where it is missing.
    world
        .memory
        .delete(&layout::pack(world.deployment.name(), &two, 1))
        .await
        .unwrap();
    collect(&world.deployment, &at_once).await.unwrap();
    let damage = Damage::load(&world.deployment).await.unwrap();
    let left: Vec<_> = damage.iter().map(|(pack, ..)| pack.writer).collect();
    assert_eq!(left, [two]);
}
