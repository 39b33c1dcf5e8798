//! `restore DEPLOYMENT [BACKUP]`: bring a backup back, to its end or to any moment after it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hardstorage_engine::recover::{HandOver, Recovery, Subscriptions};
use hardstorage_engine::restore::{
    RecoveryTarget, RestoreOptions, RestorePlan, RestoreRequest, TargetAction, parse_owner, parse_time, plan_restore,
    run_restore,
};
use hardstorage_report::{Error, Event, RestorePlanReport, RestoreReport, Result, Severity, code};
use hardstorage_repository::Mode;
use hardstorage_storage::Location;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::json;

use super::backup_take::default_jobs;
use super::recovery::fetch_command;
use super::restore_text::{planned, restored};
use super::run::{Running, reported};
use crate::app::App;
use crate::args::{ActionArg, BackupChoice, HandOverArg, RestoreArgs, SubscriptionsArg};
use crate::printer::Report;

/// A plan or what became of it.
#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Outcome {
    Preview(Box<Preview>),
    Restored(Box<Done>),
}

/// What became of it, and what a person does next.
#[derive(Debug, Serialize)]
struct Done {
    #[serde(flatten)]
    report: RestoreReport,
    #[serde(skip)]
    hand_over: HandOverArg,
}

/// The plan, for people and programs.
#[derive(Debug, Serialize)]
struct Preview {
    #[serde(flatten)]
    report: RestorePlanReport,
    #[serde(skip)]
    plan: RestorePlan,
    #[serde(skip)]
    zone: jiff::tz::TimeZone,
}

impl Report for Outcome {
    fn text(&self) -> String {
        match self {
            Outcome::Preview(preview) => planned(&preview.plan, &preview.zone),
            Outcome::Restored(done) => restored(&done.report, done.hand_over),
        }
    }

    /// A preview that finds a problem ends as the restore would.
    fn failure(&self) -> Option<Error> {
        match self {
            Outcome::Preview(preview) => preview.plan.blocker(),
            Outcome::Restored(_) => None,
        }
    }
}

fn exit(outcome: &Outcome) -> u8 {
    outcome.failure().map_or(0, |error| error.exit_code())
}

/// How far the clock of whoever names a moment may be ahead of ours.
const CLOCKS_DIFFER: Duration = Duration::from_mins(1);

/// What relative times count from. A moment that is still to come is a mistake: what it leads to cannot be restored yet.
fn base(text: Option<&str>, now: Timestamp, zone: &jiff::tz::TimeZone) -> Result<Timestamp> {
    let Some(text) = text else { return Ok(now) };
    let base = parse_time(text, now, zone)?;
    if base.duration_since(now) > CLOCKS_DIFFER.try_into().unwrap_or_default() {
        return Err(Error::new(
            code::usage::TIME,
            format!("--now {base} lies in the future: it is {now}"),
        ));
    }
    Ok(base)
}

/// Runs it.
pub(crate) async fn run(app: &App, args: RestoreArgs) -> u8 {
    let run_args = args.run.clone();
    let work = |running: Running| async move { restore(app, &args, running).await };
    reported(app, "restore", &run_args, work, exit).await
}

fn goal(app: &App, args: &RestoreArgs) -> Result<RecoveryTarget> {
    Ok(
        match (&args.to_time, args.to_lsn, &args.to_name, args.to_xid, args.to_latest) {
            // Once, here: a relative time that is computed again later is another time.
            (Some(text), ..) => {
                let zone = app.printer.zone();
                let base = base(args.now.as_deref(), Timestamp::now(), zone)?;
                RecoveryTarget::Time(parse_time(text, base, zone)?)
            }
            (_, Some(lsn), ..) => RecoveryTarget::Lsn(lsn),
            (_, _, Some(name), ..) if name.is_empty() || name.len() > 63 => {
                return Err(Error::new(
                    code::usage::INVALID,
                    "a restore point's name has 1 to 63 bytes",
                ));
            }
            (_, _, Some(name), ..) => RecoveryTarget::Name(name.clone()),
            (_, _, _, Some(xid), _) => RecoveryTarget::Xid(xid),
            (.., true) => RecoveryTarget::Latest,
            _ => RecoveryTarget::Immediate,
        },
    )
}

