//! Restores the end and a number of moments, and compares what is there with the ledger and with what was seen then.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use super::backups::Backups;
use super::chronicle::Chronicle;
use super::dice::Dice;
use super::ledger::{Ledger, Moment, State};
use super::nodes::state;
use super::storage::Storage;
use super::streamer::{DEPLOYMENT, Told};
use super::tally::Tally;
use super::verdict::{Course, compare};
use crate::answer::until;
use crate::postgres::Cluster;
use crate::postgres::lsn_text;
use crate::product::Hardstorage;
use crate::scratch::Scratch;

/// How a round ended.
#[derive(Debug)]
pub struct Ending {
    /// What the stream said in its life.
    pub told: Told,
    /// What the primary held when the stream had caught up; nothing when the servers were lost before.
    pub state: Option<State>,
}

/// All that is left of a world.
#[derive(Debug)]
pub struct Judge {
    /// Its story.
    pub chronicle: Arc<Chronicle>,
    /// The user.
    pub product: Arc<Hardstorage>,
    /// What was acknowledged.
    pub ledger: Arc<Ledger>,
    /// The repository.
    pub storage: Storage,
    /// What the backups said.
    pub backups: Backups,
    /// Whether commits waited for the stream.
    pub synchronous: bool,
    /// PostgreSQL's version.
    pub major: u16,
    /// How it ended.
    pub ending: Ending,
}

impl Judge {
    /// Fails with the first thing that is wrong.
    #[track_caller]
    pub fn judge(&self, dice: &mut Dice, moments: usize, tally: &mut Tally) {
        let url = self.storage.url();
        self.product.run(&["wal", "audit", DEPLOYMENT, "--repo", &url]).ok();
        self.product.run(&["repo", "check", "--read-data", "--repo", &url]).ok();
        let places = Scratch::new();
        let course = self.latest(&places, tally);
        let chosen = self.choose(&course, dice, moments);
        assert!(!chosen.is_empty(), "no moment can be reached");
        for (number, (moment, by_time)) in chosen.into_iter().enumerate() {
            let (word, value) = if by_time {
                ("--to", moment.time.clone())
            } else {
                ("--to-lsn", lsn_text(moment.lsn))
            };
            // Not while recovery is paused: a hot standby does not show what had committed, and waited for the stream, when
            // the backup began, until a later transaction ends.
            let mut args = vec![word, &value, "--to-action", "promote"];
            if dice.coin() {
                args.push("--to-exclusive");
            }
            self.chronicle.note(&format!(
                "restore {}: timeline {}, {} rows",
                args.join(" "),
                moment.timeline,
                moment.state.rows
            ));
            let mut server = self.restore(&places, &format!("moment-{number}"), &args);
            server.until_promoted();
            assert_eq!(state(&server), moment.state, "{moment:?} by {args:?}");
            tally.restores += 1;
            discard(server);
        }
        // Last, because what is lost is worse than what is said.
        for complaints in [&self.ending.told.complaints, &self.backups.complaints] {
            tally.complained(complaints.heard());
            let strange = complaints.strange();
            assert!(strange.is_empty(), "nothing explains this:\n{}", strange.join("\n"));
        }
        tally.troubled = self.storage.met();
        tally.commits = self.ledger.commits();
        tally.looks = self.ledger.looks();
        tally.backups = self.backups.committed;
        tally.starts = self.ending.told.starts;
    }

    /// The end of the archive.
    #[track_caller]
    fn latest(&self, places: &Scratch, tally: &mut Tally) -> Course {
        self.chronicle.note("restore --to-latest");
        let mut server = self.restore(places, "latest", &["--to-latest"]);
        server.until_promoted();
        let timeline = server.value("SELECT substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8)");
        let file = server.data().join(format!("pg_wal/{timeline}.history"));
        let history = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let course = Course::of(&history);
        self.chronicle
            .note(&format!("{course:?}, promised {:?}", self.ending.told.promised));
        let newest = self.ending.told.promised.keys().last();
        assert!(
            newest.is_none_or(|newest| *newest <= course.last),
            "the stream was on timeline {newest:?}, and the restored server never was"
        );
        let told = &self.ending.told;
        let absent = compare(&self.ledger, &course, &rows(&server), &told.promised, self.synchronous);
        let absent = absent.unwrap_or_else(|wrong| panic!("{wrong}\n{course:?}, promised {:?}", told.promised));
        (tally.dead, tally.unpromised) = (absent.dead, absent.unpromised);
        if let Some(wanted) = &self.ending.state {
            assert_eq!(&state(&server), wanted, "the stream had caught up");
        }
        tally.restores += 1;
        discard(server);
        course
    }

    /// Moments that lie on the restored server's way, each by its time or by its position. A time is covered for certain
    /// only when something was committed behind it; and on the same timeline, because two servers that both believe to be
    /// the primary write at the same time.
    fn choose(&self, course: &Course, dice: &mut Dice, count: usize) -> Vec<(Moment, bool)> {
        let all = self.ledger.moments();
        let mut reachable: Vec<Moment> = all
            .into_iter()
            .filter(|moment| course.reaches(moment, &self.ending.told.promised))
            .collect();
        let end = reachable.last().map(|moment| moment.state.clone());
        let rows = self.ledger.rows();
        dice.shuffle(&mut reachable);
        reachable.truncate(count);
        reachable
            .into_iter()
            .map(|moment| {
                let followed = Some(&moment.state) != end.as_ref() && course.goes_on(&moment, &rows);
                (moment, followed && dice.coin())
            })
            .collect()
    }

    #[track_caller]
    fn restore(&self, places: &Scratch, name: &str, args: &[&str]) -> Cluster {
        let (target, url) = (places.path(name), self.storage.url());
        let own = [
            "restore",
            DEPLOYMENT,
            "--repo",
            &url,
            "--target",
            target.to_str().unwrap(),
        ];
        self.product.run(&[&own[..], args].concat()).ok();
        let mut server = Cluster::builder(self.major).over(&target);
        // What Patroni ran looks for these where they were.
        for (name, file) in [("hba_file", "pg_hba.conf"), ("ident_file", "pg_ident.conf")] {
            server = server.set(name, target.join(file).to_str().unwrap());
        }
        for (name, value) in self.storage.environment() {
            server = server.environment(name, value);
        }
        server.start()
    }
}

fn discard(mut server: Cluster) {
    let data = server.data().to_owned();
    server.kill();
    // What fetches WAL ahead may still write a file into it.
    until("the restored directory is removed", Duration::from_mins(1), || {
        fs::remove_dir_all(&data).ok()
    });
}

#[track_caller]
fn rows(server: &Cluster) -> HashSet<(u32, u64)> {
    let rows = server.sql("SELECT writer, number FROM ledger");
    let field = |row: &[Option<String>], at: usize| row[at].as_deref().unwrap_or_default().to_owned();
    rows.iter()
        .map(|row| (field(row, 0).parse().unwrap(), field(row, 1).parse().unwrap()))
        .collect()
}
