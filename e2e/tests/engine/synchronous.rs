//! Commits that wait for the stream: they wait while it is away, go on when it is back, and what was answered is in the
//! repository whatever happens to the server in the next instant.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use hardstorage_e2e::{Builder, Cluster, Ledger, until};
use rustix::process::Signal;

use crate::site::{PATIENCE, Site, Stream, step};

pub const OURS: &str = "pg_hardstorage_db1";
pub const SYNCHRONOUS: &[&str] = &["--synchronous"];

pub fn recipe(major: u16, names: &str) -> Builder {
    Cluster::builder(major).set("synchronous_standby_names", names)
}

/// A server whose commits wait for the stream of `site`, which runs.
pub fn waiting(site: &Site, major: u16, names: &str) -> (Cluster, Stream) {
    let source = recipe(major, names).start();
    let mut stream = site.stream("stream", &source.connection(), SYNCHRONOUS);
    until_named(&mut stream, &source);
    Ledger::create(&source);
    (source, stream)
}

/// Waits until the server counts on the stream.
pub fn until_named(stream: &mut Stream, source: &Cluster) {
    let sql =
        format!("SELECT sync_state FROM pg_stat_replication WHERE application_name = '{OURS}' AND state = 'streaming'");
    stream.process.until("the server counts on the stream", PATIENCE, || {
        let state = source.try_value(&sql).ok()?;
        ["sync", "quorum"].contains(&state.as_str()).then_some(())
    });
}

fn waits(source: &Cluster) -> bool {
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    source.try_value(sql).is_ok_and(|count| count != "0")
}

/// Adds a row beside `meanwhile`, which begins when its commit waits; the row must not have been answered by its end.
pub fn a_commit_waits<T>(source: &Cluster, note: &str, meanwhile: impl FnOnce(&dyn Fn() -> bool) -> T) -> T {
    let answered = AtomicBool::new(false);
    thread::scope(|scope| {
        let writer = scope.spawn(|| {
            Ledger::add(source, note, 1);
            answered.store(true, Ordering::SeqCst);
        });
        until("the commit waits", PATIENCE, || waits(source).then_some(()));
        let came = meanwhile(&|| answered.load(Ordering::SeqCst));
        writer.join().unwrap();
        came
    })
}

/// Rows whose commits were answered.
type Answered = Mutex<Vec<i64>>;

/// Writes until it is told to stop or the server is gone.
fn write(source: &Cluster, stop: &AtomicBool, answered: &Answered) {
    while !stop.load(Ordering::SeqCst) {
        match source.try_value("INSERT INTO ledger (note) VALUES (md5(random()::text)) RETURNING id") {
            Ok(id) => answered.lock().unwrap().push(id.parse().unwrap()),
            Err(_) => break,
        }
    }
}

fn missing(restored: &Cluster, answered: Answered) -> Vec<i64> {
    let there: Vec<i64> = restored
        .sql("SELECT id FROM ledger")
        .into_iter()
        .filter_map(|row| row.into_iter().next()??.parse().ok())
        .collect();
    let mut answered = answered.into_inner().unwrap();
    answered.retain(|id| !there.contains(id));
    answered
}

fn commits_wait_and_go_on(major: u16) {
    let site = Site::new();
    let (source, mut stream) = waiting(&site, major, OURS);
    site.backup(&source);
    Ledger::add(&source, "while it runs", 10);
    stream.process.kill();
    step("a commit waits while nobody receives");
    let mut stream = a_commit_waits(&source, "while it is away", |answered| {
        assert!(!answered());
        site.stream("again", &source.connection(), SYNCHRONOUS)
    });
    step("what was answered is in the repository at that moment");
    let everything = Ledger::add(&source, "afterwards", 10);
    stream.process.kill();
    drop(source);
    let mut restored = site.restore(major, "latest", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), everything);
}

#[test]
fn commits_wait_for_a_stream_that_is_away_on_18() {
    commits_wait_and_go_on(18);
}

#[test]
fn commits_wait_for_a_stream_that_is_away_on_15() {
    commits_wait_and_go_on(15);
}

/// The server dies with its disk while several connections write, and with it the stream, or not.
fn nothing_answered_is_lost(major: u16, rounds: u32) {
    for round in 0..rounds {
        let site = Site::new();
        let (mut source, mut stream) = waiting(&site, major, OURS);
        site.backup(&source);
        let (stop, answered) = (AtomicBool::new(false), Answered::default());
        let wanted = 150 + 200 * round as usize;
        thread::scope(|scope| {
            let (writers, source) = (0..4, &source);
            for _ in writers {
                scope.spawn(|| write(source, &stop, &answered));
            }
            stream.process.until("enough was answered", PATIENCE, || {
                (answered.lock().unwrap().len() >= wanted).then_some(())
            });
            if round % 2 == 0 {
                stream.process.kill();
            }
            source.signal_all(Signal::KILL);
            stop.store(true, Ordering::SeqCst);
        });
        source.cut();
        fs::remove_dir_all(source.data()).unwrap();
        stream.process.kill();
        let mut restored = site.restore(major, "latest", &["--to-latest"]);
        restored.until_promoted();
        assert_eq!(missing(&restored, answered), Vec::<i64>::new(), "round {round}");
    }
}

