//! What killed writers left in a bucket: uploads that nobody completed.

use std::time::Duration;

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{DynStore, Key, ReadOnly, Store, SweepRequest, Swept, open};

use crate::scripted::{Scripted, answer, error};
use crate::servers::{BUCKET, KEY, SECRET, Server, credentials, options};

const DAY: Duration = Duration::from_hours(24);

/// The uploads of a name, as the server tells somebody else.
async fn uploads(server: &Server, name: &str) -> usize {
    let client = server.client();
    let listed = client.list_multipart_uploads().bucket(BUCKET).prefix(name).send();
    listed.await.unwrap().uploads().len()
}

/// Until the store finds this. Its clock has whole seconds, so "older than nothing" is true a moment later.
async fn until_found(store: &DynStore, wanted: Swept) {
    let found = tokio::time::timeout(Duration::from_mins(1), async {
        while store.sweep(&SweepRequest::new(Duration::ZERO, false)).await.unwrap() != wanted {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    found.await.unwrap();
}

async fn swept_by_age(server: &Server, bytes: u64, faithful: bool) {
    const NAME: &str = "packs/db1/1";
    let right = credentials(KEY, SECRET);
    let store = open(&server.url(BUCKET), &options(&right)).await.unwrap();
    let mut upload = store.upload_new(&Key::new(NAME).unwrap()).await.unwrap();
    upload.write(Bytes::from(vec![7; 17 << 20])).await.unwrap();
    let wanted = Swept { count: 1, bytes };
    until_found(&store, wanted).await;
    if faithful {
        assert_eq!(
            store.sweep(&SweepRequest::new(DAY, true)).await.unwrap(),
            Swept::default()
        );
    }
    let reader = ReadOnly::new(store.clone());
    assert_eq!(
        reader.sweep(&SweepRequest::new(Duration::ZERO, false)).await.unwrap(),
        wanted
    );
    let refused = reader
        .sweep(&SweepRequest::new(Duration::ZERO, true))
        .await
        .unwrap_err();
    assert!(refused.is(code::storage::READ_ONLY), "{refused}");
    assert_eq!(uploads(server, NAME).await, 1);

    assert_eq!(
        store.sweep(&SweepRequest::new(Duration::ZERO, true)).await.unwrap(),
        wanted
    );
    assert_eq!(uploads(server, NAME).await, 0);
    let error = upload.finish().await.unwrap_err();
    assert!(!faithful || error.to_string().contains("NoSuchUpload"), "{error}");
    assert!(store.get(&Key::new(NAME).unwrap()).await.unwrap().is_none());
    assert_eq!(
        store.sweep(&SweepRequest::new(Duration::ZERO, true)).await.unwrap(),
        Swept::default()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn minio_gives_back_what_nobody_completed() {
    swept_by_age(&Server::minio().await, 16 << 20, true).await;
}

/// It answers the question for parts as no SDK understands, every upload of it is of the year 2010, and a part of one that is gone
/// is an error of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn moto_gives_back_what_nobody_completed() {
    swept_by_age(&Server::moto().await, 0, false).await;
}

fn upload(key: &str, id: &str, initiated: &str) -> String {
    format!("<Upload><Key>{key}</Key><UploadId>{id}</UploadId><Initiated>{initiated}</Initiated></Upload>")
}

#[tokio::test]
async fn only_old_uploads_of_our_own_prefix_are_aborted() {
    let server = Scripted::start(|request, _| {
        let dated = answer(200).header("Date", "Thu, 26 Nov 2026 12:00:00 GMT");
        match (request.operation().as_str(), request.method.as_str()) {
            ("GET uploads", _) if request.target.contains("key-marker=pre%2Fa") => dated.body(format!(
                "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated>{}{}{}</ListMultipartUploadsResult>",
                upload("pre/b", "old-too", "2026-11-20T12:00:00Z"),
                upload("pre/no key", "not-ours", "2026-11-20T12:00:00Z"),
                upload("prefix/c", "elsewhere", "2026-11-20T12:00:00Z"),
            )),
            ("GET uploads", _) => dated.body(format!(
                "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>pre/a</NextKeyMarker>\
                 <NextUploadIdMarker>young</NextUploadIdMarker>{}{}</ListMultipartUploadsResult>",
                upload("pre/a", "old", "2026-11-25T11:59:59Z"),
                upload("pre/a", "young", "2026-11-25T12:00:00Z"),
            )),
            ("GET uploadId", _) => {
                dated.body("<ListPartsResult><Part><PartNumber>1</PartNumber><Size>5</Size></Part></ListPartsResult>")
            }
            ("DELETE uploadId", _) => answer(204),
            _ => dated,
        }
    })
    .await;
    let store = server.store_with("bucket/pre", |_| {}).await;
    let wanted = Swept { count: 2, bytes: 10 };
    assert_eq!(store.sweep(&SweepRequest::new(DAY, false)).await.unwrap(), wanted);
    assert_eq!(server.count("DELETE uploadId"), 0);
    assert_eq!(store.sweep(&SweepRequest::new(DAY, true)).await.unwrap(), wanted);
    let patient = SweepRequest {
        patient: vec![("b".to_owned(), 10 * DAY), ("a".to_owned(), Duration::ZERO)],
        ..SweepRequest::new(DAY, false)
    };
    assert_eq!(store.sweep(&patient).await.unwrap(), Swept { count: 1, bytes: 5 });
    let aborted = [0, 1].map(|number| server.request("DELETE uploadId", number).target);
    assert!(
        aborted[0].starts_with("/bucket/pre/a?") && aborted[0].contains("uploadId=old"),
        "{aborted:?}"
    );
    assert!(
        aborted[1].starts_with("/bucket/pre/b?") && aborted[1].contains("uploadId=old-too"),
        "{aborted:?}"
    );
    assert_eq!(server.count("DELETE uploadId"), 2);
    assert!(server.request("GET uploads", 0).target.contains("prefix=pre%2F"));
}

#[tokio::test]
async fn a_store_that_does_not_list_uploads_says_so_once() {
    for (status, word, expected, hint) in [
        (
            403,
            "AccessDenied",
            code::storage::DENIED,
            "s3:ListBucketMultipartUploads",
        ),
        (501, "NotImplemented", code::storage::IO, ""),
    ] {
        let server = Scripted::start(move |request, _| match request.operation().as_str() {
            "GET uploads" => error(status, word),
            _ => answer(200).header("Date", "Thu, 26 Nov 2026 12:00:00 GMT"),
        })
        .await;
        let refused = server
            .store()
            .await
            .sweep(&SweepRequest::new(DAY, true))
            .await
            .unwrap_err();
        assert!(refused.is(expected), "{refused}");
        assert!(refused.hint_text().contains(hint), "{}", refused.hint_text());
        assert_eq!(server.count("GET uploads"), 1);
    }
}

#[tokio::test]
async fn a_page_that_does_not_go_on_ends_it() {
    let server = Scripted::start(|_, _| {
        answer(200).header("Date", "Thu, 26 Nov 2026 12:00:00 GMT").body(
            "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>a</NextKeyMarker>\
             </ListMultipartUploadsResult>",
        )
    })
    .await;
    let error = server
        .store()
        .await
        .sweep(&SweepRequest::new(DAY, true))
        .await
        .unwrap_err();
    assert!(error.to_string().contains("repeats a page"), "{error}");
    assert_eq!(server.count("GET uploads"), 2);
}
