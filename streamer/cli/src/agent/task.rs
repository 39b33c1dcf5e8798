//! The table of what the agent runs. A new task is a new row: it is then known to the configuration, the state, the
//! metrics and the status.

use std::time::Duration;

use hardstorage_report::DeploymentName;
use serde::{Deserialize, Serialize};

/// One kind of task.
#[derive(Debug)]
pub(crate) struct Task {
    /// Its name in the configuration and everywhere else.
    pub(crate) name: &'static str,
    /// The command that a person would type, for a deployment and its repository's URL.
    pub(crate) words: fn(&DeploymentName, &str) -> Vec<String>,
    /// When it runs if the configuration says nothing.
    pub(crate) default: &'static str,
    /// When it is taken for hung if the configuration says nothing.
    pub(crate) limit: Duration,
    /// Whether it makes a backup: then the repository tells when it ran last.
    pub(crate) makes_backups: bool,
}

/// Everything that is run on a schedule.
pub(crate) const TASKS: &[Task] = &[
    Task {
        name: "backup",
        words: |name, _| words(&["backup", name.as_str()]),
        default: "@nightly",
        limit: Duration::from_hours(24),
        makes_backups: true,
    },
    Task {
        name: "rotate",
        words: |name, _| words(&["rotate", name.as_str(), "--apply", "--collect"]),
        default: "after-backup",
        // It also gives back the space of what went; a collection that is ended is gone on with by the next.
        limit: Duration::from_hours(4),
        makes_backups: false,
    },
    Task {
        name: "check",
        words: |name, repo| words(&["repo", "check", repo, "--deployment", name.as_str()]),
        default: "@weekly-random",
        limit: Duration::from_hours(12),
        makes_backups: false,
    },
    Task {
        // A thirtieth of what is stored each day, slowly: what rots is found while the server still has the pages.
        name: "scrub",
        words: |name, repo| words(&["repo", "scrub", repo, "--deployment", name.as_str()]),
        default: "@daily-random",
        limit: Duration::from_hours(24),
        makes_backups: false,
    },
    Task {
        // It reads all of a backup, which costs time and, from a cloud, money: that is for its owner to decide.
        name: "verify",
        words: |name, _| words(&["verify", name.as_str(), "latest"]),
        default: "off",
        limit: Duration::from_hours(24),
        makes_backups: false,
    },
];

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

/// The name of a task of the table: its row, so that no other one can be made. They are in the order of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct TaskName(usize);

impl TaskName {
    /// Every one, in the order of the table.
    pub(crate) fn all() -> impl Iterator<Item = TaskName> {
        (0..TASKS.len()).map(TaskName)
    }

    /// The word.
    pub(crate) fn as_str(self) -> &'static str {
        self.task().name
    }

    /// Its row.
    pub(crate) fn task(self) -> &'static Task {
        &TASKS[self.0]
    }
}

impl TryFrom<String> for TaskName {
    type Error = String;

    fn try_from(text: String) -> Result<TaskName, String> {
        TaskName::all().find(|name| name.as_str() == text).ok_or_else(|| {
            let known: Vec<&str> = TaskName::all().map(TaskName::as_str).collect();
            format!("{text:?} is no task; write {}", known.join(", "))
        })
    }
}

impl From<TaskName> for String {
    fn from(name: TaskName) -> String {
        name.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[test]
    fn every_task_is_a_command_of_this_program() {
        for task in TASKS {
            let mut line = vec![
                "pg_hardstorage".to_owned(),
                "--exit-with-parent".to_owned(),
                "1".to_owned(),
            ];
            line.extend((task.words)(&"db1".parse().unwrap(), "file:///srv/backup"));
            crate::args::Cli::try_parse_from(&line).unwrap_or_else(|error| panic!("{line:?}: {error}"));
            assert_eq!(TaskName::try_from(task.name.to_owned()).unwrap().task().name, task.name);
        }
        assert!(
            TaskName::try_from("restore".to_owned())
                .unwrap_err()
                .contains("backup, rotate")
        );
    }
}
