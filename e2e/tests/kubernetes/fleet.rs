//! An operator that is limited to namespaces: rights and deeds end there, and what runs elsewhere is left alone.

use hardstorage_e2e::kubernetes::{Node, Operator};

use crate::site::{Site, step};

const WATCHED: &str = "e2e-watched";
const UNWATCHED: &str = "e2e-unwatched";
/// Whom the chart gives its rights to.
const ACCOUNT: &str = "system:serviceaccount:pg-hardstorage:pg-hardstorage";

#[test]
fn an_operator_stays_in_its_namespaces() {
    let operator = Operator::get();
    let elsewhere = Site::streaming(UNWATCHED, 1);
    let site = Site::new(WATCHED, 1);
    let stream = elsewhere.stream();

    step("limited to one namespace");
    let limited = operator.configured(&[&format!("watchNamespaces={{{WATCHED}}}")]);
    for (right, allowed, denied) in [
        (["list", "hsdeployments.hardstorage.dev"], WATCHED, UNWATCHED),
        (["create", "jobs.batch"], WATCHED, UNWATCHED),
        (["create", "secrets"], WATCHED, UNWATCHED),
        (["get", "clusters.postgresql.cnpg.io"], WATCHED, UNWATCHED),
    ] {
        assert!(may(&site, &right, allowed), "{right:?} in {allowed}");
        assert!(!may(&site, &right, denied), "{right:?} in {denied}");
    }

    let before = elsewhere.namespace.get("hsdep/shop");
    step("asked for at the same time, only one of them is served");
    elsewhere.wish("wish");
    elsewhere
        .namespace
        .patch("hsdep/shop", r#"{"spec":{"stream":{"paused":true}}}"#);
    site.protect("");
    let backup = site.back_up("wish");
    let wish = elsewhere.namespace.get("hsbk/wish");
    assert!(wish["status"].is_null(), "{wish:#}");
    let after = elsewhere.namespace.get("hsdep/shop");
    assert_eq!(after["status"], before["status"]);
    assert!(
        elsewhere
            .namespace
            .list("jobs", "hardstorage.dev/role=backup")
            .is_empty()
    );
    assert_eq!(
        elsewhere.stream(),
        stream,
        "a stream that nobody looks after was touched"
    );
    elsewhere
        .database
        .sql(&elsewhere.namespace, "CREATE TABLE alone AS SELECT 1 AS n");
    elsewhere.until_archived();
    let (_forward, outside) = site.outside();
    let list = outside.run(&["list", &site.name()]).ok();
    assert!(list.stdout.contains(&backup), "{list}");

    step("no longer limited, it does what has waited");
    elsewhere
        .namespace
        .patch("hsdep/shop", r#"{"spec":{"stream":{"paused":false}}}"#);
    drop(limited);
    operator.ready();
    elsewhere.until_completed("wish");
    assert_eq!(elsewhere.stream(), stream, "the stream was started again");
    site.until_ready();
}

/// Whether the operator's account has a right in a namespace.
#[track_caller]
fn may(site: &Site, right: &[&str], namespace: &str) -> bool {
    let node: &Node = site.namespace.node();
    let words = ["auth", "can-i", "--as", ACCOUNT, "-n", namespace];
    let answer = node.kubectl([&words[..], right].concat());
    match answer.text() {
        "yes" => true,
        "no" => false,
        _ => panic!("{answer}"),
    }
}
