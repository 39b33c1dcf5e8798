//! What `pg_controldata` tells of a data directory, in the words of the C locale.

use std::path::Path;

use hardstorage_report::{Error, Result, Timeline, code};

use super::programs::Programs;

/// Settings that WAL replay depends on, and what they are called elsewhere.
const LIMITS: [(&str, &str); 6] = [
    ("max_connections setting", "max_connections"),
    ("max_worker_processes setting", "max_worker_processes"),
    ("max_wal_senders setting", "max_wal_senders"),
    ("max_prepared_xacts setting", "max_prepared_transactions"),
    ("max_locks_per_xact setting", "max_locks_per_transaction"),
    ("track_commit_timestamp setting", "track_commit_timestamp"),
];

/// The control file's facts.
#[derive(Debug, Clone)]
pub(crate) struct Control(String);

impl Control {
    /// Asks PostgreSQL's own program.
    pub(crate) fn read(programs: &Programs, data: &Path) -> Result<Control> {
        let mut command = programs.command("pg_controldata", Some(data))?;
        let output = command.arg(data).output();
        let output = output.map_err(|error| Error::new(code::engine::PROGRAMS, "run pg_controldata").source(error))?;
        if !output.status.success() {
            return Err(Error::new(
                code::engine::RESTORE_TEST,
                format!("pg_controldata: {}", String::from_utf8_lossy(&output.stderr).trim()),
            ));
        }
        Ok(Control(String::from_utf8_lossy(&output.stdout).into_owned()))
    }

    #[cfg(test)]
    pub(crate) fn of(text: &str) -> Control {
        Control(text.to_owned())
    }

    fn value(&self, wanted: &str) -> Option<&str> {
        let mut facts = self.0.lines().filter_map(|line| line.split_once(':'));
        let (_, value) = facts.find(|(name, _)| name.trim() == wanted)?;
        Some(value.trim())
    }

    /// The settings of the origin that WAL replay depends on.
    pub(crate) fn limits(&self) -> Vec<(&'static str, String)> {
        let known = LIMITS.iter();
        known
            .filter_map(|(name, setting)| Some((*setting, self.value(name)?.to_owned())))
            .collect()
    }

    /// Whether the server that used the directory ended as it should.
    pub(crate) fn is_shut_down(&self) -> bool {
        self.value("Database cluster state") == Some("shut down")
    }

    /// The timeline of the last checkpoint.
    pub(crate) fn timeline(&self) -> Option<Timeline> {
        let number = self.value("Latest checkpoint's TimeLineID")?;
        number.parse().ok().map(Timeline)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_of_pg_controldata_become_settings() {
        let control = Control(
            "pg_control version number:            1700\n\
             Database cluster state:               shut down\n\
             Latest checkpoint's TimeLineID:       3\n\
             wal_level setting:                    replica\n\
             max_connections setting:              250\n\
             max_prepared_xacts setting:           7\n\
             track_commit_timestamp setting:       off\n"
                .to_owned(),
        );
        let limits: Vec<String> = control
            .limits()
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            limits,
            [
                "max_connections=250",
                "max_prepared_transactions=7",
                "track_commit_timestamp=off"
            ]
        );
        assert!(control.is_shut_down());
        assert_eq!(control.timeline(), Some(Timeline(3)));
        let recovering = Control("Database cluster state:               in archive recovery\n".to_owned());
        assert!(!recovering.is_shut_down());
        assert_eq!(recovering.timeline(), None);
    }
}