fn action(args: &RestoreArgs) -> Result<Option<TargetAction>> {
    match args.to_action {
        Some(ActionArg::Pause | ActionArg::Shutdown) if args.recover => Err(Error::new(
            code::usage::INVALID,
            "--recover promotes: no other --to-action goes with it",
        )),
        _ if args.recover => Ok(Some(TargetAction::Promote)),
        Some(ActionArg::Pause) => Ok(Some(TargetAction::Pause)),
        Some(ActionArg::Promote) => Ok(Some(TargetAction::Promote)),
        Some(ActionArg::Shutdown) => Ok(Some(TargetAction::Shutdown)),
        None => Ok(None),
    }
}

fn recovery(args: &RestoreArgs, plan: &RestorePlan) -> Result<Option<Recovery>> {
    if !args.recover {
        return Ok(None);
    }
    let hand_over = match args.hand_over {
        HandOverArg::Plain => HandOver::Plain,
        HandOverArg::Cnpg => HandOver::Cnpg,
        HandOverArg::Patroni => HandOver::Patroni,
        HandOverArg::Drill => HandOver::Drill,
    };
    if args.hand_over == HandOverArg::Drill && args.subscriptions == SubscriptionsArg::Keep {
        return Err(Error::new(
            code::usage::INVALID,
            "a copy for a drill subscribes to nothing: no --subscriptions keep goes with it",
        ));
    }
    let subscriptions = match args.subscriptions {
        SubscriptionsArg::Disable => Subscriptions::Disable,
        SubscriptionsArg::Keep => Subscriptions::Keep,
    };
    Recovery::prepare(&plan.pg_version, args.programs(), hand_over, subscriptions).map(Some)
}

async fn restore(app: &App, args: &RestoreArgs, running: Running) -> Result<Outcome> {
    let goal = goal(app, args)?;
    let url = app.repo_url(&args.repo, Some(&args.deployment))?;
    let owner = args.owner.as_deref().map(|text| {
        let table = |path: &str| {
            std::fs::read_to_string(path)
                .map_err(|error| Error::new(code::cli::IO, format!("read {path}")).source(error))
        };
        parse_owner(text, &table("/etc/passwd")?, &table("/etc/group")?)
    });
    let request = RestoreRequest {
        backup: match &args.backup {
            BackupChoice::Latest => None,
            BackupChoice::Id(id) => Some(id.clone()),
        },
        target: args.target.clone(),
        goal,
        inclusive: !args.to_exclusive,
        action: action(args)?,
        timeline: args.to_timeline,
        tablespace_mapping: args.tablespace_mapping.clone(),
        owner: owner.transpose()?,
        running_as_root: rustix::process::geteuid().is_root(),
        repository_path: repository_path(&url),
        wal_dir: args.wal_dir.clone(),
        wal_in_target: args.wal_in_target,
        retry_id: args.retry_id.clone(),
        onto: args.onto(),
    };
    // Sessions are written by readers too: a collector must see them.
    let repository = app.repository_of(&url, Mode::Read, &args.deployment).await?;
    let deployment = repository.deployment(&args.deployment).await?;
    let mut plan = plan_restore(&deployment, &request).await?;
    running.sink.emit(
        Event::new(Severity::Info, "restore.manifest_loaded")
            .deployment(&args.deployment)
            .backup(&plan.backup_id)
            .body(json!({
                "file_count": plan.file_count,
                "pg_version": plan.pg_version,
                "stop_lsn": plan.stop_lsn,
                "tablespaces": plan.tablespaces.len() + 1,
            })),
    );
    let elsewhere = app.credentials_dir().is_some() || args.fetch.credentials_dir.is_some();
    if url.starts_with("s3:") && !elsewhere && std::env::var_os("AWS_ACCESS_KEY_ID").is_some() {
        plan.warnings.push(
            "the S3 credentials come from this environment: PostgreSQL needs them too when it fetches WAL".to_owned(),
        );
    }
    let recovery = recovery(args, &plan)?;
    if args.preview {
        let preview = Preview {
            report: plan.report(),
            plan,
            zone: app.printer.zone().clone(),
        };
        return Ok(Outcome::Preview(Box::new(preview)));
    }
    let options = RestoreOptions {
        jobs: args.jobs.map_or_else(default_jobs, usize::from),
        restore_command: fetch_command(app, &args.fetch, &args.deployment, &url, &plan)?,
        run_id: args.run.run_id.clone(),
        recovery,
    };
    super::verify::verifybackup_is_ready(args.verify, args.programs(), &plan.pg_version)?;
    let stop = App::stop()?;
    let proof = async |data: &Path| super::verify::verifybackup(args.verify, args.programs(), data).await;
    let report = run_restore(&deployment, &plan, &options, running.sink, stop.drain, proof).await?;
    let hand_over = args.hand_over;
    Ok(Outcome::Restored(Box::new(Done { report, hand_over })))
}

