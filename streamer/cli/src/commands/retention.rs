//! `rotate`: which backups stay.

use std::collections::BTreeSet;
use std::time::Duration;

use hardstorage_engine::audit;
use hardstorage_engine::retention::{Action as Verdict, Candidate, Decision, GfsPolicy, decide};
use hardstorage_report::{DeploymentName, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use hardstorage_repository::{
    Action, AuditAction, AuditEvent, BackupState, CollectOptions, Collection, Deployment, Leftovers, Mode, Repository,
};
use serde::Serialize;
use serde_json::json;

use super::collection;
use super::run::{Running, reported, zero};
use crate::app::App;
use crate::args::RotateArgs;
use crate::printer::Report;

/// Why retention deletes.
const RETENTION: &str = "retention gfs";

/// What becomes of the backups of one deployment.
#[derive(Debug, Serialize)]
pub(crate) struct Rotation {
    deployment: DeploymentName,
    policy: GfsPolicy,
    kept: usize,
    deleted: usize,
    held: usize,
    decisions: Vec<Decision>,
    /// What came back, with `--collect`.
    #[serde(skip_serializing_if = "Option::is_none")]
    collection: Option<Collection>,
}

/// The plan, or what was done.
#[derive(Debug, Serialize)]
pub(crate) struct RotateResult {
    dry_run: bool,
    policy_name: &'static str,
    deployments: Vec<Rotation>,
    /// Of the whole repository, where anything was collected.
    #[serde(skip_serializing_if = "Option::is_none")]
    leftovers: Option<Leftovers>,
}

impl Report for RotateResult {
    fn text(&self) -> String {
        let mut out = if self.dry_run {
            "Rotation plan (dry-run — nothing was marked deleted; --apply does it)\n".to_owned()
        } else {
            "Rotation applied: what was marked deleted can be undeleted until its space is collected\n".to_owned()
        };
        for rotation in &self.deployments {
            let GfsPolicy {
                keep_last,
                keep_daily,
                keep_weekly,
                keep_monthly,
                keep_yearly,
            } = rotation.policy;
            out.push_str(&format!(
                "Policy: gfs (last {keep_last}, daily {keep_daily}, weekly {keep_weekly}, monthly {keep_monthly}, yearly {keep_yearly})\n\
                 {}  keep: {}  delete: {}  held: {}\n",
                rotation.deployment, rotation.kept, rotation.deleted, rotation.held
            ));
            for decision in &rotation.decisions {
                let word = match decision.action {
                    Verdict::Keep => "keep",
                    Verdict::Held => "held",
                    Verdict::Delete => "del ",
                };
                let reasons = decision.reasons.join(",");
                let reasons = if reasons.is_empty() {
                    reasons
                } else {
                    format!(" ({reasons})")
                };
                out.push_str(&format!(
                    "[{word}] {}  {}{reasons}\n",
                    decision.backup_id, decision.stopped_at
                ));
            }
            if let Some(done) = &rotation.collection {
                out.push_str(&format!("Collection{}: ", if self.dry_run { " plan" } else { "" }));
                out.push_str(&collection::text(done));
            }
        }
        if let Some(left) = &self.leftovers {
            out.push_str(&collection::leftovers_text(left));
        }
        out
    }
}

/// `rotate [DEPLOYMENT]`.
pub(crate) async fn rotate(app: &App, args: RotateArgs) -> u8 {
    let run_args = args.run.clone();
    let work = |running: Running| async move { run_rotate(app, &args, &running).await };
    reported(app, "rotate", &run_args, work, zero).await
}

async fn run_rotate(app: &App, args: &RotateArgs, running: &Running) -> Result<RotateResult> {
    let url = app.repo_url(&args.repo, args.deployment.as_ref())?;
    let mode = if args.apply { Mode::Write } else { Mode::Read };
    let repository = app.repository(&url, mode).await?;
    let names = match &args.deployment {
        Some(name) => vec![name.clone()],
        None => known_deployments(app, &repository).await?.into_iter().collect(),
    };
    let mut deployments = Vec::with_capacity(names.len());
    for name in names {
        let deployment = repository.deployment(&name).await?;
        let policy = policy(app, args, &name);
        let mut decisions = decide(candidates(&deployment).await?, &policy);
        if args.apply {
            for decision in decisions
                .iter_mut()
                .filter(|decision| decision.action == Verdict::Delete)
            {
                // A hold that came in between wins: the state's own rules refuse the deletion.
                let action = Action::Delete {
                    reason: RETENTION.to_owned(),
                };
                match BackupState::change(&deployment, &decision.backup_id, action).await {
                    Ok(_) => {
                        let event = AuditEvent::new(AuditAction::BackupDeleted, args.run.run_id.clone())
                            .backup(&decision.backup_id)
                            .reason(RETENTION);
                        audit::record(&deployment, &event, running.sink.as_ref()).await;
                    }
                    Err(error) if error.is(code::repository::HELD) => decision.action = Verdict::Held,
                    Err(error) => return Err(error),
                }
            }
        }
        let count = |action: Verdict| decisions.iter().filter(|decision| decision.action == action).count();
        let collection = if args.collect {
            collect(app, args, &deployment).await?
        } else {
            None
        };
        deployments.push(Rotation {
            deployment: name,
            collection,
            policy,
            kept: count(Verdict::Keep),
            deleted: count(Verdict::Delete),
            held: count(Verdict::Held),
            decisions,
        });
    }
    let leftovers = if deployments.iter().any(|rotation| rotation.collection.is_some()) {
        Some(collection::sweep(app, &repository, &collect_options(args, None)).await)
    } else {
        None
    };
    Ok(RotateResult {
        dry_run: !args.apply,
        policy_name: "gfs",
        deployments,
        leftovers,
    })
}

fn collect_options(args: &RotateArgs, keep_wal: Option<Duration>) -> CollectOptions {
    CollectOptions {
        apply: args.apply,
        keep_wal: args.keep_wal.or(keep_wal),
        run_id: args.run.run_id.clone(),
        ..CollectOptions::default()
    }
}

/// Gives back the space; nothing, loudly, where that needs everybody else to stand still.
async fn collect(app: &App, args: &RotateArgs, deployment: &Deployment) -> Result<Option<Collection>> {
    let options = collect_options(args, app.keep_wal(deployment.name()));
    match collection::run(app, deployment, &options).await {
        Ok(done) => Ok(Some(done)),
        Err(error) if error.is(code::repository::COLLECT_EXCLUSIVE) => {
            let body =
                json!({"deployment": deployment.name(), "code": error.code().as_str(), "message": error.to_string()});
            app.tell(Severity::Warning, "gc.not_run", body);
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// The deployments that are configured or in the repository.
async fn known_deployments(app: &App, repository: &Repository) -> Result<BTreeSet<DeploymentName>> {
    let mut names: BTreeSet<DeploymentName> = repository.deployments().await?.into_iter().collect();
    names.retain(|name| app.config.deployments.is_empty() || app.config.deployments.contains_key(name));
    Ok(names)
}

fn policy(app: &App, args: &RotateArgs, name: &DeploymentName) -> GfsPolicy {
    let configured = app.deployment(name).retention.unwrap_or_default().gfs();
    GfsPolicy {
        keep_last: args.keep_last.unwrap_or(configured.keep_last),
        keep_daily: args.keep_daily.unwrap_or(configured.keep_daily),
        keep_weekly: args.keep_weekly.unwrap_or(configured.keep_weekly),
        keep_monthly: args.keep_monthly.unwrap_or(configured.keep_monthly),
        keep_yearly: args.keep_yearly.unwrap_or(configured.keep_yearly),
    }
}

/// The backups that retention decides about. One whose state cannot be read is not among them: it stays.
async fn candidates(deployment: &Deployment) -> Result<Vec<Candidate>> {
    let catalog = deployment.backups().await?;
    let mut found = Vec::new();
    for entry in catalog.entries.iter().filter(|entry| entry.is_usable()) {
        let (Some(stored), Ok(state)) = (entry.manifest(), &entry.state) else {
            continue;
        };
        let m = &stored.manifest;
        let whole = WalArchive::makes_consistent(deployment, m).await?;
        found.push(Candidate {
            backup_id: entry.backup_id.clone(),
            stopped_at: m.times.stopped_at,
            held: state.held.is_some(),
            restorable: whole && entry.damage.is_empty(),
        });
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples::{HELD, NEW, OLD, time};
    use crate::printer::shown;

    fn result(dry_run: bool) -> RotateResult {
        let candidate = |id: &str, stopped_at: &str, held| Candidate {
            backup_id: id.parse().unwrap(),
            stopped_at: time(stopped_at),
            held,
            restorable: true,
        };
        let policy = GfsPolicy {
            keep_last: 1,
            keep_daily: 0,
            keep_weekly: 0,
            keep_monthly: 0,
            keep_yearly: 0,
        };
        let backups = vec![
            candidate(OLD, "2026-11-20T21:01:00Z", false),
            candidate(HELD, "2026-11-21T21:01:00Z", true),
            candidate(NEW, "2026-11-22T08:01:00Z", false),
        ];
        RotateResult {
            dry_run,
            policy_name: "gfs",
            deployments: vec![Rotation {
                deployment: "db1".parse().unwrap(),
                policy,
                kept: 1,
                deleted: 1,
                held: 1,
                decisions: decide(backups, &policy),
                collection: None,
            }],
            leftovers: None,
        }
    }

    #[test]
    fn a_dry_run_says_what_it_would_do() {
        insta::assert_snapshot!(shown("rotate", &result(true)));
    }

    #[test]
    fn applied_it_says_what_it_did() {
        insta::assert_snapshot!(shown("rotate", &result(false)));
    }
}
