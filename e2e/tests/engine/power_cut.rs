//! The power goes while things are written to a repository in a directory, and the disk keeps nothing but what was synced,
//! or of the rest whatever it likes. What was acknowledged before is there, nothing that is damaged is trusted, and stream
//! and backup go on.
//!
//! The disk is a model (`hardstorage_e2e::disk`) over the record that a debug build writes of all that it does. That the
//! record is whole is proven by the model itself: what it makes of all of it is what is in the directory. That the judge
//! can find anything is proven with disks that lie: one does not sync files, one does not sync directories.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use hardstorage_e2e::disk::{Disk, Fate, Ignoring, Record};
use hardstorage_e2e::torture::Dice;
use hardstorage_e2e::{Background, Ledger, Point, run};
use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::ground::{Ground, MODES, acknowledged, lacks, name_of, stream, stream_as, text, write_beside};
use crate::site::{PATIENCE, id, lsn, step};

/// Everything below a directory: files with their bytes, directories with nothing.
fn tree(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(&next).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_owned();
            if path.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else {
                found.insert(name, Some(fs::read(&path).unwrap()));
            }
        }
    }
    found
}

/// What had been promised at a cut.
#[derive(Debug, Default)]
struct Promised {
    /// Where the first stream began, and how far it was told to be durable.
    durable: Option<(u64, String)>,
    backups: Vec<String>,
    pushed: Vec<String>,
    /// Retention or a collection has been asked for: backups may be gone.
    given_up: bool,
}

impl Promised {
    fn until(record: &Record, cut: usize, rotation: usize) -> Promised {
        let mut promised = Promised {
            given_up: cut > rotation,
            ..Promised::default()
        };
        for (_, text) in record.promises().filter(|(from, _)| *from <= cut) {
            if let Some(durable) = text.strip_prefix("durable ").filter(|durable| lsn(durable) > 0) {
                let (from, farthest) = promised
                    .durable
                    .take()
                    .unwrap_or_else(|| (lsn(durable), durable.to_owned()));
                let farther = lsn(durable) > lsn(&farthest);
                promised.durable = Some((from, if farther { durable.to_owned() } else { farthest }));
            }
            let result = |command: &str| -> Option<Value> {
                let json = text.strip_prefix("result ")?.strip_prefix(command)?;
                serde_json::from_str(json).ok()
            };
            if let Some(backup) = result("backup ") {
                promised.backups.push(id(&backup));
            }
            if let Some(push) = result("wal push ") {
                promised.pushed.push(push["file"].as_str().unwrap().to_owned());
            }
        }
        promised
    }
}

/// A repository after a cut, in a directory of its own.
fn left(ground: &Ground, record: &Record, cut: usize, fate: &mut Fate, ignoring: Ignoring) -> PathBuf {
    let after = ground.site.place("after");
    if after.exists() {
        fs::remove_dir_all(&after).unwrap();
    }
    ground.site.dir("after");
    Disk::cut(&ground.kept(), record, cut, ignoring).leave(&after, fate);
    after
}

/// What of the promises is broken in a repository.
fn broken(ground: &Ground, repository: &Path, promised: &Promised) -> Option<String> {
    let url = format!("file://{}", repository.display());
    let ask = |args: &[&str]| ground.site.product.run(&[args, &["--repo", &url]].concat());
    let check = ask(&["repo", "check"]);
    if check.code != Some(0) {
        return Some(check.to_string());
    }
    if let Some((from, durable)) = &promised.durable
        && let Some(lacking) = lacks(ground, &url, *from, durable)
    {
        return Some(lacking);
    }
    for file in &promised.pushed {
        let wanted = fs::read(ground.source.data().join("pg_wal").join(file)).unwrap();
        match ground.fetch_from(&url, file) {
            Ok(Some(found)) if found == wanted => {}
            other => return Some(format!("{file} was pushed: {:?}", other.map(|found| found.is_some()))),
        }
    }
    let ids: &[String] = if promised.given_up {
        promised.backups.last().map(std::slice::from_ref).unwrap_or_default()
    } else {
        &promised.backups
    };
    ids.iter().find_map(|id| ground.flaw_of(&url, id))
}

