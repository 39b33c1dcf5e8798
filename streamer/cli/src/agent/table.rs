//! `agent --dry-run`: what would run when, from the same plan, memory and repository as the agent itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use hardstorage_report::{DeploymentName, ErrorReport, NullSink};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use tokio::sync::mpsc;

use super::child::{Errand, Launcher};
use super::plan::{Plan, Target};
use super::schedule::{Facts, Newest, Outcome, When, due};
use super::state::Book;
use super::supervisor::{LOOK_LIMIT, newest};
use super::task::TaskName;
use crate::printer::Report;

/// What the agent would do.
#[derive(Debug, Serialize)]
pub(crate) struct Table {
    deployments: BTreeMap<DeploymentName, Row>,
    #[serde(skip)]
    now: Timestamp,
    #[serde(skip)]
    zone: TimeZone,
}

#[derive(Debug, Serialize)]
struct Row {
    stream: bool,
    newest_backup_at: Option<Timestamp>,
    /// Why the repository could not be read.
    repository_error: Option<ErrorReport>,
    tasks: BTreeMap<TaskName, Line>,
}

#[derive(Debug, Serialize)]
struct Line {
    schedule: String,
    /// None when it is off, or follows a backup.
    next_at: Option<Timestamp>,
    last_outcome: Option<Outcome>,
    command: String,
}

/// Asks every repository, starts nothing else.
pub(crate) async fn table(plan: &Plan, mut book: Book, launcher: Launcher, zone: TimeZone) -> Table {
    let (sender, mut ends) = mpsc::unbounded_channel();
    let looks: Vec<_> = plan
        .targets
        .keys()
        .map(|name| {
            let errand = Errand {
                key: name.clone(),
                deployment: name.clone(),
                words: ["list", name.as_str()].map(str::to_owned).to_vec(),
                limit: Some(LOOK_LIMIT),
            };
            launcher.start(errand, Arc::new(NullSink), sender.clone())
        })
        .collect();
    drop(sender);
    let mut found = BTreeMap::new();
    while let Some((name, end)) = ends.recv().await {
        found.insert(name, end);
    }
    drop(looks);
    let now = Timestamp::now();
    let mut row = |target: &Target, book: &mut Book| {
        let end = found.remove(&target.name).unwrap_or_default();
        let newest = newest(&end);
        let tasks = target.tasks.iter().map(|(task, when)| {
            let backed_up = TaskName::all()
                .filter(|task| task.task().makes_backups)
                .filter_map(|task| book.record(&target.name, task, now).succeeded)
                .max();
            let facts = Facts {
                now,
                since: now,
                spread: target.spread,
                newest: newest.unwrap_or_default(),
                backed_up,
            };
            let record = book.record(&target.name, *task, now);
            record.mend(now);
            let line = Line {
                schedule: when.shown(),
                next_at: due(when, task.task().makes_backups, record, &facts),
                last_outcome: record.outcome,
                command: format!("pg_hardstorage {}", target.words(*task).join(" ")),
            };
            (*task, line)
        });
        Row {
            stream: target.stream,
            tasks: tasks.collect(),
            newest_backup_at: match newest {
                Some(Newest::At { stopped, .. }) => Some(stopped),
                _ => None,
            },
            repository_error: if newest.is_some() { None } else { end.error },
        }
    };
    let deployments = plan
        .targets
        .iter()
        .map(|(name, target)| (name.clone(), row(target, &mut book)))
        .collect();
    Table { deployments, now, zone }
}

impl Report for Table {
    fn text(&self) -> String {
        let mut lines = vec![["DEPLOYMENT", "TASK", "SCHEDULE", "NEXT", "LAST", "COMMAND"].map(str::to_owned)];
        let moment = |at: Timestamp| at.to_zoned(self.zone.clone()).strftime("%Y-%m-%d %H:%M %Z").to_string();
        for (name, row) in &self.deployments {
            let stream = if row.stream { "always" } else { "off" };
            let command = if row.stream {
                format!("pg_hardstorage wal stream {name}")
            } else {
                "-".to_owned()
            };
            let now = if row.stream { "now" } else { "-" };
            lines.push([name.as_str(), "stream", stream, now, "-", &command].map(str::to_owned));
            for (task, line) in &row.tasks {
                let next = match line.next_at {
                    Some(at) if at <= self.now => "now".to_owned(),
                    Some(at) => moment(at),
                    None if line.schedule == When::AfterBackup.shown() => "after the next backup".to_owned(),
                    None => "-".to_owned(),
                };
                let last = line.last_outcome.map_or("-", Outcome::as_str);
                lines.push(
                    [name.as_str(), task.as_str(), &line.schedule, &next, last, &line.command].map(str::to_owned),
                );
            }
        }
        let widths: [usize; 6] =
            std::array::from_fn(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0));
        let mut out = String::new();
        for line in &lines {
            let cells: Vec<String> = line
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            out.push_str(cells.join("  ").trim_end());
            out.push('\n');
        }
        for (name, row) in &self.deployments {
            if let Some(error) = &row.repository_error {
                out.push_str(&format!(
                    "! {name}: its backups are not known: {}\n    hint: {}\n",
                    error.message, error.hint
                ));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    fn time(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn what_would_run_when() {
        let line = |schedule: &str, next: Option<&str>, last, command: &str| Line {
            schedule: schedule.to_owned(),
            next_at: next.map(time),
            last_outcome: last,
            command: format!("pg_hardstorage {command}"),
        };
        let lines = [
            line(
                "@nightly (17 3 * * *)",
                Some("2026-11-23T03:17:00Z"),
                Some(Outcome::Succeeded),
                "backup db1",
            ),
            line(
                "@weekly (0 0 * * 0)",
                Some("2026-11-22T08:15:00Z"),
                Some(Outcome::Hung),
                "repo check file:///srv/backup --deployment db1",
            ),
            line("after-backup", None, None, "rotate db1 --apply"),
            line("off", None, None, "verify db1 latest"),
        ];
        let names = ["backup", "check", "rotate", "verify"].map(|name| TaskName::try_from(name.to_owned()).unwrap());
        let db1 = Row {
            stream: true,
            newest_backup_at: Some(time("2026-11-22T03:20:00Z")),
            repository_error: None,
            tasks: names.into_iter().zip(lines).collect(),
        };
        let error = hardstorage_report::Error::new(hardstorage_report::code::cli::CHILD, "it was not well");
        let db2 = Row {
            stream: false,
            newest_backup_at: None,
            repository_error: Some(ErrorReport::from(&error)),
            tasks: BTreeMap::new(),
        };
        let table = Table {
            deployments: [("db1", db1), ("db2", db2)]
                .map(|(name, row)| (name.parse().unwrap(), row))
                .into(),
            now: time("2026-11-22T08:15:00Z"),
            zone: TimeZone::fixed(jiff::tz::Offset::constant(2)),
        };
        insta::assert_snapshot!(shown("agent", &table));
    }
}
