//! `repo check`: whether everything is there and hangs together.

use hardstorage_engine::catalogue::records;
use hardstorage_engine::verify::{VerifyPlan, run_verify};
use hardstorage_report::{BackupId, DeploymentName, Result, code};
use hardstorage_repository::{AuditLog, Mode};
use serde::Serialize;

use crate::app::App;
use crate::commands::backup_take::default_jobs;
use crate::commands::run::Running;
use crate::printer::Report;

/// A problem that the check found.
#[derive(Debug, Serialize)]
struct Problem {
    deployment: DeploymentName,
    /// Absent when it is about the audit chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup_id: Option<BackupId>,
    code: String,
    message: String,
}

/// The exit code of a verdict.
pub(super) fn exit(result: &CheckResult) -> u8 {
    if result.ok {
        0
    } else {
        code::repository::OBJECT_CORRUPT.info().exit
    }
}

/// The verdict over a repository.
#[derive(Debug, Serialize)]
pub(super) struct CheckResult {
    url: String,
    ok: bool,
    read_data: bool,
    deployments: usize,
    backups: usize,
    problems: Vec<Problem>,
}

impl Report for CheckResult {
    fn text(&self) -> String {
        let depth = if self.read_data {
            "every stored byte"
        } else {
            "structure"
        };
        let mut out = format!(
            "{} {} ({depth}): {} deployment(s), {} backup(s)\n",
            if self.ok { "✓" } else { "✗" },
            self.url,
            self.deployments,
            self.backups
        );
        for problem in &self.problems {
            let about = problem
                .backup_id
                .as_ref()
                .map_or_else(|| format!("{}, audit", problem.deployment), BackupId::to_string);
            out.push_str(&format!("✗ {} {about}: {}\n", problem.code, problem.message));
        }
        out
    }
}

pub(super) async fn check(
    app: &App,
    url: &str,
    only: Option<DeploymentName>,
    read_data: bool,
    running: Running,
) -> Result<CheckResult> {
    let repository = app.repository(url, Mode::Read).await?;
    let names = match only {
        Some(name) => vec![name],
        None => repository.deployments().await?,
    };
    let stop = App::stop()?;
    let mut result = CheckResult {
        url: url.to_owned(),
        ok: true,
        read_data,
        deployments: names.len(),
        backups: 0,
        problems: Vec::new(),
    };
    for name in names {
        let deployment = repository.deployment(&name).await?;
        let chain = AuditLog::of(&deployment).verify(&[]).await?;
        if let Some(error) = chain.failure(&name) {
            result.problems.push(Problem {
                deployment: name.clone(),
                backup_id: None,
                code: error.code().to_string(),
                message: error.to_string(),
            });
        }
        let backups = records(&deployment).await?;
        for backup in backups.iter().filter(|backup| !backup.deleted) {
            result.backups += 1;
            let plan = VerifyPlan {
                backup: Some(backup.backup_id.clone()),
                structure_only: !read_data,
                jobs: default_jobs(),
                run_id: None,
            };
            let verdict = run_verify(&deployment, &plan, running.sink.clone(), stop.drain.clone()).await;
            let failure = match verdict {
                // Backups without a stream have holes between them; `wal audit` judges continuity.
                Ok(verdict) => verdict.own_failure(),
                Err(error) if error.is(code::cli::INTERRUPTED) => return Err(error),
                Err(error) => Some(error),
            };
            if let Some(error) = failure {
                result.problems.push(Problem {
                    deployment: name.clone(),
                    backup_id: Some(backup.backup_id.clone()),
                    code: error.code().to_string(),
                    message: error.to_string(),
                });
            }
        }
    }
    result.ok = result.problems.is_empty();
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::NEW;
    use crate::printer::shown;

    #[test]
    fn all_is_well_or_it_is_said_what_is_not() {
        let mut result = CheckResult {
            url: "file:///srv/backup".to_owned(),
            ok: true,
            read_data: true,
            deployments: 1,
            backups: 2,
            problems: Vec::new(),
        };
        let well = shown("repo check", &result);
        assert_eq!(exit(&result), 0);
        (result.ok, result.read_data) = (false, false);
        result.problems.push(Problem {
            deployment: "db1".parse().unwrap(),
            backup_id: Some(NEW.parse().unwrap()),
            code: "verify.object_missing".to_owned(),
            message: "pack 00000002 is not there".to_owned(),
        });
        result.problems.push(Problem {
            deployment: "db1".parse().unwrap(),
            backup_id: None,
            code: "verify.audit_chain".to_owned(),
            message: "record 3 is missing".to_owned(),
        });
        assert_eq!(exit(&result), 9);
        insta::assert_snapshot!([well, shown("repo check", &result)].join("\n"));
    }
}
