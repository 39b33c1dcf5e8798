//! What each answer of an S3 server means: which are tried again, which are refusals, and which must not be believed.

use std::time::Duration;

use bytes::Bytes;
use hardstorage_report::{Code, code};
use hardstorage_storage::{Created, Heard, Key, ListRequest};
use tokio::time::Instant;

use crate::scripted::{Answer, Scripted, answer, error, hang_up};

fn key() -> Key {
    Key::new("a/b").unwrap()
}

const OURS: Bytes = Bytes::from_static(b"our bytes");

fn ok() -> Answer {
    answer(200).header("ETag", "\"0\"")
}

#[tokio::test]
async fn every_put_is_create_only() {
    let server = Scripted::start(|_, _| ok()).await;
    let store = server.store_with("bucket/pre?storage_class=STANDARD_IA", |_| {}).await;
    assert_eq!(store.put_new(&key(), OURS).await.unwrap(), Created::Created);
    let put = server.request("PUT", 0);
    assert_eq!(put.target.split('?').next(), Some("/bucket/pre/a/b"));
    assert_eq!(put.header("if-none-match"), Some("*"));
    assert_eq!(put.header("x-amz-storage-class"), Some("STANDARD_IA"));
    assert_eq!(put.body, OURS);
    // No checksum that a server behind an endpoint may not know.
    assert!(
        put.headers.iter().all(|(name, _)| !name.contains("checksum")),
        "{put:?}"
    );
}

#[tokio::test]
async fn busy_and_broken_servers_are_asked_again() {
    for first in [
        error(503, "SlowDown"),
        error(500, "InternalError"),
        answer(502),
        answer(504),
        answer(429),
        error(409, "ConditionalRequestConflict"),
        error(400, "RequestTimeout"),
        error(400, "BadDigest"),
    ] {
        let script = first.clone();
        let server = Scripted::start(move |_, before| if before < 2 { script.clone() } else { ok() }).await;
        let created = server.store().await.put_new(&key(), OURS).await.unwrap();
        assert_eq!((created, server.count("PUT")), (Created::Created, 3), "{first:?}");
    }
}

#[tokio::test]
async fn refusals_are_final() {
    let cases: [(Answer, Code); 8] = [
        (error(403, "AccessDenied"), code::storage::DENIED),
        (error(403, "SignatureDoesNotMatch"), code::storage::DENIED),
        (error(404, "NoSuchBucket"), code::storage::BUCKET),
        (error(507, "XMinioStorageFull"), code::storage::FULL),
        (error(403, "QuotaExceeded"), code::storage::FULL),
        (
            error(301, "PermanentRedirect").header("x-amz-bucket-region", "eu-north-1"),
            code::usage::URL,
        ),
        (error(400, "InvalidStorageClass"), code::storage::IO),
        (error(501, "NotImplemented"), code::storage::IO),
    ];
    for (first, expected) in cases {
        let script = first.clone();
        let server = Scripted::start(move |_, _| script.clone()).await;
        let refused = server.store().await.put_new(&key(), OURS).await.unwrap_err();
        assert_eq!(
            (refused.code(), server.count("PUT")),
            (expected, 1),
            "{first:?}: {refused:?}"
        );
        if expected == code::usage::URL {
            assert!(refused.hint_text().contains("region=eu-north-1"));
        }
    }
}

#[tokio::test]
async fn a_lost_answer_to_a_put_is_settled() {
    for (there, expected) in [
        (OURS, Created::Created),
        (Bytes::from_static(b"others'  "), Created::Exists),
    ] {
        let body = there.clone();
        let server = Scripted::start(move |request, before| match (request.method.as_str(), before) {
            ("PUT", 0) => hang_up(),
            ("PUT", _) => error(412, "PreconditionFailed"),
            _ => ok().body(body.clone()),
        })
        .await;
        assert_eq!(server.store().await.put_new(&key(), OURS).await.unwrap(), expected);
        assert_eq!((server.count("PUT"), server.count("GET")), (2, 1));
    }
    // Nothing was lost: "exists" needs no reading back.
    let server = Scripted::start(|_, _| error(412, "PreconditionFailed")).await;
    assert_eq!(
        server.store().await.put_new(&key(), OURS).await.unwrap(),
        Created::Exists
    );
    assert_eq!(server.count("GET"), 0);
}

