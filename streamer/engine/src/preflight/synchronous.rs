//! What the server's settings say about commits that wait for this stream.

use super::finding::{Finding, FindingSeverity};
use super::standby_names::{StandbyNames, shown};
use super::{ServerFacts, Setting};

/// Judges `synchronous_standby_names` and `synchronous_commit`.
///
/// `remote_apply` is refused: the positions that this stream tells the server have nothing replayed in them, and
/// PostgreSQL cannot see that. A commit would return with the promise that it can be read on the standby.
pub fn synchronous_findings(facts: &ServerFacts) -> Vec<Finding> {
    use FindingSeverity::{Fatal, Info, Warning};
    let text = facts.get("synchronous_standby_names");
    let names = text.and_then(StandbyNames::parse);
    let named = names.as_ref().filter(|names| names.has(&facts.application_name));
    let commit = facts.get("synchronous_commit");
    let mut found = Vec::new();
    if commit == Some("remote_apply") && (named.is_some() || facts.synchronous) {
        found.push(
            Finding::new(
                Fatal,
                "sync_standby.remote_apply",
                "synchronous_commit = remote_apply promises that a standby has replayed a commit; a repository replays nothing",
            )
            .suggest("ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf()")
            .observed("remote_apply")
            .required("on"),
        );
    }
    if let (Some(names), Some(text)) = (named, text) {
        found.push(if facts.synchronous {
            Finding::new(
                Info,
                "sync_standby.named",
                "synchronous_standby_names names this stream: commits wait until they are durable in the repository",
            )
            .observed(text)
        } else {
            Finding::new(
                Warning,
                "sync_standby.named",
                "synchronous_standby_names names this stream: commits wait for the repository",
            )
            .suggest(
                "stream with --synchronous: without it each commit waits up to one --flush-interval; or remove the name if that is not meant",
            )
            .observed(text)
        });
        if names.wants_all() {
            found.push(
                Finding::new(
                    Warning,
                    "sync_standby.no_other",
                    "no commit can do without this stream: while it or the repository is away, all writes stop",
                )
                .suggest("name a standby beside it, for example ANY 1 (standby, stream); to get writes back: ALTER SYSTEM SET synchronous_standby_names = ''; SELECT pg_reload_conf()")
                .observed(text),
            );
        }
    } else if facts.synchronous && facts.is_visible("synchronous_standby_names") {
        found.push(
            Finding::new(
                Warning,
                "sync_standby.not_named",
                "synchronous_standby_names does not name this stream: no commit waits for it",
            )
            .suggest(&format!(
                "ALTER SYSTEM SET synchronous_standby_names = '\"{}\"'; SELECT pg_reload_conf()",
                shown(&facts.application_name).replace('"', "\"\"").replace('\'', "''"),
            ))
            .observed(text.unwrap_or_default()),
        );
    }
    if facts.synchronous
        && let Some(value @ ("off" | "local")) = commit
    {
        found.push(
            Finding::new(
                Warning,
                "sync_standby.commit_does_not_wait",
                format!(
                    "synchronous_commit = {value}: commits do not wait for any standby, unless a session says otherwise"
                ),
            )
            .suggest("ALTER SYSTEM SET synchronous_commit = 'on'; SELECT pg_reload_conf()")
            .observed(value)
            .required("on"),
        );
    }
    found
}

impl ServerFacts {
    fn is_visible(&self, name: &str) -> bool {
        let mut settings = self.settings.iter();
        settings.any(|(key, value)| key == name && matches!(value, Setting::Value(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{is_fatal, judge};
    use super::*;

    fn codes(synchronous: bool, names: &str, commit: &str) -> Vec<String> {
        let value = |key: &str, value: &str| (key.to_owned(), Setting::Value(value.to_owned()));
        let facts = ServerFacts {
            settings: vec![
                value("synchronous_standby_names", names),
                value("synchronous_commit", commit),
            ],
            application_name: "pg_hardstorage_db1".into(),
            slot_exists: false,
            synchronous,
        };
        let found = synchronous_findings(&facts);
        assert_eq!(is_fatal(&found), is_fatal(&judge(&facts)));
        found.into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn who_waits_and_for_what() {
        let ours = "pg_hardstorage_db1";
        let two = "ANY 1 (pg_hardstorage_db1, b)";
        for (synchronous, names, commit, wanted) in [
            (false, "", "on", &[][..]),
            (false, "b", "remote_apply", &[]),
            (false, two, "on", &["sync_standby.named"]),
            (false, ours, "on", &["sync_standby.named", "sync_standby.no_other"]),
            (
                false,
                two,
                "remote_apply",
                &["sync_standby.remote_apply", "sync_standby.named"],
            ),
            (true, "", "on", &["sync_standby.not_named"]),
            (
                true,
                "b",
                "remote_apply",
                &["sync_standby.remote_apply", "sync_standby.not_named"],
            ),
            (true, two, "on", &["sync_standby.named"]),
            (true, two, "remote_write", &["sync_standby.named"]),
            (
                true,
                two,
                "off",
                &["sync_standby.named", "sync_standby.commit_does_not_wait"],
            ),
            (
                true,
                ours,
                "local",
                &[
                    "sync_standby.named",
                    "sync_standby.no_other",
                    "sync_standby.commit_does_not_wait",
                ],
            ),
        ] {
            assert_eq!(
                codes(synchronous, names, commit),
                wanted,
                "{synchronous} {names} {commit}"
            );
        }
    }
}
