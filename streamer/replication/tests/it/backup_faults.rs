//! Base backups from a scripted server: the order in which they come, and every way in which it breaks.

use std::path::PathBuf;
use std::time::Duration;

use hardstorage_replication::{BackupEnd, BackupEvent, BaseBackupOptions, Connection, Tablespace};
use hardstorage_report::{Error, Lsn, Timeline, code};

use crate::fake::{complete, connected, copy_data, copy_done, error, fatal, message, ready, row, rows, warning};

fn begin() -> Vec<u8> {
    [
        row(&[Some("0/4000028"), Some("3")]),
        rows(
            3,
            &[
                &[Some("16384"), Some("/srv/fast"), Some("120")],
                &[None, None, Some("23000")],
            ],
        ),
        message(b'H', &[0, 0, 0]),
    ]
    .concat()
}

fn archives() -> Vec<u8> {
    [
        copy_data(b"n16384.tar\0/srv/fast\0"),
        copy_data(b"dspace"),
        copy_data(b"p\0\0\0\0\0\0\x10\0"),
        copy_data(b"nbase.tar\0\0"),
        copy_data(b"dbase"),
        copy_data(b"m"),
        copy_data(b"d{}"),
    ]
    .concat()
}

fn end() -> Vec<u8> {
    [copy_done(), row(&[Some("0/4000100"), Some("3")])].concat()
}

async fn run(script: Vec<u8>) -> Result<(Vec<BackupEvent>, Connection), (Vec<BackupEvent>, Error)> {
    let (mut connection, mut fake) = connected().await;
    let server = async {
        fake.expect("BASE_BACKUP (LABEL 'nightly'").await;
        fake.send(&script).await;
        drop(fake);
    };
    let client = async {
        let mut events = Vec::new();
        let options = BaseBackupOptions::new("nightly");
        let mut backup = match connection.base_backup(&options).await {
            Ok(backup) => backup,
            Err(error) => return Err((events, error)),
        };
        assert_eq!(backup.start().start_lsn, Lsn(0x400_0028));
        assert_eq!(backup.start().timeline, Timeline(3));
        loop {
            match backup.next().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return Ok(events),
                Err(error) => return Err((events, error)),
            }
        }
    };
    let ((), result) = tokio::join!(server, client);
    result.map(|events| (events, connection))
}

#[tokio::test]
async fn a_backup_with_a_tablespace() {
    let script = [begin(), archives(), end(), complete("BASE_BACKUP"), ready()].concat();
    let (events, _) = run(script).await.unwrap();
    let archive = |name: &str, tablespace, location: Option<&str>| BackupEvent::Archive {
        name: name.to_owned(),
        tablespace,
        location: location.map(PathBuf::from),
    };
    assert_eq!(
        events,
        [
            archive("16384.tar", Some(16384), Some("/srv/fast")),
            BackupEvent::Data("space".into()),
            BackupEvent::Progress(4096),
            archive("base.tar", None, None),
            BackupEvent::Data("base".into()),
            BackupEvent::Manifest,
            BackupEvent::ManifestData("{}".into()),
            BackupEvent::End(BackupEnd {
                stop_lsn: Lsn(0x400_0100),
                timeline: Timeline(3),
                damaged: None,
                warnings: Vec::new(),
                warnings_dropped: 0,
            }),
        ]
    );
}

#[tokio::test]
async fn the_beginning_names_the_tablespaces() {
    let (mut connection, mut fake) = connected().await;
    let server = async {
        fake.expect("BASE_BACKUP").await;
        fake.send(&begin()).await;
    };
    let options = BaseBackupOptions::new("x");
    let ((), backup) = tokio::join!(server, connection.base_backup(&options));
    let space = |oid, location: Option<&str>, size_kib| Tablespace {
        oid,
        location: location.map(PathBuf::from),
        size_kib: Some(size_kib),
    };
    assert_eq!(
        backup.unwrap().start().tablespaces,
        [space(Some(16384), Some("/srv/fast"), 120), space(None, None, 23000)]
    );
}

#[tokio::test]
async fn damaged_pages_are_an_end_with_a_mark_and_the_warnings() {
    let script = [
        begin(),
        archives(),
        warning("file base/5/1 block 0"),
        end(),
        warning("2 total checksum verification failures"),
        error("XX001", "checksum verification failure during base backup"),
        ready(),
    ]
    .concat();
    let (events, mut connection) = run(script).await.unwrap();
    let Some(BackupEvent::End(end)) = events.last() else {
        panic!("{events:?}");
    };
    assert_eq!(end.stop_lsn, Lsn(0x400_0100));
    assert_eq!(end.damaged.as_ref().unwrap().sqlstate, "XX001");
    assert_eq!(end.warnings.len(), 2);
    assert_eq!(connection.take_notices(), (Vec::new(), 0));
}

