//! A drill: a restored copy is started as a hot standby, looked at, and asked what its owner wants to know.
//!
//! It takes two steps, which two pods on one volume can do. The first has the repository's credentials: `recover` promotes
//! the copy, makes the role and the extension that the checks need, and stops it. The second, this one, needs neither
//! credentials nor a network, and runs what others have written. A check that fails does not keep the next from running.

mod checks;
mod databases;
mod directory;
mod indexes;
mod progress;
mod standby;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hardstorage_report::{DrillCheck, DrillReport, Error, Event, EventSink, Result, Severity, code};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::postgres::{Reply, off_thread};
use progress::Told;
use standby::Standby;

pub use checks::{Check, read_checks};
pub(crate) use directory::mark;

/// The role that asks: it reads everything, and can do nothing else.
pub(crate) const ROLE: &str = "hardstorage_drill";
/// Characters of an answer or an error in a report.
const SHOWN: usize = 1000;
/// Failed checks that the error names.
const NAMED: usize = 10;

/// How a drill is run.
#[derive(Debug, Clone)]
pub struct DrillPlan {
    /// The prepared directory.
    pub data: PathBuf,
    /// What its owner wants to know.
    pub checks: Vec<Check>,
    /// Directory of PostgreSQL's programs.
    pub pg_bin: Option<PathBuf>,
    /// Load the libraries that the origin preloads.
    pub preload: bool,
    /// How long indexes are read.
    pub index_limit: Duration,
}

/// One that runs.
struct Drill<'a> {
    standby: Standby<'a>,
    told: Told,
    report: DrillReport,
    /// Indexes that are damaged; of many not all are in the report.
    damaged: usize,
}

/// The failure that a report amounts to.
pub fn failure(report: &DrillReport) -> Option<Error> {
    let failed: Vec<String> = report
        .failed()
        .map(|check| format!("{} ({})", check.name, check.database))
        .collect();
    let more = failed.len().checked_sub(NAMED).filter(|more| *more > 0);
    let more = more.map_or_else(String::new, |more| format!(", and {more} more"));
    (!failed.is_empty()).then(|| {
        let what = format!(
            "{} of {} checks failed: {}{more}",
            failed.len(),
            report.checks.len(),
            failed[..failed.len().min(NAMED)].join(", ")
        );
        Error::new(code::engine::DRILL_FAILED, what)
    })
}

/// Runs a drill. Its server is stopped whatever comes of it.
pub async fn run_drill(plan: &DrillPlan, sink: Arc<dyn EventSink>, cancel: CancellationToken) -> Result<DrillReport> {
    let began = Instant::now();
    let told = Told::starting(sink.clone());
    let prepared = off_thread({
        let data = plan.data.clone();
        move || directory::take(&data)
    });
    let prepared = prepared.await?;
    let mut drill = Drill {
        standby: Standby::start(plan, &prepared, &cancel).await?,
        told,
        report: DrillReport::default(),
        damaged: 0,
    };
    let outcome = drill.run(plan).await;
    let Drill {
        standby, mut report, ..
    } = drill;
    let stopped = standby.stop().await;
    outcome.and(stopped)?;
    report.duration_ms = milliseconds(began);
    let event = match failure(&report) {
        None => Event::new(Severity::Notice, "drill.passed")
            .body(json!({"checks": report.checks.len(), "duration_ms": report.duration_ms})),
        Some(error) => Event::new(Severity::Error, "drill.failed")
            .body(json!({"code": error.code().as_str(), "message": error.to_string()})),
    };
    sink.emit(event);
    Ok(report)
}

impl Drill<'_> {
    async fn run(&mut self, plan: &DrillPlan) -> Result<()> {
        if let Some(libraries) = &self.standby.libraries {
            let note = format!("it ran with the libraries of its origin: {libraries}");
            self.report.notes.push(note);
        }
        self.told.expect(plan.checks.len());
        let databases = self.look_at_databases().await?;
        self.read_indexes(&databases, plan.index_limit).await?;
        for check in &plan.checks {
            self.ask(check).await?;
            self.told.done(1);
        }
        Ok(())
    }

    async fn ask(&mut self, asked: &Check) -> Result<()> {
        let began = Instant::now();
        let reply = self
            .standby
            .try_theirs(&asked.database, &asked.sql, asked.limit())
            .await?;
        let verdict = check(&asked.name, &asked.database, false, began);
        self.report.checks.push(judged(asked, reply, verdict));
        Ok(())
    }
}

/// What a reply means to a check.
fn judged(asked: &Check, reply: Reply, verdict: DrillCheck) -> DrillCheck {
    let expected = asked.expect.as_deref().map(shortened);
    match reply {
        Reply::First(actual) => DrillCheck {
            passed: asked.expect.is_none() || asked.expect == actual,
            error: (asked.expect.is_some() && actual.is_none()).then(|| "it gave no row".to_owned()),
            actual: actual.as_deref().map(shortened),
            expected,
            ..verdict
        },
        Reply::Refused(words) => DrillCheck {
            error: Some(shortened(&words)),
            expected,
            ..verdict
        },
        Reply::TimeIsOver => DrillCheck {
            error: Some(format!("no answer within {} s", asked.timeout_seconds)),
            expected,
            ..verdict
        },
    }
}

fn check(name: &str, database: &str, passed: bool, began: Instant) -> DrillCheck {
    DrillCheck {
        name: name.to_owned(),
        database: database.to_owned(),
        passed,
        duration_ms: milliseconds(began),
        expected: None,
        actual: None,
        error: None,
    }
}

fn milliseconds(since: Instant) -> u64 {
    since.elapsed().as_millis() as u64
}

/// As much of a text as a report shows.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(expect: Option<&str>) -> Check {
        Check {
            name: "rows".to_owned(),
            database: "app".to_owned(),
            sql: "select".to_owned(),
            expect: expect.map(str::to_owned),
            timeout_seconds: 7,
        }
    }

    #[test]
    fn what_a_reply_means() {
        let first = |text: &str| Reply::First(Some(text.to_owned()));
        let long = "é".repeat(SHOWN + 1);
        for (expect, reply, passed, error) in [
            (Some("t"), first("t"), true, None),
            (Some("t"), first("f"), false, None),
            (Some(""), first(""), true, None),
            (Some(""), Reply::First(None), false, Some("it gave no row")),
            (None, Reply::First(None), true, None),
            (None, first("f"), true, None),
            (None, Reply::Refused("ERROR".to_owned()), false, Some("ERROR")),
            (None, Reply::TimeIsOver, false, Some("no answer within 7 s")),
            // What is shown of two long answers is the same.
            (Some(&*long), first(&format!("{long}e")), false, None),
        ] {
            let what = format!("{expect:?} {reply:?}");
            let verdict = judged(&asked(expect), reply, check("rows", "app", false, Instant::now()));
            assert_eq!((verdict.passed, verdict.error.as_deref()), (passed, error), "{what}");
        }
    }

    #[test]
    fn a_failure_names_what_failed_and_counts_the_rest() {
        let now = Instant::now();
        let mut report = DrillReport::default();
        report.checks.push(check("answers", "app", true, now));
        assert!(failure(&report).is_none());
        report
            .checks
            .extend((0..12).map(|number| check(&format!("c{number}"), "app", false, now)));
        let failed = failure(&report).map(|error| error.to_string()).unwrap_or_default();
        assert!(
            failed.starts_with("12 of 13 checks failed: c0 (app), c1 (app), "),
            "{failed}"
        );
        assert!(failed.ends_with("c9 (app), and 2 more"), "{failed}");
    }
}
