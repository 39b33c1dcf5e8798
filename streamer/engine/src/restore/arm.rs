//! What PostgreSQL is told of its recovery: as settings for the first start of the copy, or as the job of a server that
//! recovers it here.

use hardstorage_report::{RecoveryReport, Result};
use hardstorage_repository::wal::WalArchive;

use super::configuration;
use super::run::Run;
use super::settings::{DROP_SPOOL, RecoverySettings, auto_conf};
use super::stage::{self, Staging};
use super::target::TargetTimeline;
use crate::progress::ProgressMeter;
use crate::recover::{Job, Recovery, recover};

impl Run<'_> {
    /// Lays all WAL that recovery needs into the target, when it shall lie there.
    pub(super) async fn stage_wal(&self, meter: &ProgressMeter) -> Result<()> {
        let Some(segments) = &self.plan.staged else {
            return Ok(());
        };
        let folder = self.layout.data.join(stage::FOLDER);
        self.layout.make_directory(&folder, 0o700)?;
        let staging = Staging {
            archive: &self.archive(),
            follow: self.plan.target_timeline,
            folder: &folder,
            owner: self.layout.owner,
            cancel: &self.cancel,
        };
        staging.fetch(segments, &|bytes| meter.add(bytes)).await
    }

    fn archive(&self) -> WalArchive {
        let manifest = self.manifest();
        WalArchive::new(
            self.deployment.clone(),
            manifest.lineage,
            manifest.server.wal_segment_size,
        )
    }

    fn recovery_settings(&self) -> RecoverySettings {
        let staged = self.plan.staged.is_some();
        let (command, end_command) = if staged {
            (stage::COMMAND, stage::END_COMMAND)
        } else {
            (self.options.restore_command.as_str(), DROP_SPOOL)
        };
        RecoverySettings {
            stop: self.plan.stop_at.clone(),
            inclusive: self.plan.inclusive,
            action: self.plan.action,
            timeline: TargetTimeline::Number(self.plan.target_timeline),
            restore_command: command.to_owned(),
            end_command: end_command.to_owned(),
            // What lies behind the target was not fetched.
            read_ahead: !staged && !self.plan.reads_to_target_only(),
        }
    }

    /// Writes the settings and the signal.
    pub(super) fn write_settings(&self, source: &str) -> Result<()> {
        let data = &self.layout.data;
        let text = match &self.options.recovery {
            // Here nothing of the source shall have a say; what it had comes back when recovery has ended.
            Some(_) => String::new(),
            None => auto_conf(source, &self.recovery_settings()),
        };
        self.layout
            .write_small(&data.join("postgresql.auto.conf"), text.as_bytes())?;
        self.layout.write_small(&data.join("recovery.signal"), b"")
    }

    /// Recovers the copy here.
    pub(super) async fn recover(&self, recovery: &Recovery, auto_conf: &str) -> Result<RecoveryReport> {
        let data = &self.layout.data;
        let outside = configuration::restored(self.manifest(), data);
        let (configuration, elsewhere) = match outside {
            Some((file, root)) => (file, Some(root)),
            None => (data.join("postgresql.conf"), self.layout.configuration.clone()),
        };
        let job = Job {
            deployment: self.deployment.name(),
            plan: self.plan,
            layout: self.layout,
            settings: self.recovery_settings(),
            configuration,
            elsewhere,
            auto_conf,
            archive: self.archive(),
            sink: self.sink.clone(),
            cancel: self.cancel.clone(),
        };
        recover(&job, recovery).await
    }
}
