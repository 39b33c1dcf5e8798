//! Uploads in parts against a scripted server: completion that fails inside of a 200, lost answers, abandoned parts.

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Created, DynStore, Key, Upload};

use crate::scripted::{Answer, Request, Scripted, answer, error, hang_up};

const MARK: &str = "x-amz-meta-hardstorage-upload";

fn key() -> Key {
    Key::new("big").unwrap()
}

fn initiated() -> Answer {
    answer(200).body("<InitiateMultipartUploadResult><UploadId>id-1</UploadId></InitiateMultipartUploadResult>")
}

fn completed() -> Answer {
    answer(200).body("<CompleteMultipartUploadResult><ETag>\"e\"</ETag></CompleteMultipartUploadResult>")
}

/// A server that does everything right but what `odd` says.
async fn server(odd: impl Fn(&Request, usize) -> Option<Answer> + Send + Sync + 'static) -> Scripted {
    Scripted::start(move |request, before| {
        odd(request, before).unwrap_or_else(|| match request.operation().as_str() {
            "POST uploads" => initiated(),
            "POST uploadId" => completed(),
            "DELETE uploadId" => answer(204),
            _ => answer(200).header("ETag", "\"p\""),
        })
    })
    .await
}

async fn begun(store: &DynStore, bytes: usize) -> Box<dyn Upload> {
    let mut upload = store.upload_new(&key()).await.unwrap();
    upload.write(Bytes::from(vec![7; bytes])).await.unwrap();
    upload
}

#[tokio::test]
async fn parts_and_a_create_only_completion() {
    let server = server(|_, _| None).await;
    let upload = begun(&server.store().await, 20 << 20).await;
    assert_eq!(upload.finish().await.unwrap(), Created::Created);
    let mut sizes: Vec<usize> = (0..3)
        .map(|n| server.request("PUT partNumber+uploadId", n).body.len())
        .collect();
    sizes.sort_unstable();
    assert_eq!(sizes, [4 << 20, 8 << 20, 8 << 20]);
    let completion = server.request("POST uploadId", 0);
    assert_eq!(completion.header("if-none-match"), Some("*"));
    let numbers: Vec<String> = (1..=3).map(|n| format!("<PartNumber>{n}</PartNumber>")).collect();
    let text = String::from_utf8(completion.body).unwrap();
    let places: Vec<Option<usize>> = numbers.iter().map(|number| text.find(number)).collect();
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{text}");
    assert_eq!(server.count("DELETE uploadId"), 0);
}

#[tokio::test]
async fn what_fits_one_part_is_one_put() {
    let server = server(|_, _| None).await;
    let upload = begun(&server.store().await, 8 << 20).await;
    assert_eq!(upload.finish().await.unwrap(), Created::Created);
    assert_eq!((server.count("PUT"), server.count("POST uploads")), (1, 0));
    assert_eq!(server.request("PUT", 0).header("if-none-match"), Some("*"));
}

#[tokio::test]
async fn an_error_inside_of_a_success_is_an_error() {
    // First an error in the body, then an answer that says nothing, then the truth.
    let server = server(|request, before| match (request.operation().as_str(), before) {
        ("POST uploadId", 0) => Some(error(200, "InternalError")),
        ("POST uploadId", 1) => Some(answer(200)),
        _ => None,
    })
    .await;
    let upload = begun(&server.store().await, 9 << 20).await;
    assert_eq!(upload.finish().await.unwrap(), Created::Created);
    assert_eq!(server.count("POST uploadId"), 3);
}

#[tokio::test]
async fn a_name_that_was_taken_meanwhile() {
    let server =
        server(|request, _| (request.operation() == "POST uploadId").then(|| error(412, "PreconditionFailed"))).await;
    let upload = begun(&server.store().await, 9 << 20).await;
    assert_eq!(upload.finish().await.unwrap(), Created::Exists);
    // Its parts would be paid for for ever.
    assert_eq!((server.count("DELETE uploadId"), server.count("HEAD")), (1, 0));
}

#[tokio::test]
async fn a_lost_completion_is_settled_by_the_mark() {
    for (refusal, status) in [("NoSuchUpload", 404), ("PreconditionFailed", 412)] {
        for ours in [true, false] {
            let mark = std::sync::Mutex::new(String::new());
            let server = server(move |request, before| {
                if let Some(word) = request.header(MARK) {
                    word.clone_into(&mut mark.lock().unwrap());
                }
                match (request.operation().as_str(), before) {
                    ("POST uploadId", 0) => Some(hang_up()),
                    ("POST uploadId", _) => Some(error(status, refusal)),
                    ("HEAD", _) if ours => Some(answer(200).header(MARK, &mark.lock().unwrap())),
                    ("HEAD", _) => Some(answer(200).header(MARK, "another")),
                    _ => None,
                }
            })
            .await;
            let upload = begun(&server.store().await, 9 << 20).await;
            let expected = if ours { Created::Created } else { Created::Exists };
            assert_eq!(upload.finish().await.unwrap(), expected, "{refusal} ours={ours}");
        }
    }
}

#[tokio::test]
async fn parts_are_tried_again_and_a_refused_one_ends_the_upload() {
    let server_once = server(|request, before| {
        (request.operation() == "PUT partNumber+uploadId" && before < 2).then(|| error(503, "SlowDown"))
    })
    .await;
    let upload = begun(&server_once.store().await, 17 << 20).await;
    assert_eq!(upload.finish().await.unwrap(), Created::Created);
    assert_eq!(server_once.count("PUT partNumber+uploadId"), 5);

    let server =
        server(|request, _| (request.operation() == "PUT partNumber+uploadId").then(|| error(403, "AccessDenied")))
            .await;
    let upload = begun(&server.store().await, 17 << 20).await;
    assert!(upload.finish().await.unwrap_err().is(code::storage::DENIED));
    assert_eq!(server.count("POST uploadId"), 0);
    server.asked("DELETE uploadId").await;
}

#[tokio::test]
async fn given_up_or_dropped_the_parts_are_removed() {
    let aborted = server(|_, _| None).await;
    begun(&aborted.store().await, 17 << 20).await.abort().await.unwrap();
    assert_eq!(aborted.count("DELETE uploadId"), 1);

    let dropped = server(|_, _| None).await;
    drop(begun(&dropped.store().await, 17 << 20).await);
    dropped.asked("DELETE uploadId").await;
    assert_eq!(dropped.count("POST uploadId"), 0);
}
