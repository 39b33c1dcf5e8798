//! `wal preflight`: is the server ready to be streamed from?

use hardstorage_engine::preflight::{Finding, FindingSeverity, failure, is_fatal, judge};
use hardstorage_engine::source::{identify, server_facts};
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
pub(crate) async fn run(app: &App, deployment: DeploymentName, given: Option<&str>, slot: Option<&str>) -> u8 {
    match look(app, deployment, given, slot).await {
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

async fn look(
    app: &App,
    deployment: DeploymentName,
    given: Option<&str>,
    slot: Option<&str>,
) -> Result<PreflightResult> {
    let source = app.source_from(given, &deployment)?;
    let slot = app.slot(slot, &deployment)?;
    let mut connection = source.connect().await?;
    let server = identify(&mut connection).await?;
    let facts = server_facts(&mut connection, source.application_name(), Some(&slot)).await?;
    connection.close().await;
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
