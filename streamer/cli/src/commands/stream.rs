//! `wal stream`: the process that is always on.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_engine::catalogue::CatalogWatch;
use hardstorage_engine::enrol::{Silence, enrol};
use hardstorage_engine::wal::{Monitor, StopSignal, StreamPlan, StreamResult, run_stream};
use hardstorage_report::{Error, StreamStatus, code};
use hardstorage_repository::{Mode, Surroundings};
use hardstorage_storage::Location;
use tokio::time::MissedTickBehavior;
use tokio_util::task::AbortOnDropHandle;

use super::run::{Running, reported, zero};
use crate::app::App;
use crate::args::StreamArgs;
use crate::printer::Report;
use crate::serve::Live;

/// A synchronous stream waits at most so long between two attempts.
const SOON: Duration = Duration::from_secs(3);
/// How often it is looked for new backups.
const CATALOG: Duration = Duration::from_secs(30);

impl Report for StreamResult {
    fn text(&self) -> String {
        let position = |lsn: Option<hardstorage_report::Lsn>| lsn.map_or_else(|| "-".to_owned(), |lsn| lsn.to_string());
        format!(
            "{} stream stopped\n  Received:  {}\n  Durable:   {}\n  Segments:  {}\n",
            if self.clean_stop { "✓" } else { "✗" },
            position(self.received_lsn),
            position(self.synced_lsn),
            self.segments,
        )
    }
}

/// Runs it.
pub(crate) async fn run(app: &App, args: StreamArgs) -> u8 {
    let run_args = args.run.clone();
    let given = args.clone();
    let work = |running: Running| async move {
        let args = given;
        // What is wrong with the command line itself ends it here, before anything is waited for.
        let source = app.source(&args.source, &args.deployment)?;
        let url = app.repo_url(&args.source.repo, Some(&args.deployment))?;
        Location::parse(&url)?;
        let patroni = app.patroni(&args.patroni, &args.deployment)?;
        if args.no_slot && !args.patroni.url.is_empty() {
            return Err(
                Error::new(code::usage::INVALID, "without a slot there is nothing to tell Patroni")
                    .hint("leave out --no-slot, or --patroni-url and PG_HARDSTORAGE_PATRONI_URL"),
            );
        }
        let stop = App::stop()?;
        let plan = StreamPlan {
            deployment: args.deployment.clone(),
            source: source.clone(),
            slot: if args.no_slot {
                None
            } else {
                Some(app.slot(args.slot.as_deref(), &args.deployment)?)
            },
            patroni,
            flush_interval: args.flush_interval,
            synchronous: args.synchronous,
            status_interval: args.status_interval,
            receive_timeout: args.receive_timeout,
            max_backoff: if args.synchronous {
                // All writes may be waiting for it.
                args.max_reconnect_backoff.min(SOON)
            } else {
                args.max_reconnect_backoff
            },
            reconnect: !args.no_reconnect,
            persistent: run_args.report_listen.is_some() && !args.no_reconnect,
            preflight: !args.skip_preflight,
            allow_standby: args.allow_standby_source,
            wait: args.wait,
            accept_new_system: args.accept_new_system,
            run_id: run_args.run_id.clone(),
            surroundings: Surroundings::default(),
        };
        // Shown from the first moment: whoever asks reads also what is waited for.
        let now = plan.surroundings.now();
        let monitor = Arc::new(Monitor::new(StreamStatus::new(args.deployment.clone(), now)));
        running.live.follow(Arc::clone(&monitor));
        let mut shown = None;
        let open = async || {
            let repository = app.repository_of(&url, Mode::Write, &args.deployment).await?;
            let (run_id, sink) = (run_args.run_id.clone(), running.sink.as_ref());
            let deployment = enrol(&repository, &args.deployment, &source, Silence::Waits, run_id, sink).await?;
            if run_args.report_listen.is_some() {
                let id = hex::encode(repository.descriptor().repository_id);
                let watch = CatalogWatch::new(deployment.clone(), id);
                let task = tokio::spawn(show_catalog(watch, running.live.clone()));
                shown = Some(AbortOnDropHandle::new(task));
            }
            Ok(deployment)
        };
        let stop = StopSignal {
            drain: stop.drain,
            kill: stop.kill,
        };
        let ended = run_stream(&plan, open, &stop, Arc::clone(&running.sink), monitor).await;
        drop(shown);
        ended
    };
    reported(app, "wal stream", &args.run, work, zero).await
}

/// Shows the deployment's backups to whoever asks the stream, so that a scheduler needs no other process for them.
async fn show_catalog(mut watch: CatalogWatch, live: Live) {
    let mut tick = tokio::time::interval(CATALOG);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match watch.changed().await {
            Ok(Some(catalog)) => live.show(catalog),
            Ok(None) => {}
            // The last one stays; the stream has its own way to say that a repository does not answer.
            Err(error) => tracing::warn!(%error, "the catalogue could not be read"),
        }
    }
}
