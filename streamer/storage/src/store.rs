//! The one trait that every backend implements, and the values that go through it.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;

use crate::Key;

/// A store chosen at run time.
pub type DynStore = Arc<dyn Store>;

/// What a create-only write found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Created {
    /// The object is now there, with these bytes.
    Created,
    /// An object of that name was there before; nothing was changed. The bytes may be equal or not.
    Exists,
}

/// What a listing or a head tells about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectMeta {
    /// Its key.
    pub key: Key,
    /// Its length in bytes.
    pub size: u64,
    /// The store's own time of it. Never used to decide safety (S3 dates a multipart object by its start).
    pub modified: Option<Timestamp>,
}

/// Which part of the key space to list.
#[derive(Debug, Clone, Default)]
pub struct ListRequest {
    /// Only keys that start with this text. Empty, or ends with `/`: prefixes are whole folders.
    pub prefix: String,
    /// Only keys that sort (bytewise) after this one.
    pub after: Option<String>,
    /// List one level: deeper keys appear once, as `folders`.
    pub shallow: bool,
}

impl ListRequest {
    /// Everything below a folder.
    pub fn under(prefix: impl Into<String>) -> ListRequest {
        ListRequest {
            prefix: prefix.into(),
            after: None,
            shallow: false,
        }
    }

    /// One level of a folder.
    pub fn level(prefix: impl Into<String>) -> ListRequest {
        ListRequest {
            prefix: prefix.into(),
            after: None,
            shallow: true,
        }
    }

    /// The folder without its last slash, `None` for the root. A prefix that is no folder is a wrong call.
    pub(crate) fn folder(&self) -> Result<Option<Key>> {
        let wrong = || {
            Error::new(
                code::usage::INVALID,
                format!("{:?} is not a folder of object keys", self.prefix),
            )
        };
        if self.prefix.is_empty() {
            return Ok(None);
        }
        let folder = self.prefix.strip_suffix('/').ok_or_else(wrong)?;
        Key::new(folder).map(Some).map_err(|_| wrong())
    }

    /// Starts after this key.
    #[must_use]
    pub fn after(mut self, key: impl Into<String>) -> ListRequest {
        self.after = Some(key.into());
        self
    }
}

/// One page of a listing, in bytewise order of keys.
#[derive(Debug, Clone, Default)]
pub struct Listing {
    /// The objects.
    pub objects: Vec<ObjectMeta>,
    /// With `shallow`: the folders, each ending with `/`.
    pub folders: Vec<String>,
    /// Where to go on: give it as `after`. `None` on the last page.
    pub next: Option<String>,
}

/// What a backend can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// `put_new` and `upload_new` are believed to be create-only under a race. `repo init` proves it.
    pub create_only: bool,
    /// Smallest part of a multipart upload but the last, in bytes; 0 when any size will do.
    pub min_part: u64,
    /// Whether reads pay a round trip worth avoiding (a network store).
    pub remote: bool,
}

/// A store of immutable objects.
///
/// Every method may be called from any task at any time. Errors carry a code of `code::storage`; a missing object is
/// `None` or `code::storage::OBJECT`, never an empty body. A call that was cancelled (its future dropped) leaves the
/// object there whole or not at all.
#[async_trait]
pub trait Store: Send + Sync + Debug {
    /// Creates an object that must not exist yet. On return its bytes are durable; its *name* is durable after the
    /// next [`Store::sync`] (on object stores both at once).
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created>;

    /// Starts a create-only upload in parts, for objects too large to hold twice. Nothing is visible before
    /// [`Upload::finish`].
    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>>;

    /// The whole object, or `None` when it is not there.
    async fn get(&self, key: &Key) -> Result<Option<Bytes>>;

    /// Exactly these bytes of an object. Shorter than asked is an error, never a short answer.
    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes>;

    /// Length and time, or `None`.
    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>>;

    /// One page of a listing. Names that a crashed writer left behind never appear.
    async fn list(&self, request: &ListRequest) -> Result<Listing>;

    /// Removes an object; true when it was there.
    async fn delete(&self, key: &Key) -> Result<bool>;

    /// Durability barrier: after it, everything created through this store before the call survives a power cut.
    async fn sync(&self) -> Result<()>;

    /// Makes objects durable that another may have made: names out of a listing, or "exists" from an attempt of which
    /// nothing is known. Afterwards each of them, name and content, survives a power cut. Whoever tells somebody that
    /// a found object is safe confirms it first; a listing alone shows what the kernel has, not what the disk has.
    ///
    /// A directory and memory answer `code::storage::OBJECT` when one of them is not there. On object stores what is
    /// visible is durable, so nothing is asked: a request for each key would only repeat what the listing said.
    async fn confirm(&self, keys: &[Key]) -> Result<()>;

    /// The store's own clock, for measuring silence.
    async fn clock(&self) -> Result<Timestamp>;

    /// What this backend can do.
    fn caps(&self) -> Caps;

    /// The URL without secrets, for messages.
    fn url(&self) -> String;
}

/// A create-only upload in parts. Dropping it abandons it.
#[async_trait]
pub trait Upload: Send {
    /// Adds bytes at the end. May return before they are sent; holds at most a few parts.
    async fn write(&mut self, part: Bytes) -> Result<()>;

    /// Makes the object appear, if no other has taken the name.
    async fn finish(self: Box<Self>) -> Result<Created>;

    /// Gives up and removes what was sent.
    async fn abort(self: Box<Self>) -> Result<()>;
}
