//! The recovery from start to hand-over: a server of our own configuration replays, promotes, is asked, and ends.

use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use hardstorage_report::{DeploymentName, Error, Event, EventSink, Recovered, RecoveryReport, Result, Severity, code};
use hardstorage_repository::wal::WalArchive;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::progress::{Stage, Told};
use super::session::Asked;
use super::{HandOver, Recovery, Subscriptions, interrupted, tell};
use super::{check, configuration, environment, hand_over, preload, prepare};
use crate::drill;
use crate::postgres::{Control, EVERYBODY, Place, Server, State, major_of, off_thread, private};
use crate::restore::{Layout, RecoverySettings, RestorePlan, line};

/// How often the server is looked at.
const POLL: Duration = Duration::from_millis(200);

/// A copy that is complete, with `pg_control` and `recovery.signal`, and what its recovery is told.
pub(crate) struct Job<'a> {
    pub(crate) deployment: &'a DeploymentName,
    pub(crate) plan: &'a RestorePlan,
    pub(crate) layout: &'a Layout,
    pub(crate) settings: RecoverySettings,
    /// The origin's `postgresql.conf`, wherever it was restored to.
    pub(crate) configuration: PathBuf,
    /// Where the origin's files from outside of the data directory are.
    pub(crate) elsewhere: Option<PathBuf>,
    /// The origin's `postgresql.auto.conf`.
    pub(crate) auto_conf: &'a str,
    pub(crate) archive: WalArchive,
    pub(crate) sink: Arc<dyn EventSink>,
    pub(crate) cancel: CancellationToken,
}

impl Job<'_> {
    pub(super) fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        let event = Event::new(severity, name).deployment(self.deployment);
        self.sink.emit(event.backup(&self.plan.backup_id).body(body));
    }

    /// Waits until it is promoted: for as long as it takes, or until it shall stop.
    async fn until_promoted(&self, server: &mut Server, told: &mut Told) -> Result<()> {
        loop {
            if self.cancel.is_cancelled() {
                return Err(interrupted());
            }
            match server.state()? {
                State::Ready => return Ok(()),
                State::Ended(status) => return Err(self.gave_up(server, status)),
                State::Starting => {}
            }
            let log = server.log_end()?;
            if tell::is_promoting(&log) {
                told.is(Stage::Promoting, None);
            } else {
                told.is(Stage::Recovering, tell::replayed(&log));
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits for a server that has nothing to recover.
    pub(super) async fn until_ready(&self, server: &mut Server) -> Result<()> {
        let mut told = Told::new(self.plan, Arc::new(hardstorage_report::NullSink));
        self.until_promoted(server, &mut told).await
    }

    fn gave_up(&self, server: &Server, status: ExitStatus) -> Error {
        let missed = server.log_end().is_ok_and(|log| tell::has_missed_its_target(&log));
        if missed {
            let what = format!("recovery ended before it reached {}", self.plan.reaches);
            server.refused(code::engine::TARGET_NOT_REACHED, &what)
        } else {
            let what = format!("PostgreSQL ended with {status} before it had recovered");
            server.refused(code::engine::RECOVERY, &what)
        }
    }
}

/// Recovers, promotes, and hands over. Dropped or failed at any point it leaves no server behind.
pub(crate) async fn recover(job: &Job<'_>, recovery: &Recovery) -> Result<RecoveryReport> {
    let data = job.layout.data.clone();
    let directory = private(job.layout.owner)?;
    let place = Place {
        programs: recovery.programs.clone(),
        data: data.clone(),
        private: directory.path().to_owned(),
        environment: environment::handed_down(),
    };
    let control = off_thread({
        let place = place.clone();
        move || Ok((Control::read(&place.programs, &place.data)?, major_of(&place.data)?))
    });
    let (control, major) = control.await?;
    let kept = preload::kept(&job.configuration, job.elsewhere.as_deref(), job.auto_conf);
    let preloaded = kept.get("shared_preload_libraries").cloned();
    let own = configuration::text(&job.settings, &control, kept.clone(), &major);
    let settings = place.settings(&own, EVERYBODY, &[])?;
    job.emit(
        Severity::Info,
        "restore.recovering",
        json!({"stop_at": job.plan.stop_at, "timeline": job.plan.target_timeline, "preload": preloaded}),
    );
    let mut told = Told::new(job.plan, job.sink.clone());
    let mut server = place.start(&settings)?;
    job.until_promoted(&mut server, &mut told).await?;
    let time = tell::last_transaction(&server.log_end()?);
    told.is(Stage::Finishing, None);
    let (asked, server) = Asked::open(job, &place, &settings, &major, server).await?;
    let disabled_subscriptions = match recovery.subscriptions {
        Subscriptions::Disable => asked.disable_subscriptions().await?,
        Subscriptions::Keep => Vec::new(),
    };
    let collation_changes = asked.collation_changes().await?;
    if recovery.hand_over == HandOver::Drill {
        prepare::prepare(job, &asked).await?;
    }
    asked.checkpoint().await?;
    let status = server.stop().await?;
    let control = off_thread({
        let place = place.clone();
        move || Control::read(&place.programs, &place.data)
    });
    let control = control.await?;
    if !status.success() || !control.is_shut_down() {
        let what = format!("PostgreSQL had recovered, and then ended with {status} without a clean stop");
        return Err(Error::new(code::engine::RECOVERY, what));
    }
    let timeline = control
        .timeline()
        .ok_or_else(|| Error::new(code::engine::RECOVERY, "pg_controldata tells no timeline"))?;
    let lsn = check::switch_to(&data, timeline)?;
    check::nothing_is_missing(job.plan, &job.archive, lsn).await?;
    if recovery.hand_over == HandOver::Drill {
        // Of the origin's own settings a hot standby needs no more than the limits, should somebody start it by hand.
        hand_over::hand_over(job.layout, HandOver::Drill, &limits(&control))?;
        drill::mark(job.layout, &kept)?;
    } else {
        hand_over::hand_over(job.layout, recovery.hand_over, job.auto_conf)?;
    }
    let result = RecoveryReport {
        recovered: Recovered { lsn, time, timeline },
        disabled_subscriptions,
        collation_changes,
    };
    job.tell(&result);
    Ok(result)
}

/// The limits that a standby of this copy has to have, as lines of a configuration file.
fn limits(control: &Control) -> String {
    control.limits().iter().map(|(name, value)| line(name, value)).collect()
}

impl Job<'_> {
    fn tell(&self, result: &RecoveryReport) {
        self.emit(
            Severity::Notice,
            "restore.recovered",
            json!({
                "lsn": result.recovered.lsn,
                "time": result.recovered.time,
                "timeline": result.recovered.timeline,
            }),
        );
        for subscription in &result.disabled_subscriptions {
            self.emit(Severity::Warning, "restore.subscription_disabled", json!(subscription));
        }
        for change in &result.collation_changes {
            self.emit(Severity::Warning, "restore.collation_changed", json!(change));
        }
    }
}
