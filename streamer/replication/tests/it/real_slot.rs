//! Identity, settings and slots of real servers, asked with the introduction's role: REPLICATION and nothing else.

use hardstorage_e2e::Cluster;
use hardstorage_replication::{Connection, StreamOptions};
use hardstorage_report::{Lsn, SegmentSize, Timeline, code};

use crate::login::log_in;

/// A connection with the introduction's role.
pub async fn connection(cluster: &Cluster) -> Connection {
    Connection::from_wire(log_in(&cluster.connection()).await.unwrap().wire).unwrap()
}

pub fn lsn(text: &str) -> Lsn {
    text.parse().unwrap()
}

async fn what_a_walsender_answers(major: u16) {
    let cluster = Cluster::builder(major).start();
    let mut connection = connection(&cluster).await;
    assert_eq!(
        connection.server_version_num().to_string(),
        cluster.value("SHOW server_version_num")
    );
    let identity = connection.identify().await.unwrap();
    assert_eq!(
        identity.system_id.to_string(),
        cluster.value("SELECT system_identifier FROM pg_control_system()")
    );
    assert_eq!(identity.timeline, Timeline(1));
    assert!(identity.flush_lsn.is_valid() && identity.flush_lsn <= lsn(&cluster.insert_lsn()));

    let size = connection.show("wal_segment_size").await.unwrap();
    assert_eq!(SegmentSize::from_setting(&size), Some(SegmentSize::DEFAULT));
    let denied = connection.show("data_directory").await.unwrap_err();
    assert!(denied.is(code::replication::DENIED), "{denied:?}");
    let unknown = connection.show("no_such_setting").await.unwrap_err();
    assert!(unknown.is(code::replication::SERVER), "{unknown:?}");
    let missing = connection.timeline_history(Timeline(7)).await.unwrap_err();
    assert!(missing.is(code::replication::HISTORY_MISSING), "{missing:?}");

    // The life of a slot.
    assert_eq!(connection.read_slot("db1").await.unwrap(), None);
    connection.create_slot("db1", false, false).await.unwrap();
    let empty = connection.read_slot("db1").await.unwrap().unwrap();
    assert_eq!(empty.restart_lsn, None);
    let exists = connection.create_slot("db1", false, true).await.unwrap_err();
    assert!(exists.is(code::replication::SLOT_EXISTS), "{exists:?}");
    connection.drop_slot("db1", false).await.unwrap();
    let missing = connection.drop_slot("db1", true).await.unwrap_err();
    assert!(missing.is(code::replication::SLOT_MISSING), "{missing:?}");
    let malformed = connection.create_slot("Not a name", false, true).await.unwrap_err();
    assert!(malformed.is(code::usage::INVALID), "{malformed:?}");

    connection.create_slot("db1", true, true).await.unwrap();
    let reserved = connection.read_slot("db1").await.unwrap().unwrap();
    let told = cluster.value("SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = 'db1' AND temporary");
    assert_eq!(reserved.restart_lsn, Some(lsn(&told)));
    assert_eq!(reserved.restart_timeline, Some(Timeline(1)));
    connection.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_walsender_of_15_answers() {
    what_a_walsender_answers(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_walsender_of_18_answers() {
    what_a_walsender_answers(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_in_use_names_its_process_and_a_full_server_says_so() {
    let cluster = Cluster::builder(18)
        .set("max_replication_slots", "1")
        .set("max_wal_senders", "2")
        .start();
    let mut first = connection(&cluster).await;
    first.create_slot("db_1", false, true).await.unwrap();
    let from = first.read_slot("db_1").await.unwrap().unwrap().restart_lsn.unwrap();
    let from = from.segment_start(SegmentSize::DEFAULT);
    let stream = first
        .start_replication(Some("db_1"), from, Timeline(1), StreamOptions::default())
        .await
        .unwrap();
    let pid = cluster.value("SELECT active_pid FROM pg_replication_slots");

    let mut second = connection(&cluster).await;
    let used = second.drop_slot("db_1", false).await.unwrap_err();
    assert!(used.is(code::replication::SLOT_IN_USE), "{used:?}");
    assert!(used.message().contains(&format!("process {pid} ")), "{used}");
    let full = second.create_slot("db_2", false, true).await.unwrap_err();
    assert!(full.is(code::replication::SLOTS_FULL), "{full:?}");
    let full = log_in(&cluster.connection()).await.unwrap_err();
    assert!(full.is(code::replication::SENDERS_FULL), "{full:?}");
    let used = second
        .start_replication(Some("db_1"), from, Timeline(1), StreamOptions::default())
        .await
        .unwrap_err();
    assert!(used.is(code::replication::SLOT_IN_USE), "{used:?}");
    assert!(used.message().contains(&format!("process {pid} ")), "{used}");

    // The stream was not disturbed, and its end frees the slot.
    let mut first = stream.finish().await.unwrap();
    first.drop_slot("db_1", false).await.unwrap();
    let missing = first
        .start_replication(Some("db_1"), from, Timeline(1), StreamOptions::default())
        .await
        .unwrap_err();
    assert!(missing.is(code::replication::SLOT_MISSING), "{missing:?}");
}
