//! Reconciles against an API server that answers by script.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::samples::{ID, KEY, absent, at, present, repository};
use super::*;
use crate::report::ServedCatalog;
use crate::scripted::{Answers, Asked, Exchange, ok, refused, scripted};
use hardstorage_report::{RunReport, RunState};
use http::Method;
use serde_json::{Value, json};

const JOBS: &str = "/apis/batch/v1/namespaces/team/jobs";
const SECRETS: &str = "/api/v1/namespaces/team/secrets";
const OBJECT: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main";
const TRIED: &str = "/api/v1/namespaces/team/secrets?&dryRun=All";
const STATUS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsrepositories/main/status";
const CRON: &str = "/apis/batch/v1/namespaces/team/cronjobs/main-check";
const EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/team/events";
const BACKUPS: &str = "/apis/hardstorage.dev/v1alpha1/namespaces/team/hsbackups";

fn list(items: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "metadata": {}, "items": items})
}

/// A Job of ours of a role; its pod has the role as its address.
fn job(role: &str, notes: Value) -> Value {
    let mut annotations = json!({"hardstorage.dev/generation": "1"});
    annotations
        .as_object_mut()
        .unwrap()
        .extend(notes.as_object().cloned().unwrap_or_default());
    json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": role, "namespace": "team",
        "uid": format!("{role}-1"), "creationTimestamp": at(0), "annotations": annotations,
        "labels": {"hardstorage.dev/role": role, "hardstorage.dev/repository": "main"},
        "ownerReferences": [{"apiVersion": "v1", "kind": "Repository", "name": "main", "uid": "u-1", "controller": true}]},
        "spec": {"template": {}, "backoffLimit": 0}, "status": {}})
}

fn pods(role: &str) -> Exchange {
    let pod = json!({"metadata": {"name": format!("{role}-pod"), "namespace": "team", "creationTimestamp": at(1),
        "ownerReferences": [{"apiVersion": "batch/v1", "kind": "Job", "name": role, "uid": format!("{role}-1"),
            "controller": true}]},
        "status": {"phase": "Running", "podIP": role}});
    ok(
        Method::GET,
        "/api/v1/namespaces/team/pods?&labelSelector=batch.kubernetes.io%2Fcontroller-uid%3D",
        list(json!([pod])),
    )
}

/// What is looked at first, with the Jobs that there are.
fn looks(jobs: &[Value]) -> Vec<Exchange> {
    let mut script = vec![
        refused(Method::GET, CRON, 404, "NotFound"),
        ok(Method::GET, &format!("{JOBS}?"), list(json!(jobs))),
    ];
    script.extend(jobs.iter().map(|job| pods(job["metadata"]["name"].as_str().unwrap())));
    script.push(ok(
        Method::GET,
        "/api/v1/namespaces/team",
        json!({"metadata": {"name": "team"}}),
    ));
    script.push(ok(
        Method::GET,
        "/apis/hardstorage.dev/v1alpha1/hsdeployments",
        list(json!([])),
    ));
    script
}

/// The same of one whose key was seen: whether its Secret is still there is found by a creation that is only tried.
fn looks_for_key(jobs: &[Value], secret: Exchange) -> Vec<Exchange> {
    let mut script = looks(jobs);
    script.insert(script.len() - 1, secret);
    script
}

fn key_is_there() -> Exchange {
    refused(Method::POST, TRIED, 409, "AlreadyExists")
}

/// The status is written; the answer is the whole object.
fn writes() -> Exchange {
    ok(
        Method::PATCH,
        STATUS,
        serde_json::to_value(repository(json!({}), Value::Null)).unwrap(),
    )
}

/// It is read once more before anything is created.
fn there(status: Value) -> Exchange {
    ok(
        Method::GET,
        OBJECT,
        serde_json::to_value(repository(json!({}), status)).unwrap(),
    )
}

fn event() -> Exchange {
    ok(Method::POST, EVENTS, Value::Null)
}

