//! What the tests need that kill the product at its points or cut its power: a server with small segments that it keeps, a
//! repository, commands with points, and the comparison of what is archived with what the server wrote.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use hardstorage_e2e::{Answer, Background, Cluster, Ledger, Point, Walk, run, until};

use crate::site::{PATIENCE, Site, lsn, step};

/// Where what a run does depends on a second that has passed or not, so many are tried.
const RUNS: usize = 8;

/// What a test of kill points has.
pub struct Ground {
    pub site: Site,
    pub source: Cluster,
    pub walk: Walk,
    met: usize,
    missed: usize,
}

impl Ground {
    /// A repository in a directory.
    pub fn new(major: u16) -> Ground {
        Ground::on(Site::new(), major)
    }

    pub fn on(site: Site, major: u16) -> Ground {
        let source = Cluster::builder(major)
            .wal_segment_size(1)
            .set("wal_keep_size", "1GB")
            .start();
        Ledger::create(&source);
        Ground {
            site,
            source,
            walk: Walk::new(),
            met: 0,
            missed: 0,
        }
    }

    /// A command on the repository.
    pub fn command(&self, args: &[&str]) -> Command {
        self.site
            .product
            .command(&[args, &["--repo", &self.site.repo]].concat())
    }

    /// Runs it whole, and gives its points.
    #[track_caller]
    pub fn points(&self, name: &str, args: &[&str]) -> Vec<Point> {
        let list = self.site.dir("points").join(name);
        let mut command = self.command(args);
        command.env(Point::LIST, &list);
        run(command, PATIENCE).ok();
        Point::listed(&list)
    }

    /// Kills it at a point. What it does at a time has no order, so that a run may be over before it comes there.
    #[track_caller]
    pub fn kill_at(&mut self, point: &Point, args: &[&str]) {
        let answer = self.run_to(point, args);
        self.count(point, &answer);
    }

    /// Kills it at a point, in one of several runs, each of which finds what `ready` has made.
    #[track_caller]
    pub fn kill_one_at(&mut self, point: &Point, args: &[&str], mut ready: impl FnMut(&Ground)) {
        let mut answer = None;
        for _ in 0..RUNS {
            ready(self);
            let ended = answer.insert(self.run_to(point, args));
            if ended.code != Some(0) {
                break;
            }
        }
        self.count(point, &answer.unwrap());
    }

    fn run_to(&self, point: &Point, args: &[&str]) -> Answer {
        let mut command = self.command(args);
        command.env(Point::VARIABLE, point.to_string());
        run(command, PATIENCE)
    }

    /// Counts a run that was to end at a point.
    #[track_caller]
    pub fn count(&mut self, point: &Point, answer: &Answer) {
        match answer.code {
            None => self.met += 1,
            Some(0) => {
                step(&format!("{point}: not met"));
                self.missed += 1;
            }
            Some(_) => panic!("at {point}\n{answer}"),
        }
    }

    /// Tells how many points there were; most must have been met.
    #[track_caller]
    pub fn end(&self, what: &str) {
        step(&format!(
            "{what}: killed at {} points, {} not met",
            self.met, self.missed
        ));
        assert!(
            self.met > 2 * self.missed,
            "{what}: {} met, {} missed",
            self.met,
            self.missed
        );
    }

    /// Ends a segment that has rows in it; its file in `pg_wal`, which nothing changes any more.
    pub fn segment(&self) -> PathBuf {
        self.source
            .sql("INSERT INTO ledger (note) SELECT repeat('x', 100) FROM generate_series(1, 20)");
        let name = self.source.value("SELECT pg_walfile_name(pg_switch_wal())");
        self.source.data().join("pg_wal").join(name)
    }

    fn copied(from: &Path, to: &Path) {
        if to.exists() {
            fs::remove_dir_all(to).unwrap();
        }
        let mut command = Command::new("cp");
        command.arg("-a").arg(from).arg(to);
        run(command, PATIENCE).ok();
    }

    /// Keeps the repository as it is.
    pub fn keep(&self) {
        Ground::copied(&self.site.repository(), &self.kept());
    }

    /// Where it is kept.
    pub fn kept(&self) -> PathBuf {
        self.site.place("kept")
    }

    /// Makes it what it was.
    pub fn reset(&self) {
        self.replace(&self.kept());
    }

    /// Puts another one in its place.
    pub fn replace(&self, by: &Path) {
        Ground::copied(by, &self.site.repository());
    }

    /// Fails the test unless the backup can be restored by itself.
    #[track_caller]
    pub fn whole(&self, id: &str) {
        let flaw = self.flaw_of(&self.site.repo, id);
        assert!(flaw.is_none(), "{}", flaw.unwrap_or_default());
    }

