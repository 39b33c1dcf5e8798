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
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use crate::error::{Error, Result};

/// A failed reconcile is tried again after so long, and twice as long each time, up to the limit.
const RETRY: Duration = Duration::from_secs(5);
/// The longest wait for another try.
const RETRY_LIMIT: Duration = Duration::from_mins(1);
/// Reconciles of one kind that run at the same time: one that waits for a pod must not hold up the others. kube's own limit
/// is not used: whom it takes next is a matter of hashes, so that with more to do than can be done the same ones are taken
/// again and again, and others never. Here whoever asked first goes first.
const CONCURRENCY: usize = 32;

const UNLIMITED: u16 = 0;

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

/// Drives a controller of a kind of ours to its end, and shows what its objects say of themselves, as far as they are held.
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
    let look = move |each: &mut dyn FnMut(&Value)| {
        let all = store.state();
        let readable = all.iter().filter_map(|guard| guard.0.as_ref().ok());
        readable
            .filter_map(|object| serde_json::to_value(object).ok())
            .for_each(|object| each(&object));
    };
    context.metrics.show(kind, Arc::new(look));
    drive_unshown(kind, controller, context, stop, reconcile).await;
}

/// Drives a controller to its end.
pub async fn drive_unshown<K, F, Fut>(
    kind: &'static str,
    controller: Controller<Guarded<K>>,
    context: Arc<Context>,
    stop: CancellationToken,
    reconcile: F,
) where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
    F: Fn(Arc<K>, Arc<Context>) -> Fut + Clone + Send + Sync + 'static,
    Fut: std::future::Future<Output = Result<Action>> + Send + 'static,
{
    let (failures, turns) = (Arc::new(Failures::default()), Arc::new(Semaphore::new(CONCURRENCY)));
    let stopped = stop.clone();
    let failed = failures.clone();
    let work = move |guard: Arc<Guarded<K>>, context: Arc<Context>| {
        let (reconcile, failures) = (reconcile.clone(), failures.clone());
        let (turns, stopped) = (turns.clone(), stopped.clone());
        async move {
            let _turn = turns.acquire().await;
            if stopped.is_cancelled() {
                return Ok(Action::await_change());
            }
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
            // Boxed: many wait for their turn, and what a look needs is much.
            let outcome = Box::pin(reconcile(object, context.clone())).await;
            context.metrics.end(kind, began.elapsed());
            if outcome.is_ok() {
                failures.over(&key(&*guard));
            }
            outcome
        }
    };
    let on_error = move |guard: Arc<Guarded<K>>, error: &Error, context: Arc<Context>| {
        context.metrics.failed(kind, error.label());
        let (name, namespace) = (guard.name_any(), guard.namespace());
        if error.is_conflict() {
            // What was seen was older than what is there: so it is meant, and the watch is behind for moments only.
            tracing::debug!(kind, name, namespace, %error, "a reconcile is tried again with a newer view");
        } else {
            tracing::warn!(kind, name, namespace, %error, "a reconcile is tried again");
        }
        Action::requeue(failed.another(key(&*guard)))
    };
    controller
        .with_config(Config::default().concurrency(UNLIMITED))
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
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, scripted};
    use hardstorage_crds::Repository;
    use jiff::Timestamp;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    /// More to do than can be done: each look asks for another one at once.
    #[tokio::test]
    async fn everybody_has_a_turn_although_there_is_too_much_to_do() {
        const MANY: usize = 200;
        let (reader, mut writer) = reflector::store::<Guarded<Repository>>();
        let objects: Vec<Guarded<Repository>> = (0..MANY)
            .map(|n| {
                let object =
                    json!({"metadata": {"name": format!("r{n}"), "namespace": "team"}, "spec": {"url": "s3://b/p"}});
                serde_json::from_value(object).unwrap()
            })
            .collect();
        writer.apply_watcher_event(&Event::Init);
        for object in &objects {
            writer.apply_watcher_event(&Event::InitApply(object.clone()));
        }
        writer.apply_watcher_event(&Event::InitDone);
        let stream = futures::stream::iter(objects.into_iter().map(Ok)).chain(futures::stream::pending());
        let (context, server) = scripted(vec![], Answers::default(), Timestamp::UNIX_EPOCH);
        let (looks, stop) = (
            Arc::new(Mutex::new(HashMap::<String, usize>::new())),
            CancellationToken::new(),
        );
        let (seen, end) = (looks.clone(), stop.clone());
        let look = move |object: Arc<Repository>, _: Arc<Context>| {
            let (seen, end) = (seen.clone(), end.clone());
            async move {
                tokio::task::yield_now().await;
                let mut seen = seen.lock().unwrap();
                *seen.entry(object.name_any()).or_default() += 1;
                if seen.len() == MANY || seen.values().sum::<usize>() > 10 * MANY {
                    end.cancel();
                }
                Ok(Action::requeue(Duration::ZERO))
            }
        };
        drive(
            "Repository",
            Controller::for_stream(stream, reader),
            context,
            stop,
            look,
        )
        .await;
        assert_eq!(looks.lock().unwrap().len(), MANY, "some were never looked at");
        server.await.unwrap();
    }

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
