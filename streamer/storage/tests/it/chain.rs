//! The credential chain is the environment's business, so it is looked at in a child with an environment of its own.

use std::process::Command;

use bytes::Bytes;
use hardstorage_report::code;
use hardstorage_storage::{Created, Key, OpenOptions, RetryPolicy, open};

use crate::servers::{BUCKET, KEY, SECRET, Server};

const URL: &str = "HARDSTORAGE_TEST_URL";
const EXPECT: &str = "HARDSTORAGE_TEST_EXPECT";

/// What the child does.
#[tokio::test]
#[ignore = "run as a child by the test below, with credentials in the environment or without"]
async fn child() {
    let options = OpenOptions {
        retry: RetryPolicy::never(),
        ..OpenOptions::default()
    };
    let store = open(&std::env::var(URL).unwrap(), &options).await.unwrap();
    let key = Key::new(format!("chain/{}", std::process::id())).unwrap();
    let result = store.put_new(&key, Bytes::from_static(b"x")).await;
    if std::env::var(EXPECT).unwrap() == "created" {
        assert_eq!(result.unwrap(), Created::Created);
    } else {
        let error = result.unwrap_err();
        assert!(error.is(code::storage::DENIED), "{error:?}");
        assert!(error.hint_text().contains("AWS_ACCESS_KEY_ID"), "{}", error.hint_text());
    }
}

fn run(url: &str, expect: &str, environment: &[(&str, &str)]) {
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "chain::child", "--ignored", "--nocapture"])
        .env_clear()
        .env("HOME", home.path())
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .env(URL, url)
        .env(EXPECT, expect)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{environment:?}\n{text}\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn environment_profile_and_process() {
    let server = Server::minio().await;
    let url = server.url(BUCKET);
    run(
        &url,
        "created",
        &[("AWS_ACCESS_KEY_ID", KEY), ("AWS_SECRET_ACCESS_KEY", SECRET)],
    );
    run(&url, "refused", &[]);

    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("credentials");
    let program = directory.path().join("print.json");
    let json = format!(r#"{{"Version": 1, "AccessKeyId": "{KEY}", "SecretAccessKey": "{SECRET}"}}"#);
    std::fs::write(&program, json).unwrap();
    let text = format!(
        "[backup]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n\
         [by-process]\ncredential_process = /bin/cat {}\n",
        program.display()
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    for profile in ["backup", "by-process"] {
        run(
            &url,
            "created",
            &[("AWS_SHARED_CREDENTIALS_FILE", file), ("AWS_PROFILE", profile)],
        );
    }
    // An endpoint of the environment counts as one of the URL.
    let endpoint = format!("http://{}", server.address());
    run(
        &format!("s3://{BUCKET}"),
        "created",
        &[
            ("AWS_ACCESS_KEY_ID", KEY),
            ("AWS_SECRET_ACCESS_KEY", SECRET),
            ("AWS_REGION", "us-east-1"),
            ("AWS_ENDPOINT_URL", &endpoint),
        ],
    );
}
