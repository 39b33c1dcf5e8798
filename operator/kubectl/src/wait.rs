//! Waiting for an object, and telling of each change on the way.

use std::io::Write as _;

use futures::{StreamExt as _, pin_mut};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// What is known of an object that is waited for.
pub enum Seen<T> {
    /// Not ended; a line for people, which is not repeated until it says something else.
    Going(String),
    /// Ended.
    Ended(T),
}

/// Watches one object until `look` says that it has ended. A watch that breaks is begun again.
pub async fn until<K, T>(api: Api<K>, name: &str, look: impl Fn(&K) -> Seen<T>) -> Result<T>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
    K::DynamicType: Default,
{
    let stream = watcher::watch_object(api, name).default_backoff();
    pin_mut!(stream);
    let mut last = String::new();
    while let Some(event) = stream.next().await {
        match event {
            Ok(Some(object)) => match look(&object) {
                Seen::Ended(outcome) => return Ok(outcome),
                Seen::Going(said) if said != last => {
                    eprintln!("{said}");
                    std::io::stderr().flush()?;
                    last = said;
                }
                Seen::Going(_) => {}
            },
            Ok(None) => return Err(Error::NotFound(format!("{name} was deleted"))),
            Err(watcher::Error::InitialListFailed(error) | watcher::Error::WatchStartFailed(error)) => {
                if let kube::Error::Api(status) = &error
                    && matches!(status.code, 401 | 403)
                {
                    return Err(error.into());
                }
                eprintln!("the API server does not answer: {error}");
            }
            Err(error) => eprintln!("the watch is begun again: {error}"),
        }
    }
    Err(Error::NotFound(format!("the watch of {name} has ended")))
}
