//! `wal preflight`: is the server ready to be streamed from?

use hardstorage_engine::preflight::{Finding, FindingSeverity, ServerFacts, failure, is_fatal, judge};
use hardstorage_engine::source::{ServerIdentity, Source, identify, server_facts};
use hardstorage_report::{DeploymentName, Result, SystemId, Timeline};
use serde::Serialize;

use crate::app::App;
use crate::printer::Report;

/// What was found.
#[derive(Debug, Serialize)]
pub(crate) struct PreflightResult {
    deployment: DeploymentName,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    pg_version_num: u32,
    pg_version: String,
    system_id: SystemId,
    timeline: Timeline,
    slot: String,
    slot_exists: bool,
    ready: bool,
    findings: Vec<Finding>,
}

impl Report for PreflightResult {
    fn text(&self) -> String {
        let mut out = format!(
            "Deployment:  {}\nPostgreSQL:  {}\nCluster ID:  {}\nTimeline:    {}\nSlot:        {} ({})\n\n",
            self.deployment,
            self.pg_version,
            self.system_id,
            self.timeline,
            self.slot,
            if self.slot_exists { "exists" } else { "will be created" },
        );
        let width = self
            .findings
            .iter()
            .map(|finding| finding.code.len())
            .max()
            .unwrap_or(0);
        for finding in &self.findings {
            let severity = match finding.severity {
                FindingSeverity::Info => "info",
                FindingSeverity::Warning => "warning",
                FindingSeverity::Fatal => "FATAL",
            };
            out.push_str(&format!(
                "{severity:<8} {:<width$}  {}\n",
                finding.code, finding.message
            ));
            if let Some(suggestion) = &finding.suggestion {
                out.push_str(&format!("{:9}{:width$}  hint: {suggestion}\n", "", ""));
            }
        }
        out.push_str(if self.ready {
            "\n✓ ready for streaming\n"
        } else {
            "\n✗ not ready\n"
        });
        out
    }
}

/// Runs it. With a fatal finding the result is printed all the same, and the exit code is that of the finding.
pub(crate) async fn run(
    app: &App,
    deployment: DeploymentName,
    given: Option<&str>,
    slot: Option<&str>,
    synchronous: bool,
) -> u8 {
    match look(app, deployment, given, slot, synchronous).await {
        Ok(result) => {
            app.printer.result("wal preflight", &result);
            let fatal = result
                .findings
                .iter()
                .find(|finding| finding.severity == FindingSeverity::Fatal);
            fatal.map_or(0, |finding| failure(finding).exit_code())
        }
        Err(error) => {
            app.printer.error("wal preflight", &error);
            error.exit_code()
        }
    }
}

/// Asks a server what it is, and what a stream of this application name and slot would meet.
pub(super) async fn ask(source: &Source, stream: &str, slot: &str) -> Result<(ServerIdentity, ServerFacts)> {
    let mut connection = source.connect().await?;
    let server = identify(&mut connection).await?;
    let facts = server_facts(&mut connection, stream, Some(slot)).await?;
    connection.close().await;
    Ok((server, facts))
}

async fn look(
    app: &App,
    deployment: DeploymentName,
    given: Option<&str>,
    slot: Option<&str>,
    synchronous: bool,
) -> Result<PreflightResult> {
    let source = app.source_from(given, &deployment)?;
    let slot = app.slot(slot, &deployment)?;
    let (server, facts) = ask(&source, source.application_name(), &slot).await?;
    let facts = facts.synchronous(synchronous);
    let findings = judge(&facts);
    Ok(PreflightResult {
        deployment,
        role: source.user(),
        pg_version_num: server.version_num,
        pg_version: server.version,
        system_id: server.system_id,
        timeline: server.timeline,
        slot,
        slot_exists: facts.slot_exists,
        ready: !is_fatal(&findings),
        findings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;
    use hardstorage_engine::preflight::Setting;

    fn result(settings: &[(&str, &str)]) -> PreflightResult {
        let facts = ServerFacts {
            settings: settings
                .iter()
                .map(|(name, value)| ((*name).to_owned(), Setting::Value((*value).to_owned())))
                .collect(),
            application_name: "pg_hardstorage_db1".to_owned(),
            slot_exists: false,
            synchronous: false,
        };
        let findings = judge(&facts);
        PreflightResult {
            deployment: "db1".parse().unwrap(),
            role: Some("pgbackup".to_owned()),
            pg_version_num: 180_006,
            pg_version: "18.6".to_owned(),
            system_id: SystemId(7_519_000_000_000_000_001),
            timeline: Timeline(1),
            slot: "pg_hardstorage_db1".to_owned(),
            slot_exists: facts.slot_exists,
            ready: !is_fatal(&findings),
            findings,
        }
    }

    const USUAL: [(&str, &str); 9] = [
        ("wal_level", "replica"),
        ("max_wal_senders", "10"),
        ("max_replication_slots", "10"),
        ("max_slot_wal_keep_size", "-1"),
        ("wal_keep_size", "0"),
        ("wal_sender_timeout", "1min"),
        ("synchronous_standby_names", ""),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
    ];

    #[test]
    fn a_server_as_it_comes() {
        insta::assert_snapshot!(shown("wal preflight", &result(&USUAL)));
    }

    #[test]
    fn a_server_that_cannot_be_streamed_from() {
        let mut settings = USUAL;
        settings[0] = ("wal_level", "minimal");
        settings[1] = ("max_wal_senders", "0");
        insta::assert_snapshot!(result(&settings).text());
    }
}
