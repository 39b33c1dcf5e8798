//! A byte changed on the way: the server refuses it (signature or checksum over the body), the client refuses it
//! (checksum of the object), and the retry layer cures both.

use bytes::Bytes;
use hardstorage_report::{Code, code};
use hardstorage_storage::{Created, Key, RetryPolicy, open};

use crate::proxy::{Direction, MARKER, Proxy};
use crate::servers::{BUCKET, KEY, SECRET, Server, credentials, options, url};

fn body(length: usize) -> Bytes {
    let mut body = vec![b'.'; length];
    body[length / 2..length / 2 + MARKER.len()].copy_from_slice(MARKER);
    body.into()
}

/// `expected`: some servers call a body that does not match its signature an internal error.
async fn writes_heal(server: &Server, checksum: &str, expected: Code) {
    let right = credentials(KEY, SECRET);
    let direct = open(&server.url(BUCKET), &options(&right)).await.unwrap();
    let rest = format!("{BUCKET}?checksum={checksum}");

    let key = Key::new(format!("wire/{checksum}/put")).unwrap();
    let proxy = Proxy::start(server.address(), Direction::ToServer, 1).await;
    let mut once = options(&right);
    once.retry = RetryPolicy::never();
    let store = open(&url(proxy.address, &rest), &once).await.unwrap();
    let error = store.put_new(&key, body(50_000)).await.unwrap_err();
    assert_eq!(error.code(), expected, "{error:?}");
    assert!(direct.get(&key).await.unwrap().is_none(), "damaged bytes were stored");

    let proxy = Proxy::start(server.address(), Direction::ToServer, 2).await;
    let store = open(&url(proxy.address, &rest), &options(&right)).await.unwrap();
    assert_eq!(store.put_new(&key, body(50_000)).await.unwrap(), Created::Created);
    assert_eq!(proxy.left(), 0);
    assert_eq!(direct.get(&key).await.unwrap().unwrap(), body(50_000));

    // The same for a part of an upload.
    let key = Key::new(format!("wire/{checksum}/upload")).unwrap();
    let proxy = Proxy::start(server.address(), Direction::ToServer, 2).await;
    let store = open(&url(proxy.address, &rest), &options(&right)).await.unwrap();
    let mut upload = store.upload_new(&key).await.unwrap();
    upload.write(body(12 << 20)).await.unwrap();
    assert_eq!(upload.finish().await.unwrap(), Created::Created);
    assert_eq!(proxy.left(), 0);
    assert_eq!(direct.get(&key).await.unwrap().unwrap(), body(12 << 20));
}

#[tokio::test]
async fn minio_refuses_changed_bytes_and_a_retry_heals() {
    let server = Server::minio().await;
    writes_heal(&server, "when_required", code::storage::CORRUPT).await;
    writes_heal(&server, "when_supported", code::storage::CORRUPT).await;

    // On the way back only the checksum that the object was stored with can tell.
    let right = credentials(KEY, SECRET);
    let key = Key::new("wire/when_supported/put").unwrap();
    let rest = format!("{BUCKET}?checksum=when_supported");
    let proxy = Proxy::start(server.address(), Direction::ToClient, 1).await;
    let store = open(&url(proxy.address, &rest), &options(&right)).await.unwrap();
    assert_eq!(store.get(&key).await.unwrap().unwrap(), body(50_000));
    assert_eq!(proxy.left(), 0);
    let proxy = Proxy::start(server.address(), Direction::ToClient, 1).await;
    let mut once = options(&right);
    once.retry = RetryPolicy::never();
    let store = open(&url(proxy.address, &rest), &once).await.unwrap();
    let error = store.get(&key).await.unwrap_err();
    assert!(error.is(code::storage::CORRUPT), "{error:?}");
}

#[tokio::test]
async fn s3s_fs_refuses_changed_bytes_and_a_retry_heals() {
    let server = Server::s3s_fs().await;
    writes_heal(&server, "when_required", code::storage::UNREACHABLE).await;
    writes_heal(&server, "when_supported", code::storage::UNREACHABLE).await;
}
