//! Base backups of real servers, judged by PostgreSQL's own verifier.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::{Cluster, Scratch, run};
use hardstorage_replication::{BackupEnd, BackupEvent, BaseBackup, BaseBackupOptions};
use hardstorage_report::{Timeline, code};

use crate::real_slot::{connection, lsn};

/// A whole backup: each archive by its tablespace, the manifest, the end.
#[derive(Default)]
struct Received {
    archives: BTreeMap<Option<u32>, Vec<u8>>,
    order: Vec<Option<u32>>,
    manifest: Vec<u8>,
    progress: u64,
    end: Option<BackupEnd>,
}

async fn receive(mut backup: BaseBackup<'_>) -> Received {
    let mut received = Received::default();
    while let Some(event) = backup.next().await.unwrap() {
        match event {
            BackupEvent::Archive { tablespace, .. } => received.order.push(tablespace),
            BackupEvent::Data(bytes) => {
                let archive = *received.order.last().unwrap();
                received.archives.entry(archive).or_default().extend_from_slice(&bytes);
            }
            BackupEvent::Manifest => {}
            BackupEvent::ManifestData(bytes) => received.manifest.extend_from_slice(&bytes),
            BackupEvent::Progress(done) => {
                assert!(done >= received.progress);
                received.progress = done;
            }
            BackupEvent::End(end) => received.end = Some(end),
        }
    }
    received
}

async fn a_backup_that_verifies(major: u16) {
    let cluster = Cluster::builder(major).start();
    let place = Scratch::new();
    let space = place.dir("space");
    cluster.sql(&format!("CREATE TABLESPACE fast LOCATION '{}'", space.display()));
    cluster.sql("CREATE TABLE t TABLESPACE fast AS SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g");
    let oid: u32 = cluster
        .value("SELECT oid FROM pg_tablespace WHERE spcname = 'fast'")
        .parse()
        .unwrap();

    let mut connection = connection(&cluster).await;
    let before = lsn(&cluster.insert_lsn());
    let options = BaseBackupOptions::new("it's a test");
    let backup = connection.base_backup(&options).await.unwrap();
    let start = backup.start().clone();
    assert!(start.start_lsn >= before);
    assert_eq!(start.timeline, Timeline(1));
    let oids: Vec<_> = start.tablespaces.iter().map(|space| space.oid).collect();
    assert_eq!(oids, [Some(oid), None]);
    assert_eq!(start.tablespaces[0].location.as_deref(), Some(space.as_path()));
    assert!(start.tablespaces.iter().all(|space| space.size_kib.unwrap() > 100));

    let received = receive(backup).await;
    // With tablespaces the data directory comes last.
    assert_eq!(received.order, [Some(oid), None]);
    assert!(received.progress > 1 << 20);
    let end = received.end.unwrap();
    assert!(end.damaged.is_none() && end.warnings.is_empty(), "{end:?}");
    assert!(end.stop_lsn > start.start_lsn && end.timeline == Timeline(1));
    // The connection takes the next command.
    assert!(connection.identify().await.unwrap().flush_lsn >= end.stop_lsn);

    let target = place.dir("restored");
    for (tablespace, archive) in &received.archives {
        let into = match tablespace {
            None => target.clone(),
            Some(oid) => target.join("pg_tblspc").join(oid.to_string()),
        };
        fs::create_dir_all(&into).unwrap();
        let file = place.path("one.tar");
        fs::write(&file, archive).unwrap();
        let mut tar = Command::new("tar");
        tar.arg("--numeric-owner").arg("-xf").arg(&file).arg("-C").arg(&into);
        run(tar, Duration::from_mins(1)).ok();
    }
    fs::write(target.join("backup_manifest"), &received.manifest).unwrap();
    let target = target.display().to_string();
    cluster.tool("pg_verifybackup", &["--no-parse-wal", &target]).ok();
    let label = fs::read_to_string(format!("{target}/backup_label")).unwrap();
    assert!(
        label.contains("LABEL: it's a test") && label.contains(&start.start_lsn.to_string()),
        "{label}"
    );
    assert!(
        fs::read_to_string(format!("{target}/tablespace_map"))
            .unwrap()
            .starts_with(&oid.to_string())
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_15_with_a_tablespace_verifies() {
    a_backup_that_verifies(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_18_with_a_tablespace_verifies() {
    a_backup_that_verifies(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_pages_mark_the_backup_and_do_not_fail_it() {
    let mut cluster = Cluster::builder(18).start();
    cluster.sql("CREATE TABLE t AS SELECT g, repeat('x', 100) FROM generate_series(1, 5000) g");
    let path = cluster.value("SELECT pg_relation_filepath('t')");
    cluster.stop();
    let mut file = File::options().write(true).open(cluster.data().join(&path)).unwrap();
    file.seek(SeekFrom::Start(3 * 8192 + 4000)).unwrap();
    file.write_all(b"damage").unwrap();
    drop(file);
    cluster.start();

    let mut connection = connection(&cluster).await;
    let mut options = BaseBackupOptions::new("damaged");
    let received = receive(connection.base_backup(&options).await.unwrap()).await;
    let end = received.end.unwrap();
    assert_eq!(end.damaged.unwrap().sqlstate, "XX001");
    let named = |warning: &str| warning.contains(&path) && warning.contains('3');
    assert!(
        end.warnings.iter().any(|warning| named(&warning.message)),
        "{:?}",
        end.warnings
    );
    assert!(!received.manifest.is_empty());
    // The same connection, unchecked: nothing is noticed.
    options.verify_checksums = false;
    let received = receive(connection.base_backup(&options).await.unwrap()).await;
    let end = received.end.unwrap();
    assert!(end.damaged.is_none() && end.warnings.is_empty(), "{end:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_backup_ends_on_the_server_with_its_connection() {
    let mut cluster = Cluster::builder(18).start();
    let mut connection = connection(&cluster).await;
    let options = BaseBackupOptions {
        max_rate_kib: Some(1024),
        ..BaseBackupOptions::new("slow")
    };
    let running = "SELECT count(*) FROM pg_stat_progress_basebackup";
    let mut backup = connection.base_backup(&options).await.unwrap();
    assert!(matches!(
        backup.next().await.unwrap(),
        Some(BackupEvent::Archive { .. })
    ));
    assert_eq!(cluster.value(running), "1");
    drop(backup);
    // The rest of the backup is still on its way on this connection.
    let busy = connection.identify().await.unwrap_err();
    assert!(busy.is(code::replication::UNREACHABLE), "{busy:?}");
    drop(connection);
    cluster.until("the backup has ended", |c| {
        (c.try_value(running).ok()? == "0").then_some(())
    });
}
