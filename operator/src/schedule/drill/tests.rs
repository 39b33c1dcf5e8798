//! Drills of a schedule on an API server that remembers.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use crate::remembering::{Break, Server};
use crate::schedule::tests::{NIGHTLY, server, step};
use http::Method;
use jiff::Timestamp;
use serde_json::{Value, json};

const RESTORES: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrestores";
const DEPLOYMENT: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsdeployments/orders";

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A schedule with a drill at 03:00 since the day before, and something to recover.
fn world(more: &Value) -> Server {
    let mut spec = json!({"drill": {"schedule": "0 3 * * *"}});
    for (key, value) in more.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let mut server = server(spec, None);
    server.now = at("2026-01-05T03:10:00Z");
    server.change(NIGHTLY, |object| {
        object["status"] = json!({"drill": {"since": "2026-01-04T12:00:00Z"}});
    });
    server.change(DEPLOYMENT, |object| {
        object["status"]["recoverable"] = json!({"from": "2026-01-01T00:00:00Z", "to": "2026-01-05T03:00:00Z"});
    });
    server
}

fn drills(server: &Server) -> Vec<Value> {
    server.below(RESTORES)
}

fn status(server: &Server) -> Value {
    server.get::<Value>(NIGHTLY).unwrap()["status"].clone()
}

fn last_drill_passed(server: &Server) -> (String, String) {
    let all = status(server)["conditions"].clone();
    let found = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["type"] == "LastDrillPassed");
    found.map_or_else(Default::default, |one| {
        (
            one["status"].as_str().unwrap().to_owned(),
            one["reason"].as_str().unwrap().to_owned(),
        )
    })
}

fn ends(server: &Server, phase: &str, result: &str, time: &str) {
    for restore in drills(server) {
        let path = format!("{RESTORES}/{}", restore["metadata"]["name"].as_str().unwrap());
        server.change(&path, |object| {
            if object["status"].is_null() {
                object["status"] = json!({"phase": phase, "failure": {"code": "QuotaExceeded", "message": "m"},
                    "drill": {"result": result, "time": time, "duration": "3m20s"}});
            }
        });
    }
}

#[tokio::test]
async fn one_drill_for_each_time_wherever_it_breaks_off() {
    for how in [Break::Before, Break::After] {
        for write in 0.. {
            let mut server = world(&json!({}));
            server.break_at(write, how);
            for _ in 0..4 {
                step(&server).await;
            }
            let at_write = format!("{how:?} {write}");
            assert_eq!(drills(&server).len(), 1, "{at_write}");
            assert_eq!(
                status(&server)["drill"]["begunFor"],
                "2026-01-05T03:00:00Z",
                "{at_write}"
            );
            assert_eq!(
                status(&server)["drill"]["nextTime"],
                "2026-01-06T03:00:00Z",
                "{at_write}"
            );
            ends(&server, "Completed", "Passed", "2026-01-05T03:13:20Z");
            for _ in 0..3 {
                step(&server).await;
            }
            assert_eq!(
                last_drill_passed(&server),
                ("True".into(), "Passed".into()),
                "{at_write}"
            );
            assert_eq!(drills(&server).len(), 1, "{at_write}: that time is over");
            server.now = at("2026-01-06T03:00:10Z");
            for _ in 0..3 {
                step(&server).await;
            }
            assert_eq!(server.count(&Method::POST, RESTORES), 2, "{at_write}: the next one");
            if !server.broke() {
                break;
            }
        }
    }
}

#[tokio::test]
async fn never_two_at_once_and_none_that_is_too_late() {
    let mut server = world(&json!({}));
    step(&server).await;
    server.now = at("2026-01-06T03:00:10Z");
    step(&server).await;
    assert_eq!(drills(&server).len(), 1, "the first one goes on");
    ends(&server, "Completed", "Passed", "2026-01-06T05:00:00Z");
    server.now = at("2026-01-06T05:00:10Z");
    step(&server).await;
    assert_eq!(
        drills(&server).len(),
        1,
        "the second one could not begin within an hour"
    );
    // Away for four days.
    server.now = at("2026-01-10T03:30:00Z");
    for _ in 0..3 {
        step(&server).await;
    }
    assert_eq!(server.count(&Method::POST, RESTORES), 2, "one for all that was missed");
}

#[tokio::test]
async fn what_rests_begins_nothing_and_is_not_overdue() {
    let server = world(&json!({"suspend": true}));
    step(&server).await;
    assert!(drills(&server).is_empty());
    let drill = status(&server)["drill"].clone();
    for field in ["intervalSeconds", "nextTime", "since"] {
        assert!(drill.get(field).is_none(), "{drill}");
    }
    // Awake again: what was missed in the meantime is left out.
    server.change(NIGHTLY, |object| object["spec"]["suspend"] = json!(false));
    step(&server).await;
    assert!(drills(&server).is_empty());
    assert_eq!(status(&server)["drill"]["intervalSeconds"], 86_400);
}

#[tokio::test]
async fn one_that_could_not_be_tried_is_told_apart_from_one_that_failed() {
    for (result, is, proven) in [
        ("Failed", "False", json!("2026-01-05T03:13:20Z")),
        ("NotRun", "Unknown", Value::Null),
    ] {
        let server = world(&json!({}));
        step(&server).await;
        ends(&server, "Failed", result, "2026-01-05T03:13:20Z");
        step(&server).await;
        assert_eq!(last_drill_passed(&server), (is.into(), "QuotaExceeded".into()));
        assert_eq!(status(&server)["drill"]["provenTime"], proven, "{result}");
        assert_eq!(status(&server)["drill"]["last"]["result"], result);
    }
}

#[tokio::test]
async fn what_cannot_be_begun_says_why() {
    let server = world(&json!({}));
    server.change(DEPLOYMENT, |object| object["status"]["recoverable"] = Value::Null);
    step(&server).await;
    assert_eq!(last_drill_passed(&server), ("Unknown".into(), "NothingToDrill".into()));
    assert!(drills(&server).is_empty());
    let server = world(&json!({"drill": {"schedule": "0 0 30 2 *"}}));
    step(&server).await;
    let ready = status(&server)["conditions"][0].clone();
    assert_eq!(ready["reason"], "InvalidDrillSchedule");
    assert!(ready["message"].as_str().unwrap().contains("never comes"), "{ready}");
}

#[tokio::test]
async fn a_drill_of_another_schedule_of_the_name_is_a_stranger() {
    let server = world(&json!({}));
    step(&server).await;
    let mine = drills(&server).remove(0);
    let mut other = mine.clone();
    other["metadata"] = json!({"name": "before", "namespace": "team", "labels": mine["metadata"]["labels"],
        "ownerReferences": [{"apiVersion": "hardstorage.dev/v1alpha1", "kind": "BackupSchedule", "name": "nightly",
            "uid": "the-one-before"}]});
    other["status"] = json!({"phase": "Failed", "drill": {"result": "Failed", "time": "2026-01-05T03:13:20Z"}});
    server.put(&format!("{RESTORES}/before"), other);
    step(&server).await;
    assert_eq!(last_drill_passed(&server), (String::new(), String::new()));
}
