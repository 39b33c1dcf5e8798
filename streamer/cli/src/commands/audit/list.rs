//! `audit list`: what was done, by whom, oldest first.

use hardstorage_report::{DeploymentName, Result, code};
use hardstorage_repository::{AuditLog, AuditRecord, Listed, Mode};
use serde::Serialize;

use super::chosen;
use crate::app::App;
use crate::args::AuditListArgs;
use crate::printer::Report;

/// One record, or why it cannot be read.
#[derive(Debug, Serialize)]
struct Row {
    sequence: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<AuditRecord>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

impl From<Listed> for Row {
    fn from(listed: Listed) -> Row {
        let (record, problem) = match listed.record {
            Ok(record) => (Some(record), None),
            Err(error) => (None, Some(error.to_string())),
        };
        Row {
            sequence: listed.sequence,
            record,
            problem,
        }
    }
}

/// One chain.
#[derive(Debug, Serialize)]
struct Chain {
    deployment: DeploymentName,
    events: Vec<Row>,
}

/// The chains.
#[derive(Debug, Serialize)]
pub(super) struct AuditListResult {
    url: String,
    deployments: Vec<Chain>,
}

impl AuditListResult {
    fn exit(&self) -> u8 {
        let mut rows = self.deployments.iter().flat_map(|chain| &chain.events);
        if rows.any(|row| row.problem.is_some()) {
            code::repository::AUDIT_BROKEN.info().exit
        } else {
            0
        }
    }
}

impl Report for AuditListResult {
    fn text(&self) -> String {
        let mut out = String::new();
        for chain in &self.deployments {
            if chain.events.is_empty() {
                out.push_str(&format!("{}: the audit chain is empty\n", chain.deployment));
                continue;
            }
            out.push_str(&format!(
                "{}\n{:>6}  {:<20}  {:<18}  {}\n",
                chain.deployment, "EVENT", "AT", "ACTION", "WHAT, AND BY WHOM"
            ));
            for row in &chain.events {
                out.push_str(&match (&row.record, &row.problem) {
                    (Some(record), _) => line(record),
                    (None, problem) => {
                        let problem = problem.as_deref().unwrap_or_default();
                        format!("{:>6}  ✗ {problem}\n", row.sequence)
                    }
                });
            }
        }
        if self.deployments.is_empty() {
            out.push_str("the repository holds no deployment\n");
        }
        out
    }
}

fn line(record: &AuditRecord) -> String {
    let mut what = Vec::new();
    what.extend(record.backup_id.as_ref().map(ToString::to_string));
    what.extend(record.reason.as_ref().map(|reason| one_line(reason)));
    if what.is_empty() && !record.body.is_null() {
        what.push(record.body.to_string());
    }
    let run = record.actor.run_id.as_ref();
    what.push(format!(
        "by {}{}",
        one_line(&record.actor.who),
        run.map_or_else(String::new, |run| format!(" (run {})", one_line(run)))
    ));
    format!(
        "{:>6}  {:<20}  {:<18}  {}\n",
        record.sequence,
        record.at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        one_line(&record.action),
        what.join("; ")
    )
}

/// What people wrote may hold anything, and must not look like another record.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// Runs it.
pub(super) async fn run(app: &App, args: AuditListArgs) -> u8 {
    match list(app, &args).await {
        Ok(result) => {
            app.printer.result("audit list", &result);
            result.exit()
        }
        Err(error) => {
            app.printer.error("audit list", &error);
            error.exit_code()
        }
    }
}

async fn list(app: &App, args: &AuditListArgs) -> Result<AuditListResult> {
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let repository = app.repository(&url, Mode::Read).await?;
    let count = args.last.map(|count| count as usize);
    let mut deployments = Vec::new();
    for name in chosen(&repository, args.deployment.as_ref()).await? {
        let events = AuditLog::of(&repository.deployment(&name).await?).last(count).await?;
        deployments.push(Chain {
            deployment: name,
            events: events.into_iter().map(Row::from).collect(),
        });
    }
    Ok(AuditListResult { url, deployments })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{NEW, time};
    use crate::printer::shown;
    use serde_json::json;

    #[test]
    fn records_are_listed_and_a_broken_one_is_told() {
        let record = |sequence: u64, more: serde_json::Value| {
            let mut all = json!({
                "schema": "hardstorage.audit.v1", "deployment": "db1", "sequence": sequence.to_string(),
                "month": "202611", "at": time("2026-11-22T08:01:00.5Z"), "actor": {"who": "postgres@host1"},
                "prev_hash": "00".repeat(32), "nonce": "00".repeat(16),
            });
            let fields = all.as_object_mut().unwrap();
            fields.extend(more.as_object().unwrap().clone());
            Ok(serde_json::from_value(all).unwrap())
        };
        let broken = Err(hardstorage_report::Error::new(
            code::repository::OBJECT_CORRUPT,
            "object audit/db1/202611/0000000000000003.json: its MAC does not match",
        ));
        let listed = |sequence, record| Row::from(Listed { sequence, record });
        let rows = vec![
            listed(
                1,
                record(1, json!({"action": "deployment.created", "body": {"encrypted": true}})),
            ),
            listed(
                2,
                record(
                    2,
                    json!({"action": "backup.held", "backup_id": NEW, "reason": "year\nend",
                    "actor": {"who": "postgres@host1", "run_id": "r-7"}}),
                ),
            ),
            listed(3, broken),
        ];
        let chain = |name: &str, events| Chain {
            deployment: name.parse().unwrap(),
            events,
        };
        let mut result = AuditListResult {
            url: "file:///srv/backup".to_owned(),
            deployments: vec![chain("billing", Vec::new()), chain("db1", rows)],
        };
        assert_eq!(result.exit(), 9);
        insta::assert_snapshot!(shown("audit list", &result));
        result.deployments.truncate(1);
        assert_eq!(result.exit(), 0);
    }
}
