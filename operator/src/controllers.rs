//! The five controllers side by side. One that meets a malformed object says so on that object and goes on with the
//! others: every watch reads through a guard.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::guarded::Guarded;
use futures::StreamExt as _;
use kube::runtime::controller::{Action, Config, Controller};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result};

/// A failed reconcile is tried again after so long, and twice as long each time, up to the limit.
const RETRY: Duration = Duration::from_secs(5);
/// The longest wait for another try.
const RETRY_LIMIT: Duration = Duration::from_mins(1);
/// Reconciles of one kind that run at the same time: one that waits for a pod must not hold up the others.
const CONCURRENCY: u16 = 16;

/// Runs all of them until told to stop: for every namespace together, or for each that is looked after, since rights that
/// end there let nobody watch all.
pub async fn run(context: Context, stop: CancellationToken) {
    let scopes = context.each_scope();
    futures::future::join_all(scopes.into_iter().map(|scope| run_scope(Arc::new(scope), stop.clone()))).await;
}

async fn run_scope(context: Arc<Context>, stop: CancellationToken) {
    tokio::join!(
        crate::repository::run(context.clone(), stop.clone()),
        crate::deployment::run(context.clone(), stop.clone()),
        crate::schedule::run(context.clone(), stop.clone()),
        crate::backup::run(context.clone(), stop.clone()),
        crate::restore::run(context, stop),
    );
}

/// The API of a kind: of every namespace, or of the one that this set of controllers looks after.
pub fn api<K>(context: &Context) -> Api<K>
where
    K: Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
{
    match context.settings.watch_namespaces.as_slice() {
        [one] => Api::namespaced(context.client.clone(), one),
        _ => Api::all(context.client.clone()),
    }
}

/// Drives a controller to its end.
pub async fn drive<K, F, Fut>(
    kind: &'static str,
    controller: Controller<Guarded<K>>,
    context: Arc<Context>,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Serialize + Clone + Debug + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut + Clone + Send + Sync + 'static,
    Fut: std::future::Future<Output = Result<Action>> + Send + 'static,
{
    let store = controller.store();
    let look = move || {
        let all = store.state();
        let readable = all.iter().filter_map(|guard| guard.0.as_ref().ok());
        readable
            .filter_map(|object| serde_json::to_value(object).ok())
            .collect()
    };
    context.metrics.show(kind, Arc::new(look));
    let failures = Arc::new(Failures::default());
    let failed = failures.clone();
    let work = move |guard: Arc<Guarded<K>>, context: Arc<Context>| {
        let (reconcile, failures) = (reconcile.clone(), failures.clone());
        async move {
            // What cannot be read is left alone until it changes; so are its children, and a stream goes on.
            let object = match &guard.0 {
                Ok(object) => Arc::new(object.clone()),
                Err(error) => {
                    tracing::warn!(kind, name = guard.name_any(), namespace = guard.namespace(), %error, "an object cannot be read");
                    let mut about = guard.object_ref(&());
                    (about.kind, about.api_version) = (Some(K::kind(&()).into()), Some(K::api_version(&()).into()));
                    let note = format!("it cannot be read, and what was made for it is left as it is: {error}");
                    context.tell(&about, true, "Malformed", &note).await;
                    return Ok(Action::await_change());
                }
            };
            if !object
                .namespace()
                .is_some_and(|namespace| context.settings.watches(&namespace))
            {
                return Ok(Action::await_change());
            }
            context.metrics.begin(kind);
            let began = Instant::now();
            let outcome = reconcile(object, context.clone()).await;
            context.metrics.end(kind, began.elapsed());
            if outcome.is_ok() {
                failures.over(&key(&*guard));
            }
            outcome
        }
    };
    let on_error = move |guard: Arc<Guarded<K>>, error: &Error, context: Arc<Context>| {
        context.metrics.failed(kind, error.label());
        tracing::warn!(kind, name = guard.name_any(), namespace = guard.namespace(), %error, "a reconcile is tried again");
        Action::requeue(failed.another(key(&*guard)))
    };
    controller
        .with_config(Config::default().concurrency(CONCURRENCY))
        .graceful_shutdown_on(async move { stop.cancelled().await })
        .run(work, on_error, context)
        .for_each(|_| async {})
        .await;
}

/// How often objects failed in a row, by namespace and name.
#[derive(Default)]
struct Failures(Mutex<HashMap<Key, u32>>);

type Key = (Option<String>, String);

fn key<K: Resource>(object: &K) -> Key {
    (object.namespace(), object.name_any())
}

impl Failures {
    /// One more; how long to wait.
    fn another(&self, key: Key) -> Duration {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.entry(key).or_default();
        let wait = RETRY.saturating_mul(1 << (*before).min(8)).min(RETRY_LIMIT);
        *before += 1;
        wait
    }

    fn over(&self, key: &Key) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
    }
}

/// The watch of children: what bears our mark.
pub fn ours() -> watcher::Config {
    watcher::Config::default().labels(&format!(
        "{}={}",
        crate::names::label::MANAGED_BY,
        crate::names::MANAGER
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fails_is_tried_less_and_less_often_until_it_does_not() {
        let failures = Failures::default();
        let (one, other) = ((Some("team".to_owned()), "one".to_owned()), (None, "other".to_owned()));
        let waits: Vec<u64> = (0..6).map(|_| failures.another(one.clone()).as_secs()).collect();
        assert_eq!(waits, [5, 10, 20, 40, 60, 60]);
        assert_eq!(failures.another(other), RETRY);
        for _ in 0..100 {
            assert!(failures.another(one.clone()) <= RETRY_LIMIT);
        }
        failures.over(&one);
        assert_eq!(failures.another(one), RETRY);
    }
}
