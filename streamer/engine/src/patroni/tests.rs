//! Asking Patroni, and everything that is no answer.

use hardstorage_report::Code;
use serde_json::json;

use super::stand_in::{Answer, Asked, Authority, SYSTEM, StandIn};
use super::*;

const OURS: &str = "pg_hardstorage_db1";

fn whats(asked: &[Asked]) -> Vec<&str> {
    asked.iter().map(|one| one.what.as_str()).collect()
}

#[tokio::test]
async fn one_key_is_added_once_and_nothing_else_is_touched() {
    let patroni = StandIn::start().await;
    let before = json!({"ttl": 30, "postgresql": {"parameters": {"a": 1}}, "slots": {"theirs": {"type": "logical"}}});
    patroni.configure(before.clone());
    let client = patroni.client();
    assert!(!client.keeps(OURS).await.unwrap());
    assert_eq!(patroni.config(), before, "looking changes nothing");
    assert_eq!(client.keep(OURS, SYSTEM).await.unwrap(), Kept::Now);
    let asked = patroni.asked();
    assert_eq!(
        whats(&asked),
        [
            "GET /config",
            "GET /config",
            "GET /cluster",
            "GET /patroni",
            "PATCH /config"
        ]
    );
    let change: Value = serde_json::from_str(&asked[4].body).unwrap();
    assert_eq!(change, json!({"slots": {OURS: {"type": "physical"}}}));
    assert_eq!(client.keep(OURS, SYSTEM).await.unwrap(), Kept::Already);
    assert!(client.keeps(OURS).await.unwrap());
    let mut wanted = before;
    wanted["slots"][OURS] = json!({"type": "physical"});
    assert_eq!(patroni.config(), wanted);
    assert_eq!(whats(&patroni.asked())[5..], ["GET /config", "GET /config"]);
}

#[tokio::test]
async fn what_has_the_name_already_is_left_as_it_is() {
    let patroni = StandIn::start().await;
    for (config, wanted) in [
        (
            json!({"slots": {OURS: {"type": "logical", "database": "a", "plugin": "pgoutput"}}}),
            code::engine::PATRONI_SLOT,
        ),
        (
            json!({"slots": {OURS: {"type": "physical", "cluster_type": "standby"}}}),
            code::engine::PATRONI_SLOT,
        ),
        (
            json!({"postgresql": {"use_slots": false}}),
            code::engine::PATRONI_SLOTS_OFF,
        ),
    ] {
        patroni.configure(config.clone());
        let error = patroni.client().keep(OURS, SYSTEM).await.unwrap_err();
        assert!(error.is(wanted), "{config}: {error}");
        assert_eq!(patroni.config(), config);
    }
    patroni.configure(json!({}));
    // Patroni's member PG-1 has a slot of this name.
    let error = patroni.client().keep("pg_1", SYSTEM).await.unwrap_err();
    assert!(error.is(code::engine::PATRONI_SLOT), "{error}");
    assert!(error.to_string().contains("PG-1"), "{error}");
    assert_eq!(patroni.config(), json!({}));
}

