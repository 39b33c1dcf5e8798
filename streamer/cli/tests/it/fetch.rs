//! The restore_command through the real program. PostgreSQL takes every exit code from 1 to 125 for the end of the
//! archive, so 1 must be a proof and everything else that is not the file must be 126.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use hardstorage_report::{Lsn, SegmentName, SegmentSize, SystemId, Timeline};
use hardstorage_repository::wal::{RecordFacts, WalArchive};
use hardstorage_repository::{Access, Keyring, Lineage, Mode, Repository, WriterId};
use hardstorage_storage::OpenOptions;

use crate::product;

const MIB: u64 = 1 << 20;
const LINEAGE: Lineage = Lineage {
    system_id: SystemId(0x6c5d_0000_0000_0001),
    incarnation: 1,
};

/// A repository with WAL in it, and a place where a server recovers.
struct Bench {
    root: tempfile::TempDir,
    archive: WalArchive,
}

fn segment(number: u64) -> String {
    SegmentName::containing(Timeline(1), Lsn(number * MIB), SegmentSize::new(MIB).unwrap()).to_string()
}

fn bytes(number: u64) -> Vec<u8> {
    (0..MIB)
        .map(|at| ((at >> 7) as u8).wrapping_mul(number as u8 | 1))
        .collect()
}

impl Bench {
    /// With these segments.
    async fn new(numbers: &[u64]) -> Bench {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("pg_wal")).unwrap();
        let home = root.path().join("home");
        let url = format!("file://{}", root.path().join("repository").display());
        let made = product(&home).args(["repo", "init", &url]).output().unwrap();
        assert!(made.status.success(), "{made:?}");
        let store = hardstorage_storage::open(&url, &OpenOptions::default()).await.unwrap();
        let keyring = Keyring::open(home.join(".config/pg_hardstorage/keyring"));
        let access = Access::new(keyring.kek().unwrap(), Mode::Write);
        let repository = Repository::open(store, access).await.unwrap();
        let deployment = repository.deployment_or_create(&"db1".parse().unwrap()).await.unwrap();
        let archive = WalArchive::new(deployment, LINEAGE, SegmentSize::new(MIB).unwrap());
        for number in numbers {
            let name: SegmentName = segment(*number).parse().unwrap();
            let raw = bytes(*number);
            archive.put_segment(name, &raw, RecordFacts::default()).await.unwrap();
        }
        Bench { root, archive }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn url(&self) -> String {
        format!("file://{}", self.path("repository").display())
    }

    /// The command as `restore` writes it into the server's settings.
    fn command(&self, verb: &str, file: &str, more: &[&str]) -> Command {
        let mut command = product(&self.path("home"));
        command.current_dir(self.root.path());
        command.args(["wal", verb, "db1", file, "pg_wal/RECOVERYXLOG"]);
        command.args(["--repo", &self.url(), "--lineage", &LINEAGE.to_string()]);
        command
            .args(["--wal-segment-size", &MIB.to_string(), "--quiet"])
            .args(more);
        command
    }

    /// Without fetching ahead.
    fn fetch(&self, file: &str, more: &[&str]) -> Output {
        let mut words = vec!["--prefetch", "0"];
        words.extend(more);
        self.command("fetch", file, &words).output().unwrap()
    }

    fn given(&self) -> Option<Vec<u8>> {
        let path = self.path("pg_wal/RECOVERYXLOG");
        let found = fs::read(&path).ok();
        if found.is_some() {
            fs::remove_file(path).unwrap();
        }
        found
    }

    fn spooled(&self) -> Vec<String> {
        let folder = self.path(&format!("pg_wal/.pg_hardstorage/{LINEAGE}-latest"));
        let names = fs::read_dir(folder).map(|entries| {
            let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
            names.filter(|name| name.len() > 24 && !name.contains("part")).collect()
        });
        let mut names: Vec<String> = names.unwrap_or_default();
        names.sort();
        names
    }

    /// The stored object of a segment.
    fn object(&self, number: u64) -> PathBuf {
        find(&self.path("repository"), &segment(number)).unwrap()
    }
}

fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    fs::read_dir(folder).unwrap().find_map(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            find(&path, name)
        } else {
            let found = path.file_name().unwrap().to_str().unwrap().starts_with(name);
            found.then_some(path)
        }
    })
}

#[track_caller]
fn exits(output: &Output, code: i32, says: &str) {
    assert_eq!(output.status.code(), Some(code), "{output:?}");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.contains(says), "{stderr:?} does not say {says:?}");
}

