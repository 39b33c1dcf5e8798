//! Kill points on an object store. It has no files to sync: the points around its calls are all that there are.

use hardstorage_e2e::{Ledger, ObjectStore, until};
use serde_json::json;

use crate::ground::Ground;
use crate::kill_points::{COLLECT, ROTATE, backups, pushes, streams_of_each_mode};
use crate::site::{PATIENCE, Site, id};

fn ground(store: &ObjectStore) -> Ground {
    store.bucket("backup");
    Ground::on(Site::on(&store.url("backup/db"), &store.credentials()), 18)
}

#[test]
fn a_push_and_a_backup_on_an_object_store() {
    let store = ObjectStore::minio();
    let mut ground = ground(&store);
    pushes(&mut ground, 8, 6, |point| !point.name().contains(" before "));
    backups(&mut ground, 4);
}

#[test]
fn a_stream_on_an_object_store() {
    let store = ObjectStore::minio();
    let mut ground = ground(&store);
    let rows = streams_of_each_mode(&mut ground, 3);
    let mut restored = ground.site.restore(18, "restored", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), rows);
    ground.end("wal stream");
}

/// [`COLLECT`] that removes nothing.
const TELL: [&str; 6] = ["repo", "gc", "--grace", "0s", "--reader-grace", "0s"];

/// Whether a collection would do something. A store's clock tells seconds: a moment after its end a backup is too young even
/// for one that waits for nobody.
fn collects(ground: &Ground) -> bool {
    let told = &ground.site.ask(&TELL)["deployments"][0];
    told["purged"] != json!([]) || told["released"] != json!([]) || told["packs"]["objects"] != json!(0)
}

/// Retention, and the collection of what it has given up, each on another state of the repository.
#[test]
fn a_rotation_and_a_collection_on_an_object_store() {
    let store = ObjectStore::minio();
    let mut ground = ground(&store);
    ground.site.backup(&ground.source);
    for (command, at_most) in [(ROTATE, 4), (COLLECT, 4)] {
        // A backup more, and for a collection one that was given up.
        let ready = |ground: &Ground| {
            Ledger::add(&ground.source, "more", 1000);
            let newest = id(&ground.site.backup(&ground.source));
            if command == COLLECT {
                ground.site.run(ROTATE).ok();
                until("there is something to collect", PATIENCE, || {
                    collects(ground).then_some(())
                });
            }
            newest
        };
        let finish = |ground: &Ground| {
            ground.site.run(ROTATE).ok();
            until("all is collected", PATIENCE, || {
                ground.site.run(COLLECT).ok();
                let waits = ground.site.ask(&TELL)["deployments"][0]["waiting"] != json!({});
                (!waits && !collects(ground)).then_some(())
            });
        };
        // The points are those of a turn like all that follow: the first one has more to give up.
        ready(&ground);
        finish(&ground);
        let mut newest = ready(&ground);
        let points = ground.points(command[1], command);
        finish(&ground);
        for point in &ground.walk.choose(&points, at_most) {
            ground.kill_one_at(point, command, |ground| newest = ready(ground));
            assert!(ground.site.backups().contains(&newest), "{point}");
            finish(&ground);
            assert_eq!(ground.site.backups(), [newest.as_str()], "{point}");
            ground.site.run(&["repo", "check"]).ok();
            if ground.walk.is_over() {
                break;
            }
        }
        ground.end(&command.join(" "));
        ground.whole(&newest);
    }
    ground.site.run(&["repo", "check", "--read-data"]).ok();
}
