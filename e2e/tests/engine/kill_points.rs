//! A process that is killed at any of its points leaves nothing that a reader trusts and should not, loses nothing that was
//! acknowledged, and the next run of the same command finishes what it began.
//!
//! A debug build lists the points of a run and kills itself at one of them: before and after every call of the store, and
//! before and after every call that changes a directory or syncs (`Point`). The short form goes to a part of them, which
//! holds each kind of change at each kind of place as far as its number allows; `make kill-points` goes to all of them.

use std::fs;
use std::path::PathBuf;

use hardstorage_e2e::{Ledger, Point, Walk};

use crate::ground::{Ground, MODES, acknowledged, holds_up_to, name_of, stream, stream_as, text, write_beside};
use crate::site::{Site, id};

/// Retention to one backup.
pub const ROTATE: &[&str] = &["rotate", "db1", "--keep-last", "1", "--apply"];
/// A collection that waits for nobody.
pub const COLLECT: &[&str] = &["repo", "gc", "--apply", "--grace", "0s", "--reader-grace", "0s"];

/// The first push makes keys, configuration and the deployment as well, the next ones only store.
pub fn pushes(ground: &mut Ground, first_at_most: usize, next_at_most: usize, wanted: fn(&Point) -> bool) {
    let (one, two) = (ground.segment(), ground.segment());
    let first = ground.points("first", &["wal", "push", "new0", text(&one)]);
    let next = ground.points("next", &["wal", "push", "new0", text(&two)]);
    let only = |points: Vec<Point>| points.into_iter().filter(wanted).collect::<Vec<_>>();
    let (first, next) = (only(first), only(next));
    for (number, point) in ground.walk.choose(&first, first_at_most).iter().enumerate() {
        let deployment = format!("new{}", number + 1);
        let push = ["wal", "push", deployment.as_str(), text(&one)];
        ground.kill_at(point, &push);
        ground.site.run(&push).ok();
        let again = ground.site.ask(&push);
        assert_eq!(again["stored"], false, "{point}: {again}");
        if ground.walk.is_over() {
            break;
        }
    }
    ground.site.backup(&ground.source);
    for point in &ground.walk.choose(&next, next_at_most) {
        let segment = ground.segment();
        let push = ["wal", "push", "db1", text(&segment)];
        ground.kill_at(point, &push);
        let bytes = fs::read(&segment).unwrap();
        let found = ground.fetch(name_of(&segment));
        assert!(
            found.is_none_or(|found| found == bytes),
            "{point}: half of {} is trusted",
            segment.display()
        );
        ground.site.run(&push).ok();
        assert!(
            ground.fetch(name_of(&segment)) == Some(bytes),
            "{point}: {} came back with other bytes",
            segment.display()
        );
        if ground.walk.is_over() {
            break;
        }
    }
    ground.site.run(&["wal", "audit", "db1"]).ok();
    ground.site.run(&["repo", "check", "--read-data"]).ok();
    ground.end("wal push");
}

#[test]
fn a_push() {
    for major in versions() {
        pushes(&mut Ground::new(major), 40, 40, |_| true);
    }
}

/// Newest major version; in the long form the oldest one, too.
fn versions() -> Vec<u16> {
    if Walk::new().is_long() { vec![18, 15] } else { vec![18] }
}

pub fn backups(ground: &mut Ground, at_most: usize) {
    let connection = ground.source.connection();
    let backup = ["backup", "db1", "--pg-connection", connection.as_str()];
    ground.site.run(&backup).ok();
    Ledger::add(&ground.source, "between", 100);
    let points = ground.points("backup", &backup);
    let mut told = ground.site.backups();
    for point in &ground.walk.choose(&points, at_most) {
        Ledger::add(&ground.source, "more", 100);
        ground.kill_at(point, &backup);
        let found = ground.site.backups();
        assert!(
            told.iter().all(|id| found.contains(id)),
            "{point}: {told:?} and now {found:?}"
        );
        // One that died after its commit, before it could say so, is whole.
        for unheard in found.iter().filter(|id| !told.contains(id)) {
            ground.whole(unheard);
        }
        let done = ground.site.backup(&ground.source);
        told = ground.site.backups();
        assert_eq!(told.first(), Some(&id(&done)), "{point}");
        if ground.walk.is_over() {
            break;
        }
    }
    let rows = Ledger::read(&ground.source);
    let last = ground.site.backup(&ground.source);
    for id in ground.site.backups() {
        ground.whole(&id);
    }
    ground.site.run(&["repo", "check", "--read-data"]).ok();
    ground.end("backup");
    if ground.site.repo.starts_with("file:") {
        let major = ground.source.major();
        let mut restored = ground.site.restore(major, "restored", &[&id(&last)]);
        restored.until_promoted();
        assert_eq!(Ledger::read(&restored), rows);
    }
}

