//! What the operator was started with.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;

use crate::deployment::Staging;
use crate::pod::Image;

/// Reconciles Repository, Deployment, BackupSchedule, Backup and Restore of hardstorage.dev.
#[derive(Debug, Clone, Parser)]
#[command(name = "pg_hardstorage_operator", version)]
pub struct Settings {
    /// Image of the engine for everything that it starts
    #[arg(long, env = "ENGINE_IMAGE")]
    pub engine_image: String,
    /// When that image is pulled
    #[arg(long, env = "ENGINE_IMAGE_PULL_POLICY", default_value = "IfNotPresent")]
    pub engine_image_pull_policy: String,
    /// Namespaces to look after; none means all
    #[arg(long, env = "WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,
    /// Namespace that the operator itself runs in: its Lease lies there
    #[arg(long, env = "POD_NAMESPACE", default_value = "default")]
    pub namespace: String,
    /// Name of this replica
    #[arg(long, env = "POD_NAME", default_value = "operator")]
    pub identity: String,
    /// Where /healthz, /readyz and /metrics are served
    #[arg(long, env = "LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Name of the Lease that one of several replicas holds
    #[arg(long, env = "LEASE", default_value = "pg-hardstorage-operator")]
    pub lease: String,
    /// Labels, as NAME=VALUE, of the pods that may scrape engine pods, for the NetworkPolicies; none writes no policy
    #[arg(long, env = "SCRAPER_NAMESPACE")]
    pub scraper_namespace: Option<String>,
    /// Whether Patroni's configuration may be patched through its annotation when its REST API does not let us
    #[arg(long, env = "PATRONI_PATCH_CONFIG")]
    pub patroni_patch_config: bool,
    /// How many streams at a time are moved to a new default image
    #[arg(long, env = "UPGRADE_AT_ONCE", default_value_t = 5)]
    pub upgrade_at_once: usize,
    /// Seconds after which a stream that has not come back with a new default image halts the upgrade
    #[arg(long, env = "UPGRADE_PATIENCE_SECONDS", default_value_t = 300)]
    pub upgrade_patience_seconds: u64,
}

impl Settings {
    /// How often a stream is asked.
    pub const STREAM_PERIOD: Duration = Duration::from_secs(15);
    /// How often a running Job is asked.
    pub const JOB_PERIOD: Duration = Duration::from_secs(5);
    /// Figures in a status are written at most so often.
    pub const FIGURES_PERIOD: Duration = Duration::from_mins(1);
    /// A stream that has not answered for so long counts as not heard.
    pub const UNHEARD: Duration = Duration::from_secs(45);

    /// The engine's image.
    pub fn engine(&self) -> Image {
        Image {
            name: self.engine_image.clone(),
            pull_policy: self.engine_image_pull_policy.clone(),
        }
    }

    /// How a new default image goes from stream to stream.
    pub fn staging(&self) -> Staging {
        Staging {
            at_once: self.upgrade_at_once,
            patience: Duration::from_secs(self.upgrade_patience_seconds),
        }
    }

    /// Whether a namespace is looked after.
    pub fn watches(&self, namespace: &str) -> bool {
        self.watch_namespaces.is_empty() || self.watch_namespaces.iter().any(|watched| watched == namespace)
    }
}
