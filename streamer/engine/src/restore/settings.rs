//! The managed block in a restored `postgresql.auto.conf`, and the `restore_command` in it.
//!
//! The file is read last, so what stands at its end wins over every setting of the source. A restored copy must
//! neither archive into the source's archive nor follow its primary nor wait for its standbys: those settings are
//! neutralised here, and listed.

use super::target::{StopAt, TargetAction, TargetTimeline};

const BEGIN: &str = "# BEGIN pg_hardstorage restore";
const END: &str = "# END pg_hardstorage restore";

/// Settings of the source that would reach out from the copy, with the value that stops them.
const NEUTRALISED: [(&str, &str); 6] = [
    ("archive_mode", "off"),
    ("archive_command", ""),
    ("archive_library", ""),
    ("primary_conninfo", ""),
    ("primary_slot_name", ""),
    ("synchronous_standby_names", ""),
];

/// Settings of the source that would make a copy follow its primary, or wait for its standbys, wherever they stand.
const FOLLOWS: [&str; 6] = [
    "primary_conninfo",
    "primary_slot_name",
    "synchronous_standby_names",
    "restore_command",
    "recovery_end_command",
    "archive_cleanup_command",
];

/// Everything that the block says.
#[derive(Debug, Clone)]
pub struct RecoverySettings {
    /// Where to stop.
    pub stop: StopAt,
    /// Including the target itself.
    pub inclusive: bool,
    /// What then.
    pub action: TargetAction,
    /// Which branch.
    pub timeline: TargetTimeline,
    /// The command, already quoted for the shell.
    pub restore_command: String,
    /// What is run when recovery has ended.
    pub end_command: String,
    /// Whether PostgreSQL may read WAL behind its target before it is there.
    pub read_ahead: bool,
}

/// Removes the segments that `wal fetch` had fetched ahead.
pub(crate) const DROP_SPOOL: &str = "rm -rf pg_wal/.pg_hardstorage";

/// The names of the settings that the block neutralises.
pub fn neutralised() -> impl Iterator<Item = &'static str> {
    NEUTRALISED.iter().map(|(name, _)| *name)
}

