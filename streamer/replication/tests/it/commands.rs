//! Commands that answer with rows, against a scripted server.

use std::time::Duration;

use hardstorage_replication::{Connection, ServerError, SlotState, SystemIdentity};
use hardstorage_report::{Lsn, Retry, SystemId, Timeline, code};

use crate::fake::{complete, connected, copy_both, error, fatal, message, ready, row, rows, warning, wire};

#[tokio::test]
async fn identify_and_show_and_history() {
    let (mut connection, mut fake) = connected().await;
    let script = async {
        let identity = row(&[Some("7421000000000000001"), Some("2"), Some("1/3000148"), None]);
        fake.answer("IDENTIFY_SYSTEM", &identity).await;
        fake.answer("SHOW wal_segment_size", &row(&[Some("16MB")])).await;
        let text = fake
            .answer(
                "TIMELINE_HISTORY",
                &row(&[Some("00000002.history"), Some("1\t0/3000000\twhy\n")]),
            )
            .await;
        assert_eq!(text, "TIMELINE_HISTORY 2");
    };
    let client = async {
        let identity = connection.identify().await.unwrap();
        assert_eq!(
            identity,
            SystemIdentity {
                system_id: SystemId(7_421_000_000_000_000_001),
                timeline: Timeline(2),
                flush_lsn: Lsn(0x1_0300_0148),
            }
        );
        assert_eq!(connection.show("wal_segment_size").await.unwrap(), "16MB");
        let (name, content) = connection.timeline_history(Timeline(2)).await.unwrap();
        assert_eq!(
            (name.as_str(), &content[..]),
            ("00000002.history", &b"1\t0/3000000\twhy\n"[..])
        );
    };
    tokio::join!(script, client);
}

#[tokio::test]
async fn the_connection_is_usable_after_an_error() {
    let (mut connection, mut fake) = connected().await;
    let script = async {
        fake.answer("SHOW data_directory", &error("42501", "拒绝")).await;
        fake.answer("SHOW summarize_wal", &error("42704", "unbekannt")).await;
        fake.answer("TIMELINE_HISTORY 9", &error("58P01", "no such file")).await;
        fake.answer("SHOW wal_level", &row(&[Some("replica")])).await;
    };
    let client = async {
        let denied = connection.show("data_directory").await.unwrap_err();
        assert!(denied.is(code::replication::DENIED), "{denied:?}");
        let unknown = connection.show("summarize_wal").await.unwrap_err();
        assert!(unknown.is(code::replication::SERVER), "{unknown:?}");
        assert_eq!(ServerError::of(&unknown).unwrap().sqlstate, "42704");
        let missing = connection.timeline_history(Timeline(9)).await.unwrap_err();
        assert!(missing.is(code::replication::HISTORY_MISSING), "{missing:?}");
        assert_eq!(connection.show("wal_level").await.unwrap(), "replica");
    };
    tokio::join!(script, client);
}

#[tokio::test]
async fn a_slot_is_there_or_reserves_nothing_or_is_not_there() {
    let (mut connection, mut fake) = connected().await;
    let script = async {
        let slot = "READ_REPLICATION_SLOT";
        fake.answer(slot, &row(&[Some("physical"), Some("0/3000000"), Some("1")]))
            .await;
        fake.answer(slot, &row(&[Some("physical"), None, None])).await;
        fake.answer(slot, &row(&[None, None, None])).await;
    };
    let client = async {
        let state = |restart_lsn, restart_timeline| SlotState {
            restart_lsn,
            restart_timeline,
        };
        assert_eq!(
            connection.read_slot("db1").await.unwrap(),
            Some(state(Some(Lsn(0x300_0000)), Some(Timeline(1))))
        );
        assert_eq!(connection.read_slot("db1").await.unwrap(), Some(state(None, None)));
        assert_eq!(connection.read_slot("db1").await.unwrap(), None);
    };
    tokio::join!(script, client);
}

#[tokio::test]
async fn refusals_about_slots() {
    let (mut connection, mut fake) = connected().await;
    let script = async {
        for state in ["42710", "53400", "42602"] {
            fake.answer("CREATE_REPLICATION_SLOT", &error(state, "nein")).await;
        }
        let used = error("55006", "复制槽\"s\"已被PID为815的进程激活");
        fake.answer("DROP_REPLICATION_SLOT", &used).await;
        fake.answer("DROP_REPLICATION_SLOT", &error("42704", "nein")).await;
        let dropped = complete("DROP_REPLICATION_SLOT");
        fake.answer("DROP_REPLICATION_SLOT", &dropped).await;
    };
    let client = async {
        for code in [
            code::replication::SLOT_EXISTS,
            code::replication::SLOTS_FULL,
            code::usage::INVALID,
        ] {
            let refused = connection.create_slot("s", false, true).await.unwrap_err();
            assert!(refused.is(code), "{refused:?}");
        }
        let used = connection.drop_slot("s", false).await.unwrap_err();
        assert!(used.is(code::replication::SLOT_IN_USE), "{used:?}");
        assert!(used.message().contains("process 815"), "{used}");
        let missing = connection.drop_slot("s", true).await.unwrap_err();
        assert!(missing.is(code::replication::SLOT_MISSING), "{missing:?}");
        connection.drop_slot("s", false).await.unwrap();
    };
    tokio::join!(script, client);
}