fn report(role: &str, result: Value) -> (String, RunReport) {
    let mut report = RunReport::new(role, Some(format!("{role}-1")), "0.1.0");
    report.state = RunState::Succeeded;
    report.result = Some(result);
    (role.to_owned(), report)
}

fn answers(reports: Vec<(String, RunReport)>) -> Answers {
    Answers {
        reports: reports.into_iter().collect(),
        ..Answers::default()
    }
}

async fn run(repository: Repository, answers: Answers, script: Vec<Exchange>) -> (Result<Action>, Asked) {
    let (context, server) = scripted(script, answers, at(20));
    let outcome = reconcile(Arc::new(repository), context.clone(), Arc::default()).await;
    drop(context);
    (outcome, server.await.unwrap())
}

#[tokio::test]
async fn a_new_one_is_not_ready_at_once_and_is_looked_at() {
    let mut script = looks(&[]);
    script.extend([writes(), ok(Method::POST, JOBS, Value::Null)]);
    let (outcome, asked) = run(repository(json!({}), Value::Null), Answers::default(), script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Settings::JOB_PERIOD));
    let status = &asked[4].2["status"];
    let ready = status["conditions"]
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["type"] == "Ready")
        .unwrap();
    assert_eq!(
        (&ready["status"], &ready["reason"]),
        (&json!("False"), &json!("Probing"))
    );
    assert_eq!(asked[4].2["metadata"]["uid"], "u-1");
    assert_eq!(asked[5].2["metadata"]["labels"]["hardstorage.dev/role"], "probe");
}

#[tokio::test]
async fn keys_come_first_and_one_that_is_there_is_not_touched() {
    let mut script = looks(&[job("probe", json!({}))]);
    script.extend([
        writes(),
        pods("probe"),
        there(Value::Null),
        refused(Method::POST, SECRETS, 409, "AlreadyExists"),
        ok(Method::POST, SECRETS, Value::Null),
        ok(Method::POST, JOBS, Value::Null),
    ]);
    let answers = answers(vec![report("probe", absent())]);
    let (outcome, asked) = run(repository(json!({}), Value::Null), answers, script).await;
    outcome.unwrap();
    let posts: Vec<&Value> = asked
        .iter()
        .filter(|one| one.0 == Method::POST)
        .map(|one| &one.2)
        .collect();
    assert_eq!(posts[0]["metadata"]["name"], "main-kek");
    assert_eq!(posts[0]["immutable"], true);
    assert_eq!(posts[1]["metadata"]["name"], "main-signing");
    assert_eq!(posts[2]["metadata"]["annotations"]["hardstorage.dev/after"], "probe-1");
    assert!(
        asked
            .iter()
            .all(|(method, uri, _)| !uri.contains("secrets") || method == Method::POST),
        "no key is read"
    );
}

#[tokio::test]
async fn an_old_view_of_it_creates_nothing() {
    let mut another = there(Value::Null);
    another.body["metadata"]["uid"] = json!("u-2");
    let gone = refused(Method::GET, OBJECT, 404, "NotFound");
    for seen in [there(json!({"repositoryID": ID})), another, gone] {
        let mut script = looks(&[job("probe", json!({}))]);
        script.extend([writes(), pods("probe"), seen]);
        let answers = answers(vec![report("probe", absent())]);
        let (outcome, asked) = run(repository(json!({}), Value::Null), answers, script).await;
        outcome.unwrap();
        assert!(asked.iter().all(|(method, ..)| method != Method::POST));
    }
}

#[tokio::test]
async fn without_the_right_to_make_a_key_nothing_is_created() {
    let mut script = looks(&[job("probe", json!({}))]);
    script.extend([
        writes(),
        pods("probe"),
        there(Value::Null),
        refused(Method::POST, SECRETS, 403, "Forbidden"),
        event(),
    ]);
    let answers = answers(vec![report("probe", absent())]);
    let (outcome, asked) = run(repository(json!({}), Value::Null), answers, script).await;
    assert!(outcome.unwrap_err().is_forbidden());
    assert_eq!(asked.last().unwrap().2["reason"], "KeyForbidden");
}

