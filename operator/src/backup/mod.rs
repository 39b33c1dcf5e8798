//! Backup: one run, or the mirror of a backup that lies in a repository.

pub mod mirror;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Runs the controller.
pub async fn run(_context: Arc<Context>, stop: CancellationToken) {
    stop.cancelled().await;
}