/// Ends processes in the same instant, between two changes of the disk: while the record is locked, none of them makes one.
fn cut(record: &Path, processes: [&mut Background; 2]) {
    let record = fs::File::open(record).unwrap();
    flock(&record, FlockOperation::LockExclusive).unwrap();
    for process in processes {
        process.kill();
    }
}

/// Everything that writes, one after the other beside a stream; the record of it and the step before the retention.
fn recorded(ground: &Ground) -> (Record, usize) {
    let file = ground.site.dir("record").join("disk");
    let recording = [(Record::VARIABLE, text(&file))];
    let act = |args: &[&str]| {
        let mut command = ground.command(args);
        command.envs(recording);
        run(command, PATIENCE).ok()
    };
    ground.keep();
    let connection = ground.source.connection();
    let backup = ["backup", "db1", "--pg-connection", connection.as_str()];
    act(&backup);
    for mode in MODES {
        let mut running = stream_as(ground, mode, "stream", &recording);
        write_beside(ground, &mut running, 2);
        act(&backup);
        write_beside(ground, &mut running, 1);
        running.stop().ok();
    }
    // One that nobody has stored.
    let segment = ground.segment();
    act(&["wal", "push", "db1", text(&segment)]);
    let rotation = Record::read(&file, &ground.site.repository()).len();
    act(&["rotate", "db1", "--keep-last", "1", "--apply"]);
    act(&["repo", "gc", "--apply", "--grace", "0s", "--reader-grace", "0s"]);
    let record = Record::read(&file, &ground.site.repository());
    assert!(name_of(&segment).len() == 24 && record.promises().count() > 10);
    (record, rotation)
}

/// What becomes of the rest: often nothing, because that is the hardest.
fn fate(dice: &mut Dice) -> Fate {
    match dice.number(0..=4) {
        0 => Fate::Zeros,
        1 | 2 => Fate::Chance(dice.split()),
        _ => Fate::Lost,
    }
}

#[test]
fn what_was_acknowledged_is_on_the_disk() {
    let mut ground = Ground::new(18);
    let (record, rotation) = recorded(&ground);
    step("the record is whole: nothing was done beside it");
    let after = left(&ground, &record, record.len(), &mut Fate::Kept, Ignoring::Nothing);
    let (modelled, real) = (tree(&after), tree(&ground.site.repository()));
    assert!(
        modelled.keys().eq(real.keys()),
        "{:?}\n{:?}",
        modelled.keys(),
        real.keys()
    );
    for (name, bytes) in &real {
        assert!(&modelled[name] == bytes, "{} has other bytes", name.display());
    }

    step("cuts");
    let mut dice = ground.walk.dice();
    let mut cuts: Vec<usize> = record.promises().map(|(from, _)| from).collect();
    dice.shuffle(&mut cuts);
    let (most, others) = if ground.walk.is_long() {
        (usize::MAX, 2000)
    } else {
        (7, 7)
    };
    cuts.truncate(most);
    cuts.push(record.len());
    cuts.extend((0..others).map(|_| dice.number(0..=record.len() as u64) as usize));
    let mut done = 0;
    for cut in &cuts {
        let mut fate = fate(&mut dice);
        let what = format!("cut after step {cut} of {}, {fate:?}", record.len());
        let after = left(&ground, &record, *cut, &mut fate, Ignoring::Nothing);
        let flaw = broken(&ground, &after, &Promised::until(&record, *cut, rotation));
        assert!(flaw.is_none(), "{what}\n{}", flaw.unwrap_or_default());
        done += 1;
        if ground.walk.is_over() {
            break;
        }
    }
    step(&format!("{done} cuts of {} steps", record.len()));

    step("disks that lie are found out");
    let promised = Promised::until(&record, record.len(), rotation);
    for begin in ["", "wal/", "packs/", "manifests/", "keys/"] {
        for (ignoring, mut fate) in [
            (Ignoring::Files(begin), Fate::Zeros),
            (Ignoring::Files(begin), Fate::Lost),
            (Ignoring::Folders(begin), Fate::Lost),
        ] {
            let after = left(&ground, &record, record.len(), &mut fate, ignoring);
            let flaw = broken(&ground, &after, &promised);
            assert!(flaw.is_some(), "{ignoring:?} {fate:?}: nothing was missed");
        }
    }
}