#[tokio::test]
async fn one_that_exists_without_its_key_gets_none() {
    let mut script = looks(&[job("probe", json!({}))]);
    script.extend([writes(), event(), pods("probe")]);
    let mut seen = present();
    seen.as_object_mut().unwrap().remove("own_key");
    let answers = answers(vec![report("probe", seen)]);
    let (outcome, asked) = run(repository(json!({}), Value::Null), answers, script).await;
    assert_eq!(outcome.unwrap(), Action::requeue(Settings::JOB_PERIOD));
    assert!(asked.iter().all(|(_, uri, _)| !uri.contains("secrets")));
    assert_eq!(asked[6].2["reason"], "KeyMissing");
}

/// A repository that is ready, before its catalogue was read for the first time.
fn ready() -> Repository {
    repository(json!({}), json!({"repositoryID": ID, "kekFingerprint": KEY}))
}

fn catalog(repository: &str) -> ServedCatalog {
    let record = json!({"backup_id": "team.orders.full.20260101T000000Z.00aa", "file_count": 0, "logical_bytes": 0,
        "stored_bytes": 0, "reuse": 0.0, "held": false, "deleted": false, "damaged": false});
    ServedCatalog {
        etag: "e".into(),
        repository_id: repository.into(),
        backups: vec![serde_json::from_value(record).unwrap()],
    }
}

/// Reconciles while a sync's pod serves this catalogue.
async fn synced(catalog: ServedCatalog, rest: Vec<Exchange>) -> (Asked, Vec<String>) {
    let jobs = [job("probe", json!({})), job("sync", json!({}))];
    let mut answers = answers(vec![
        report("probe", present()),
        report("sync", json!({"id": ID, "total_bytes": 2048})),
    ]);
    answers.catalogs.insert("sync".into(), catalog);
    let heard = answers.heard.clone();
    let mut script = looks_for_key(&jobs, key_is_there());
    script.push(pods("sync"));
    script.extend(rest);
    let (outcome, asked) = run(ready(), answers, script).await;
    outcome.unwrap();
    let heard = heard.lock().unwrap().clone();
    (asked, heard)
}

fn checks() -> [Exchange; 2] {
    [
        ok(Method::PATCH, CRON, Value::Null),
        ok(Method::POST, SECRETS, Value::Null),
    ]
}

#[tokio::test]
async fn a_catalogue_is_shown_then_stored_and_only_then_heard() {
    let made = json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Backup", "metadata":
        {"name": "m", "namespace": "team", "uid": "b", "generation": 1}, "spec": {}});
    let mut rest = vec![
        ok(Method::GET, BACKUPS, list(json!([]))),
        ok(Method::POST, BACKUPS, made.clone()),
        ok(Method::PATCH, BACKUPS, made),
        writes(),
        event(),
        event(),
        pods("probe"),
        pods("sync"),
    ];
    rest.extend(checks());
    let (asked, heard) = synced(catalog(ID), rest).await;
    assert_eq!(heard, ["probe-1", "sync-1"]);
    let mirror = &asked[9].2;
    assert_eq!(
        mirror["spec"]["recorded"]["backupID"],
        "team.orders.full.20260101T000000Z.00aa"
    );
    assert_eq!(mirror["metadata"]["ownerReferences"][0]["uid"], "u-1");
    let status = &asked[11].2["status"];
    assert_eq!((&status["backups"], &status["size"]), (&json!(1), &json!("2Ki")));
    assert_eq!(status["names"][0]["name"], "team.orders");
    assert_eq!(status["lastSyncTime"], at(0).to_string());
    let cron = asked
        .iter()
        .find(|(method, uri, _)| method == Method::PATCH && uri.starts_with(CRON))
        .unwrap();
    assert_eq!(cron.2["spec"]["suspend"], false);
}

#[tokio::test]
async fn a_catalogue_of_another_repository_is_not_shown() {
    let mut rest = vec![writes(), event(), event(), pods("probe")];
    rest.extend(checks());
    let (asked, heard) = synced(catalog("ff"), rest).await;
    assert_eq!(heard, ["probe-1"]);
    assert_eq!(asked[8].2["status"].get("lastSyncTime"), None);
}

