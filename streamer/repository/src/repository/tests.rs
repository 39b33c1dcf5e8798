#![allow(clippy::unwrap_used, clippy::panic, reason = "tests only")]
//! The life of a repository: made once, opened with the right key only, its keys minted by writers alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use hardstorage_codec::{Secret, SigningKey, fingerprint};
use hardstorage_report::{Code, DeploymentName, Error, Result, code};
use hardstorage_storage::{
    Call, Caps, Created, DynStore, Fault, FaultStore, Gate, Key, ListRequest, Listing, MemoryStore, ObjectMeta, Store,
    Upload,
};
use jiff::Timestamp;
use tokio::sync::Barrier;

use super::{Access, Mode, Repository};
use crate::{EnvelopeKind, InitOptions, Probe, RepoConfig, Surroundings, layout, seal_envelope};

fn kek(seed: u8) -> Secret {
    Secret::new([seed; 32])
}

fn options(kek: Option<Secret>) -> InitOptions {
    InitOptions {
        kek,
        single_writer: false,
        config: RepoConfig::default(),
        created_by: "test".into(),
        surroundings: Surroundings::default(),
    }
}

fn name() -> DeploymentName {
    "db1".parse().unwrap()
}

async fn made(store: &DynStore) -> Repository {
    Repository::init(store.clone(), options(Some(kek(1)))).await.unwrap()
}

async fn open(store: &DynStore, kek: Option<Secret>, mode: Mode) -> Result<Repository> {
    Repository::open(store.clone(), Access::new(kek, mode)).await
}

async fn refusal(store: &DynStore, kek: Option<Secret>, mode: Mode) -> Code {
    open(store, kek, mode).await.unwrap_err().code()
}

fn memory() -> (Arc<MemoryStore>, DynStore) {
    let memory = Arc::new(MemoryStore::new());
    (memory.clone(), memory)
}

async fn names(store: &DynStore) -> Vec<String> {
    let listing = store.list(&ListRequest::under("")).await.unwrap();
    listing
        .objects
        .into_iter()
        .map(|object| object.key.to_string())
        .collect()
}

#[tokio::test]
async fn made_then_opened() {
    let (_, store) = memory();
    assert!(matches!(Repository::probe(&store).await.unwrap(), Probe::Absent));
    assert_eq!(
        refusal(&store, Some(kek(1)), Mode::Read).await,
        code::repository::MISSING
    );
    let repository = made(&store).await;
    assert_eq!(
        names(&store).await,
        ["HARDSTORAGE", "config/00000001.json"],
        "nothing is left of the probe"
    );
    assert!(repository.create_only_proven());
    let again = open(&store, Some(kek(1)), Mode::Read).await.unwrap();
    assert_eq!(again.descriptor(), repository.descriptor());
    assert_eq!(again.config(), repository.config());
    let Probe::Present(facts) = Repository::probe(&store).await.unwrap() else {
        panic!("it is there")
    };
    assert_eq!(facts.descriptor.id(), repository.descriptor().id());
    assert_eq!(facts.kek_fingerprint.as_deref(), repository.kek_fingerprint());
    let refused = Repository::init(store.clone(), options(Some(kek(2))))
        .await
        .unwrap_err();
    assert!(refused.is(code::repository::EXISTS));
    assert!(
        open(&store, Some(kek(1)), Mode::Write).await.is_ok(),
        "and nothing was changed"
    );
}

