//! A watch of a kind of which nearly all objects are finished: they are seen as they come and change, and only those with
//! something left to do are held. There is one Backup for each backup, so that all of them together would be most of what
//! the operator takes in memory.
//!
//! What tells is the object alone, and no label: one that a person made, that came back from Git, or that an older version
//! wrote is judged as any other.

use std::fmt::Debug;

use futures::future::ready;
use futures::{Stream, TryStreamExt as _};
use kube::runtime::reflector::{Lookup, Store, store};
use kube::runtime::watcher::{self, Event, watcher};
use kube::runtime::{Controller, WatchStreamExt as _};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

/// A controller of what is not finished.
pub fn controller<K>(api: Api<K>, config: watcher::Config, is_finished: fn(&K) -> bool) -> Controller<K>
where
    K: Resource<DynamicType = ()> + DeserializeOwned + Clone + Debug + Send + Sync + 'static,
{
    let (stream, reader) = held(watcher(api, config), is_finished);
    Controller::for_stream(stream, reader)
}

/// What is to be looked at, and the store of what is held.
fn held<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>> + Send + 'static,
    is_finished: fn(&K) -> bool,
) -> (impl Stream<Item = watcher::Result<K>> + Send + 'static, Store<K>)
where
    K: Lookup<DynamicType = ()> + Resource<DynamicType = ()> + Clone + Debug + Send + Sync + 'static,
{
    let (reader, writer) = store();
    let events = events.try_filter_map(move |event| ready(Ok(without(event, is_finished))));
    (events.reflect(writer).applied_objects(), reader)
}

/// One that is finished is let go when it was held, and else left out.
fn without<K>(event: Event<K>, is_finished: fn(&K) -> bool) -> Option<Event<K>> {
    match event {
        Event::Apply(object) if is_finished(&object) => Some(Event::Delete(object)),
        Event::InitApply(object) if is_finished(&object) => None,
        other => Some(other),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;
    use futures::StreamExt as _;
    use k8s_openapi::api::core::v1::ConfigMap;
    use kube::ResourceExt as _;
    use serde_json::json;

    fn map(name: &str, word: &str) -> ConfigMap {
        serde_json::from_value(json!({"metadata": {"namespace": "team", "name": name}, "data": {"is": word}})).unwrap()
    }

    #[tokio::test]
    async fn only_what_is_not_finished_is_held_and_looked_at() {
        let is_over = |map: &ConfigMap| map.data.as_ref().unwrap()["is"] == "over";
        let (events, feed) = futures::channel::mpsc::unbounded();
        let (stream, store) = {
            let (stream, store) = held(feed, is_over);
            (Box::pin(stream), store)
        };
        let mut stream = stream;
        let names = || {
            let mut names: Vec<String> = store.state().iter().map(|map| map.name_any()).collect();
            names.sort();
            names
        };
        let told = |event: Event<ConfigMap>| events.unbounded_send(Ok(event)).unwrap();
        told(Event::Init);
        for (name, word) in [("a", "over"), ("b", "new"), ("c", "new")] {
            told(Event::InitApply(map(name, word)));
        }
        told(Event::InitDone);
        told(Event::Apply(map("a", "over")));
        told(Event::Apply(map("b", "over")));
        told(Event::Apply(map("d", "new")));
        for looked_at in ["b", "c", "d"] {
            assert_eq!(stream.next().await.unwrap().unwrap().name_any(), looked_at);
        }
        assert_eq!(names(), ["c", "d"]);
        // Something is to be done about it once more.
        told(Event::Apply(map("a", "new")));
        assert_eq!(stream.next().await.unwrap().unwrap().name_any(), "a");
        told(Event::Delete(map("c", "new")));
        told(Event::Apply(map("e", "new")));
        assert_eq!(stream.next().await.unwrap().unwrap().name_any(), "e");
        assert_eq!(names(), ["a", "d", "e"]);
    }
}
