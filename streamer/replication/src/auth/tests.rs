//! Logins against golden vectors, and against servers that do not keep to the rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use bytes::{BufMut as _, BytesMut};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use super::*;

const HASH: &[u8] = &[7; 32];

fn tls() -> Protection {
    Protection::Tls {
        binding: Some(HASH.to_vec()),
        client_certificate: false,
    }
}

/// A step of authentication as the server sends it.
fn step(number: u32, body: &[u8]) -> Vec<u8> {
    let mut out = vec![b'R'];
    out.put_u32(body.len() as u32 + 8);
    out.put_u32(number);
    out.put_slice(body);
    out
}

const PLUS: &[u8] = b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0";
const SCRAM: &[u8] = b"SCRAM-SHA-256\0\0";
const READY: &[u8] = b"Z\0\0\0\x05I";
const KEY: &[u8] = b"K\0\0\0\x0c\0\0\0\x2a\x01\x02\x03\x04";

/// The next message of the client without tag and length.
async fn read(server: &mut DuplexStream) -> Vec<u8> {
    assert_eq!(server.read_u8().await.unwrap(), b'p');
    let length = server.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    server.read_exact(&mut body).await.unwrap();
    body
}

async fn read_startup(server: &mut DuplexStream) -> Vec<u8> {
    let length = server.read_u32().await.unwrap() as usize;
    let mut body = vec![0; length - 4];
    server.read_exact(&mut body).await.unwrap();
    body
}

/// Logs in as `md5_user` with the password `password`; `script` is the server after the startup message.
async fn log_in<F: Future<Output = DuplexStream>>(
    channel_binding: ChannelBinding,
    protection: &Protection,
    script: impl FnOnce(DuplexStream) -> F,
) -> Result<Backend, Refusal> {
    let (ours, mut theirs) = tokio::io::duplex(1 << 16);
    let mut wire = Wire::new(Box::new(ours));
    let password = Secret::new("password");
    let login = Login {
        parameters: &[("user", "md5_user"), ("replication", "true")],
        user: "md5_user",
        password: Some(&password),
        channel_binding,
        protection,
    };
    let server = async {
        let startup = read_startup(&mut theirs).await;
        assert_eq!(startup, b"\0\x03\0\0user\0md5_user\0replication\0true\0\0");
        script(theirs).await
    };
    // The server's end is kept until the client is done.
    let (result, _server) = tokio::join!(super::login(&mut wire, &login), server);
    result
}

