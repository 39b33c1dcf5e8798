//! What a server must have before WAL is streamed from it: findings from its settings.
//!
//! Pure: settings in, findings out. Everything is read over the replication connection itself (`SHOW`), because the
//! introduction's role has nothing else: what would need SQL becomes a finding that says which GRANT would show it.

mod finding;
mod standby_names;
mod synchronous;

use hardstorage_report::{Error, code};

pub use finding::{Finding, FindingSeverity};
pub use synchronous::synchronous_findings;

/// A setting as the server showed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setting {
    /// Its value, with unit, as `SHOW` prints it.
    Value(String),
    /// This role may not see it.
    Denied,
    /// This version has none of that name.
    Unknown,
}

impl Setting {
    fn value(&self) -> Option<&str> {
        match self {
            Setting::Value(text) => Some(text),
            Setting::Denied | Setting::Unknown => None,
        }
    }
}

/// The settings that preflight looks at.
pub const SETTINGS: [&str; 11] = [
    "wal_level",
    "max_wal_senders",
    "max_replication_slots",
    "max_slot_wal_keep_size",
    "idle_replication_slot_timeout",
    "wal_keep_size",
    "wal_sender_timeout",
    "synchronous_standby_names",
    "synchronous_commit",
    "full_page_writes",
    "archive_command",
];

/// What the findings are made from.
#[derive(Debug, Clone, Default)]
pub struct ServerFacts {
    /// Each of [`SETTINGS`] that was asked for.
    pub settings: Vec<(String, Setting)>,
    /// The application name that the stream uses; a synchronous standby of that name is this stream.
    pub application_name: String,
    /// Whether the slot exists already.
    pub slot_exists: bool,
    /// Whether the stream is to be a synchronous standby.
    pub synchronous: bool,
}

impl ServerFacts {
    /// The same for a stream that is to be a synchronous standby, or not.
    #[must_use]
    pub fn synchronous(self, synchronous: bool) -> ServerFacts {
        ServerFacts { synchronous, ..self }
    }

    /// Whether the server hands its segments to `wal push`. PostgreSQL shows `(disabled)` for a command without an
    /// archive_mode. A script that calls us is not seen.
    pub fn pushes(&self) -> bool {
        self.get("archive_command")
            .is_some_and(|command| command.contains("wal push"))
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .find(|(key, _)| key == name)
            .and_then(|(_, value)| value.value())
    }
}

/// Judges a server. Fatal findings first, then warnings, then the rest.
pub fn judge(facts: &ServerFacts) -> Vec<Finding> {
    use FindingSeverity::{Fatal, Info, Warning};
    let mut found = Vec::new();
    if let Some(level @ "minimal") = facts.get("wal_level") {
        found.push(
            Finding::new(
                Fatal,
                "wal_level.too_low",
                "wal_level = minimal: the server writes too little WAL for replication",
            )
            .suggest("ALTER SYSTEM SET wal_level = replica; then restart PostgreSQL")
            .observed(level)
            .required("replica"),
        );
    }
    for (setting, code, what) in [
        ("max_wal_senders", "max_wal_senders.zero", "walsender"),
        (
            "max_replication_slots",
            "max_replication_slots.zero",
            "replication slot",
        ),
    ] {
        if facts.get(setting) == Some("0") && !(setting == "max_replication_slots" && facts.slot_exists) {
            found.push(
                Finding::new(Fatal, code, format!("{setting} = 0: the server has no {what} to give"))
                    .suggest(&format!("ALTER SYSTEM SET {setting} = 10; then restart PostgreSQL"))
                    .observed("0")
                    .required("1"),
            );
        }
    }
    found.extend(synchronous_findings(facts));
    slot_findings(facts, &mut found);
    if let Some(zero @ "0") = facts.get("wal_sender_timeout") {
        found.push(
            Finding::new(
                Warning,
                "wal_sender_timeout.zero",
                "wal_sender_timeout = 0: the server never notices a dead connection, and the slot stays busy",
            )
            .suggest("leave wal_sender_timeout at 60s or more")
            .observed(zero),
        );
    }
    if let Some(keep) = facts.get("wal_keep_size") {
        found.push(
            Finding::new(
                Info,
                "wal_keep_size",
                format!("wal_keep_size = {keep} (informational; the slot is the primary retention guarantee)"),
            )
            .observed(keep),
        );
    }
    for (name, _) in facts.settings.iter().filter(|(_, value)| *value == Setting::Denied) {
        found.push(
            Finding::new(
                Info,
                &format!("{name}.not_visible"),
                format!("{name} is not visible to this role"),
            )
            .suggest("GRANT pg_read_all_settings TO the role shows it"),
        );
    }
    found.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    found
}

