//! `drill check`: ask a restored copy what its owner wants to know of it.

use hardstorage_engine::drill::{self, DrillPlan, read_checks, run_drill};
use hardstorage_report::{DrillCheck, DrillReport, Error, Result};

use super::run::{Running, reported};
use crate::app::{App, absolute};
use crate::args::DrillArgs;
use crate::printer::Report;

impl Report for DrillReport {
    fn text(&self) -> String {
        let failed = self.failed().count();
        let verdict = if failed == 0 {
            format!("✓ All {} checks passed", self.checks.len())
        } else {
            format!("✗ {failed} of {} checks failed", self.checks.len())
        };
        let mut out = format!(
            "{verdict}\n\
             Databases:  {}\n\
             Indexes:    {} read, {} not\n\
             Duration:   {:.1} s\n",
            self.databases.join(", "),
            self.indexes_checked,
            self.indexes_unchecked,
            self.duration_ms as f64 / 1000.0,
        );
        for check in &self.checks {
            out.push_str(&line(check));
        }
        for note in &self.notes {
            out.push_str(&format!("Note: {note}\n"));
        }
        if let Some(failure) = self.failure() {
            out.push_str(&format!("  hint: {}\n", failure.hint_text()));
        }
        out
    }

    fn failure(&self) -> Option<Error> {
        drill::failure(self)
    }
}

/// One check: what was expected stands beside what came.
fn line(check: &DrillCheck) -> String {
    let mark = if check.passed { "✓" } else { "✗" };
    let mut out = format!(
        "{mark} {} ({}, {:.1} s)",
        check.name,
        check.database,
        check.duration_ms as f64 / 1000.0
    );
    if let (Some(expected), false) = (&check.expected, check.passed) {
        let actual = check
            .actual
            .as_ref()
            .map_or_else(String::new, |actual| format!(", got {actual:?}"));
        out.push_str(&format!(": expected {expected:?}{actual}"));
    }
    if let Some(error) = &check.error {
        out.push_str(&format!(": {error}"));
    }
    out.push('\n');
    out
}

fn exit(report: &DrillReport) -> u8 {
    report.failure().map_or(0, |error| error.exit_code())
}

/// Runs it.
pub(crate) async fn run(app: &App, name: &str, args: DrillArgs) -> u8 {
    let run_args = args.run.clone();
    let work = |running: Running| async move { check(&args, running).await };
    reported(app, name, &run_args, work, exit).await
}

async fn check(args: &DrillArgs, running: Running) -> Result<DrillReport> {
    let checks = args.checks.as_deref().map(read_checks).transpose()?.unwrap_or_default();
    let plan = DrillPlan {
        data: absolute(&args.data)?,
        checks,
        pg_bin: args.programs().map(absolute).transpose()?,
        preload: args.preload,
        index_limit: args.index_limit,
    };
    let stop = App::stop()?;
    run_drill(&plan, running.sink, stop.drain).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    fn passed(name: &str) -> DrillCheck {
        DrillCheck {
            name: name.to_owned(),
            database: "app".to_owned(),
            passed: true,
            duration_ms: 120,
            expected: None,
            actual: None,
            error: None,
        }
    }

    fn report() -> DrillReport {
        DrillReport {
            databases: vec!["app".to_owned(), "postgres".to_owned()],
            indexes_checked: 412,
            indexes_unchecked: 3,
            checks: vec![
                passed("answers"),
                DrillCheck {
                    expected: Some("t".to_owned()),
                    actual: Some("t".to_owned()),
                    ..passed("rows")
                },
            ],
            duration_ms: 61_500,
            notes: vec!["3 B-tree indexes of app were not read: the time for indexes, 1800 s, was over".to_owned()],
        }
    }

    #[test]
    fn a_drill_that_passed() {
        assert_eq!(exit(&report()), 0);
        insta::assert_snapshot!(shown("drill check", &report()));
    }

    #[test]
    fn every_check_that_failed_is_shown() {
        let mut report = report();
        let failed = |name: &str| DrillCheck {
            passed: false,
            ..passed(name)
        };
        report.checks.extend([
            DrillCheck {
                error: Some("ERROR:  item order invariant violated for index \"orders_pkey\"".to_owned()),
                ..failed("index public.orders_pkey")
            },
            DrillCheck {
                expected: Some("t".to_owned()),
                actual: Some("f".to_owned()),
                ..failed("fresh")
            },
            DrillCheck {
                expected: Some("t".to_owned()),
                error: Some("it gave no row".to_owned()),
                ..failed("last order")
            },
        ]);
        assert_eq!(exit(&report), 9);
        insta::assert_snapshot!(shown("drill check", &report));
    }
}
