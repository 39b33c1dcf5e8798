//! What every store must do, as one suite: run against memory, a directory and real object stores.
//!
//! The format stands on these properties, so the suite is part of the crate and not of its tests: whoever adds a backend,
//! or wonders about a server, runs the same checks. Each works in a folder of its own and removes it.

mod growing;
mod objects;
mod order;
mod race;
mod uploads;

use std::fmt;

use bytes::Bytes;
use hardstorage_report::Error;

use crate::{DynStore, Key, ListRequest};

pub use race::{Race, race};

/// A property that the store does not keep.
#[derive(Debug)]
pub struct Violation {
    /// The check that found it.
    pub check: &'static str,
    /// What was seen.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.what)
    }
}

impl std::error::Error for Violation {}

/// What a check inside of the suite gives.
type Outcome = Result<(), String>;

/// Runs everything.
pub async fn run(store: DynStore) -> Result<(), Violation> {
    run_but(store, &[]).await
}

/// Runs everything but some checks by name, for servers that are known not to keep them.
pub async fn run_but(store: DynStore, skip: &[&str]) -> Result<(), Violation> {
    let folder = format!("conformance-{:016x}", rand::random::<u64>());
    let room = Room { store, folder };
    let result = checks(&room, skip).await;
    let removed = room.remove().await;
    result?;
    removed.map_err(|error| Violation {
        check: "clean up",
        what: describe(&error),
    })
}

async fn checks(room: &Room, skip: &[&str]) -> Result<(), Violation> {
    macro_rules! check {
        ($($module:ident::$name:ident),* $(,)?) => {
            $(if !skip.contains(&stringify!($name)) {
                let check = stringify!($name);
                tracing::debug!(check, store = %room.store.url(), "conformance");
                $module::$name(room).await.map_err(|what| Violation { check, what })?;
            })*
        };
    }
    check!(
        objects::created_once,
        objects::empty_object,
        objects::exact_ranges,
        objects::heads,
        objects::deleted,
        objects::folder_names,
        objects::many_at_once,
        objects::sync_and_clock,
        objects::confirmed,
        uploads::small_and_empty,
        uploads::large,
        uploads::parts_of_any_size,
        uploads::abandoned_are_invisible,
        uploads::never_replace,
        growing::grows,
        growing::grows_alone,
        order::bytewise,
        order::levels,
        order::from_any_place,
        order::more_than_a_page,
        race::one_winner,
    );
    Ok(())
}

fn describe(error: &Error) -> String {
    format!("{error:?}")
}

/// A folder of the store in which a run works.
struct Room {
    store: DynStore,
    folder: String,
}

impl Room {
    fn key(&self, name: &str) -> Result<Key, String> {
        Key::new(format!("{}/{name}", self.folder)).map_err(|error| error.to_string())
    }

    async fn put(&self, name: &str, body: impl Into<Bytes>) -> Outcome {
        let created = self
            .store
            .put_new(&self.key(name)?, body.into())
            .await
            .map_err(|e| describe(&e))?;
        expect("put_new of a new name", created, crate::Created::Created)
    }

    async fn everything(&self, request: &ListRequest) -> Result<(Vec<String>, Vec<String>, usize), String> {
        let mut request = request.clone();
        let (mut objects, mut folders, mut pages) = (Vec::new(), Vec::new(), 0);
        loop {
            let page = self.store.list(&request).await.map_err(|e| describe(&e))?;
            objects.extend(page.objects.iter().map(|object| object.key.to_string()));
            folders.extend(page.folders);
            pages += 1;
            match page.next {
                None => return Ok((objects, folders, pages)),
                Some(next) if Some(&next) > request.after.as_ref() => request.after = Some(next),
                Some(next) => return Err(format!("the page after {:?} ends with {next:?}", request.after)),
            }
        }
    }

    async fn remove(&self) -> Result<(), Error> {
        loop {
            let page = self
                .store
                .list(&ListRequest::under(format!("{}/", self.folder)))
                .await?;
            if page.objects.is_empty() {
                return Ok(());
            }
            let removals = page.objects.iter().map(|object| self.store.delete(&object.key));
            futures::future::try_join_all(removals).await?;
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "both are mostly temporaries at the call")]
fn expect<T: PartialEq + fmt::Debug>(what: &str, seen: T, wanted: T) -> Outcome {
    if seen == wanted {
        Ok(())
    } else {
        Err(format!("{what}: {seen:?}, and should be {wanted:?}"))
    }
}

/// Bytes that are different at every place and for every seed.
fn pattern(length: usize, seed: u64) -> Bytes {
    let mut bytes = Vec::with_capacity(length + 8);
    let mut state = seed ^ 0x9e37_79b9_7f4a_7c15;
    while bytes.len() < length {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(state ^ (state >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes.into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]
    use std::sync::Arc;

    use super::*;
    use crate::{Call, Fault, FaultStore, FileStore, MemoryStore};

    #[tokio::test]
    async fn memory() {
        run(Arc::new(MemoryStore::new().with_page(100))).await.unwrap();
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn directory() {
        let root = tempfile::tempdir().unwrap();
        run(Arc::new(
            FileStore::open(root.path(), false).await.unwrap().with_page(100),
        ))
        .await
        .unwrap();
        // Nothing stays behind: no temporary file, no empty folder.
        assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
    }

    /// The suite must be able to fail.
    #[tokio::test]
    async fn faults_are_found() {
        for (fault, number, check) in [
            (Fault::FlipByte(0), Call::Get, "created_once"),
            (Fault::ShortRead(1), Call::GetRange, "exact_ranges"),
            (Fault::AnswerExists, Call::PutNew, "created_once"),
        ] {
            let store = FaultStore::new(Arc::new(MemoryStore::new()));
            for n in 1..40 {
                store.on(
                    number,
                    n,
                    match &fault {
                        Fault::FlipByte(n) => Fault::FlipByte(*n),
                        Fault::ShortRead(n) => Fault::ShortRead(*n),
                        _ => Fault::AnswerExists,
                    },
                );
            }
            assert_eq!(run(Arc::new(store)).await.unwrap_err().check, check);
        }
    }
}