#[tokio::test]
async fn the_same_error_before_the_end_is_a_failure() {
    let script = [begin(), archives(), error("XX001", "invalid page"), ready()].concat();
    let (_, failed) = run(script).await.unwrap_err();
    assert!(failed.is(code::replication::SERVER), "{failed:?}");
    // And so is any other error after it.
    let script = [begin(), archives(), end(), error("XX000", "x"), ready()].concat();
    let (_, failed) = run(script).await.unwrap_err();
    assert!(failed.is(code::replication::SERVER), "{failed:?}");
}

#[tokio::test]
async fn errors_of_the_server_in_the_middle() {
    let (events, failed) = run([begin(), copy_data(b"nbase.tar\0\0"), error("58P01", "no file"), ready()].concat())
        .await
        .unwrap_err();
    assert_eq!(events.len(), 1);
    assert!(failed.is(code::replication::SERVER), "{failed:?}");
    let (_, failed) = run([begin(), fatal("57P01", "stop")].concat()).await.unwrap_err();
    assert!(failed.is(code::replication::UNREACHABLE), "{failed:?}");
    let (_, failed) = run([error("42501", "no"), ready()].concat()).await.unwrap_err();
    assert!(failed.is(code::replication::DENIED), "{failed:?}");
}

#[tokio::test]
async fn a_torn_backup_never_ends() {
    let whole = [begin(), archives(), end(), complete("BASE_BACKUP"), ready()].concat();
    for cut in 0..whole.len() {
        let (events, failed) = run(whole[..cut].to_vec()).await.unwrap_err();
        assert!(failed.is(code::replication::UNREACHABLE), "{cut}: {failed:?}");
        assert!(
            !events.iter().any(|event| matches!(event, BackupEvent::End(_))),
            "{cut}"
        );
    }
}

#[tokio::test]
async fn orders_that_cannot_be() {
    let copy = message(b'H', &[0, 0, 0]);
    let base = copy_data(b"nbase.tar\0\0");
    let manifest = copy_data(b"m");
    for script in [
        // The beginning.
        [copy.clone(), ready()].concat(),
        [row(&[Some("0/1"), Some("1")]), copy].concat(),
        ready(),
        // Data that belongs to nothing, a manifest before any archive, an archive after the manifest.
        [begin(), copy_data(b"dx")].concat(),
        [begin(), manifest.clone()].concat(),
        [begin(), base.clone(), manifest.clone(), base.clone()].concat(),
        [begin(), base.clone(), manifest.clone(), manifest].concat(),
        // No manifest, no end.
        [begin(), base.clone(), end(), complete("BASE_BACKUP"), ready()].concat(),
        [begin(), archives(), ready()].concat(),
        [begin(), archives(), copy_done(), complete("BASE_BACKUP"), ready()].concat(),
        [begin(), archives(), end(), end()].concat(),
        [begin(), archives(), end(), copy_data(b"dx")].concat(),
        // Names and frames.
        [begin(), copy_data(b"n../etc.tar\0\0")].concat(),
        [begin(), copy_data(b"n4294967296.tar\0\0")].concat(),
        [begin(), copy_data(b"nbase.tar.gz\0\0")].concat(),
        [begin(), base, copy_data(b"x")].concat(),
    ] {
        let (_, failed) = run(script.clone()).await.unwrap_err();
        assert!(failed.is(code::replication::PROTOCOL), "{script:?}: {failed:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stall_is_unreachable() {
    let (mut connection, mut fake) = connected().await;
    let server = async {
        fake.expect("BASE_BACKUP").await;
        // A long checkpoint is no stall.
        tokio::time::sleep(Duration::from_hours(1)).await;
        fake.send(&begin()).await;
    };
    let options = BaseBackupOptions {
        stall_timeout: Duration::from_secs(30),
        ..BaseBackupOptions::new("x")
    };
    let ((), backup) = tokio::join!(server, connection.base_backup(&options));
    let stalled = backup.unwrap().next().await.unwrap_err();
    assert!(stalled.is(code::replication::UNREACHABLE), "{stalled:?}");
    // The rest of the answer may still come, so the connection takes no other command.
    let refused = connection.identify().await.unwrap_err();
    assert!(refused.is(code::replication::UNREACHABLE), "{refused:?}");
}