/// The power goes at a point of a stream or of a backup; after the reboot both go on with what the disk has kept.
#[test]
fn a_stream_and_a_backup_go_on_after_the_reboot() {
    let mut ground = Ground::new(18);
    let mut first = stream(&ground, "first", &[]);
    write_beside(&ground, &mut first, 1);
    first.stop().ok();
    let connection = ground.source.connection();
    let backup = ["backup", "db1", "--pg-connection", connection.as_str()];
    ground.site.run(&backup).ok();
    let points = ground.points("backup", &backup);
    let list = ground.site.dir("points").join("stream");
    let mut second = stream(&ground, "second", &[(Point::LIST, text(&list))]);
    write_beside(&ground, &mut second, 1);
    second.stop().ok();
    let stream_points = ground.walk.choose(&Point::listed(&list), 6);
    let backup_points = ground.walk.choose(&points, 6);
    let mut dice = ground.walk.dice();
    for (round, (one, other)) in stream_points.iter().zip(&backup_points).enumerate() {
        let told = ground.site.backups();
        ground.keep();
        let file = ground.site.dir("record").join(round.to_string());
        let (one, other) = (one.to_string(), other.to_string());
        let mut running = stream_as(
            &ground,
            MODES[round % 2],
            "stream",
            &[(Point::VARIABLE, &one), (Record::VARIABLE, text(&file))],
        );
        let mut command = ground.command(&backup);
        command.env(Point::VARIABLE, &other).env(Record::VARIABLE, &file);
        let mut taken = Background::start(command, &ground.site.place("backup"));
        write_beside(&ground, &mut running, 3);
        cut(&file, [&mut running, &mut taken]);
        let record = Record::read(&file, &ground.site.repository());
        let mut fate = fate(&mut dice);
        let what = format!("round {round}, stream at {one}, backup at {other}, {fate:?}");
        let after = left(&ground, &record, record.len(), &mut fate, Ignoring::Nothing);
        ground.replace(&after);
        let mut promised = Promised::until(&record, record.len(), usize::MAX);
        let told_server = acknowledged(&ground).unwrap();
        let durable = match promised.durable.take() {
            Some((_, durable)) if lsn(&durable) > lsn(&told_server) => durable,
            _ => told_server,
        };
        let flaw = broken(&ground, &ground.site.repository(), &promised)
            .or_else(|| lacks(&ground, &ground.site.repo, 0, &durable));
        assert!(flaw.is_none(), "{what}\n{}", flaw.unwrap_or_default());
        let found = ground.site.backups();
        assert!(
            told.iter().all(|id| found.contains(id)),
            "{what}: {told:?} and now {found:?}"
        );
        let mut again = stream(&ground, "again", &[]);
        write_beside(&ground, &mut again, 1);
        ground.site.run(&backup).ok();
        let stopped = again.stop();
        assert_eq!(stopped.code, Some(0), "{what}\n{stopped}");
        if ground.walk.is_over() {
            break;
        }
    }
    let mut last = stream(&ground, "last", &[]);
    write_beside(&ground, &mut last, 1);
    let rows = Ledger::read(&ground.source);
    last.stop().ok();
    ground.site.run(&["wal", "audit", "db1"]).ok();
    ground.site.run(&["repo", "check", "--read-data"]).ok();
    assert_eq!(ground.site.latest("restored"), rows);
}
