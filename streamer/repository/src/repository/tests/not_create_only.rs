//! Stores that do not keep create-only.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Caps, Created, DynStore, Key, ListRequest, Listing, MemoryStore, ObjectMeta, Store, Upload};
use jiff::Timestamp;

use super::*;

/// Tells several simultaneous writers that they won, or lets the last one win.
#[derive(Debug)]
struct LaxStore {
    inner: MemoryStore,
    overwrite: bool,
    lies: AtomicUsize,
}

#[async_trait]
impl Store for LaxStore {
    async fn put_new(&self, key: &Key, body: Bytes) -> Result<Created> {
        if self.overwrite {
            self.inner.delete(key).await?;
        }
        let created = self.inner.put_new(key, body).await?;
        let lie = created == Created::Exists && self.lies.fetch_add(1, Ordering::Relaxed) == 0;
        Ok(if lie { Created::Created } else { created })
    }
    async fn upload_new(&self, key: &Key) -> Result<Box<dyn Upload>> {
        self.inner.upload_new(key).await
    }
    async fn get(&self, key: &Key) -> Result<Option<Bytes>> {
        self.inner.get(key).await
    }
    async fn get_range(&self, key: &Key, range: std::ops::Range<u64>) -> Result<Bytes> {
        self.inner.get_range(key, range).await
    }
    async fn head(&self, key: &Key) -> Result<Option<ObjectMeta>> {
        self.inner.head(key).await
    }
    async fn list(&self, request: &ListRequest) -> Result<Listing> {
        self.inner.list(request).await
    }
    async fn delete(&self, key: &Key) -> Result<bool> {
        self.inner.delete(key).await
    }
    async fn sync(&self) -> Result<()> {
        self.inner.sync().await
    }
    async fn confirm(&self, keys: &[Key]) -> Result<()> {
        self.inner.confirm(keys).await
    }
    async fn clock(&self) -> Result<Timestamp> {
        self.inner.clock().await
    }
    fn caps(&self) -> Caps {
        self.inner.caps()
    }
    fn url(&self) -> String {
        "lax://".into()
    }
}

#[tokio::test]
async fn a_store_that_is_not_create_only_is_refused() {
    for overwrite in [false, true] {
        let lax = || -> DynStore {
            Arc::new(LaxStore {
                inner: MemoryStore::new(),
                overwrite,
                lies: AtomicUsize::new(0),
            })
        };
        let store = lax();
        let refused = Repository::init(store.clone(), options(Some(kek(1))))
            .await
            .unwrap_err();
        assert!(refused.is(code::repository::NOT_CREATE_ONLY));
        assert!(names(&store).await.is_empty(), "nothing is left behind");
        let promised = InitOptions {
            single_writer: true,
            ..options(Some(kek(1)))
        };
        let repository = Repository::init(lax(), promised).await.unwrap();
        assert!(repository.descriptor().single_writer && !repository.create_only_proven());
    }
}

#[tokio::test]
async fn a_repository_that_exists_is_tried_again_and_no_other_place() {
    let machine = Surroundings::default();
    let prove = async |store: &DynStore| Repository::prove_create_only(store, &machine).await;
    let good: DynStore = Arc::new(MemoryStore::new());
    let absent = prove(&good).await.unwrap_err();
    assert!(absent.is(code::repository::MISSING), "{absent:?}");
    let somebodys = Key::new("photos/1.jpg").unwrap();
    good.put_new(&somebodys, Bytes::from_static(b"x")).await.unwrap();
    assert!(prove(&good).await.is_err());
    assert_eq!(names(&good).await, ["photos/1.jpg"]);
    good.delete(&somebodys).await.unwrap();
    Repository::init(good.clone(), options(Some(kek(1)))).await.unwrap();
    let before = names(&good).await;
    assert_eq!(prove(&good).await.unwrap(), CreateOnly::Kept);
    assert_eq!(names(&good).await, before, "nothing is left behind");

    // It was moved to a store that promises more than it keeps.
    let inner = MemoryStore::new();
    for key in &before {
        let key = Key::new(key).unwrap();
        let bytes = good.get(&key).await.unwrap().unwrap();
        inner.put_new(&key, bytes).await.unwrap();
    }
    let lax: DynStore = Arc::new(LaxStore {
        inner,
        overwrite: false,
        lies: AtomicUsize::new(0),
    });
    assert!(matches!(prove(&lax).await.unwrap(), CreateOnly::Broken(_)));
    assert_eq!(names(&lax).await, before);

    let reader: DynStore = Arc::new(hardstorage_storage::ReadOnly::new(good.clone()));
    let refused = prove(&reader).await.unwrap_err();
    assert!(refused.is(code::storage::READ_ONLY), "{refused:?}");
    assert_eq!(names(&good).await, before);
}
