//! `agent`: everything else that it needs is in the configuration, because it must still be there after a reload.

use std::net::SocketAddr;

use clap::Args;

#[derive(Debug, Clone, Args)]
pub(crate) struct AgentArgs {
    /// Serve /metrics, /status and /healthz here; port 0 takes a free one and says which [default: agent.listen of the
    /// configuration, else 127.0.0.1:9817]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Print what would run when, and start nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}
