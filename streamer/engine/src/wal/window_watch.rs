//! From when on the cluster can be recovered, for the status of a stream.
//!
//! Computing it reads every manifest and lists WAL back to the oldest backup. All of that is immutable, so it is done
//! again only when the names of manifests and states have changed, a gap was found, or a long time has passed; and never
//! twice at once. How far recovery reaches forward the stream itself knows at every moment.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hardstorage_report::Result;
use hardstorage_repository::{Deployment, Lineage, layout};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::monitor::Monitor;
use crate::catalogue::names;
use crate::window::recoverable_window;

/// A hole that was filled shows in no name of a backup.
const AT_LEAST: Duration = Duration::from_mins(30);

/// What the last answer was made from.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Basis {
    names: Vec<String>,
    gaps: u64,
}

/// Computes the window beside a stream.
#[derive(Debug, Default)]
pub(super) struct WindowWatch {
    running: Option<AbortOnDropHandle<()>>,
    last: Arc<Mutex<Option<(Basis, Instant)>>>,
}

impl WindowWatch {
    /// Begins to look, unless a look is under way.
    pub(super) fn refresh(&mut self, deployment: &Deployment, lineage: Lineage, monitor: &Arc<Monitor>) {
        if self.running.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let (deployment, monitor, last) = (deployment.clone(), Arc::clone(monitor), Arc::clone(&self.last));
        let task = tokio::spawn(async move {
            if let Err(error) = look(&deployment, lineage, &monitor, &last).await {
                tracing::warn!(%error, "the recoverable window is not known");
            }
        });
        self.running = Some(AbortOnDropHandle::new(task));
    }
}

async fn look(
    deployment: &Deployment,
    lineage: Lineage,
    monitor: &Monitor,
    last: &Mutex<Option<(Basis, Instant)>>,
) -> Result<()> {
    let basis = Basis {
        names: names(deployment, layout::manifests_folder(deployment.name())).await?,
        gaps: monitor.status().gaps,
    };
    let known = last.lock().unwrap_or_else(PoisonError::into_inner).clone();
    if known.is_some_and(|(known, at)| known == basis && at.elapsed() < AT_LEAST) {
        return Ok(());
    }
    let window = recoverable_window(deployment, lineage).await?;
    let window_found = window.is_some();
    monitor.update(|status| {
        status.recoverable_from = window.as_ref().map(|window| window.from);
        status.recoverable_to = status.recoverable_to.max(window.map(|window| window.to));
    });
    // No window is looked for again: the WAL that it lacks may be on its way.
    let found = window_found.then(|| (basis, Instant::now()));
    *last.lock().unwrap_or_else(PoisonError::into_inner) = found;
    Ok(())
}
