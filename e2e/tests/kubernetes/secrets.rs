//! Secrets that change, go and come back, while a stream runs that is never started again for it.

use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::kubernetes::{condition, is, is_for};
use hardstorage_e2e::run;
use serde_json::Value;

use crate::site::{PATIENCE, Site, deployment, repository, step};

/// The kubelet brings a change of a Secret into a pod's files within a minute or two.
const MOUNT: Duration = Duration::from_mins(4);

#[test]
fn a_certificate_is_replaced_and_nothing_restarts() {
    let site = Site::streaming("e2e-rotation", 1);
    let namespace = &site.namespace;
    let stream = site.stream();
    let slot = site.slot();
    let old = namespace.get("secret/shop-replication")["data"]["tls.crt"].clone();

    step("the certificate of the replication role goes, and CloudNativePG makes another");
    namespace.delete(&["secret/shop-replication"]);
    let new = namespace.until("there is another certificate", PATIENCE, |namespace| {
        let secret = namespace.find("secret/shop-replication")?;
        let certificate = secret["data"]["tls.crt"].as_str()?.to_owned();
        (certificate != old).then_some(certificate)
    });
    let serial = serial(&site, &new);

    step("the stream shows the new one when it connects again");
    let ended = format!("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = '{slot}'");
    let shown = format!(
        "SELECT l.client_serial FROM pg_stat_ssl l JOIN pg_replication_slots s ON s.active_pid = l.pid \
         WHERE s.slot_name = '{slot}'"
    );
    namespace.until("the new certificate is used", MOUNT, |namespace| {
        if site.database.try_value(namespace, &shown)? == serial {
            return Some(());
        }
        site.database.try_value(namespace, &ended)?;
        None
    });
    site.database
        .sql(namespace, "CREATE TABLE after_rotation AS SELECT 1 AS n");
    site.until_archived();
    assert_eq!(site.stream(), stream, "the stream was started again");
}

/// The decimal serial number of a certificate, as PostgreSQL shows it.
#[track_caller]
fn serial(site: &Site, encoded: &str) -> String {
    let path = site.namespace.scratch().path("certificate");
    std::fs::write(&path, encoded).unwrap();
    let script = r#"base64 -d "$0" | openssl x509 -noout -serial | sed "s/.*=//""#;
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(&path);
    let hexadecimal = run(command, Duration::from_secs(20)).ok();
    let number = hexadecimal.text();
    // Up to 128 bits.
    u128::from_str_radix(number, 16)
        .unwrap_or_else(|error| panic!("{number}: {error}"))
        .to_string()
}

#[test]
fn a_key_that_is_gone_is_missed_and_its_return_seen() {
    let site = Site::streaming("e2e-key", 1);
    let namespace = &site.namespace;
    site.back_up("before");
    let stream = site.stream();
    let key = namespace.get("secret/main-kek");

    step("the key is deleted: it is missed, never made anew, and the stream goes on");
    namespace.delete(&["secret/main-kek"]);
    namespace
        .kubectl(&["annotate", "hsrepo/main", "hardstorage.dev/sync-now=without-the-key"])
        .ok();
    let missed = |object: &Value| is_for(object, "KeyAvailable", "False", "KeyMissing");
    namespace.until_object("hsrepo/main", "the key is missed", PATIENCE, missed);
    assert!(
        namespace.find("secret/main-kek").is_none(),
        "a key was made for a repository that exists"
    );
    site.database
        .sql(namespace, "CREATE TABLE without_key AS SELECT 1 AS n");
    site.until_archived();

    step("it is given back");
    namespace.give_back(&key);
    let there = |object: &Value| is(object, "KeyAvailable", "True") && is(object, "Ready", "True");
    namespace.until_object("hsrepo/main", "the key is there again", 2 * PATIENCE, there);
    site.until_ready();
    assert_eq!(site.stream(), stream, "the stream was started again");
    site.back_up("after");
}

/// What is applied in one go comes in any order: a stream waits for its Secret, says so, and is never started again.
#[test]
fn a_secret_that_comes_after_its_reader_is_read() {
    let site = Site::new("e2e-late", 1);
    let namespace = &site.namespace;
    namespace.apply(&repository(&site.bucket.url("main")));
    let connection = "{connection: {hosts: [{host: shop-rw}], user: streaming_replica, \
                      tls: {caRef: {kind: Secret, name: shop-ca}, certificateSecretRef: {name: late}}}}";
    namespace.apply(&deployment("shop", "").replace("{cloudNativePG: {cluster: shop}}", connection));

    step("without it the server lets nobody in, and that is told with a way out");
    let told = |object: &Value| {
        let streaming = condition(object, "Streaming").filter(|streaming| streaming["status"] == "False");
        let reason = streaming.and_then(|streaming| streaming["reason"].as_str());
        reason.is_some_and(|reason| reason.starts_with("Auth"))
    };
    let object = namespace.until_object("hsdep/shop", "it is told", PATIENCE, told);
    let message = condition(&object, "Streaming").unwrap()["message"].as_str().unwrap();
    assert!(message.contains("; "), "no hint: {message}");
    let stream = site.stream();
    assert!(stream.ends_with(" 0"), "the container was started again: {stream}");

    step("it comes, and WAL flows");
    let data = namespace.get("secret/shop-replication")["data"].clone();
    let late = serde_json::json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls",
        "metadata": {"name": "late"}, "data": {"tls.crt": data["tls.crt"], "tls.key": data["tls.key"]}});
    namespace.apply(&late.to_string());
    namespace.until_condition("hsdep/shop", "Streaming", MOUNT);
    site.database.sql(namespace, "CREATE TABLE late AS SELECT 1 AS n");
    site.until_archived();
    assert_eq!(site.stream(), stream, "the stream was started again");
}
