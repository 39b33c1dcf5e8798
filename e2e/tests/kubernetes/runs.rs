//! What can happen to the run of a backup: nobody takes its pod, the pod ends early, or its end is not seen. Each failed run
//! tells why and hinders no later one, and a backup that was committed is never called failed.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Operator, is, is_for};
use hardstorage_e2e::run;
use serde_json::{Value, json};

use crate::site::{PATIENCE, SCHEDULE, SOON, Site, step, wish};

/// So that a run can be met while it goes on.
const SLOW: &str = "  maxRate: 2Mi\n";
/// Filling a database of a gigabyte and a half, or reading it, by a debug build on a busy machine.
const LARGE: Duration = Duration::from_mins(10);

/// The runs of the schedule, the newest last.
#[track_caller]
fn runs(site: &Site) -> Vec<Value> {
    let mut runs = site.namespace.list("hsbk", "hardstorage.dev/schedule=shop");
    runs.sort_by_key(|run| {
        run["metadata"]["creationTimestamp"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    });
    runs
}

fn names(runs: &[Value]) -> Vec<String> {
    let names = runs.iter().filter_map(|run| run["metadata"]["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Waits until a run that is not among these has come to an end like this.
#[track_caller]
fn until_run(site: &Site, before: &[String], what: &str, is: impl Fn(&Value) -> bool) -> Value {
    site.namespace.until(what, PATIENCE, |_| {
        let mut new = runs(site).into_iter();
        new.find(|run| !before.contains(&run["metadata"]["name"].as_str().unwrap().to_owned()) && is(run))
    })
}

/// Waits until a new run has failed for this reason; its own words, and those of the schedule, hold what they should.
#[track_caller]
fn until_failed(site: &Site, before: &[String], reason: &str, message: &str, hint: &str) {
    let what = format!("a run fails for {reason}");
    let failed = |run: &Value| run["status"]["phase"] == "Failed";
    let run = until_run(site, before, &what, failed);
    assert!(is_for(&run, "Stalled", "True", reason), "{run:#}");
    let failure = &run["status"]["failure"];
    assert!(failure["message"].as_str().unwrap().contains(message), "{failure:#}");
    assert!(failure["hint"].as_str().unwrap().contains(hint), "{failure:#}");
    let told = |schedule: &Value| {
        is(schedule, "LastRunSucceeded", "False") && schedule["status"]["lastBackup"]["reason"] == reason
    };
    site.namespace
        .until_object("hssched/shop", "the schedule tells", SOON, told);
}

/// Waits until a new run has made a backup.
#[track_caller]
fn until_made(site: &Site, before: &[String]) {
    let completed = |run: &Value| run["status"]["phase"] == "Completed";
    until_run(site, before, "the next run makes a backup", completed);
    let told = |schedule: &Value| is(schedule, "LastRunSucceeded", "True");
    site.namespace
        .until_object("hssched/shop", "the schedule tells", SOON, told);
}

/// Starts a run of the schedule; those that were there before.
#[track_caller]
fn begin(site: &Site, word: &str) -> Vec<String> {
    let before = names(&runs(site));
    let annotation = format!("hardstorage.dev/run-now={word}");
    site.namespace
        .kubectl(&["annotate", "--overwrite", "hssched/shop", &annotation])
        .ok();
    before
}

#[test]
fn a_run_that_fails_hinders_no_later_one() {
    let site = Site::streaming("e2e-runs", 1);
    let namespace = &site.namespace;
    let stream = site.stream();

    step("no node takes its pod: the scheduler's words, and the next run comes by itself");
    let nowhere = "  pendingDeadline: 10s\n  podTemplate: {nodeSelector: {disk: nobody-has-it}}\n";
    namespace.apply(&format!("{SCHEDULE}  backoffLimit: 0\n{nowhere}"));
    until_failed(
        &site,
        &[],
        "Unschedulable",
        "didn't match Pod's node affinity",
        "nodeSelector",
    );
    namespace.patch("hssched/shop", r#"{"spec":{"podTemplate":null}}"#);
    until_made(&site, &[]);
    namespace.patch("hssched/shop", r#"{"spec":{"suspend":true}}"#);
    namespace.until("no run is left", PATIENCE, |_| {
        let over = |run: &Value| run["status"]["phase"] == "Completed" || run["status"]["phase"] == "Failed";
        runs(&site).iter().all(over).then_some(())
    });

    step("the namespace's quota allows no pod");
    namespace.apply("apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: full}\nspec: {hard: {pods: \"1\"}}\n");
    namespace.wait("resourcequota/full", "jsonpath={.status.hard.pods}=1", SOON);
    let before = begin(&site, "without-room");
    until_failed(&site, &before, "QuotaExceeded", "no pod was made", "ResourceQuota");
    namespace.delete(&["resourcequota/full"]);
    namespace.until_gone("resourcequota/full", SOON);
    let before = begin(&site, "with-room");
    until_made(&site, &before);

    step("it takes more memory than it may");
    namespace.patch("hssched/shop", r#"{"spec":{"resources":{"limits":{"memory":"12Mi"}}}}"#);
    let before = begin(&site, "small");
    until_failed(&site, &before, "OOMKilled", "137", "raise limits.memory");
    namespace.patch("hssched/shop", r#"{"spec":{"resources":null}}"#);
    let before = begin(&site, "usual");
    until_made(&site, &before);
    assert_eq!(site.stream(), stream, "the stream was touched");
    site.nothing_is_lost();
}

/// The pod of a Backup's run that goes on now, when it is not this one.
#[track_caller]
fn until_pod(site: &Site, backup: &str, other_than: &str) -> String {
    let selector = format!("hardstorage.dev/role=backup,hardstorage.dev/backup={backup}");
    site.namespace.until("the run has a pod", PATIENCE, |namespace| {
        let pods = namespace.list("pods", &selector).into_iter();
        let mut running = pods.filter(|pod| pod["status"]["phase"] == "Running");
        let pod = running.find(|pod| pod["metadata"]["name"] != other_than)?;
        Some(pod["metadata"]["name"].as_str().unwrap().to_owned())
    })
}

/// Waits until a run has told of an event.
#[track_caller]
fn until_said(site: &Site, pod: &str, event: &str) {
    site.namespace.until(event, PATIENCE, |namespace| {
        namespace.logs(pod).contains(&format!("\"{event}\"")).then_some(())
    });
}

/// Ends a pod's container without a word to it.
#[track_caller]
fn kill(site: &Site, pod: &str) {
    let namespace = &site.namespace;
    if !namespace.node().is_ours() {
        let words = ["delete", "pod", pod, "--grace-period=0", "--force"];
        namespace.kubectl(&words).ok();
        return;
    }
    let found = namespace.get(&format!("pod/{pod}"));
    let id = found["status"]["containerStatuses"][0]["containerID"].as_str().unwrap();
    let mut ctr = namespace.node().command("ctr");
    ctr.args(["-n", "k8s.io", "task", "kill", "-s", "SIGKILL"]);
    ctr.arg(id.trim_start_matches("containerd://"));
    run(ctr, SOON).ok();
}

/// How often a backup of this run lies in the repository.
#[track_caller]
fn in_repository(site: &Site, backup: &str) -> usize {
    let run = site.namespace.get(&format!("hsbk/{backup}"))["status"]["runID"].clone();
    assert!(run.is_string(), "{backup} has no run");
    let (_forward, outside) = site.outside();
    let list = outside.run(&["list", &site.name(), "-o", "json"]).ok().result();
    let ids = list["backups"].as_array().unwrap().iter();
    let ids = ids.map(|one| one["backup_id"].as_str().unwrap().to_owned());
    let of_run = |id: &String| {
        let shown = outside.run(&["show", &site.name(), id, "-o", "json"]).ok().result();
        shown["writer"]["run_id"] == run
    };
    ids.filter(of_run).count()
}

#[test]
fn a_run_outlives_its_pod() {
    let site = Site::streaming("e2e-runs-pod", 1);
    let namespace = &site.namespace;

    step("a Job that somebody made by hand is a Backup like any other");
    namespace.apply(&SCHEDULE.replace("* * * * *", "0 0 1 1 *"));
    namespace.until_condition("hssched/shop", "Ready", PATIENCE);
    namespace
        .kubectl(&["create", "job", "by-hand", "--from=cronjob/shop"])
        .ok();
    let by_hand = site.until_completed("by-hand");
    assert_eq!(by_hand["status"]["origin"], "Schedule", "{by_hand:#}");
    assert_eq!(in_repository(&site, "by-hand"), 1);

    step("its pod is evicted: another one does it");
    namespace.apply(&wish("evicted", SLOW));
    let pod = until_pod(&site, "evicted", "");
    until_said(&site, &pod, "backup.started");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod, "namespace": namespace.name()}});
    let path = format!("/api/v1/namespaces/{}/pods/{pod}/eviction", namespace.name());
    namespace
        .node()
        .kubectl_with(&eviction.to_string(), &["create", "--raw", &path])
        .ok();
    until_pod(&site, "evicted", &pod);
    site.until_completed("evicted");
    assert_eq!(in_repository(&site, "evicted"), 1);

    step("its pod is deleted while it runs: another one does it");
    namespace.apply(&wish("deleted", SLOW));
    let pod = until_pod(&site, "deleted", "");
    until_said(&site, &pod, "backup.started");
    namespace.delete(&[&format!("pod/{pod}")]);
    until_pod(&site, "deleted", &pod);
    site.until_completed("deleted");
    assert_eq!(in_repository(&site, "deleted"), 1);

    step(
        "its container is killed as by a power cut: another one does it, although nobody took leave of the repository",
    );
    namespace.apply(&wish("killed", SLOW));
    let pod = until_pod(&site, "killed", "");
    until_said(&site, &pod, "backup.started");
    kill(&site, &pod);
    until_pod(&site, "killed", &pod);
    site.until_completed("killed");
    assert_eq!(in_repository(&site, "killed"), 1);

    site.nothing_is_lost();
}

/// While the operator is away, so that nobody can hear of it in time.
#[test]
fn a_run_that_nobody_heard_is_found() {
    let operator = Operator::get();
    let site = Site::streaming("e2e-runs-unheard", 1);
    let namespace = &site.namespace;
    namespace.apply(&wish("unheard", SLOW));
    let pod = until_pod(&site, "unheard", "");
    operator.scale(0);
    until_said(&site, &pod, "backup.committed");
    namespace
        .kubectl(&["delete", "pod", &pod, "--grace-period=0", "--force"])
        .ok();
    operator.scale(2);
    site.until_completed("unheard");
    assert!(in_repository(&site, "unheard") >= 1);
    site.nothing_is_lost();
}

/// The limit that a backup has when nobody says another; a kill would fail the run, since it has one try.
#[test]
fn a_large_database_in_a_small_container() {
    let site = Site::streaming("e2e-runs-large", 1);
    let namespace = &site.namespace;
    let stream = site.stream();
    namespace.apply(&format!(
        "{}  backoffLimit: 0\n",
        SCHEDULE.replace("* * * * *", "0 0 1 1 *")
    ));

    step("a gigabyte and a half, which the stream takes as it comes");
    let primary = site.database.primary(namespace);
    let fill = ["exec", &primary, "-c", "postgres", "-n", namespace.name(), "--"];
    let fill = [
        &fill[..],
        &[
            "pgbench",
            "-h",
            "/controller/run",
            "-U",
            "postgres",
            "-i",
            "-s",
            "100",
            "-q",
            "postgres",
        ],
    ];
    namespace.node().kubectl_within(LARGE, fill.concat()).ok();
    site.database.until_archived(namespace, &site.slot(), LARGE);
    assert_eq!(site.stream(), stream, "the stream was killed");

    step("backed up within 256 MiB");
    begin(&site, "now");
    let run = namespace.until("there is a run", SOON, |_| runs(&site).pop());
    let name = run["metadata"]["name"].as_str().unwrap();
    let job = namespace.until("it has a Job", SOON, |namespace| namespace.find(&format!("job/{name}")));
    let limits = &job["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits["memory"], "256Mi", "{job:#}");
    namespace.wait(&format!("hsbk/{name}"), "jsonpath={.status.phase}=Completed", LARGE);
    let done = namespace.get(&format!("hsbk/{name}"));
    let size = done["status"]["size"].as_str().unwrap();
    assert!(size.ends_with("Gi"), "that was no large database: {size}");
    assert_eq!(site.stream(), stream, "the stream was killed");
    site.nothing_is_lost();
}