/// What a file says without a block of ours.
pub(crate) fn without_block(source: &str) -> String {
    let mut out = String::new();
    let mut inside = false;
    for line in source.lines() {
        match line.trim() {
            BEGIN => inside = true,
            END => inside = false,
            _ if inside => {}
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// The restored file: what the source had, without an older block of ours, and the new block behind it.
pub fn auto_conf(source: &str, settings: &RecoverySettings) -> String {
    let mut out = without_block(source);
    out.push_str(BEGIN);
    out.push_str("\n# Remove this block when the restored server is to archive or replicate again.\n");
    out.push_str(&recovery_lines(settings));
    out.push_str(&neutral_lines());
    out.push_str(END);
    out.push('\n');
    out
}

/// The file of a copy that has recovered already: what the source had, and only what keeps the copy to itself.
pub(crate) fn recovered_auto_conf(source: &str) -> String {
    let note = "# Remove this block when the restored server is to archive or replicate again.";
    format!("{}{BEGIN}\n{note}\n{}{END}\n", without_block(source), neutral_lines())
}

/// The file of a copy that Patroni takes over: what the source had, without what would follow or wait for others. Nothing is
/// added: Patroni writes `postgresql.conf`, and this file would win over it, silently and for good.
pub(crate) fn patroni_auto_conf(source: &str) -> String {
    let reaches_out = |line: &&str| {
        let name = line.trim_start().split([' ', '\t', '=']).next().unwrap_or_default();
        let name = name.to_ascii_lowercase();
        FOLLOWS.contains(&name.as_str()) || name.starts_with("recovery_target")
    };
    let source = without_block(source);
    let kept = source.split_inclusive('\n').filter(|line| !reaches_out(line));
    kept.collect()
}

/// One setting as a line of a configuration file.
pub(crate) fn line(name: &str, value: &str) -> String {
    format!("{name} = {}\n", quote_conf(value))
}

fn neutral_lines() -> String {
    NEUTRALISED.iter().map(|(name, value)| line(name, value)).collect()
}

/// Everything that recovery is told.
pub(crate) fn recovery_lines(settings: &RecoverySettings) -> String {
    let mut out = line("restore_command", &settings.restore_command);
    // What was fetched ahead and is not needed any more; the command runs in the data directory.
    out.push_str(&line("recovery_end_command", &settings.end_command));
    if !settings.read_ahead {
        out.push_str(&line("recovery_prefetch", "off"));
    }
    out.push_str(&line("recovery_target_timeline", &settings.timeline.to_string()));
    // Targets of an earlier recovery would be a second target, which PostgreSQL refuses.
    let own = settings.stop.settings(settings.inclusive, settings.action);
    for name in [
        "recovery_target",
        "recovery_target_time",
        "recovery_target_lsn",
        "recovery_target_name",
        "recovery_target_xid",
    ] {
        if own.iter().all(|(key, _)| *key != name) {
            out.push_str(&line(name, ""));
        }
    }
    for (name, value) in &own {
        out.push_str(&line(name, value));
    }
    out
}

/// Quotes a value for a configuration file: PostgreSQL reads backslashes inside quotes.
fn quote_conf(value: &str) -> String {
    format!("'{}'", value.replace('\\', "\\\\").replace('\'', "''"))
}

/// Quotes a word for the shell. Everything goes in single quotes: a URL is full of `&` and `?`.
pub fn quote_shell(word: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_' | b':' | b'=');
    if !word.is_empty() && word.bytes().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

/// The `restore_command` from its words; `%f` and `%p` are put in by PostgreSQL, every other `%` is doubled for it.
pub fn restore_command(words_before: &[String], words_after: &[String]) -> String {
    let quote = |words: &[String]| {
        words
            .iter()
            .map(|word| quote_shell(word).replace('%', "%%"))
            .collect::<Vec<_>>()
            .join(" ")
    };
    format!("{} \"%f\" \"%p\" {}", quote(words_before), quote(words_after))
        .trim_end()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(command: &str) -> RecoverySettings {
        RecoverySettings {
            stop: StopAt::Immediate,
            inclusive: true,
            action: TargetAction::Promote,
            timeline: TargetTimeline::Latest,
            restore_command: command.to_owned(),
            end_command: DROP_SPOOL.to_owned(),
            read_ahead: false,
        }
    }

    #[test]
    fn the_block_replaces_an_older_one_and_comes_last() {
        let source = "work_mem = '4MB'\nprimary_conninfo = 'host=old'\n";
        let once = auto_conf(source, &settings("a"));
        let twice = auto_conf(&once, &settings("b"));
        assert_eq!(twice.matches(BEGIN).count(), 1);
        assert!(twice.starts_with(source) && twice.contains("restore_command = 'b'") && !twice.contains("'a'"));
        let last = twice.lines().rfind(|line| line.starts_with("primary_conninfo"));
        assert_eq!(last, Some("primary_conninfo = ''"));
    }

    #[test]
    fn a_recovered_copy_is_told_nothing_of_recovery() {
        let source = "work_mem = '4MB'\n";
        let done = recovered_auto_conf(&auto_conf(source, &settings("a")));
        assert!(
            done.starts_with(source) && done.contains("archive_mode = 'off'"),
            "{done}"
        );
        assert!(
            !done.contains("restore_command") && !done.contains("recovery_"),
            "{done}"
        );
        assert_eq!(without_block(&done), source);
    }

    #[test]
    fn what_patroni_takes_over_overrides_nothing_of_its_own() {
        let source = "work_mem = '4MB'\n  Primary_Conninfo='host=old'\nsynchronous_standby_names = '*'\n\
                      recovery_target_time = 'x'\narchive_mode = 'on'\n";
        let done = patroni_auto_conf(&auto_conf(source, &settings("a")));
        assert_eq!(done, "work_mem = '4MB'\narchive_mode = 'on'\n");
    }

    #[test]
    fn one_layer_of_quoting_for_each_reader() {
        let words = |list: &[&str]| list.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>();
        let command = restore_command(
            &words(&["/opt/it's here/pg_hardstorage", "wal", "fetch", "db1"]),
            &words(&["--repo", "s3://b/p%20q?region=x&endpoint=http://h"]),
        );
        assert_eq!(
            command,
            r#"'/opt/it'\''s here/pg_hardstorage' wal fetch db1 "%f" "%p" --repo 's3://b/p%%20q?region=x&endpoint=http://h'"#
        );
        let conf = auto_conf("", &settings(&command));
        assert!(
            conf.contains(r"restore_command = '''/opt/it''\\''''s here/pg_hardstorage'' wal"),
            "{conf}"
        );
    }
}
