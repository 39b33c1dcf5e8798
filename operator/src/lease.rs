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
            // An answer that does not come must not keep us from the next try, nor from the end.
            let tried = tokio::select! {
                () = stop.cancelled() => return false,
                tried = tokio::time::timeout(DEADLINE, self.try_hold()) => tried,
            };
            match tried {
                Ok(Ok(true)) => return true,
                Ok(Ok(false)) => {}
                Ok(Err(error)) => tracing::warn!(%error, "the Lease could not be read or written"),
                Err(_) => tracing::warn!("the API server does not answer"),
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

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use http::{Request, Response};
    use http_body_util::BodyExt as _;
    use kube::client::Body;
    use serde_json::{Value, json};

    const HELD_BY_OTHER: &str = "other";

    fn elector() -> (Elector, tower_test::mock::Handle<Request<Body>, Response<Body>>) {
        let (service, handle) = tower_test::mock::pair::<Request<Body>, Response<Body>>();
        (Elector::new(Client::new(service, "ops"), "ops", "lease", "me"), handle)
    }

    fn lease(version: &str, holder: Option<&str>) -> Value {
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "lease", "namespace": "ops", "resourceVersion": version},
            "spec": {"holderIdentity": holder, "leaseTransitions": 4, "leaseDurationSeconds": 15}})
    }

    type Answers = tower_test::mock::SendResponse<Response<Body>>;

    fn answer(to: Answers, status: u16, body: &Value) {
        let body = Body::from(serde_json::to_vec(body).unwrap());
        to.send_response(Response::builder().status(status).body(body).unwrap());
    }

    /// An API server that takes the question and never answers: seen with a node that is gone and a connection that stays.
    #[tokio::test(start_paused = true)]
    async fn who_waits_for_the_lease_outlives_a_silent_server_and_ends_when_told() {
        let (mut elector, mut handle) = elector();
        let stop = CancellationToken::new();
        let server = tokio::spawn(async move {
            let (_, silent) = handle.next_request().await.unwrap();
            let (request, free) = handle.next_request().await.unwrap();
            assert_eq!(request.method(), "GET");
            answer(free, 200, &lease("7", None));
            let (request, write) = handle.next_request().await.unwrap();
            let sent = request.into_body().collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&sent).unwrap();
            answer(write, 200, &sent);
            drop(silent);
            (sent, handle)
        });
        assert!(elector.acquire(&stop).await);
        let (sent, mut handle) = server.await.unwrap();
        assert_eq!(
            sent["metadata"]["resourceVersion"], "7",
            "nobody else has written in between"
        );
        assert_eq!(
            (&sent["spec"]["holderIdentity"], &sent["spec"]["leaseTransitions"]),
            (&json!("me"), &json!(5))
        );
        let ended = tokio::spawn({
            let stop = stop.clone();
            async move { elector.acquire(&stop).await }
        });
        let (_, _silent) = handle.next_request().await.unwrap();
        stop.cancel();
        assert!(!ended.await.unwrap());
    }

    /// What counts is for how long it has been seen unchanged here, whatever the holder's clock says.
    #[tokio::test(start_paused = true)]
    async fn another_holders_lease_is_taken_when_it_was_not_renewed_for_its_duration() {
        let (mut elector, mut handle) = elector();
        let server = tokio::spawn(async move {
            let (mut looks, mut version) = (0, "1");
            loop {
                let (request, to) = handle.next_request().await.unwrap();
                if request.method() == "PUT" {
                    answer(to, 200, &lease("9", Some("me")));
                    return looks;
                }
                looks += 1;
                // Renewed once while we look.
                if looks == 3 {
                    version = "2";
                }
                answer(to, 200, &lease(version, Some(HELD_BY_OTHER)));
            }
        });
        let began = Instant::now();
        assert!(elector.acquire(&CancellationToken::new()).await);
        assert!(began.elapsed() >= RETRY * 2 + DURATION, "{:?}", began.elapsed());
        assert!(server.await.unwrap() > 3);
    }

    #[tokio::test(start_paused = true)]
    async fn the_holder_gives_up_before_others_may_take_over() {
        let (mut elector, mut handle) = elector();
        let held = tokio::spawn(async move { elector.hold(&CancellationToken::new()).await });
        let began = Instant::now();
        let mut unanswered = Vec::new();
        while let Some((_, to)) = handle.next_request().await {
            unanswered.push(to);
        }
        assert_eq!(held.await.unwrap(), Held::Lost);
        assert!(began.elapsed() < DURATION, "{:?}", began.elapsed());
    }

    #[tokio::test]
    async fn two_that_write_at_once_are_told_apart_by_the_version() {
        let (mut elector, mut handle) = elector();
        let server = tokio::spawn(async move {
            let (_, to) = handle.next_request().await.unwrap();
            answer(to, 200, &lease("1", None));
            let (_, to) = handle.next_request().await.unwrap();
            let status =
                json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": "Conflict", "code": 409});
            answer(to, 409, &status);
        });
        assert!(!elector.try_hold().await.unwrap());
        server.await.unwrap();
    }
}
