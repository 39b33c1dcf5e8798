//! Listings without pages: goes through a folder object by object, holding one page at a time; and the removal of many.

use std::collections::VecDeque;

use futures::{StreamExt as _, TryStreamExt as _, stream};
use hardstorage_report::{Error, Result, code};
use hardstorage_storage::{DynStore, Key, ListRequest, ObjectMeta};

/// Objects that are removed at the same time.
const AT_ONCE: usize = 16;

/// The objects of a folder in bytewise order of keys.
#[derive(Debug)]
pub(crate) struct Objects<'a> {
    store: &'a DynStore,
    request: ListRequest,
    page: VecDeque<ObjectMeta>,
    more: bool,
}

impl<'a> Objects<'a> {
    pub(crate) fn under(store: &'a DynStore, folder: impl Into<String>) -> Objects<'a> {
        Objects {
            store,
            request: ListRequest::under(folder),
            page: VecDeque::new(),
            more: true,
        }
    }

    /// Only those that sort behind this key.
    pub(crate) fn after(mut self, key: Option<String>) -> Objects<'a> {
        self.request.after = key;
        self
    }

    pub(crate) async fn next(&mut self) -> Result<Option<ObjectMeta>> {
        while self.page.is_empty() && self.more {
            let listing = self.store.list(&self.request).await?;
            self.more = advance(&mut self.request, listing.next)?;
            self.page = listing.objects.into();
        }
        Ok(self.page.pop_front())
    }

    /// All of them, for folders that are known to be small.
    pub(crate) async fn all(mut self) -> Result<Vec<ObjectMeta>> {
        let mut objects = Vec::new();
        while let Some(object) = self.next().await? {
            objects.push(object);
        }
        Ok(objects)
    }
}

/// The names of the folders right below a folder, without the slash.
pub(crate) async fn folders(store: &DynStore, folder: &str) -> Result<Vec<String>> {
    let mut request = ListRequest::level(folder);
    let mut names = Vec::new();
    loop {
        let listing = store.list(&request).await?;
        for found in &listing.folders {
            if let Some(name) = found.strip_prefix(folder).and_then(|rest| rest.strip_suffix('/')) {
                names.push(name.to_owned());
            }
        }
        if !advance(&mut request, listing.next)? {
            return Ok(names);
        }
    }
}

/// Removes objects, a few at a time and begun in this order; those that are gone already are fine.
pub(crate) async fn remove_all(store: &DynStore, keys: Vec<Key>) -> Result<()> {
    let deletions = keys
        .into_iter()
        .map(|key| async move { store.delete(&key).await.map(|_| ()) });
    stream::iter(deletions).buffered(AT_ONCE).try_collect().await
}

// A store that answers the same page for ever must not hang us.
fn advance(request: &mut ListRequest, next: Option<String>) -> Result<bool> {
    let Some(next) = next else { return Ok(false) };
    if request.after.as_ref().is_some_and(|after| *after >= next) {
        let message = format!("the listing of {:?} does not move on from {next:?}", request.prefix);
        return Err(Error::new(code::storage::IO, message));
    }
    request.after = Some(next);
    Ok(true)
}
