//! Making and opening.

use std::sync::Arc;

use bytes::Bytes;
use hardstorage_report::{Error, code};
use hardstorage_storage::{DynStore, Fault, FaultStore, FileStore, Key, MemoryStore};
use tokio::sync::Barrier;

use super::*;
use crate::{EnvelopeKind, Probe, layout, seal_envelope};

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

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn made_in_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("repository");
    let store: DynStore = Arc::new(FileStore::open(&path, true).await.unwrap());
    made(&store).await.deployment_or_create(&name()).await.unwrap();
    // Another process.
    let store: DynStore = Arc::new(FileStore::open(&path, false).await.unwrap());
    let refused = Repository::init(store.clone(), options(Some(kek(2))))
        .await
        .unwrap_err();
    assert!(refused.is(code::repository::EXISTS));
    let repository = open(&store, Some(kek(1)), Mode::Write).await.unwrap();
    assert!(repository.create_only_proven());
    assert_eq!(repository.deployments().await.unwrap(), [name()]);
    repository.rotate_kek(&kek(1), &kek(2)).await.unwrap();
    assert!(
        open(&store, Some(kek(2)), Mode::Read)
            .await
            .unwrap()
            .deployment(&name())
            .await
            .is_ok()
    );
}