#[test]
fn a_server_that_burns_takes_no_answered_commit_along_on_18() {
    nothing_answered_is_lost(18, 4);
}

#[test]
fn a_server_that_burns_takes_no_answered_commit_along_on_15() {
    nothing_answered_is_lost(15, 2);
}

/// The journals of the repository, the newest last. A stream may be removing some meanwhile.
fn journals(site: &Site) -> Vec<PathBuf> {
    let mut folders = vec![site.repository().join("wal")];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder)
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path())
        {
            if path.is_dir() {
                folders.push(path);
            } else if path.to_str().is_some_and(|path| path.contains("-journal-")) {
                let written = fs::metadata(&path).and_then(|file| file.modified()).ok();
                found.push((written, path));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// What a power cut can leave behind the last record: some sectors of one that was being written.
fn tear(journal: &Path) {
    const BLOCK: usize = 512;
    let mut bytes = fs::read(journal).unwrap();
    let end = bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1;
    let end = end.next_multiple_of(BLOCK);
    let first = bytes[BLOCK..2 * BLOCK].to_vec();
    bytes.resize(bytes.len().max(end + 4 * BLOCK), 0);
    bytes[end + 2 * BLOCK..end + 3 * BLOCK].copy_from_slice(&first);
    bytes[end..end + 40].copy_from_slice(&first[..40]);
    fs::write(journal, bytes).unwrap();
}

/// The stream dies in the middle of its writing, again and again within one segment and over several, now and then as in a
/// power cut; at last the server dies too. Each connection repeats what the one before has left, and compares it.
#[test]
fn a_stream_that_is_killed_again_and_again_loses_nothing() {
    let site = Site::new();
    let (mut source, mut stream) = waiting(&site, 18, OURS);
    site.backup(&source);
    let (stop, answered) = (AtomicBool::new(false), Answered::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            let source = &source;
            scope.spawn(|| write(source, &stop, &answered));
        }
        for turn in 1..=8 {
            let wanted = answered.lock().unwrap().len() + 150;
            stream.process.until("enough was answered", PATIENCE, || {
                (answered.lock().unwrap().len() >= wanted).then_some(())
            });
            if turn % 3 == 0 {
                source.sql("SELECT pg_switch_wal()");
            }
            stream.process.kill();
            let newest = journals(&site).pop();
            if turn % 2 == 0 {
                tear(&newest.expect("commits were answered without a journal"));
            }
            stream = site.stream(&format!("turn {turn}"), &source.connection(), SYNCHRONOUS);
        }
        let wanted = answered.lock().unwrap().len() + 100;
        stream.process.until("enough was answered", PATIENCE, || {
            (answered.lock().unwrap().len() >= wanted).then_some(())
        });
        source.signal_all(Signal::KILL);
        stream.process.kill();
        stop.store(true, Ordering::SeqCst);
    });
    source.cut();
    fs::remove_dir_all(source.data()).unwrap();
    step("a scrub finds nothing, and a restore everything that was answered");
    site.run(&["repo", "scrub", "--all", "--max-rate", "0"]).ok();
    site.run(&["repo", "check"]).ok();
    let mut restored = site.restore(18, "latest", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(missing(&restored, answered), Vec::<i64>::new());
}

/// Two streams write journals of the same segments; one dies, and then the other with the server.
#[test]
fn two_streams_beside_each_other_agree() {
    let site = Site::new();
    let (mut source, mut first) = waiting(&site, 18, OURS);
    site.backup(&source);
    let mut second = site.stream("second", &source.connection(), &["--synchronous", "--slot", "second"]);
    let (stop, answered) = (AtomicBool::new(false), Answered::default());
    thread::scope(|scope| {
        for _ in 0..4 {
            let source = &source;
            scope.spawn(|| write(source, &stop, &answered));
        }
        for turn in 0..4 {
            let wanted = answered.lock().unwrap().len() + 150;
            first.process.until("enough was answered", PATIENCE, || {
                (answered.lock().unwrap().len() >= wanted).then_some(())
            });
            if turn % 2 == 1 {
                source.sql("SELECT pg_switch_wal()");
            }
        }
        let beside = journals(&site);
        assert!(beside.len() >= 2, "{beside:?}");
        first.process.kill();
        // Both go by the same name.
        let wanted = answered.lock().unwrap().len() + 150;
        second.process.until("commits are answered to the other", PATIENCE, || {
            (answered.lock().unwrap().len() >= wanted).then_some(())
        });
        source.signal_all(Signal::KILL);
        second.process.kill();
        stop.store(true, Ordering::SeqCst);
    });
    source.cut();
    fs::remove_dir_all(source.data()).unwrap();
    let mut restored = site.restore(18, "latest", &["--to-latest"]);
    restored.until_promoted();
    assert_eq!(missing(&restored, answered), Vec::<i64>::new());
}

/// Either of two is enough, and without both commits wait.
#[test]
fn beside_a_standby_one_of_both_is_enough() {
    let site = Site::new();
    let (source, mut stream) = waiting(&site, 18, &format!("ANY 1 (\"{OURS}\", walreceiver)"));
    let mut standby = source.standby();
    stream.process.kill();
    Ledger::add(&source, "with the standby alone", 10);
    standby.kill();
    let mut stream = a_commit_waits(&source, "with neither", |answered| {
        assert!(!answered());
        site.stream("alone", &source.connection(), SYNCHRONOUS)
    });
    Ledger::add(&source, "with the stream alone", 10);
    let warned = stream.events_named("wal.preflight.sync_standby.no_other");
    assert_eq!(warned, Vec::<serde_json::Value>::new(), "there is another one");
    stream.stop();
}

/// A stop in the middle of the writing loses nothing, and the commits that wait are answered by the next stream.
#[test]
fn a_stop_in_order_is_clean_and_the_next_stream_goes_on() {
    let site = Site::new();
    let (source, stream) = waiting(&site, 18, &format!("FIRST 1 ({OURS})"));
    site.backup(&source);
    let (stop, answered) = (AtomicBool::new(false), Answered::default());
    let mut stream = thread::scope(|scope| {
        let mut stream = stream;
        let writers = [(); 3].map(|()| scope.spawn(|| write(&source, &stop, &answered)));
        for turn in 1..=3 {
            let wanted = answered.lock().unwrap().len() + 100;
            stream.process.until("commits are answered", PATIENCE, || {
                (answered.lock().unwrap().len() >= wanted).then_some(())
            });
            stream.stop();
            until("commits wait", PATIENCE, || waits(&source).then_some(()));
            stream = site.stream(&format!("turn {turn}"), &source.connection(), SYNCHRONOUS);
        }
        stop.store(true, Ordering::SeqCst);
        for writer in writers {
            writer.join().unwrap();
        }
        stream
    });
    let everything = Ledger::read(&source);
    stream.process.kill();
    drop(source);
    assert_eq!(site.latest("latest"), everything);
}

#[test]
fn what_the_server_must_say_is_told_before_and_while_it_streams() {
    let site = Site::new();
    let source = Cluster::builder(18).start();
    let connection = source.connection();
    let preflight = |exit: i32| {
        let words = [
            "wal",
            "preflight",
            "db1",
            "--synchronous",
            "--pg-connection",
            &connection,
        ];
        site.product.run(&words).exits(exit).stdout
    };
    step("nobody is named");
    let said = preflight(0);
    let wanted = format!("hint: ALTER SYSTEM SET synchronous_standby_names = '\"{OURS}\"'; SELECT pg_reload_conf()");
    assert!(
        said.contains("sync_standby.not_named") && said.contains(&wanted),
        "{said}"
    );
    let mut stream = site.stream("not named", &connection, SYNCHRONOUS);
    assert_eq!(stream.events_named("wal.preflight.sync_standby.not_named").len(), 1);

    step("the hint is followed, which the stream tells");
    source.sql(&format!("ALTER SYSTEM SET synchronous_standby_names = '\"{OURS}\"'"));
    source.sql("SELECT pg_reload_conf()");
    until_named(&mut stream, &source);
    stream
        .process
        .until("the change is told", PATIENCE, || told(&site, "not named", "no_other"));

    step("remote_apply is told to a stream that runs, and refused to one that begins");
    source.sql("ALTER SYSTEM SET synchronous_commit = 'remote_apply'");
    source.sql("SELECT pg_reload_conf()");
    stream.process.until("the change is told", PATIENCE, || {
        told(&site, "not named", "remote_apply")
    });
    stream.stop();
    assert!(preflight(4).contains("sync_standby.remote_apply"));
    let before = site.stored();
    let words = ["wal", "stream", "db1", "--synchronous", "--pg-connection", &connection];
    let refused = site.run(&words).exits(4);
    assert!(
        refused.stderr.contains("preflight.synchronous_remote_apply"),
        "{refused}"
    );
    assert!(refused.stderr.contains("synchronous_commit = 'on'"), "{refused}");
    assert_eq!(site.stored(), before, "it has written something");
}

/// Whether the log of a stream has a finding.
fn told(site: &Site, stream: &str, finding: &str) -> Option<()> {
    let log = site.product.log(stream);
    log.contains(&format!("wal.preflight.sync_standby.{finding}"))
        .then_some(())
}
