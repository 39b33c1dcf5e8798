//! Points at which the product kills itself when its environment says so: each is one line of what a run without a death
//! has listed (see `trial` in the crate of the stores; a released binary has none).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::torture::Dice;

/// One moment of a run: `link before wal/*/*/segments/* 2`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point(String);

impl fmt::Display for Point {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Point {
    /// The variable that makes the process end there.
    pub const VARIABLE: &str = "HARDSTORAGE_DIE_AT";
    /// The variable that names the file for the list of a run.
    pub const LIST: &str = "HARDSTORAGE_POINTS";

    /// Those that a run has listed, in order.
    #[track_caller]
    pub fn listed(list: &Path) -> Vec<Point> {
        let text = fs::read_to_string(list).unwrap_or_else(|error| {
            panic!(
                "{}: {error}\nonly a debug build of the product lists its points",
                list.display()
            )
        });
        text.lines().map(|line| Point(line.to_owned())).collect()
    }

    /// What it is without its number: the call, before or after, and where.
    pub fn name(&self) -> &str {
        self.0.rsplit_once(' ').map_or(&self.0, |(name, _)| name)
    }

    /// Whether something is there now that was not there before: a process that dies between two of these leaves the same.
    fn follows_a_change(&self) -> bool {
        let mut words = self.0.split(' ');
        let kind = words.next().unwrap_or_default();
        let changes = ["create", "write", "link", "rename", "remove", "mkdir", "rmdir"];
        let calls = [
            "store.put_new",
            "store.put_durable",
            "store.upload_finish",
            "store.delete",
        ];
        (changes.contains(&kind) || calls.contains(&kind)) && words.next() == Some("after")
    }
}

/// Which points a test goes to, and until when.
#[derive(Debug)]
pub struct Walk {
    dice: Dice,
    all: bool,
    end: Option<Instant>,
}

impl Walk {
    /// The short form unless the environment has `KILL_POINTS=all` (`make kill-points`), which ends after `MINUTES` for each
    /// test; `SEED` draws others.
    pub fn new() -> Walk {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let all = std::env::var("KILL_POINTS").is_ok_and(|points| points == "all");
        Walk {
            dice: Dice::new(number("SEED").unwrap_or(1)),
            all,
            end: all.then(|| Instant::now() + Duration::from_mins(number("MINUTES").unwrap_or(10))),
        }
    }

    /// Whether this is the long form.
    pub fn is_long(&self) -> bool {
        self.all
    }

    /// Dice of the seed.
    pub fn dice(&mut self) -> Dice {
        self.dice.split()
    }

    /// Whether the time of the long form is over.
    pub fn is_over(&self) -> bool {
        self.end.is_some_and(|end| Instant::now() > end)
    }

    /// In the long form all of them in random order; in the short form at most so many: one of each name that follows a
    /// change as far as that goes, then one of each other name, and then others.
    pub fn choose(&mut self, points: &[Point], most: usize) -> Vec<Point> {
        let mut points: Vec<Point> = points.iter().collect::<BTreeSet<_>>().into_iter().cloned().collect();
        self.dice.shuffle(&mut points);
        if self.all {
            return points;
        }
        let mut names: BTreeMap<&str, usize> = BTreeMap::new();
        let mut ranked: Vec<(usize, bool, &Point)> = points
            .iter()
            .map(|point| {
                let seen = names.entry(point.name()).or_default();
                *seen += 1;
                (*seen, !point.follows_a_change(), point)
            })
            .collect();
        ranked.sort_by_key(|(seen, other, _)| (*seen, *other));
        ranked
            .into_iter()
            .take(most)
            .map(|(_, _, point)| point.clone())
            .collect()
    }
}

impl Default for Walk {
    fn default() -> Self {
        Walk::new()
    }
}
