//! The conformance suite on every real server, and what each of them is there to prove.

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Created, Key, ListRequest, conformance, open};

use crate::servers::{BUCKET, KEY, SECRET, Server, credentials, options};

async fn wrong_secret(server: &Server) {
    let key = Key::new("a").unwrap();
    let wrong = credentials(KEY, "not-the-secret");
    let store = open(&server.url(BUCKET), &options(&wrong)).await.unwrap();
    for error in [
        store.put_new(&key, Bytes::new()).await.map(drop).unwrap_err(),
        store.get(&key).await.map(drop).unwrap_err(),
        store.head(&key).await.map(drop).unwrap_err(),
        store.list(&ListRequest::under("")).await.map(drop).unwrap_err(),
        store.delete(&key).await.map(drop).unwrap_err(),
    ] {
        assert!(error.is(code::storage::DENIED), "{error:?}");
        assert_eq!(error.exit_code(), 3);
    }
    // The secret is put right while the store is open.
    std::fs::write(wrong.path().join("secret-access-key"), SECRET).unwrap();
    assert_eq!(store.put_new(&key, Bytes::new()).await.unwrap(), Created::Created);
    assert!(store.delete(&key).await.unwrap());
}

async fn missing_bucket(server: &Server) {
    let right = credentials(KEY, SECRET);
    let key = Key::new("a").unwrap();
    for missing in ["no-such-bucket", "no-such-bucket/with/prefix"] {
        let store = open(&server.url(missing), &options(&right)).await.unwrap();
        for error in [
            store.put_new(&key, Bytes::new()).await.map(drop).unwrap_err(),
            store.get(&key).await.map(drop).unwrap_err(),
            store.get_range(&key, 0..1).await.map(drop).unwrap_err(),
            store.head(&key).await.map(drop).unwrap_err(),
            store.list(&ListRequest::under("")).await.map(drop).unwrap_err(),
            store.delete(&key).await.map(drop).unwrap_err(),
        ] {
            assert!(error.is(code::storage::BUCKET), "{error:?}");
        }
    }
}

async fn prefixes_are_apart(server: &Server) {
    let right = credentials(KEY, SECRET);
    let key = Key::new("x/y").unwrap();
    let one = open(&server.url(&format!("{BUCKET}/team-a")), &options(&right))
        .await
        .unwrap();
    let other = open(&server.url(&format!("{BUCKET}/team-a-b")), &options(&right))
        .await
        .unwrap();
    let whole = open(&server.url(BUCKET), &options(&right)).await.unwrap();
    one.put_new(&key, Bytes::from_static(b"one")).await.unwrap();
    assert!(other.get(&key).await.unwrap().is_none());
    other.put_new(&key, Bytes::from_static(b"other")).await.unwrap();
    let names = |listing: hardstorage_storage::Listing| -> Vec<String> {
        listing.objects.iter().map(|object| object.key.to_string()).collect()
    };
    assert_eq!(names(one.list(&ListRequest::under("")).await.unwrap()), ["x/y"]);
    assert_eq!(
        names(whole.list(&ListRequest::under("team-a/")).await.unwrap()),
        ["team-a/x/y"]
    );
    assert_eq!(one.list(&ListRequest::level("")).await.unwrap().folders, ["x/"]);
    assert!(one.delete(&key).await.unwrap() && other.delete(&key).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_keeps_everything() {
    let server = Server::minio().await;
    let right = credentials(KEY, SECRET);
    for rest in [
        format!("{BUCKET}/some/prefix"),
        format!("{BUCKET}?checksum=when_supported"),
    ] {
        let store = open(&server.url(&rest), &options(&right)).await.unwrap();
        conformance::run(store)
            .await
            .unwrap_or_else(|violation| panic!("{rest}: {violation}"));
    }
    wrong_secret(&server).await;
    missing_bucket(&server).await;
    prefixes_are_apart(&server).await;
    // Aborted and dropped uploads leave no parts behind, once the background has done its work.
    let deadline = std::time::Instant::now() + std::time::Duration::from_mins(1);
    loop {
        let left = server
            .client()
            .list_multipart_uploads()
            .bucket(BUCKET)
            .prefix("some/")
            .send()
            .await
            .unwrap();
        if left.uploads().is_empty() {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "uploads are left: {:?}",
            left.uploads()
        );
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_keeps_everything() {
    let server = Server::moto().await;
    let right = credentials(KEY, SECRET);
    let store = open(&server.url(&format!("{BUCKET}/p")), &options(&right))
        .await
        .unwrap();
    conformance::run(store).await.unwrap();
    missing_bucket(&server).await;
    prefixes_are_apart(&server).await;
}

/// s3s-fs answers every second write rightly and still lets simultaneous writers win: the suite must see it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3s_fs_fails_the_race_and_nothing_else() {
    let server = Server::s3s_fs().await;
    let right = credentials(KEY, SECRET);
    let store = open(&server.url(BUCKET), &options(&right)).await.unwrap();
    // It also answers 500 for the name of a folder.
    conformance::run_but(store.clone(), &["one_winner", "folder_names"])
        .await
        .unwrap();
    let race = conformance::race(store, 20, 6).await.unwrap();
    assert!(!race.kept(), "{race}");
    assert!(race.several_winners > 0, "{race}");
    wrong_secret(&server).await;
}
