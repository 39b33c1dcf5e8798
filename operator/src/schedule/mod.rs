//! schedule.

pub mod cron;
mod fields;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// Runs the controller.
pub async fn run(_context: Arc<Context>, stop: CancellationToken) {
    stop.cancelled().await;
}
