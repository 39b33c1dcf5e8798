//! Objects in memory: for tests, and for models with a clock of their own.

use std::collections::{BTreeMap, HashMap};
use std::ops::{Bound, Range};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;

use crate::{Caps, Created, Key, ListRequest, Listing, ObjectMeta, Store, Upload};

type Objects = BTreeMap<String, (Bytes, Timestamp)>;
type Clock = dyn Fn() -> Timestamp + Send + Sync;

/// A store that ends with the process.
pub struct MemoryStore {
    name: String,
    objects: Arc<Mutex<Objects>>,
    clock: Arc<Clock>,
    page: usize,
}

static NAMED: LazyLock<Mutex<HashMap<String, Arc<Mutex<Objects>>>>> = LazyLock::new(Mutex::default);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl MemoryStore {
    /// An empty store of its own.
    pub fn new() -> MemoryStore {
        MemoryStore {
            name: "private".into(),
            objects: Arc::default(),
            clock: Arc::new(Timestamp::now),
            page: 1000,
        }
    }

    /// The store of this name; all with the same name in one process hold the same objects.
    pub fn named(name: &str) -> MemoryStore {
        let objects = lock(&NAMED).entry(name.to_owned()).or_default().clone();
        MemoryStore {
            name: name.to_owned(),
            objects,
            ..MemoryStore::new()
        }
    }

    /// Takes the time from here.
    #[must_use]
    pub fn with_clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> MemoryStore {
        self.clock = Arc::new(clock);
        self
    }

    /// Lists so many entries at a time.
    #[must_use]
    pub fn with_page(mut self, page: usize) -> MemoryStore {
        self.page = page.max(1);
        self
    }

    /// Replaces an object's bytes: the damage that a disk does.
    pub fn corrupt(&self, key: &Key, change: impl FnOnce(&mut Vec<u8>)) -> bool {
        let mut objects = lock(&self.objects);
        let Some((body, _)) = objects.get_mut(key.as_str()) else {
            return false;
        };
        let mut bytes = body.to_vec();
        change(&mut bytes);
        *body = bytes.into();
        true
    }
}

impl Default for MemoryStore {
    fn default() -> MemoryStore {
        MemoryStore::new()
    }
}

impl std::fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MemoryStore({}, {} objects)", self.name, lock(&self.objects).len())
    }
}

fn create(objects: &Mutex<Objects>, key: &Key, body: Bytes, now: Timestamp) -> Created {
    match lock(objects).entry(key.as_str().to_owned()) {
        std::collections::btree_map::Entry::Occupied(_) => Created::Exists,
        std::collections::btree_map::Entry::Vacant(free) => {
            free.insert((body, now));
            Created::Created
        }
    }
}

#[async_trait]
impl Store for MemoryStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        Ok(create(&self.objects, key, body, (self.clock)()))
    }

    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        Ok(Box::new(MemoryUpload {
            key: key.clone(),
            body: Vec::new(),
            objects: self.objects.clone(),
            clock: self.clock.clone(),
        }))
    }

    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        Ok(lock(&self.objects).get(key.as_str()).map(|(body, _)| body.clone()))
    }

    async fn get_range(&self, key: &Key, range: Range<u64>) -> Result<Bytes> {
        let objects = lock(&self.objects);
        let (body, _) = objects
            .get(key.as_str())
            .ok_or_else(|| Error::new(code::storage::OBJECT, format!("read {key}: not there")))?;
        if range.start > range.end || range.end > body.len() as u64 {
            return Err(Error::new(
                code::storage::CORRUPT,
                format!("read {key}: bytes {}..{} of {}", range.start, range.end, body.len()),
            ));
        }
        Ok(body.slice(range.start as usize..range.end as usize))
    }

    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        Ok(lock(&self.objects)
            .get(key.as_str())
            .map(|(body, modified)| ObjectMeta {
                key: key.clone(),
                size: body.len() as u64,
                modified: Some(*modified),
            }))
    }

    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        request.folder()?;
        let objects = lock(&self.objects);
        let mut listing = Listing::default();
        let mut last = None;
        let start = request.after.as_deref().unwrap_or("").max(request.prefix.as_str());
        for (key, (body, modified)) in objects.range::<str, _>((Bound::Included(start), Bound::Unbounded)) {
            let Some(below) = key.strip_prefix(&request.prefix) else {
                break;
            };
            let folder = below
                .split_once('/')
                .filter(|_| request.shallow)
                .map(|(first, _)| format!("{}{first}/", request.prefix));
            let entry = folder.as_deref().unwrap_or(key);
            let again = folder.is_some() && listing.folders.last() == folder.as_ref();
            if again || request.after.as_deref().is_some_and(|after| entry <= after) {
                continue;
            }
            if listing.objects.len() + listing.folders.len() == self.page {
                listing.next = last;
                break;
            }
            last = Some(entry.to_owned());
            match folder {
                Some(folder) => listing.folders.push(folder),
                None => listing.objects.push(ObjectMeta {
                    key: Key::new(key.as_str()).map_err(|error| Error::new(code::storage::IO, error.to_string()))?,
                    size: body.len() as u64,
                    modified: Some(*modified),
                }),
            }
        }
        Ok(listing)
    }

    async fn delete(&self, key: &Key) -> Result<bool> {
        Ok(lock(&self.objects).remove(key.as_str()).is_some())
    }

    async fn sync(&self) -> Result<()> {
        Ok(())
    }

    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        let objects = lock(&self.objects);
        match keys.iter().find(|key| !objects.contains_key(key.as_str())) {
            Some(key) => Err(Error::new(code::storage::OBJECT, format!("confirm {key}: not there"))),
            None => Ok(()),
        }
    }

    async fn clock(&self) -> Result<Timestamp> {
        Ok((self.clock)())
    }

    fn caps(&self) -> Caps {
        Caps {
            create_only: true,
            min_part: 0,
            remote: false,
        }
    }

    fn url(&self) -> String {
        format!("memory://{}", self.name)
    }
}

struct MemoryUpload {
    key: Key,
    body: Vec<u8>,
    objects: Arc<Mutex<Objects>>,
    clock: Arc<Clock>,
}

#[async_trait]
impl Upload for MemoryUpload {
    async fn write(&mut self, part: Bytes) -> Result<()> {
        self.body.extend_from_slice(&part);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Created> {
        Ok(create(&self.objects, &self.key, self.body.into(), (self.clock)()))
    }

    async fn abort(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
