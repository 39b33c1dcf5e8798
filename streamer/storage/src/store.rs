//! The one trait that every backend implements, and the values that go through it.

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;

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

/// What of that which writers left unfinished is taken for the work of a killed one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SweepRequest {
    /// What nobody has written to for longer than this.
    pub older_than: Duration,
    /// Below these folders (each ends with `/`) only after this longer time: their writers may wait for their next bytes.
    pub patient: Vec<(String, Duration)>,
    /// Remove it; else only tell.
    pub apply: bool,
}

impl SweepRequest {
    /// The same age everywhere.
    pub fn new(older_than: Duration, apply: bool) -> SweepRequest {
        SweepRequest {
            older_than,
            patient: Vec::new(),
            apply,
        }
    }

    /// Whether what has this name, or the name of an object that it was to be, was last written to long enough ago.
    pub(crate) fn takes(&self, name: &str, written: Timestamp, now: Timestamp) -> bool {
        let patient = self.patient.iter().filter(|(folder, _)| name.starts_with(folder));
        let age = patient.map(|(_, age)| *age).fold(self.older_than, Duration::max);
        // Longer than time reaches: nothing is that old.
        SignedDuration::try_from(age).is_ok_and(|age| now.duration_since(written) > age)
    }
}

/// What writers that were killed have left beside the objects: under no key, in no listing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished files or uploads.
    pub count: u64,
    /// Bytes in them that come back; a store that does not tell the size of an upload adds nothing.
    pub bytes: u64,
}

/// The store's clock as an answer told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// The store's time.
    pub time: Timestamp,
    /// A moment of this process before the store told it: what is measured from here on never seems shorter than it is.
    pub asked: Instant,
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

    /// [`Store::put_new`] and [`Store::sync`] in one, for whom somebody waits: on return bytes and name are durable, also
    /// when the object was there before.
    async fn put_durable(&self, key: &Key, body: Bytes) -> Result<Created> {
        let created = self.put_new(key, body).await?;
        self.sync().await?;
        Ok(created)
    }

    /// Starts a create-only upload in parts, for objects too large to hold twice. Nothing is visible before
    /// [`Upload::finish`].
    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>>;

    /// Creates an object that its writer goes on to lengthen, beginning with these bytes: on return they and the name
    /// are durable. `None`: this store cannot, and nothing was done. A name that is taken is an error, because nobody
    /// can share such an object; so is whatever leaves the outcome open, and the caller then takes another name.
    ///
    /// It is there for writers who are waited for after every few bytes, and for whom a new object each time is too dear.
    async fn grow_new(&self, key: &Key, first: Bytes) -> Result<Option<Box<dyn Growing>>> {
        let (_, _) = (key, first);
        Ok(None)
    }

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

    /// Finds what killed writers left unfinished, and where that is asked for removes it: what was last written to (on
    /// S3: begun) longer ago than the request says, by the store's own clock. Objects are never touched. A writer that was only paused fails
    /// when it goes on, and publishes nothing, so the time must be longer than any writer may pause.
    ///
    /// The default is for stores where a killed writer leaves nothing.
    async fn sweep(&self, request: &SweepRequest) -> Result<Swept> {
        let _ = request;
        Ok(Swept::default())
    }

    /// The store's own clock, for measuring silence.
    async fn clock(&self) -> Result<Timestamp>;

    /// The same, perhaps from the answer to an earlier question, which was asked at most `age` ago: a far store is not
    /// asked for what it has just said. For those to whom a clock that is behind, but never before, is as good: silence
    /// that is measured with it is never longer than it was.
    async fn clock_lately(&self, age: Duration) -> Result<Heard> {
        let _ = age;
        let asked = Instant::now();
        let time = self.clock().await?;
        Ok(Heard { time, asked })
    }

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

/// An object that only the holder of this lets grow. What was written stays as it is; readers see zeros behind it, and
/// while an append is under way, or was cut off by a crash, any part of it. Dropping this ends the growth.
#[async_trait]
pub trait Growing: Send + Debug {
    /// Puts bytes behind what was written. They are durable, and the object is still there under its name, when this
    /// returns. After an error nothing more is taken.
    async fn append(&mut self, bytes: Bytes) -> Result<()>;
}