#[tokio::test]
async fn found_is_0_and_proven_absent_is_1() {
    let bench = Bench::new(&[1, 2, 4]).await;
    exits(&bench.fetch(&segment(1), &[]), 0, "");
    assert!(bench.given() == Some(bytes(1)));
    exits(&bench.fetch(&segment(5), &[]), 1, "");
    exits(&bench.fetch("00000002.history", &[]), 1, "");
    bench
        .archive
        .put_history(Timeline(2), b"1\t0/500000\tno reason\n")
        .await
        .unwrap();
    exits(&bench.fetch("00000002.history", &[]), 0, "");
    assert_eq!(bench.given().unwrap(), b"1\t0/500000\tno reason\n");
    exits(&bench.fetch(&segment(3), &[]), 126, "verify.wal_gap");
    assert_eq!(bench.given(), None);
}

#[tokio::test]
async fn whatever_else_happens_is_126() {
    let bench = Bench::new(&[1, 2]).await;
    let one = segment(1);
    exits(&bench.fetch("nonsense", &[]), 126, "usage.invalid");
    exits(&bench.fetch(&one, &["--no-such-option"]), 126, "usage.invalid");
    exits(&bench.fetch(&one, &["--timeline", "x"]), 126, "usage");
    let bare = product(&bench.path("home")).args(["wal", "fetch"]).output().unwrap();
    exits(&bare, 126, "usage.invalid");
    exits(
        &bench.fetch(&one, &["--config", "/no/such/file"]),
        126,
        "usage.invalid_config",
    );

    // Another key, no key, no such deployment.
    let stranger = bench.path("stranger");
    let other = format!("file://{}", bench.path("other").display());
    let made = product(&stranger).args(["repo", "init", &other]).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let keyring = stranger.join(".config/pg_hardstorage/keyring");
    exits(
        &bench.fetch(&one, &["--keyring", keyring.to_str().unwrap()]),
        126,
        "auth.key_wrong",
    );
    let empty = bench.path("empty");
    fs::create_dir(&empty).unwrap();
    exits(
        &bench.fetch(&one, &["--keyring", empty.to_str().unwrap()]),
        126,
        "auth.key_missing",
    );
    let mut unknown = product(&bench.path("home"));
    unknown.args(["wal", "fetch", "db2", &one, "x", "--repo", &bench.url()]);
    exits(&unknown.output().unwrap(), 126, "notfound.deployment");

    // A lineage without a backup does not tell the size of its segments.
    let mut guess = product(&bench.path("home"));
    guess.args(["wal", "fetch", "db1", &one, "x", "--repo", &bench.url()]);
    exits(&guess.output().unwrap(), 126, "notfound.backup");

    // A damaged segment: nothing of it is given.
    let object = bench.object(2);
    let mut stored = fs::read(&object).unwrap();
    let middle = stored.len() / 2;
    stored[middle] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, stored).unwrap();
    exits(&bench.fetch(&segment(2), &[]), 126, "verify.");
    assert_eq!(bench.given(), None);
    assert_eq!(
        fs::read_dir(bench.path("pg_wal")).unwrap().count(),
        0,
        "no rest of it lies there"
    );

    // Nowhere to write to.
    fs::remove_dir(bench.path("pg_wal")).unwrap();
    exits(&bench.fetch(&one, &[]), 126, "io");
    fs::create_dir(bench.path("pg_wal")).unwrap();

    // No repository; also when nobody listens to what is said of it.
    fs::rename(bench.path("repository"), bench.path("elsewhere")).unwrap();
    exits(&bench.fetch(&one, &[]), 126, "notfound.bucket");
    exits(&bench.fetch(&segment(9), &[]), 126, "notfound.bucket");
    exits(&bench.fetch("00000002.history", &[]), 126, "notfound.bucket");
    fs::create_dir(bench.path("repository")).unwrap();
    exits(&bench.fetch(&one, &[]), 126, "notfound.repo");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut deaf = bench.command("fetch", &one, &["--prefetch", "0"]);
    let status = deaf
        .stderr(writer.try_clone().unwrap())
        .stdout(writer)
        .status()
        .unwrap();
    assert_eq!(status.code(), Some(126));
}