fn slot_findings(facts: &ServerFacts, found: &mut Vec<Finding>) {
    use FindingSeverity::{Info, Warning};
    match facts.get("max_slot_wal_keep_size") {
        Some("-1") => found.push(
            Finding::new(
                Info,
                "max_slot_wal_keep_size.unbounded",
                "max_slot_wal_keep_size = -1 (PG default); the slot will retain WAL until the streamer reconnects, even if pg_wal/ fills the partition",
            )
            .suggest("pair with a disk-free alert on the partition holding pg_wal/ AND a streamer-lag alert; or set max_slot_wal_keep_size to bound the slot")
            .observed("-1"),
        ),
        Some(size) => found.push(
            Finding::new(
                Warning,
                "max_slot_wal_keep_size.set",
                format!("max_slot_wal_keep_size = {size}: a streamer that is away for longer than this much WAL loses its slot, and a gap opens"),
            )
            .suggest("alert on the streamer's lag well below this size")
            .observed(size),
        ),
        None => {}
    }
    match facts.get("idle_replication_slot_timeout") {
        None | Some("0") => {}
        Some(timeout) => found.push(
            Finding::new(
                Warning,
                "idle_replication_slot_timeout.set",
                format!("idle_replication_slot_timeout = {timeout}: a streamer that is away for longer loses its slot, and a gap opens"),
            )
            .suggest("set it to 0, or alert on the streamer well before")
            .observed(timeout),
        ),
    }
}

/// The error that a fatal finding amounts to.
pub fn failure(finding: &Finding) -> Error {
    let code = match finding.code.as_str() {
        "wal_level.too_low" => code::replication::WAL_LEVEL,
        "max_wal_senders.zero" => code::replication::SENDERS_FULL,
        "max_replication_slots.zero" => code::replication::SLOTS_FULL,
        "sync_standby.remote_apply" => code::engine::SYNCHRONOUS_REMOTE_APPLY,
        _ => code::engine::PREFLIGHT,
    };
    let error = Error::new(code, finding.message.clone());
    match &finding.suggestion {
        Some(suggestion) => error.hint(suggestion.clone()),
        None => error,
    }
}

/// Whether any finding forbids streaming.
pub fn is_fatal(findings: &[Finding]) -> bool {
    findings
        .iter()
        .any(|finding| finding.severity == FindingSeverity::Fatal)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(settings: &[(&str, &str)]) -> ServerFacts {
        ServerFacts {
            settings: settings
                .iter()
                .map(|(k, v)| ((*k).to_owned(), Setting::Value((*v).to_owned())))
                .collect(),
            application_name: "pg_hardstorage_db1".into(),
            ..ServerFacts::default()
        }
    }

    fn codes(facts: &ServerFacts) -> Vec<String> {
        judge(facts).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_default_server_has_the_two_findings_of_the_introduction() {
        let default = facts(&[
            ("wal_level", "replica"),
            ("max_wal_senders", "10"),
            ("max_replication_slots", "10"),
            ("max_slot_wal_keep_size", "-1"),
            ("wal_keep_size", "0"),
            ("wal_sender_timeout", "1min"),
            ("synchronous_standby_names", ""),
        ]);
        assert_eq!(codes(&default), ["max_slot_wal_keep_size.unbounded", "wal_keep_size"]);
        assert!(!is_fatal(&judge(&default)));
    }

    #[test]
    fn an_archive_command_is_ours_when_it_calls_us() {
        for (command, ours) in [
            ("'/usr/bin/pg_hardstorage' wal push db1 %p", true),
            ("cp %p /elsewhere/%f", false),
            ("(disabled)", false),
            ("", false),
        ] {
            assert_eq!(facts(&[("archive_command", command)]).pushes(), ours, "{command}");
        }
        assert!(!ServerFacts::default().pushes());
    }

    #[test]
    fn each_setting_that_hurts_is_named() {
        for (setting, value, code) in [
            ("wal_level", "minimal", "wal_level.too_low"),
            ("max_wal_senders", "0", "max_wal_senders.zero"),
            ("max_replication_slots", "0", "max_replication_slots.zero"),
            ("max_slot_wal_keep_size", "10GB", "max_slot_wal_keep_size.set"),
            (
                "idle_replication_slot_timeout",
                "1d",
                "idle_replication_slot_timeout.set",
            ),
            ("wal_sender_timeout", "0", "wal_sender_timeout.zero"),
        ] {
            assert_eq!(codes(&facts(&[(setting, value)])), [code], "{setting}");
        }
        let denied = ServerFacts {
            settings: vec![("wal_level".into(), Setting::Denied)],
            ..ServerFacts::default()
        };
        assert_eq!(codes(&denied), ["wal_level.not_visible"]);
        let ours = ServerFacts {
            slot_exists: true,
            ..facts(&[("max_replication_slots", "0")])
        };
        assert!(codes(&ours).is_empty());
    }
}