#[tokio::test]
async fn encryption_is_agreed_upon() {
    let (_, sealed) = memory();
    made(&sealed).await;
    assert_eq!(refusal(&sealed, None, Mode::Read).await, code::repository::KEY_MISSING);
    assert_eq!(refusal(&sealed, None, Mode::Write).await, code::repository::KEY_MISSING);
    assert_eq!(
        refusal(&sealed, Some(kek(2)), Mode::Read).await,
        code::repository::KEY_WRONG
    );
    let mut access = Access::new(None, Mode::Write);
    access.no_encryption = true;
    let refused = Repository::open(sealed.clone(), access.clone()).await.unwrap_err();
    assert!(refused.is(code::repository::ENCRYPTION_MISMATCH));

    let (_, clear) = memory();
    Repository::init(clear.clone(), options(None)).await.unwrap();
    assert_eq!(
        refusal(&clear, Some(kek(1)), Mode::Write).await,
        code::repository::ENCRYPTION_MISMATCH
    );
    assert!(open(&clear, Some(kek(1)), Mode::Read).await.is_ok());
    assert!(open(&clear, None, Mode::Write).await.is_ok());
    access.kek = Some(kek(1));
    let repository = Repository::open(clear.clone(), access).await.unwrap();
    let deployment = repository.deployment_or_create(&name()).await.unwrap();
    assert!(!deployment.key().seals());
    let read = open(&clear, None, Mode::Read)
        .await
        .unwrap()
        .deployment(&name())
        .await
        .unwrap();
    assert_eq!(read.key().id(), deployment.key().id());
}