#[tokio::test]
async fn a_command_that_was_given_up_is_never_answered_by_the_next() {
    let (mut connection, mut fake) = connected().await;
    let given_up = async {
        tokio::select! {
            _ = connection.show("port") => panic!("nobody answered"),
            text = fake.expect("SHOW port") => text,
        }
    };
    given_up.await;
    fake.send(&row(&[Some("5432")])).await;
    fake.send(&ready()).await;
    let refused = connection.show("wal_level").await.unwrap_err();
    assert!(refused.is(code::replication::UNREACHABLE), "{refused:?}");
    assert_eq!(refused.retry_advice(), Retry::Now);
}

#[tokio::test(start_paused = true)]
async fn a_silent_server_is_unreachable() {
    let (connection, _fake) = connected().await;
    let mut connection = connection.with_reply_timeout(Duration::from_secs(5));
    let silent = connection.identify().await.unwrap_err();
    assert!(silent.is(code::replication::UNREACHABLE), "{silent:?}");
}

#[tokio::test]
async fn the_last_words_of_a_server_are_the_reason_not_the_closed_connection() {
    let (mut connection, mut fake) = connected().await;
    // Said and gone before the command is even sent: the write fails, the words are in the buffer.
    fake.send(&fatal("57P01", "terminating")).await;
    drop(fake);
    let gone = connection.identify().await.unwrap_err();
    assert!(gone.is(code::replication::UNREACHABLE), "{gone:?}");
    assert_eq!(ServerError::of(&gone).unwrap().sqlstate, "57P01");
    // And nothing but the end of the stream.
    let (mut connection, fake) = connected().await;
    drop(fake);
    let gone = connection.identify().await.unwrap_err();
    assert!(gone.is(code::replication::UNREACHABLE), "{gone:?}");
}

#[tokio::test]
async fn answers_of_a_wrong_shape_are_protocol_errors() {
    let one_too_many = rows(1, &[&[Some("a")], &[Some("b")]]);
    let no_number = row(&[Some("id"), Some("1"), Some("0/0"), None]);
    let no_result = Vec::new();
    let two_results = [row(&[Some("a")]), row(&[Some("b")])].concat();
    let a_copy = copy_both();
    let no_description = message(b'D', &[0, 0]);
    let unknown = message(b'!', &[]);
    for answer in [
        one_too_many,
        no_number,
        no_result,
        two_results,
        a_copy,
        no_description,
        unknown,
    ] {
        let (mut connection, mut fake) = connected().await;
        let (_, result) = tokio::join!(fake.answer("IDENTIFY_SYSTEM", &answer), connection.identify());
        let error = result.unwrap_err();
        assert!(error.is(code::replication::PROTOCOL), "{error:?}");
    }
}

#[tokio::test]
async fn notices_and_parameters_are_kept_aside() {
    let (mut connection, mut fake) = connected().await;
    let mut answer = warning("first");
    answer.extend(message(b'S', b"TimeZone\0UTC\0"));
    answer.extend(message(b'A', b"\0\0\0\x01channel\0payload\0"));
    answer.extend(row(&[Some("replica")]));
    answer.extend(warning("second"));
    let (_, shown) = tokio::join!(fake.answer("SHOW", &answer), connection.show("wal_level"));
    assert_eq!(shown.unwrap(), "replica");
    assert_eq!(connection.parameters()["TimeZone"], "UTC");
    let (notices, dropped) = connection.take_notices();
    let texts: Vec<_> = notices.iter().map(|notice| notice.message.as_str()).collect();
    assert_eq!((texts, dropped), (vec!["first", "second"], 0));
    assert_eq!(connection.take_notices(), (Vec::new(), 0));
}

#[tokio::test]
async fn a_flood_of_notices_is_bounded_and_counted() {
    let (mut connection, mut fake) = connected().await;
    let mut answer: Vec<u8> = (0..1_500).flat_map(|n| warning(&n.to_string())).collect();
    answer.extend(row(&[Some("replica")]));
    let (_, shown) = tokio::join!(fake.answer("SHOW", &answer), connection.show("wal_level"));
    shown.unwrap();
    let (notices, dropped) = connection.take_notices();
    assert_eq!((notices.len(), dropped), (1_000, 500));
}

#[tokio::test]
async fn other_versions_are_refused() {
    for (version, known) in [
        ("14.12", false),
        ("15.18 (Debian)", true),
        ("18beta1", true),
        ("19.0", false),
    ] {
        let (wire, _fake) = wire(1 << 10, version).await;
        match Connection::from_wire(wire) {
            Ok(_) => assert!(known, "{version}"),
            Err(error) => assert!(!known && error.is(code::replication::VERSION), "{error:?}"),
        }
    }
}