/// The directory of a repository on this machine. Read as the store reads it: a URL may spell a path in escapes.
fn repository_path(url: &str) -> Option<PathBuf> {
    match Location::parse(url) {
        Ok(Location::File(path)) => hardstorage_engine::restore::resolve(&path).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::samples;
    use crate::printer::shown;
    use hardstorage_report::Lsn;

    #[test]
    fn a_repository_is_found_behind_its_escapes() {
        let root = tempfile::tempdir().unwrap();
        let place = root.path().join("my backup");
        std::fs::create_dir(&place).unwrap();
        let url = format!("file://{}/my%20backup/", root.path().display());
        assert_eq!(repository_path(&url), Some(place.canonicalize().unwrap()));
        assert_eq!(repository_path("s3://bucket/"), None);
    }
    /// A plan over backups in memory; the directory's name differs from run to run.
    async fn preview(target: &Path, goal: RecoveryTarget) -> (String, u8) {
        let request = RestoreRequest {
            backup: None,
            target: target.to_owned(),
            goal,
            inclusive: true,
            action: None,
            timeline: hardstorage_engine::restore::TargetTimeline::Latest,
            tablespace_mapping: Vec::new(),
            owner: None,
            running_as_root: false,
            repository_path: None,
            wal_dir: None,
            wal_in_target: false,
            retry_id: None,
            onto: hardstorage_engine::restore::Onto::Empty,
        };
        let plan = plan_restore(&samples::deployment().await, &request).await.unwrap();
        let outcome = Outcome::Preview(Box::new(Preview {
            report: plan.report(),
            plan,
            zone: samples::zone(),
        }));
        let place = target.parent().unwrap().canonicalize().unwrap();
        let text = shown("restore", &outcome).replace(place.to_str().unwrap(), "/srv");
        (text, exit(&outcome))
    }

    #[test]
    fn relative_times_count_from_a_moment_that_is_not_to_come() {
        let zone = jiff::tz::TimeZone::UTC;
        let now: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        let of = |text| base(Some(text), now, &zone).map(|base| base.to_string());
        assert_eq!(base(None, now, &zone).unwrap(), now);
        assert_eq!(of("2026-11-22T08:00:00Z").unwrap(), "2026-11-22T08:00:00Z");
        // The clock of whoever wrote it goes before ours.
        assert_eq!(of("2026-11-22T08:16:00Z").unwrap(), "2026-11-22T08:16:00Z");
        for wrong in ["2026-11-22T08:16:01Z", "2027-01-01T00:00:00Z", "soon"] {
            assert!(of(wrong).unwrap_err().is(code::usage::TIME), "{wrong}");
        }
        let base = base(Some("2026-11-22T08:00:00Z"), now, &zone).unwrap();
        let target = parse_time("5 minutes ago", base, &zone).unwrap();
        assert_eq!(target.to_string(), "2026-11-22T07:55:00Z");
    }

    #[tokio::test]
    async fn a_preview_says_what_would_be_done() {
        let root = tempfile::tempdir().unwrap();
        let (text, exit) = preview(&root.path().join("restored"), RecoveryTarget::Latest).await;
        insta::assert_snapshot!(text);
        assert_eq!(exit, 0);
    }

    #[tokio::test]
    async fn a_preview_says_what_stands_in_the_way() {
        let root = tempfile::tempdir().unwrap();
        let target = root.path().join("restored");
        std::fs::create_dir(&target).unwrap();
        std::fs::write(target.join("somebody's"), b"").unwrap();
        let (text, exit) = preview(&target, RecoveryTarget::Lsn(Lsn(0x90_0000))).await;
        insta::assert_snapshot!(text);
        assert_ne!(exit, 0);
    }
}
