//! From a repository URL to a store: the backend, the limits around it, and the one retry layer around those.

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::sync::Arc;

use hardstorage_report::{Error, Result, code};

use crate::{DynStore, FileStore, Location, MemoryStore, ReadOnly, RetryPolicy, Retrying, S3Store, Throttle, trial};

/// Where credentials come from.
#[derive(Debug, Clone, Default)]
pub enum Credentials {
    /// As every AWS tool finds them: environment, profile, web identity, container, instance, process.
    #[default]
    Chain,
    /// A directory with the files `access-key-id`, `secret-access-key` and optionally `session-token`. They are read
    /// for every request, so that a rotated secret needs no restart.
    Directory(PathBuf),
}

/// How to open a store.
#[derive(Debug, Clone, Default)]
pub struct OpenOptions {
    /// Credentials of network stores.
    pub credentials: Credentials,
    /// Calls at a time; the smaller of this and the URL's `concurrency` counts.
    pub concurrency: Option<usize>,
    /// Bytes per second; the smaller of this and the URL's `max_rate` counts.
    pub max_rate: Option<NonZeroU64>,
    /// How often to try.
    pub retry: RetryPolicy,
    /// Refuse every change.
    pub read_only: bool,
    /// A missing root directory may be made.
    pub create: bool,
    /// Serve `memory://`, which forgets everything with the process: for tests.
    pub memory: bool,
}

const CONCURRENCY: usize = 16;

fn smaller<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

/// Opens the store that a repository URL names. A missing directory is `notfound.bucket` at once; a bucket is asked for
/// with the first call.
pub async fn open(url: &str, options: &OpenOptions) -> Result<DynStore> {
    let location = Location::parse(url)?;
    let mut concurrency = options.concurrency;
    let mut rate = options.max_rate;
    let backend: DynStore = match &location {
        Location::File(path) => Arc::new(FileStore::open(path, options.create && !options.read_only).await?),
        Location::S3(s3) => {
            concurrency = smaller(concurrency, s3.concurrency);
            rate = smaller(rate, s3.max_rate);
            let parts = concurrency.unwrap_or(CONCURRENCY);
            Arc::new(S3Store::connect(s3, &options.credentials, parts, options.retry.clone()).await?)
        }
        Location::Memory(name) if options.memory => Arc::new(MemoryStore::named(name)),
        Location::Memory(_) => {
            return Err(Error::new(
                code::usage::SCHEME,
                "memory:// forgets everything with the process, and is only for tests",
            ));
        }
    };
    let backend = trial::watched(backend);
    let limited: DynStore = Arc::new(Throttle::new(backend, concurrency.unwrap_or(CONCURRENCY), rate));
    let store: DynStore = Arc::new(Retrying::new(limited, options.retry.clone()));
    Ok(if options.read_only {
        Arc::new(ReadOnly::new(store))
    } else {
        store
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use bytes::Bytes;

    use super::*;
    use crate::{Created, Key};

    fn key() -> Key {
        Key::new("a/b").unwrap()
    }

    #[tokio::test]
    async fn a_directory_is_made_only_when_asked() {
        let parent = tempfile::tempdir().unwrap();
        let url = format!("file://{}/some/where/", parent.path().display());
        let error = open(&url, &OpenOptions::default()).await.unwrap_err();
        assert!(error.is(code::storage::BUCKET), "{error:?}");
        let read_only = OpenOptions {
            create: true,
            read_only: true,
            ..OpenOptions::default()
        };
        assert!(open(&url, &read_only).await.is_err());
        let create = OpenOptions {
            create: true,
            ..OpenOptions::default()
        };
        let store = open(&url, &create).await.unwrap();
        assert_eq!(store.url(), url.trim_end_matches('/'));
        assert_eq!(
            store.put_new(&key(), Bytes::from_static(b"x")).await.unwrap(),
            Created::Created
        );

        let store = open(&url, &read_only).await.unwrap();
        assert_eq!(store.get(&key()).await.unwrap().unwrap(), "x");
        for error in [
            store.put_new(&key(), Bytes::new()).await.map(drop).unwrap_err(),
            store.upload_new(&key()).await.map(drop).unwrap_err(),
            store.grow_new(&key(), Bytes::new()).await.map(drop).unwrap_err(),
            store.delete(&key()).await.map(drop).unwrap_err(),
        ] {
            assert!(error.is(code::storage::READ_ONLY), "{error:?}");
        }
    }

    #[tokio::test]
    async fn memory_is_only_for_those_who_ask() {
        let error = open("memory://open-test", &OpenOptions::default()).await.unwrap_err();
        assert!(error.is(code::usage::SCHEME));
        let options = OpenOptions {
            memory: true,
            ..OpenOptions::default()
        };
        let store = open("memory://open-test", &options).await.unwrap();
        store.put_new(&key(), Bytes::from_static(b"x")).await.unwrap();
        let again = open("memory://open-test", &options).await.unwrap();
        assert_eq!(again.get(&key()).await.unwrap().unwrap(), "x");
    }

    #[tokio::test]
    async fn a_scheme_of_tomorrow_is_a_wrong_call() {
        let error = open("gcs://bucket/", &OpenOptions::default()).await.unwrap_err();
        assert_eq!((error.code(), error.exit_code()), (code::usage::SCHEME, 2));
    }
}