#[tokio::test]
async fn a_sealed_repository_cannot_be_passed_off_as_a_clear_one() {
    let (memory, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    // Who can write into the bucket can forge a clear descriptor: its key is public.
    let clear = Repository::init(Arc::new(MemoryStore::new()), options(None))
        .await
        .unwrap();
    for forged in [layout::descriptor(), layout::config(1)] {
        let bytes = clear.store().get(&forged).await.unwrap().unwrap();
        memory.corrupt(&forged, |stored| *stored = bytes.to_vec());
    }
    assert_eq!(
        refusal(&store, Some(kek(1)), Mode::Write).await,
        code::repository::ENCRYPTION_MISMATCH
    );
    let keyless = open(&store, None, Mode::Write).await.unwrap();
    let refused = keyless.deployment_or_create(&name()).await.unwrap_err();
    assert!(refused.is(code::repository::KEY_WRONG), "{refused:?}");
}

#[tokio::test]
async fn a_lost_descriptor_is_not_an_empty_place() {
    let (_, store) = memory();
    made(&store).await.deployment_or_create(&name()).await.unwrap();
    store.delete(&layout::descriptor()).await.unwrap();
    let refused = open(&store, Some(kek(1)), Mode::Read).await.unwrap_err();
    assert!(refused.is(code::repository::DESCRIPTOR_MISSING));
    let refused = Repository::init(store.clone(), options(Some(kek(1))))
        .await
        .unwrap_err();
    assert!(refused.is(code::repository::DESCRIPTOR_MISSING));
    let (_, foreign) = memory();
    foreign
        .put_new(&Key::new("photos/cat").unwrap(), Bytes::new())
        .await
        .unwrap();
    let refused = Repository::init(foreign.clone(), options(Some(kek(1))))
        .await
        .unwrap_err();
    assert!(refused.is(code::repository::NOT_EMPTY) && refused.to_string().contains("photos/"));
    assert_eq!(refusal(&foreign, None, Mode::Read).await, code::repository::MISSING);
    // What a dead init left of its race is in nobody's way.
    let (_, probed) = memory();
    probed.put_new(&layout::probe([1; 16]), Bytes::new()).await.unwrap();
    made(&probed).await;
}

#[tokio::test]
async fn every_flipped_byte_is_seen() {
    let (memory, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let key = layout::wrapped_key(&name(), 1, 1);
    for object in [layout::descriptor(), layout::config(1), key] {
        for at in 0..store.get(&object).await.unwrap().unwrap().len() {
            memory.corrupt(&object, |bytes| bytes[at] ^= 1);
            let result = match open(&store, Some(kek(1)), Mode::Write).await {
                Ok(repository) => repository.deployment_or_create(&name()).await.map(|_| ()),
                Err(error) => Err(error),
            };
            // The policy still vouches for nothing but the exact bytes of the descriptor.
            let error = result.unwrap_err();
            let known = [
                code::repository::OBJECT_CORRUPT,
                code::repository::KEY_WRONG,
                code::repository::NEWER_FORMAT,
                code::repository::ENCRYPTION_MISMATCH,
            ];
            assert!(known.contains(&error.code()), "{object} byte {at}: {error:?}");
            memory.corrupt(&object, |bytes| bytes[at] ^= 1);
        }
    }
    assert_eq!(
        names(&store).await.len(),
        3,
        "damage is never answered by making something"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_inits_one_wins() {
    for _ in 0..20 {
        let (_, store) = memory();
        let start = Arc::new(Barrier::new(4));
        let racers: Vec<_> = (1..=4)
            .map(|seed| {
                let (store, start) = (store.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    Repository::init(store, options(Some(kek(seed))))
                        .await
                        .map(|made| (seed, made))
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.unwrap() {
                Ok(winner) => winners.push(winner),
                Err(error) => assert!(error.is(code::repository::EXISTS), "{error:?}"),
            }
        }
        let [(seed, winner)] = winners.as_slice() else {
            panic!("{} winners", winners.len())
        };
        let opened = open(&store, Some(kek(*seed)), Mode::Write).await.unwrap();
        assert_eq!(opened.descriptor().id(), winner.descriptor().id());
        assert_eq!(opened.config_sequence(), 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_writers_all_hold_one_data_key() {
    for _ in 0..20 {
        let (_, store) = memory();
        let repository = made(&store).await;
        let start = Arc::new(Barrier::new(8));
        let writers: Vec<_> = (0..8)
            .map(|_| {
                let (repository, start) = (repository.clone(), start.clone());
                tokio::spawn(async move {
                    start.wait().await;
                    repository.deployment_or_create(&name()).await
                })
            })
            .collect();
        let mut ids = Vec::new();
        for writer in writers {
            ids.push(*writer.await.unwrap().unwrap().key().id());
        }
        ids.dedup();
        assert_eq!(ids.len(), 1);
    }
}

#[tokio::test]
async fn reading_mints_nothing() {
    let (_, store) = memory();
    made(&store).await;
    let before = names(&store).await;
    let faults = Arc::new(FaultStore::new(store.clone()));
    let watched: DynStore = faults.clone();
    let reader = open(&watched, Some(kek(1)), Mode::Read).await.unwrap();
    assert!(
        reader
            .deployment(&name())
            .await
            .unwrap_err()
            .is(code::repository::DEPLOYMENT_MISSING)
    );
    let refused = reader.deployment_or_create(&name()).await.unwrap_err();
    assert!(refused.is(code::repository::OPENED_READ_ONLY));
    assert!(reader.deployments().await.unwrap().is_empty());
    assert!(reader.update_config(RepoConfig::default()).await.is_err());
    for call in [Call::PutNew, Call::UploadNew, Call::Delete] {
        assert_eq!(faults.count(call), 0, "{call:?}");
    }
    assert_eq!(names(&store).await, before);
}

#[tokio::test]
async fn a_key_that_is_gone_or_foreign_is_never_replaced() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let key = layout::wrapped_key(&name(), 1, 1);
    let bytes = store.get(&key).await.unwrap().unwrap();
    let writer = crate::WriterId::new([1; 16]);
    store
        .put_new(&layout::pack(&name(), &writer, 0), Bytes::from_static(b"pack"))
        .await
        .unwrap();
    store.delete(&key).await.unwrap();
    for result in [
        repository.deployment(&name()).await,
        repository.deployment_or_create(&name()).await,
    ] {
        assert!(result.unwrap_err().is(code::repository::DATA_KEY_MISSING));
    }
    assert!(store.get(&key).await.unwrap().is_none());
    // The key of another deployment, or of another repository under the same KEK, opens nothing.
    let other: DeploymentName = "db2".parse().unwrap();
    store
        .put_new(&layout::wrapped_key(&other, 1, 1), bytes.clone())
        .await
        .unwrap();
    assert!(
        repository
            .deployment_or_create(&other)
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
    let (_, elsewhere) = memory();
    let second = made(&elsewhere).await;
    elsewhere.put_new(&key, bytes).await.unwrap();
    assert!(
        second
            .deployment_or_create(&name())
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
    // Anything in the folder of keys is a key for this purpose.
    let third: DeploymentName = "db3".parse().unwrap();
    store
        .put_new(&Key::new("keys/db3/strange").unwrap(), Bytes::new())
        .await
        .unwrap();
    assert!(
        repository
            .deployment_or_create(&third)
            .await
            .unwrap_err()
            .is(code::repository::OBJECT_CORRUPT)
    );
}

#[tokio::test]
async fn a_store_that_fails_is_no_missing_key() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let faults = Arc::new(FaultStore::new(store.clone()));
    let watched: DynStore = faults.clone();
    let down = || Error::new(code::storage::UNREACHABLE, "down");
    let total = {
        let repository = open(&watched, Some(kek(1)), Mode::Write).await.unwrap();
        repository.deployment_or_create(&name()).await.unwrap();
        faults.calls()
    };
    for number in 1..=total {
        let base = faults.calls();
        faults.at(base + number, Fault::FailBefore(down()));
        let result = match open(&watched, Some(kek(1)), Mode::Write).await {
            Ok(repository) => repository.deployment_or_create(&name()).await.map(|_| ()),
            Err(error) => Err(error),
        };
        assert!(result.unwrap_err().is(code::storage::UNREACHABLE), "call {number}");
        faults.clear();
    }
    assert_eq!(names(&store).await.len(), 3);
}

#[tokio::test]
async fn a_fault_at_any_call_of_init_is_loud_and_a_second_init_converges() {
    let (_, store) = memory();
    let faults = Arc::new(FaultStore::new(store));
    Repository::init(faults.clone(), options(Some(kek(1)))).await.unwrap();
    let total = faults.calls();
    for number in 1..=total {
        for after in [false, true] {
            let (_, store) = memory();
            let faults = Arc::new(FaultStore::new(store.clone()));
            let down = Error::new(code::storage::UNREACHABLE, "down");
            faults.at(
                number,
                if after {
                    Fault::FailAfter(down)
                } else {
                    Fault::FailBefore(down)
                },
            );
            let first = Repository::init(faults.clone(), options(Some(kek(1)))).await;
            if first.is_err() {
                match Repository::init(store.clone(), options(Some(kek(1)))).await {
                    Ok(_) => {}
                    Err(error) => assert!(error.is(code::repository::EXISTS), "call {number}: {error:?}"),
                }
            }
            let repository = open(&store, Some(kek(1)), Mode::Write).await.unwrap();
            repository.deployment_or_create(&name()).await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_the_data_key_is_no_second_key() {
    let (_, store) = memory();
    made(&store).await;
    let faults = Arc::new(FaultStore::new(store.clone()));
    faults.on(
        Call::PutNew,
        1,
        Fault::FailAfter(Error::new(code::storage::UNREACHABLE, "answer lost")),
    );
    let watched: DynStore = faults;
    let first = open(&watched, Some(kek(1)), Mode::Write).await.unwrap();
    let first = first.deployment_or_create(&name()).await.unwrap();
    let second = open(&store, Some(kek(1)), Mode::Read)
        .await
        .unwrap()
        .deployment(&name())
        .await
        .unwrap();
    assert_eq!(first.key().id(), second.key().id());
}

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
async fn policies_follow_each_other() {
    let (_, store) = memory();
    let first = made(&store).await;
    let mut config = first.config().clone();
    config.level = 5;
    config.other.insert("from_the_future".into(), 7.into());
    let second = first.update_config(config.clone()).await.unwrap();
    assert_eq!(second.config_sequence(), 2);
    assert!(
        first
            .update_config(config.clone())
            .await
            .unwrap_err()
            .is(code::repository::CONFIG_RACE)
    );
    let opened = open(&store, Some(kek(1)), Mode::Write).await.unwrap();
    assert_eq!(opened.config(), &config);
    assert!(opened.create_only_proven(), "the verdict goes along");
    config.level = 99;
    assert!(
        opened
            .update_config(config)
            .await
            .unwrap_err()
            .is(code::repository::CONFIG_INVALID)
    );
}

#[tokio::test]
async fn an_init_that_died_after_the_descriptor_is_usable() {
    let (_, store) = memory();
    made(&store).await;
    store.delete(&layout::config(1)).await.unwrap();
    let opened = open(&store, Some(kek(1)), Mode::Write).await.unwrap();
    assert_eq!(opened.config(), &RepoConfig::default());
    assert_eq!(
        opened
            .update_config(RepoConfig::default())
            .await
            .unwrap()
            .config_sequence(),
        1
    );
    store.delete(&layout::config(1)).await.unwrap();
    assert_eq!(
        refusal(&store, Some(kek(2)), Mode::Read).await,
        code::repository::KEY_WRONG
    );
}

#[tokio::test]
async fn features_that_forbid_writing_do_not_forbid_reading() {
    let (memory, store) = memory();
    let made = made(&store).await;
    made.deployment_or_create(&name()).await.unwrap();
    store.delete(&layout::config(1)).await.unwrap();
    let mut value = serde_json::to_value(made.descriptor()).unwrap();
    value["must_write"] = serde_json::json!(["holograms"]);
    let mac = crate::keys::RootKey::kek(kek(1)).mac(EnvelopeKind::Descriptor);
    let forged = seal_envelope(EnvelopeKind::Descriptor, &mac, value.to_string().as_bytes());
    memory.corrupt(&layout::descriptor(), |stored| *stored = forged.to_vec());
    assert_eq!(
        refusal(&store, Some(kek(1)), Mode::Write).await,
        code::repository::NEWER_FORMAT
    );
    assert!(open(&store, Some(kek(1)), Mode::Read).await.is_ok());
}

#[tokio::test]
async fn rotation_hands_everything_to_the_new_key() {
    let (_, store) = memory();
    let repository = made(&store).await;
    let signer = SigningKey::new(&kek(9));
    let mut ids = Vec::new();
    for name in ["db1", "db2"] {
        let deployment = repository.deployment_or_create(&name.parse().unwrap()).await.unwrap();
        deployment.register_signer(&signer.public()).await.unwrap();
        ids.push(*deployment.key().id());
    }
    let done = repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
    assert_eq!((done.data_keys, done.signers), (2, 2));
    assert_eq!(
        refusal(&store, Some(kek(1)), Mode::Read).await,
        code::repository::KEY_WRONG
    );
    let rotated = open(&store, Some(kek(2)), Mode::Write).await.unwrap();
    for (name, id) in ["db1", "db2"].iter().zip(&ids) {
        let deployment = rotated.deployment(&name.parse().unwrap()).await.unwrap();
        assert_eq!(deployment.key().id(), id);
        assert_eq!(
            deployment.signer(&fingerprint(&signer.public())).await.unwrap(),
            signer.public()
        );
    }
    let again = rotated.rotate_kek(&kek(1), &kek(2)).await.unwrap();
    assert_eq!((again.data_keys, again.signers), (0, 0));
    // A writer that opened before the rotation mints no key under the old KEK.
    let late: DeploymentName = "late".parse().unwrap();
    assert!(
        repository
            .deployment_or_create(&late)
            .await
            .unwrap_err()
            .is(code::repository::KEY_WRONG)
    );
    // And on to a third.
    rotated.rotate_kek(&kek(2), &kek(3)).await.unwrap();
    let third = open(&store, Some(kek(3)), Mode::Read).await.unwrap();
    assert_eq!(third.deployment(&name()).await.unwrap().key().id(), &ids[0]);
}

#[tokio::test]
async fn a_rotation_that_dies_anywhere_is_finished_by_the_next() {
    let prepare = || async {
        let (_, store) = memory();
        let repository = made(&store).await;
        for name in ["db1", "db2"] {
            let deployment = repository.deployment_or_create(&name.parse().unwrap()).await.unwrap();
            deployment
                .register_signer(&SigningKey::new(&kek(9)).public())
                .await
                .unwrap();
        }
        store
    };
    let total = {
        let faults = Arc::new(FaultStore::new(prepare().await));
        let repository = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write)
            .await
            .unwrap();
        repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
        faults.calls()
    };
    for number in 1..=total {
        let store = prepare().await;
        let faults = Arc::new(FaultStore::new(store.clone()));
        faults.dead_from(number);
        if let Ok(repository) = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write).await {
            let _ = repository.rotate_kek(&kek(1), &kek(2)).await;
        }
        // At every moment one of the two keys opens all.
        let repository = match open(&store, Some(kek(1)), Mode::Write).await {
            Ok(repository) => repository,
            Err(error) => {
                assert!(error.is(code::repository::KEY_WRONG), "{error:?}");
                open(&store, Some(kek(2)), Mode::Write).await.unwrap()
            }
        };
        repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
        let rotated = open(&store, Some(kek(2)), Mode::Read).await.unwrap();
        for name in ["db1", "db2"] {
            let deployment = rotated.deployment(&name.parse().unwrap()).await.unwrap();
            assert_eq!(
                deployment.signers().await.unwrap().fingerprints().count(),
                1,
                "dead from call {number}"
            );
        }
    }
}

#[tokio::test]
async fn a_deployment_made_during_a_rotation_is_taken_along() {
    let (_, store) = memory();
    let repository = made(&store).await;
    repository.deployment_or_create(&name()).await.unwrap();
    let faults = Arc::new(FaultStore::new(store.clone()));
    let gate = Gate::new();
    let rotating = open(&(faults.clone() as DynStore), Some(kek(1)), Mode::Write)
        .await
        .unwrap();
    // Held before the first new generation: the list of deployments was already read.
    faults.on(Call::PutNew, 1, Fault::HoldBefore(gate.clone()));
    let task = tokio::spawn(async move { rotating.rotate_kek(&kek(1), &kek(2)).await });
    gate.reached().await;
    let late: DeploymentName = "late".parse().unwrap();
    let made = repository.deployment_or_create(&late).await.unwrap();
    gate.open();
    assert_eq!(task.await.unwrap().unwrap().data_keys, 2);
    let rotated = open(&store, Some(kek(2)), Mode::Read).await.unwrap();
    assert_eq!(rotated.deployment(&late).await.unwrap().key().id(), made.key().id());
}

#[tokio::test]
async fn signers_are_sealed_and_bound_to_their_deployment() {
    let (memory, store) = memory();
    let repository = made(&store).await;
    let deployment = repository.deployment_or_create(&name()).await.unwrap();
    let (good, lost) = (SigningKey::new(&kek(8)).public(), SigningKey::new(&kek(9)).public());
    deployment.register_signer(&good).await.unwrap();
    deployment.register_signer(&good).await.unwrap();
    deployment.register_signer(&lost).await.unwrap();
    assert_eq!(deployment.signers().await.unwrap().fingerprints().count(), 2);
    let broken = layout::signer(&name(), &fingerprint(&lost));
    let stored = store.get(&broken).await.unwrap().unwrap();
    for at in 0..stored.len() {
        memory.corrupt(&broken, |bytes| bytes[at] ^= 1);
        let fresh = repository.deployment(&name()).await.unwrap();
        assert_eq!(
            fresh.signer(&fingerprint(&good)).await.unwrap(),
            good,
            "one broken signer hurts only itself"
        );
        assert!(
            fresh
                .signer(&fingerprint(&lost))
                .await
                .unwrap_err()
                .is(code::repository::SIGNER_UNKNOWN),
            "byte {at}"
        );
        assert_eq!(fresh.signers().await.unwrap().problems().count(), 1);
        memory.corrupt(&broken, |bytes| bytes[at] ^= 1);
    }
    let other: DeploymentName = "db2".parse().unwrap();
    let other = repository.deployment_or_create(&other).await.unwrap();
    store
        .put_new(&layout::signer(other.name(), &fingerprint(&lost)), stored)
        .await
        .unwrap();
    assert!(
        other.signer(&fingerprint(&lost)).await.is_err(),
        "copied from another deployment"
    );
    let mut access = Access::new(Some(kek(1)), Mode::Read);
    access.only_signers = Some(vec![lost]);
    let narrow = Repository::open(store, access)
        .await
        .unwrap()
        .deployment(&name())
        .await
        .unwrap();
    assert!(narrow.signer(&fingerprint(&good)).await.is_err() && narrow.signer(&fingerprint(&lost)).await.is_ok());
}