#[tokio::test]
async fn everything_that_is_no_answer_has_a_code_and_changes_nothing() {
    let (away, auth, foreign) = (
        code::engine::PATRONI_UNREACHABLE,
        code::engine::PATRONI_AUTH,
        code::engine::PATRONI_FOREIGN,
    );
    let table: [(&str, Answer, Code); 18] = [
        ("/config", Answer::Status(401), auth),
        ("/config", Answer::Status(403), auth),
        ("/config", Answer::Status(500), away),
        ("/config", Answer::Status(502), away),
        ("/config", Answer::Status(404), foreign),
        ("/config", Answer::Status(302), foreign),
        ("/config", Answer::Body("<html>"), foreign),
        ("/config", Answer::Body("[]"), foreign),
        ("/config", Answer::Raw("SSH-2.0-OpenSSH_9.9\r\n"), foreign),
        (
            "/config",
            Answer::Raw("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"),
            away,
        ),
        ("/cluster", Answer::Status(404), foreign),
        ("/cluster", Answer::Body("{}"), foreign),
        // Of another cluster, of none yet, of nobody.
        (
            "/patroni",
            Answer::Body(r#"{"database_system_identifier": "7"}"#),
            foreign,
        ),
        ("/patroni", Answer::Body(r#"{"state": "initializing"}"#), away),
        ("/patroni", Answer::Status(404), foreign),
        ("PATCH /config", Answer::Status(401), auth),
        ("PATCH /config", Answer::Status(409), away),
        // It says yes, and does nothing.
        ("PATCH /config", Answer::Body("{}"), foreign),
    ];
    for (path, answer, wanted) in table {
        let patroni = StandIn::start().await;
        let before = patroni.config();
        patroni.answer(path, answer.clone());
        let error = patroni.client().keep(OURS, SYSTEM).await.unwrap_err();
        assert!(error.is(wanted), "{path} {answer:?}: {error}");
        assert!(error.to_string().contains(&patroni.url()), "{error}");
        assert_eq!(patroni.config(), before);
        let patched = whats(&patroni.asked()).contains(&"PATCH /config");
        assert_eq!(patched, path.starts_with("PATCH"), "{path} {answer:?}");
    }
}

/// The clock is the test's: nobody waits for five seconds.
#[tokio::test(start_paused = true)]
async fn silence_ends() {
    let patroni = StandIn::start().await;
    patroni.answer("/config", Answer::Silence);
    let begun = tokio::time::Instant::now();
    let error = patroni.client().keep(OURS, SYSTEM).await.unwrap_err();
    assert!(error.is(code::engine::PATRONI_UNREACHABLE), "{error}");
    assert!(error.to_string().contains("no answer in 5 s"), "{error}");
    assert_eq!(begun.elapsed().as_secs(), 5);
}

#[tokio::test]
async fn one_member_that_answers_is_enough() {
    let (silent, refusing, well) = (StandIn::start().await, StandIn::start().await, StandIn::start().await);
    silent.answer("/config", Answer::Silence);
    refusing.answer("/config", Answer::Status(401));
    let nobody = "http://127.0.0.1:1".to_owned();
    let urls = [silent.url(), refusing.url(), nobody.clone(), well.url()];
    let client = Patroni::new(&urls, None, None).unwrap();
    assert_eq!(client.keep(OURS, SYSTEM).await.unwrap(), Kept::Now);
    assert_eq!(well.config()["slots"][OURS], json!({"type": "physical"}));
    // A refusal tells more than an absence, in whatever order they come.
    for urls in [[nobody.clone(), refusing.url()], [refusing.url(), nobody.clone()]] {
        let error = Patroni::new(&urls, None, None)
            .unwrap()
            .keep(OURS, SYSTEM)
            .await
            .unwrap_err();
        assert!(error.is(code::engine::PATRONI_AUTH), "{error}");
    }
    let error = Patroni::new(&[nobody], None, None)
        .unwrap()
        .keep(OURS, SYSTEM)
        .await
        .unwrap_err();
    assert!(error.is(code::engine::PATRONI_UNREACHABLE), "{error}");
}

#[tokio::test]
async fn user_and_password_are_sent_as_the_file_has_them_now() {
    let directory = tempfile::tempdir().unwrap();
    let password_file = directory.path().join("password");
    let patroni = StandIn::start().await;
    let login = Login {
        user: "admin".to_owned(),
        password_file: password_file.clone(),
    };
    let client = Patroni::new(&[patroni.url()], Some(login), None).unwrap();
    let error = client.keep(OURS, SYSTEM).await.unwrap_err();
    assert!(error.is(code::engine::PATRONI_AUTH), "{error}");
    assert!(
        error.to_string().contains(&password_file.display().to_string()),
        "{error}"
    );
    assert_eq!(patroni.asked(), []);
    std::fs::write(&password_file, "geheim mit: Zeichen\n").unwrap();
    client.keep(OURS, SYSTEM).await.unwrap();
    std::fs::write(&password_file, "two").unwrap();
    client.keep(OURS, SYSTEM).await.unwrap();
    let logins: Vec<_> = patroni.asked().into_iter().map(|one| one.login.unwrap()).collect();
    let (first, second) = ("Basic YWRtaW46Z2VoZWltIG1pdDogWmVpY2hlbg==", "Basic YWRtaW46dHdv");
    assert_eq!(logins, [first, first, first, first, second]);
}

#[tokio::test]
async fn the_certificate_has_to_be_of_the_authority_that_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).unwrap();
        Some(path)
    };
    let (authority, other) = (Authority::new(), Authority::new());
    let patroni = StandIn::secure(&authority).await;
    let refused = [
        file("other.pem", &other.pem),
        file("empty.pem", ""),
        Some(directory.path().join("absent.pem")),
        // That of the system has not signed it.
        None,
    ];
    for authority in refused {
        let error = patroni
            .secure_client(authority.clone())
            .keep(OURS, SYSTEM)
            .await
            .unwrap_err();
        assert!(error.is(code::engine::PATRONI_AUTH), "{authority:?}: {error}");
    }
    assert_eq!(patroni.asked(), []);
    let right = file("ca.pem", &authority.pem);
    assert_eq!(
        patroni.secure_client(right).keep(OURS, SYSTEM).await.unwrap(),
        Kept::Now
    );
}