#[tokio::test]
async fn short_bodies_are_never_taken() {
    // The line breaks once, and the second answer is whole.
    let server = Scripted::start(|_, before| match before {
        0 => ok().body("our").promise(9),
        _ => ok().body(OURS),
    })
    .await;
    assert_eq!(server.store().await.get(&key()).await.unwrap().unwrap(), OURS);
    assert_eq!(server.count("GET"), 2);

    let partial =
        |body: &'static str, range: &'static str| move || answer(206).header("Content-Range", range).body(body);
    let cases: [(Box<dyn Fn() -> Answer + Send + Sync>, Code); 4] = [
        (Box::new(partial("our b", "bytes 0-4/5")), code::storage::CORRUPT),
        (Box::new(partial("our b", "bytes 0-4/9")), code::storage::CORRUPT),
        (
            Box::new(partial("our bytes and more", "bytes 0-8/20")),
            code::storage::CORRUPT,
        ),
        // A server that knows no ranges sends everything.
        (Box::new(|| ok().body("our bytes and more")), code::storage::IO),
    ];
    for (script, expected) in cases {
        let server = Scripted::start(move |_, _| script()).await;
        let refused = server.store_once().await.get_range(&key(), 0..9).await.unwrap_err();
        assert_eq!(refused.code(), expected, "{refused:?}");
    }
    let server = Scripted::start(|_, _| answer(206).header("Content-Range", "bytes 4-8/9").body("bytes")).await;
    assert_eq!(server.store().await.get_range(&key(), 4..9).await.unwrap(), "bytes");
    assert_eq!(server.request("GET", 0).header("range"), Some("bytes=4-8"));
}

#[tokio::test]
async fn a_missing_object_is_not_a_missing_bucket() {
    let server = Scripted::start(|request, _| match request.target.split('?').next() {
        Some("/bucket" | "/bucket/") => answer(200),
        _ => answer(404),
    })
    .await;
    assert!(server.store().await.head(&key()).await.unwrap().is_none());
    let server = Scripted::start(|_, _| answer(404)).await;
    let missing = server.store().await.head(&key()).await.unwrap_err();
    assert!(missing.is(code::storage::BUCKET), "{missing:?}");
}

fn page(keys: &[&str], truncated: bool) -> Answer {
    let contents: Vec<String> = keys
        .iter()
        .map(|key| format!("<Contents><Key>{key}</Key><Size>1</Size></Contents>"))
        .collect();
    let contents = contents.concat();
    ok().body(format!(
        "<?xml version=\"1.0\"?><ListBucketResult><IsTruncated>{truncated}</IsTruncated>{contents}</ListBucketResult>"
    ))
}

#[tokio::test]
async fn listings_are_in_order_and_go_on() {
    let server = Scripted::start(|_, before| match before {
        0 => page(&["pre/a", "pre/b c", "pre/b/"], true),
        _ => page(&["pre/c"], false),
    })
    .await;
    let store = server.store_with("bucket/pre", |_| {}).await;
    let first = store.list(&ListRequest::under("")).await.unwrap();
    // What is no key is passed over, and the next page still begins behind it.
    assert_eq!(first.objects.iter().map(|o| o.key.as_str()).collect::<Vec<_>>(), ["a"]);
    assert_eq!(first.next.as_deref(), Some("b/"));
    let second = store.list(&ListRequest::under("").after("b/")).await.unwrap();
    assert_eq!((second.objects.len(), second.next), (1, None));
    let target = server.request("GET list-type", 1).target;
    assert!(
        target.contains("start-after=pre%2Fb%2F") && target.contains("prefix=pre%2F"),
        "{target}"
    );

    let server = Scripted::start(|_, _| page(&["b", "a"], false)).await;
    assert!(
        server
            .store_once()
            .await
            .list(&ListRequest::under(""))
            .await
            .unwrap_err()
            .is(code::storage::IO)
    );
    let server = Scripted::start(|_, _| page(&["a", "b"], true)).await;
    let again = ListRequest::under("").after("b");
    assert!(
        server
            .store_once()
            .await
            .list(&again)
            .await
            .unwrap_err()
            .is(code::storage::IO)
    );
}