#[test]
fn a_backup() {
    for major in versions() {
        backups(&mut Ground::new(major), 14);
    }
}

/// Retention, and then the collection of what it has given up. Each point meets the same repository.
#[test]
fn a_rotation_and_a_collection() {
    let mut ground = Ground::new(18);
    let mut rows = None;
    for chapter in 0..3 {
        rows = Some(Ledger::add(&ground.source, &format!("chapter {chapter}"), 3000));
        ground.site.backup(&ground.source);
    }
    let newest = ground.site.backups().remove(0);
    for (command, at_most) in [(ROTATE, 16), (COLLECT, 16)] {
        ground.keep();
        let points = ground.points(command[1], command);
        // Once more, for what a collection leaves to the next one.
        ground.site.run(command).ok();
        let wanted = packs(&ground.site);
        for point in &ground.walk.choose(&points, at_most) {
            ground.reset();
            ground.kill_at(point, command);
            assert!(ground.site.backups().contains(&newest), "{point}");
            ground.site.run(command).ok();
            ground.site.run(command).ok();
            assert_eq!(ground.site.backups(), [newest.as_str()], "{point}");
            assert_eq!(packs(&ground.site), wanted, "{point}");
            ground.site.run(&["repo", "check"]).ok();
            if ground.walk.is_over() {
                break;
            }
        }
        ground.end(&command.join(" "));
    }
    ground.site.run(&["verify", "db1"]).ok();
    ground.site.run(&["repo", "check", "--read-data"]).ok();
    assert_eq!(Some(ground.site.all("restored", &[])), rows);
}

fn packs(site: &Site) -> Vec<PathBuf> {
    let folder = site.repository().join("packs");
    site.content()
        .into_keys()
        .filter(|path| path.starts_with(&folder))
        .collect()
}

/// Kills streams of a mode, each while it resumes, streams or stops.
fn streams(ground: &mut Ground, mode: &[&str], at_most: usize) {
    let list = ground.site.dir("points").join(mode[0]);
    let mut whole = stream_as(ground, mode, "whole", &[(Point::LIST, text(&list))]);
    write_beside(ground, &mut whole, 1);
    whole.stop().ok();
    let points = Point::listed(&list);
    for point in &ground.walk.choose(&points, at_most) {
        let line = point.to_string();
        let mut killed = stream_as(ground, mode, "killed", &[(Point::VARIABLE, &line)]);
        write_beside(ground, &mut killed, 3);
        // A stop has points of its own.
        let answer = killed.stop();
        ground.count(point, &answer);
        holds_up_to(ground, &line, &acknowledged(ground).unwrap());
        let mut again = stream_as(ground, mode, "again", &[]);
        write_beside(ground, &mut again, 1);
        assert!(again.runs(), "{point}\n{}", again.answer());
        again.kill();
        holds_up_to(ground, &line, &acknowledged(ground).unwrap());
        if ground.walk.is_over() {
            break;
        }
    }
}

/// Both modes, and what is then in the repository; the rows that must come back.
pub fn streams_of_each_mode(ground: &mut Ground, at_most: usize) -> Ledger {
    // The first one makes keys and the deployment, which the points of a push are about.
    let mut first = stream(ground, "first", &[]);
    write_beside(ground, &mut first, 1);
    ground.site.backup(&ground.source);
    first.kill();
    for mode in MODES {
        streams(ground, mode, at_most);
    }
    let mut last = stream(ground, "last", &[]);
    write_beside(ground, &mut last, 1);
    last.stop().ok();
    let rows = Ledger::read(&ground.source);
    ground.site.run(&["wal", "audit", "db1"]).ok();
    ground.site.run(&["repo", "check", "--read-data"]).ok();
    rows
}

#[test]
fn a_stream() {
    for major in versions() {
        let mut ground = Ground::new(major);
        let rows = streams_of_each_mode(&mut ground, 6);
        let mut restored = ground.site.restore(major, "restored", &["--to-latest"]);
        restored.until_promoted();
        assert_eq!(Ledger::read(&restored), rows);
        ground.end("wal stream");
    }
}