fn error_of(result: Result<Backend, Refusal>) -> Error {
    match result {
        Err(Refusal::Other(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A server that only speaks.
async fn says(channel_binding: ChannelBinding, protection: &Protection, bytes: Vec<u8>) -> Result<Backend, Refusal> {
    log_in(channel_binding, protection, |mut server| async move {
        server.write_all(&bytes).await.unwrap();
        server.shutdown().await.unwrap();
        server
    })
    .await
}

#[tokio::test]
async fn the_golden_md5_answer() {
    let backend = log_in(ChannelBinding::Prefer, &Protection::Plain, |mut server| async move {
        server.write_all(&step(5, &[0x2a, 0x3d, 0x8f, 0xe0])).await.unwrap();
        assert_eq!(read(&mut server).await, b"md562af4dd09bbb41884907a838a3233294\0");
        server.write_all(&[&step(0, &[]), KEY, READY].concat()).await.unwrap();
        server
    })
    .await
    .unwrap();
    assert_eq!((backend.process_id, &backend.secret[..]), (42, &[1u8, 2, 3, 4][..]));
}

#[tokio::test]
async fn the_golden_cleartext_answer() {
    log_in(ChannelBinding::Prefer, &Protection::Plain, |mut server| async move {
        server.write_all(&step(3, &[])).await.unwrap();
        assert_eq!(read(&mut server).await, b"password\0");
        server.write_all(&[&step(0, &[]), READY].concat()).await.unwrap();
        server
    })
    .await
    .unwrap();
}

/// What the client says first: mechanism and GS2 header.
async fn first_message(channel_binding: ChannelBinding, protection: &Protection, offer: &'static [u8]) -> String {
    let (tell, told) = tokio::sync::oneshot::channel();
    let result = log_in(channel_binding, protection, |mut server| async move {
        server.write_all(&step(10, offer)).await.unwrap();
        tell.send(read(&mut server).await).unwrap();
        server.shutdown().await.unwrap();
        server
    })
    .await;
    assert!(result.is_err());
    let message = told.await.unwrap();
    let mechanism = message.split(|byte| *byte == 0).next().unwrap();
    let gs2 = String::from_utf8(message[mechanism.len() + 5..].to_vec()).unwrap();
    let header = gs2.split(",,").next().unwrap();
    format!("{} {header}", String::from_utf8(mechanism.to_vec()).unwrap())
}

#[tokio::test]
async fn the_mechanism_and_what_is_said_about_binding() {
    use ChannelBinding::{Disable, Prefer, Require};
    let unhashed = Protection::Tls {
        binding: None,
        client_certificate: false,
    };
    for (wanted, protection, offer, expected) in [
        (Prefer, &tls(), PLUS, "SCRAM-SHA-256-PLUS p=tls-server-end-point"),
        (Require, &tls(), PLUS, "SCRAM-SHA-256-PLUS p=tls-server-end-point"),
        (Disable, &tls(), PLUS, "SCRAM-SHA-256 n"),
        // We could and the server seems not to: it fails if somebody in the middle took its offer away.
        (Prefer, &tls(), SCRAM, "SCRAM-SHA-256 y"),
        (Disable, &tls(), SCRAM, "SCRAM-SHA-256 n"),
        (Prefer, &Protection::Plain, SCRAM, "SCRAM-SHA-256 n"),
        (Prefer, &unhashed, PLUS, "SCRAM-SHA-256 n"),
        (Prefer, &unhashed, SCRAM, "SCRAM-SHA-256 n"),
    ] {
        assert_eq!(
            first_message(wanted, protection, offer).await,
            expected,
            "{wanted:?} {protection:?}"
        );
    }
}

#[tokio::test]
async fn a_required_binding_is_never_given_up() {
    let unhashed = Protection::Tls {
        binding: None,
        client_certificate: false,
    };
    for (protection, offer) in [
        (&tls(), step(10, SCRAM)),
        (&unhashed, step(10, PLUS)),
        (&Protection::Plain, step(10, SCRAM)),
        (&tls(), step(0, &[])),
        (&tls(), step(3, &[])),
        (&tls(), step(5, &[1, 2, 3, 4])),
    ] {
        let bytes = [&offer, READY].concat();
        let error = error_of(says(ChannelBinding::Require, protection, bytes).await);
        assert!(error.is(code::replication::AUTH), "{error:?}");
        assert!(error.hint_text().contains("channel_binding"), "{error:?}");
    }
}

#[tokio::test]
async fn an_offer_without_tls_is_refused() {
    let error = error_of(says(ChannelBinding::Prefer, &Protection::Plain, step(10, PLUS)).await);
    assert!(error.is(code::replication::AUTH));
    let error = error_of(says(ChannelBinding::Prefer, &tls(), step(10, b"OAUTHBEARER\0\0")).await);
    assert!(error.is(code::replication::AUTH));
}

/// Begins SCRAM and goes on with what `rest` makes of the client's nonce.
async fn scram_server(rest: impl FnOnce(String) -> Vec<Vec<u8>>) -> Error {
    let result = log_in(ChannelBinding::Prefer, &Protection::Plain, |mut server| async move {
        server.write_all(&step(10, SCRAM)).await.unwrap();
        let first = String::from_utf8(read(&mut server).await[SCRAM.len() + 3..].to_vec()).unwrap();
        let nonce = first.split("r=").nth(1).unwrap().to_owned();
        for message in rest(nonce) {
            server.write_all(&message).await.unwrap();
        }
        server.shutdown().await.unwrap();
        server
    })
    .await;
    error_of(result)
}

#[tokio::test]
async fn a_server_that_does_not_prove_itself_is_refused() {
    let challenge = |nonce: &str| step(11, format!("r={nonce}x,s=QUJD,i=2").as_bytes());
    // A wrong signature.
    let error =
        scram_server(|nonce| vec![challenge(&nonce), step(12, b"v=QUJDRA=="), step(0, &[]), READY.to_vec()]).await;
    assert!(error.is(code::replication::AUTH), "{error:?}");
    // No signature at all.
    let error = scram_server(|nonce| vec![challenge(&nonce), step(0, &[]), READY.to_vec()]).await;
    assert!(error.is(code::replication::PROTOCOL), "{error:?}");
    // Ok before the challenge.
    let error = scram_server(|_| vec![step(0, &[]), READY.to_vec()]).await;
    assert!(error.is(code::replication::PROTOCOL), "{error:?}");
    // Another's nonce.
    let error = scram_server(|_| vec![challenge("zz"), step(12, b"v=QUJDRA==")]).await;
    assert!(error.is(code::replication::AUTH), "{error:?}");
    // A number of rounds that is an attack on our processor.
    let error = scram_server(|nonce| vec![step(11, format!("r={nonce}x,s=QUJD,i=2000000000").as_bytes())]).await;
    assert!(error.is(code::replication::AUTH), "{error:?}");
}

#[tokio::test]
async fn other_steps_out_of_order() {
    for bytes in [
        step(11, b"r=x"),
        step(12, b"v=x"),
        READY.to_vec(),
        KEY.to_vec(),
        b"v\0\0\0\x0c\0\x02\0\0\0\0\0\0".to_vec(),
        b"v\0\0\0\x14\0\x03\0\0\0\0\0\x01_pq_.x\0\0".to_vec(),
        [step(0, &[]), step(0, &[])].concat(),
    ] {
        let error = error_of(says(ChannelBinding::Prefer, &tls(), bytes.clone()).await);
        assert!(error.is(code::replication::PROTOCOL), "{bytes:?}: {error:?}");
    }
    for number in [2, 6, 7, 9] {
        let error = error_of(says(ChannelBinding::Prefer, &tls(), step(number, &[])).await);
        assert!(error.is(code::replication::AUTH), "{error:?}");
    }
    let error = error_of(says(ChannelBinding::Prefer, &tls(), Vec::new()).await);
    assert!(error.is(code::replication::UNREACHABLE), "{error:?}");
}

#[tokio::test]
async fn a_version_message_that_asks_for_nothing_is_read_over() {
    let bytes = [b"v\0\0\0\x0c\0\x03\0\0\0\0\0\0".as_slice(), &step(0, &[]), KEY, READY].concat();
    assert_eq!(
        says(ChannelBinding::Prefer, &Protection::Plain, bytes)
            .await
            .unwrap()
            .process_id,
        42
    );
}

#[tokio::test]
async fn a_refusal_before_and_after_the_question() {
    let refusal = b"E\0\0\0\x1aSFATAL\0VFATAL\0C28000\0\0".to_vec();
    let asked = |result| match result {
        Err(Refusal::Server { error, asked }) => {
            assert_eq!(error.sqlstate, "28000");
            asked
        }
        other => panic!("{other:?}"),
    };
    assert!(!asked(says(ChannelBinding::Prefer, &tls(), refusal.clone()).await));
    assert!(asked(
        says(ChannelBinding::Prefer, &tls(), [step(3, &[]), refusal.clone()].concat()).await
    ));
    assert!(asked(
        says(ChannelBinding::Prefer, &tls(), [step(0, &[]), refusal].concat()).await
    ));
}

#[test]
fn no_value_can_smuggle_another_parameter() {
    let mut buffer = BytesMut::new();
    let parameters = [("user", "a\0replication"), ("database", "true")];
    let error = frontend::startup_message(parameters, &mut buffer)
        .map_err(not_sendable)
        .unwrap_err();
    assert!(error.is(code::usage::CONNINFO));
}

proptest! {
    #[test]
    fn any_answer_ends_the_login(bytes in proptest::collection::vec(any::<u8>(), 0..80), tag in 0u32..14) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for bytes in [bytes.clone(), [step(tag, &bytes), READY.to_vec()].concat()] {
            let _ = runtime.block_on(says(ChannelBinding::Prefer, &Protection::Plain, bytes));
        }
    }
}
