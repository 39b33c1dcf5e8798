//! One of several replicas acts: it holds a Lease, renews it, and *exits* when it has lost it, so that two never act.
//!
//! The holder renews every [`RETRY`]; when it could not for [`DEADLINE`] it gives up, which is before the others, who wait
//! for [`DURATION`], may take over. The others judge by how long *they* have seen the Lease unchanged, not by the clock of
//! the holder. A graceful end lets the Lease go at once. Every write has the resourceVersion that was read.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use kube::api::{Api, PostParams};
use kube::{Client, ResourceExt as _};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::error::{Error, Result};

/// How long others wait after the last change that they saw.
pub const DURATION: Duration = Duration::from_secs(15);
/// How long the holder goes on without having renewed.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// How often it is tried.
pub const RETRY: Duration = Duration::from_secs(2);

/// A contender.
pub struct Elector {
    api: Api<Lease>,
    name: String,
    identity: String,
    /// The last state that was seen, and since when it has been so.
    seen: Option<(String, Instant)>,
}

impl Elector {
    /// Contends for a Lease.
    pub fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Elector {
        Elector {
            api: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            seen: None,
        }
    }

    /// Waits until the Lease is ours; false when it was told to stop before.
    pub async fn acquire(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match self.try_hold().await {
                Ok(true) => return true,
                Ok(false) => {}
                Err(error) => tracing::warn!(%error, "the Lease could not be read or written"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    /// Holds it until told to stop; ends early when it was lost.
    pub async fn hold(&mut self, stop: &CancellationToken) -> Held {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = stop.cancelled() => return Held::Stopped,
                () = tokio::time::sleep(RETRY) => {}
            }
            // The others count from the write, which is somewhere between this moment and the answer.
            let asked = Instant::now();
            match tokio::time::timeout(DEADLINE.saturating_sub(renewed.elapsed()), self.try_hold()).await {
                Ok(Ok(true)) => renewed = asked,
                Ok(Ok(false)) => return Held::Lost,
                Ok(Err(error)) => tracing::warn!(%error, "the Lease was not renewed"),
                Err(_) => tracing::warn!("the API server does not answer"),
            }
            if renewed.elapsed() >= DEADLINE {
                return Held::Lost;
            }
        }
    }

    /// One try: whether the Lease is ours now.
    async fn try_hold(&mut self) -> Result<bool> {
        let Some(found) = self.api.get_opt(&self.name).await? else {
            let lease = Lease {
                metadata: ObjectMeta {
                    name: Some(self.name.clone()),
                    ..ObjectMeta::default()
                },
                spec: Some(self.claim(None)),
            };
            return won(self.api.create(&PostParams::default(), &lease).await);
        };
        let version = found.resource_version().unwrap_or_default();
        let since = match &self.seen {
            Some((seen, since)) if *seen == version => *since,
            _ => {
                self.seen = Some((version, Instant::now()));
                Instant::now()
            }
        };
        let spec = found.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.clone().unwrap_or_default();
        let free = holder.is_empty() || since.elapsed() >= DURATION;
        if holder != self.identity && !free {
            return Ok(false);
        }
        let mut lease = found;
        lease.spec = Some(self.claim(Some(spec)));
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await)
    }

    fn claim(&self, before: Option<LeaseSpec>) -> LeaseSpec {
        let now = MicroTime(Timestamp::now());
        let before = before.unwrap_or_default();
        let ours = before.holder_identity.as_deref() == Some(self.identity.as_str());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(DURATION.as_secs() as i32),
            renew_time: Some(now.clone()),
            acquire_time: if ours { before.acquire_time } else { Some(now) },
            lease_transitions: Some(before.lease_transitions.unwrap_or(0) + i32::from(!ours)),
            ..LeaseSpec::default()
        }
    }

    /// Lets it go, when nothing acts any more.
    pub async fn release(&mut self) -> Result<()> {
        let Some(mut lease) = self.api.get_opt(&self.name).await? else {
            return Ok(());
        };
        let mut spec = lease.spec.take().unwrap_or_default();
        if spec.holder_identity.as_deref() != Some(self.identity.as_str()) {
            return Ok(());
        }
        spec.holder_identity = None;
        lease.spec = Some(spec);
        won(self.api.replace(&self.name, &PostParams::default(), &lease).await).map(|_| ())
    }
}

/// How holding ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// It was told to stop, and holds it still.
    Stopped,
    /// Another has it, or may have it.
    Lost,
}

/// A conflict means that another was faster.
fn won(outcome: kube::Result<Lease>) -> Result<bool> {
    match outcome.map_err(Error::from) {
        Ok(_) => Ok(true),
        Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
