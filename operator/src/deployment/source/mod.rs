//! Where a Deployment's WAL comes from, as it is at this moment: resolved from the objects that describe it.
//!
//! A source that is not there, or not yet, never changes a stream that runs: it has no access here, and then the child
//! stays as it is. What is wrong is a condition.

mod cluster;
mod cnpg;
mod connection;
mod look;
mod patroni;
mod patroni_config;
mod patroni_member;
mod patroni_rest;
mod patroni_slot;
mod tls;

use hardstorage_crds::SourceMode;
use serde_json::Value;

use crate::access::SourceAccess;

pub use look::{installed as cloud_native_pg_installed, look};
pub use patroni::Leader;
pub use patroni_slot::{SlotWord, forget as forget_slot, tend as tend_slot};

/// What kind of server it is, as in `status.source.type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A Cluster of CloudNativePG.
    CloudNativePg,
    /// Patroni.
    Patroni,
    /// Hosts.
    Connection,
}

impl Kind {
    /// The word in a status.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::CloudNativePg => "CloudNativePG",
            Kind::Patroni => "Patroni",
            Kind::Connection => "Connection",
        }
    }
}

/// How a source is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// It serves.
    Ready,
    /// It sleeps, because somebody wants it to.
    Hibernated,
    /// It is on the way to serve: it gets there by itself.
    Progressing {
        /// A word.
        reason: &'static str,
        /// A sentence.
        message: String,
    },
    /// It is not there, or not as it should be: somebody has to look.
    Missing {
        /// A word.
        reason: &'static str,
        /// A sentence, with what to do.
        message: String,
    },
}

/// Everything that is known of a source.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceFacts {
    /// What kind it is.
    pub kind: Kind,
    /// How it is.
    pub state: State,
    /// How a pod in the namespace reaches the server that is streamed from; none while that cannot be told.
    pub access: Option<SourceAccess>,
    /// How it reaches a standby, where there is one.
    pub standby: Option<SourceAccess>,
    /// What is streamed from.
    pub mode: SourceMode,
    /// The primary's own name.
    pub primary: Option<String>,
    /// PostgreSQL's version, as far as it is known here.
    pub version: Option<String>,
    /// PostgreSQL's system identifier.
    pub system_identifier: Option<String>,
    /// UID of the object that describes the cluster.
    pub cluster_uid: Option<String>,
    /// What is kept with each backup, so that the cluster can be made again from it.
    pub snapshot: Option<Value>,
    /// The leader of a Patroni cluster, to which a Service of ours leads.
    pub leader: Option<Leader>,
}

impl SourceFacts {
    /// Of a source that cannot be told anything of.
    pub fn unknown(kind: Kind, state: State) -> SourceFacts {
        SourceFacts {
            kind,
            state,
            access: None,
            standby: None,
            mode: SourceMode::Primary,
            primary: None,
            version: None,
            system_identifier: None,
            cluster_uid: None,
            snapshot: None,
            leader: None,
        }
    }

    /// Whether the object that describes the source is gone for good: nothing is left to drop a slot from.
    pub fn is_gone(&self) -> bool {
        matches!(self.state, State::Missing { reason, .. } if reason == reason::CLUSTER_MISSING || reason == reason::CLUSTER_DELETING)
    }
}

/// The major version of a version.
pub fn major(version: &str) -> Option<u32> {
    version.split('.').next()?.parse().ok()
}

/// Reasons in conditions.
pub mod reason {
    /// CloudNativePG is not installed.
    pub const CLOUD_NATIVE_PG_MISSING: &str = "CloudNativePGMissing";
    /// There is no such Cluster.
    pub const CLUSTER_MISSING: &str = "ClusterMissing";
    /// It is being deleted.
    pub const CLUSTER_DELETING: &str = "ClusterDeleting";
    /// It may not be read.
    pub const CLUSTER_FORBIDDEN: &str = "ClusterForbidden";
    /// It has not come so far.
    pub const CLUSTER_NOT_READY: &str = "ClusterNotReady";
    /// Another instance becomes the primary.
    pub const SWITCHING_OVER: &str = "SwitchingOver";
    /// Somebody has fenced it.
    pub const FENCED: &str = "Fenced";
    /// It goes to sleep.
    pub const HIBERNATING: &str = "Hibernating";
    /// The spec says something that cannot be done.
    pub const INVALID: &str = "InvalidSource";
    /// A Service that is not ours has the name of the one that leads to the leader.
    pub const SERVICE_TAKEN: &str = "ServiceTaken";
    /// Patroni has no leader.
    pub const NO_LEADER: &str = "NoLeader";
}
