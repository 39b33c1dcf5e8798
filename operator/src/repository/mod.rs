//! Repository: found or created, with its key; looked at, checked, and shown; and who may use it.

mod access;
mod resolve;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::context::Context;

pub use access::{Consumer, Intent, KEK, Refusal, SIGNING_KEY, access, admitted};
pub use resolve::{Resolved, resolve};

/// Runs the controller.
pub async fn run(_context: Arc<Context>, stop: CancellationToken) {
    stop.cancelled().await;
}