/// The last segment of the archive may go on: what is given of it now is not what is given later.
#[tokio::test]
async fn an_unfinished_segment_is_given_and_never_kept() {
    let bench = Bench::new(&[1, 2]).await;
    let name: SegmentName = segment(3).parse().unwrap();
    let raw = bytes(3);
    let given = |bench: &Bench, held: usize| {
        exits(
            &bench
                .command("fetch", &segment(3), &["--prefetch", "0"])
                .output()
                .unwrap(),
            0,
            "",
        );
        let given = bench.given().unwrap();
        assert!(given[..held] == raw[..held] && given[held..].iter().all(|byte| *byte == 0));
    };
    let streamer = WriterId::new([7; 16]);
    let mut tails = bench.archive.tail_writer(name, streamer).unwrap();
    let end = tails
        .put(Lsn(3 * MIB), &raw[..5000], RecordFacts::default())
        .await
        .unwrap();
    let ahead = bench
        .command("prefetch", &segment(1), &["--prefetch", "4"])
        .output()
        .unwrap();
    exits(&ahead, 0, "");
    assert!(
        bench.spooled().iter().all(|name| !name.starts_with(&segment(3))),
        "{:?}",
        bench.spooled()
    );
    given(&bench, 5000);
    tails.put(end, &raw[5000..9000], RecordFacts::default()).await.unwrap();
    given(&bench, 9000);
}

#[tokio::test]
async fn the_spool_serves_without_a_repository_and_is_bounded() {
    let bench = Bench::new(&[1, 2, 3, 4, 5, 6, 7, 8]).await;
    let ahead = |number| {
        bench
            .command("prefetch", &segment(number), &["--prefetch", "3"])
            .output()
            .unwrap()
    };
    exits(&ahead(1), 0, "");
    let names = bench.spooled();
    assert_eq!(names.len(), 3, "{names:?}");
    exits(&ahead(4), 0, "");
    let names: Vec<String> = bench.spooled().iter().map(|name| name[..24].to_owned()).collect();
    assert_eq!(names, [5, 6, 7].map(segment), "what was left behind has gone");
    exits(&ahead(7), 0, "");
    assert_eq!(bench.spooled().len(), 1, "there is no more");

    exits(&ahead(4), 0, "");
    fs::rename(bench.path("repository"), bench.path("elsewhere")).unwrap();
    let served = bench
        .command("fetch", &segment(5), &["--prefetch", "3"])
        .output()
        .unwrap();
    exits(&served, 0, "");
    assert!(bench.given() == Some(bytes(5)));
    let missed = bench
        .command("fetch", &segment(8), &["--prefetch", "3"])
        .output()
        .unwrap();
    exits(&missed, 126, "notfound.bucket");
    exits(&ahead(5), 0, "");
}

#[tokio::test]
async fn a_torn_or_unusable_spool_is_no_answer() {
    let bench = Bench::new(&[1, 2, 3]).await;
    let ahead = bench
        .command("prefetch", &segment(1), &["--prefetch", "2"])
        .output()
        .unwrap();
    exits(&ahead, 0, "");
    let folder = bench.path(&format!("pg_wal/.pg_hardstorage/{LINEAGE}-latest"));
    let torn = folder.join(&bench.spooled()[0]);
    fs::OpenOptions::new()
        .write(true)
        .open(&torn)
        .unwrap()
        .set_len(4096)
        .unwrap();
    let served = bench
        .command("fetch", &segment(2), &["--prefetch", "2"])
        .output()
        .unwrap();
    exits(&served, 0, "");
    assert!(bench.given() == Some(bytes(2)));

    // A file where the directory should be: told, and the segment comes from the repository all the same.
    let file = bench.path("file");
    fs::write(&file, b"").unwrap();
    let more = ["--prefetch", "2", "--spool", file.to_str().unwrap()];
    exits(
        &bench.command("fetch", &segment(3), &more).output().unwrap(),
        0,
        "wal.prefetch_failed",
    );
    assert!(bench.given() == Some(bytes(3)));
    exits(&bench.command("fetch", &segment(4), &more).output().unwrap(), 1, "");
    exits(
        &bench.command("prefetch", &segment(1), &more).output().unwrap(),
        0,
        "io",
    );
}

#[tokio::test]
async fn a_fetch_leaves_a_process_that_fetches_ahead() {
    let bench = Bench::new(&[1, 2, 3, 4, 5]).await;
    exits(
        &bench.command("fetch", "00000003.history", &[]).output().unwrap(),
        1,
        "",
    );
    exits(&bench.command("fetch", &segment(6), &[]).output().unwrap(), 1, "");
    assert!(
        !bench.path("pg_wal/.pg_hardstorage").exists(),
        "neither a history nor an absent file starts it"
    );
    let served = bench
        .command("fetch", &segment(1), &["--prefetch", "4"])
        .output()
        .unwrap();
    exits(&served, 0, "");
    assert!(bench.given() == Some(bytes(1)));
    let deadline = Instant::now() + Duration::from_mins(1);
    while bench.spooled().len() < 4 {
        assert!(Instant::now() < deadline, "{:?}", bench.spooled());
        std::thread::sleep(Duration::from_millis(20));
    }
}