    /// What is wrong with a backup in a repository. Where nothing streams between two of them, one with another behind it has a
    /// hole behind it, which is nothing wrong.
    pub fn flaw_of(&self, repo: &str, id: &str) -> Option<String> {
        let answer = self.site.product.run(&["verify", "db1", id, "--repo", repo]);
        let alone = answer.code == Some(9) && answer.stdout.contains("the backup itself is whole");
        (answer.code != Some(0) && !alone).then(|| answer.to_string())
    }

    /// What `wal fetch` brings of a segment: nothing, or its bytes.
    #[track_caller]
    pub fn fetch(&self, name: &str) -> Option<Vec<u8>> {
        self.fetch_from(&self.site.repo, name)
            .unwrap_or_else(|flaw| panic!("{flaw}"))
    }

    /// The same from any repository, or what is wrong.
    pub fn fetch_from(&self, repo: &str, name: &str) -> Result<Option<Vec<u8>>, String> {
        let to = self.site.place("fetched");
        fs::remove_file(&to).ok();
        // Nothing ahead: it would come back after the repository was set back.
        let args = [
            "wal",
            "fetch",
            "db1",
            name,
            text(&to),
            "--prefetch",
            "0",
            "--repo",
            repo,
        ];
        let answer = self.site.product.run(&args);
        match answer.code {
            Some(0) => Ok(Some(fs::read(&to).unwrap())),
            Some(1) => Ok(None),
            _ => Err(answer.to_string()),
        }
    }
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub fn name_of(path: &Path) -> &str {
    path.file_name().unwrap().to_str().unwrap()
}

/// A stream writes a tail ten times a second, or one for whatever has come.
pub const MODES: [&[&str]; 2] = [&["--flush-interval", "100ms"], &["--synchronous"]];

/// A stream of the first mode.
pub fn stream(ground: &Ground, name: &str, environment: &[(&str, &str)]) -> Background {
    stream_as(ground, MODES[0], name, environment)
}

/// A stream of this mode.
pub fn stream_as(ground: &Ground, mode: &[&str], name: &str, environment: &[(&str, &str)]) -> Background {
    let connection = ground.source.connection();
    let stream = ["wal", "stream", "db1", "--pg-connection", connection.as_str()];
    let mut command = ground.command(&[&stream, mode].concat());
    command.envs(environment.iter().copied());
    Background::start(command, &ground.site.place(name))
}

/// What the server has been told to be safe: it may have removed all before it.
pub fn acknowledged(ground: &Ground) -> Option<String> {
    ground
        .source
        .try_value("SELECT restart_lsn FROM pg_replication_slots")
        .ok()
}

/// Writes rows and ends segments until the stream has ended, or has lived through so many of them.
pub fn write_beside(ground: &Ground, stream: &mut Background, segments: usize) {
    for _ in 0..segments {
        ground.segment();
        Ledger::add(&ground.source, "in a tail", 5);
        let wanted = lsn(&ground.source.value("SELECT pg_current_wal_flush_lsn()"));
        until("the rows are acknowledged, or the stream has ended", PATIENCE, || {
            let there = acknowledged(ground).is_some_and(|at| lsn(&at) >= wanted);
            (there || !stream.runs()).then_some(())
        });
        if !stream.runs() {
            return;
        }
    }
}

/// Fails the test unless the repository has the last segments before a position as the server wrote them.
#[track_caller]
pub fn holds_up_to(ground: &Ground, what: &str, position: &str) {
    let flaw = lacks(ground, &ground.site.repo, 0, position);
    assert!(flaw.is_none(), "{what}: {}", flaw.unwrap_or_default());
}

/// What a repository lacks of the last two segments before a position, byte by byte; nothing before the segment of `from`.
pub fn lacks(ground: &Ground, repo: &str, from: u64, position: &str) -> Option<String> {
    let end = lsn(position);
    let last = (end - 1) >> 20;
    for start in [last, last - 1]
        .map(|number| number << 20)
        .into_iter()
        .filter(|start| *start >= from >> 20 << 20)
    {
        let name = ground.source.value(&format!(
            "SELECT pg_walfile_name('{:X}/{:X}'::pg_lsn + 1)",
            start >> 32,
            start & 0xFFFF_FFFF
        ));
        let wanted = fs::read(ground.source.data().join("pg_wal").join(&name)).unwrap();
        let length = (end - start).min(1 << 20) as usize;
        match ground.fetch_from(repo, &name) {
            Ok(Some(found)) if found[..length] == wanted[..length] => {}
            Ok(Some(_)) => return Some(format!("{name} has other bytes before {position}")),
            Ok(None) => return Some(format!("{name} is not there, and {position} was acknowledged")),
            Err(flaw) => return Some(flaw),
        }
    }
    None
}