#[tokio::test]
async fn one_that_vanished_rests_its_checks_and_keeps_everything() {
    let mut script = looks_for_key(&[job("probe", json!({}))], key_is_there());
    script.extend([
        writes(),
        event(),
        event(),
        pods("probe"),
        ok(Method::PATCH, CRON, Value::Null),
    ]);
    let (outcome, asked) = run(ready(), answers(vec![report("probe", absent())]), script).await;
    outcome.unwrap();
    assert!(asked.iter().all(|(method, ..)| method != Method::DELETE));
    assert_eq!(asked.last().unwrap().2["spec"]["suspend"], true);
    assert_eq!(asked[6].2["status"]["repositoryID"], ID);
}

/// The last look at the store had the key, and so would the next one on the same node.
#[tokio::test]
async fn a_key_whose_secret_was_deleted_is_missed_at_once() {
    let gone = ok(Method::POST, TRIED, Value::Null);
    let mut script = looks_for_key(&[job("probe", json!({}))], gone);
    script.extend([
        writes(),
        event(),
        event(),
        pods("probe"),
        ok(Method::PATCH, CRON, Value::Null),
    ]);
    let (outcome, asked) = run(ready(), answers(vec![report("probe", present())]), script).await;
    outcome.unwrap();
    let conditions = asked[6].2["status"]["conditions"].as_array().unwrap();
    let key = conditions.iter().find(|one| one["type"] == "KeyAvailable").unwrap();
    assert_eq!(
        (&key["status"], &key["reason"]),
        (&json!("False"), &json!("KeyMissing"))
    );
    let tried = asked.iter().filter(|(method, ..)| method == Method::POST);
    let secrets: Vec<_> = tried.filter(|(_, uri, _)| uri.contains("secrets")).collect();
    assert!(
        secrets.iter().all(|(_, uri, _)| uri.contains("dryRun=All")),
        "{secrets:?}"
    );
}

#[tokio::test]
async fn jobs_of_strangers_are_not_believed() {
    let mut theirs = job("probe", json!({}));
    theirs["metadata"]["ownerReferences"][0]["uid"] = json!("another");
    let mut script = vec![
        refused(Method::GET, CRON, 404, "NotFound"),
        ok(Method::GET, &format!("{JOBS}?"), list(json!([theirs]))),
    ];
    script.extend(looks(&[]).split_off(2));
    script.extend([writes(), ok(Method::POST, JOBS, Value::Null)]);
    let answers = answers(vec![report("probe", present())]);
    let (outcome, asked) = run(repository(json!({}), Value::Null), answers, script).await;
    outcome.unwrap();
    assert_eq!(asked[4].2["status"].get("repositoryID"), None);
}

#[tokio::test]
async fn one_that_is_being_deleted_is_left_alone() {
    let mut going = ready();
    going.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(1)));
    let (outcome, asked) = run(going, Answers::default(), vec![]).await;
    assert_eq!((outcome.unwrap(), asked.len()), (Action::await_change(), 0));
}

#[tokio::test]
async fn one_that_is_gone_in_between_is_no_more_than_an_error() {
    let mut script = looks(&[]);
    script.push(refused(Method::PATCH, STATUS, 404, "NotFound"));
    let (outcome, _) = run(repository(json!({}), Value::Null), Answers::default(), script).await;
    assert!(outcome.unwrap_err().is_not_found());
}

