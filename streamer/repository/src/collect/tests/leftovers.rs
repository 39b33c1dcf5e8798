//! What killed writers left: what the store is asked, and what stands when it refuses.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_report::{Error, code};
use hardstorage_storage::{Call, DynStore, Fault, FaultStore, FileStore};

use crate::collect::{CollectOptions, leftovers};
use crate::{InitOptions, Opening, Purpose, RepoConfig, Repository, Session, Surroundings, WriterId, layout};

const DAYS: u64 = 24 * 3600;

/// A file as a killed writer leaves it, so many seconds ago.
fn left(root: &std::path::Path, folder: &str, seconds: u64) {
    let folder = root.join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    let path = folder.join(format!(".tmp-{seconds:032x}"));
    std::fs::write(&path, b"half").unwrap();
    let written = std::time::SystemTime::now().checked_sub(Duration::from_secs(seconds));
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.set_modified(written.unwrap()).unwrap();
}

#[tokio::test]
async fn what_may_be_under_way_stays() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path();
    let options = InitOptions {
        kek: None,
        single_writer: false,
        config: RepoConfig::default(),
        created_by: "test".into(),
        surroundings: Surroundings::default(),
    };
    let files: DynStore = Arc::new(FileStore::open(root, false).await.unwrap());
    let faults = Arc::new(FaultStore::new(files));
    let repository = Repository::init(faults.clone(), options).await.unwrap();
    let deployment = repository.deployment_or_create(&"db1".parse().unwrap()).await.unwrap();
    for (folder, seconds) in [
        ("packs/db1/x", 60),
        ("packs/db1/x", 2 * DAYS),
        ("wal/db1/x", 29 * DAYS),
        ("wal/db1/x", 31 * DAYS),
    ] {
        left(root, folder, seconds);
    }
    let told = CollectOptions {
        grace: Duration::ZERO,
        ..CollectOptions::default()
    };
    assert_eq!(leftovers(&repository, &told).await.found.objects, 3);
    let session = Session::open(&deployment, Opening::new(Purpose::Verify)).await.unwrap();
    let careful = leftovers(&repository, &told).await;
    assert_eq!((careful.found.objects, careful.found.bytes), (2, 8));

    // A session that nobody can read may be anybody's.
    session.close().await.unwrap();
    assert_eq!(leftovers(&repository, &told).await.found.objects, 3);
    let broken = layout::session(deployment.name(), &WriterId::new([7; 16]), 1);
    deployment.store().put_new(&broken, "no session".into()).await.unwrap();
    assert_eq!(leftovers(&repository, &told).await.found.objects, 2);

    // A store that refuses is told, and fails nothing.
    faults.every(Call::Sweep, || {
        Fault::FailBefore(Error::new(code::storage::IO, "it lists no uploads"))
    });
    let refused = leftovers(&repository, &told).await;
    assert_eq!(refused.found.objects, 0);
    assert!(refused.note.unwrap().contains("it lists no uploads"));
}