#[tokio::test]
async fn the_time_is_that_of_the_answer() {
    for status in [200, 403, 404] {
        let server = Scripted::start(move |_, _| answer(status).header("Date", "Sun, 22 Nov 2026 08:15:30 GMT")).await;
        let time = server.store_once().await.clock().await.unwrap();
        assert_eq!(time.to_string(), "2026-11-22T08:15:30Z");
    }
    let server = Scripted::start(|_, _| answer(200)).await;
    assert!(
        server
            .store_once()
            .await
            .clock()
            .await
            .unwrap_err()
            .is(code::storage::IO)
    );
}

#[tokio::test]
async fn a_time_that_was_just_heard_is_not_asked_for() {
    const LATELY: Duration = Duration::from_mins(1);
    let date = |answer: Answer, minute: u8| answer.header("Date", &format!("Sun, 22 Nov 2026 08:{minute:02}:30 GMT"));
    let server = Scripted::start(move |request, _| match request.operation().as_str() {
        "PUT" => date(answer(200), 16),
        // What a cache between has kept is no clock.
        "GET list-type" if request.target.contains("kept") => date(page(&[], false), 1).header("Age", "60"),
        "GET list-type" => date(page(&["a"], false), 15),
        _ => date(answer(200), 17),
    })
    .await;
    let store = server.store_once().await;
    let minute = |heard: Heard| heard.time.strftime("%M").to_string();
    store.list(&ListRequest::under("kept/")).await.unwrap();
    let begun = Instant::now();
    assert_eq!(
        minute(store.clock_lately(LATELY).await.unwrap()),
        "17",
        "nothing was heard"
    );
    store.list(&ListRequest::under("")).await.unwrap();
    let heard = store.clock_lately(LATELY).await.unwrap();
    assert!(begun <= heard.asked && heard.asked <= Instant::now());
    assert_eq!(minute(heard), "15");
    store.put_new(&key(), Bytes::from_static(b"x")).await.unwrap();
    assert_eq!(minute(store.clock_lately(LATELY).await.unwrap()), "16");
    assert_eq!(server.count("HEAD"), 1);
    assert_eq!(
        minute(store.clock_lately(Duration::ZERO).await.unwrap()),
        "17",
        "too long ago"
    );
    // What must be exact is asked for, and answers without a time are none.
    assert_eq!(store.clock().await.unwrap().strftime("%M").to_string(), "17");
    assert_eq!(server.count("HEAD"), 3);
    let server = Scripted::start(|_, _| page(&[], false)).await;
    let silent = server.store_once().await;
    silent.list(&ListRequest::under("")).await.unwrap();
    assert!(silent.clock_lately(LATELY).await.unwrap_err().is(code::storage::IO));
}

#[tokio::test]
async fn nobody_there() {
    let server = Scripted::start(|_, _| hang_up()).await;
    let silent = server.store_once().await.get(&key()).await.unwrap_err();
    assert!(silent.is(code::storage::UNREACHABLE), "{silent:?}");

    for endpoint in [
        format!("http://127.0.0.1:{}", crate::servers::free_port()),
        "http://store.invalid".to_owned(),
    ] {
        let credentials = crate::servers::credentials("key", "secret");
        let mut options = crate::servers::options(&credentials);
        options.retry.attempts = 2;
        let store = hardstorage_storage::open(&format!("s3://bucket?endpoint={endpoint}"), &options)
            .await
            .unwrap();
        let nobody = store.get(&key()).await.unwrap_err();
        assert!(nobody.is(code::storage::UNREACHABLE), "{nobody:?}");
        assert_eq!(nobody.exit_code(), 8);
        assert!(nobody.message().contains("after 2 tries"), "{nobody}");
    }
}