#[test]
fn a_deployment_wakes_its_repository_when_its_spec_changes() {
    let deployment = |generation: i64, namespace: Value| {
        Guarded(Ok(serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1",
            "kind": "Deployment", "metadata": {"name": "orders", "namespace": "qa", "uid": "d", "generation": generation},
            "spec": {"source": {"cloudNativePG": {"cluster": "orders"}},
                "repositoryRef": {"name": "main", "namespace": namespace}}}))
        .unwrap()))
    };
    let seen = Seens::default();
    let woken = of_deployment(&deployment(1, json!("team")), &seen).unwrap();
    assert_eq!(
        (woken.name.as_str(), woken.namespace.as_deref()),
        ("main", Some("team"))
    );
    assert_eq!(of_deployment(&deployment(1, json!("team")), &seen), None);
    let own = of_deployment(&deployment(2, Value::Null), &seen).unwrap();
    assert_eq!(own.namespace.as_deref(), Some("qa"));
    let mut with_backup = deployment(2, Value::Null);
    let status = |id: &str| serde_json::from_value(json!({"phase": "Streaming", "lastBackup": {"id": id}})).unwrap();
    for id in ["b1", "b2"] {
        with_backup.0.as_mut().unwrap().status = status(id);
        assert!(of_deployment(&with_backup, &seen).is_some(), "{id}");
        assert_eq!(of_deployment(&with_backup, &seen), None, "{id}");
    }
}

#[test]
fn a_backup_that_is_over_wakes_its_repository() {
    let backup = |status: Value| -> Job {
        serde_json::from_value(
            json!({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "b",
            "namespace": "qa", "labels": {"hardstorage.dev/role": "backup", "hardstorage.dev/repository": "main",
                "hardstorage.dev/repository-namespace": "team"}}, "status": status}),
        )
        .unwrap()
    };
    assert_eq!(of_job(&backup(Value::Null)), None);
    let over = backup(json!({"conditions": [{"type": "Complete", "status": "True"}]}));
    let woken = of_job(&over).unwrap();
    assert_eq!(
        (woken.name.as_str(), woken.namespace.as_deref()),
        ("main", Some("team"))
    );
}

#[tokio::test]
async fn a_cron_job_of_somebody_else_is_not_touched_and_told() {
    let theirs = json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "main-check",
        "namespace": "team", "uid": "theirs"}, "spec": {"schedule": "0 0 * * *", "jobTemplate": {}}});
    let jobs = [job("probe", json!({}))];
    let mut script = looks_for_key(&jobs, key_is_there());
    script[0] = ok(Method::GET, CRON, theirs);
    script.extend([
        writes(),
        event(),
        event(),
        pods("probe"),
        // The signing key may not be made either: its catalogue is read all the same.
        refused(Method::POST, SECRETS, 403, "Forbidden"),
        event(),
        ok(Method::POST, JOBS, Value::Null),
    ]);
    let answers = answers(vec![report("probe", present())]);
    let (outcome, asked) = run(ready(), answers, script).await;
    outcome.unwrap();
    let written = asked.iter().find(|one| one.0 == Method::PATCH).unwrap();
    let said = &written.2["status"]["conditions"][0];
    assert_eq!(
        (&said["type"], &said["reason"]),
        (&json!("Ready"), &json!("MaintenanceInvalid"))
    );
    assert!(said["message"].as_str().unwrap().contains("main-check"));
    assert_eq!(
        asked.last().unwrap().2["metadata"]["labels"]["hardstorage.dev/role"],
        "sync"
    );
}

#[tokio::test]
async fn a_missing_right_is_named_and_stops_nobody_that_uses_it() {
    let mut forbidden = refused(Method::GET, CRON, 403, "Forbidden");
    forbidden.body["message"] = json!("User \"a\" cannot get resource \"cronjobs\" in API group \"batch\"");
    let (outcome, asked) = run(ready(), Answers::default(), vec![forbidden, writes(), event()]).await;
    assert_eq!(outcome.unwrap(), Action::requeue(REST));
    let status = &asked[1].2["status"];
    assert_eq!(status["repositoryID"], ID);
    let (said, stalled) = (&status["conditions"][0], &status["conditions"][1]);
    assert_eq!(
        (&said["reason"], &said["status"]),
        (&json!("Forbidden"), &json!("False"))
    );
    assert!(
        said["message"]
            .as_str()
            .unwrap()
            .contains("cannot get resource \"cronjobs\"")
    );
    assert_eq!(
        (&stalled["type"], &stalled["status"]),
        (&json!("Stalled"), &json!("False"))
    );
}
