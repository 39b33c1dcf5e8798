//! Bad input, and faults around a stream: each is told by a condition with a reason and a way out, none of them touches the
//! stream that runs, and nothing of what was written meanwhile is lost.

use hardstorage_e2e::kubernetes::{Namespace, condition, is, is_for};
use serde_json::Value;

use crate::site::{PATIENCE, SCHEDULE, SOON, Site, deployment, repository, step, wish};

/// Waits until an object is not ready for this reason, in words that hold all of these.
#[track_caller]
pub fn until_told(namespace: &Namespace, object: &str, reason: &str, words: &[&str]) {
    let told = |found: &Value| is_for(found, "Ready", "False", reason);
    let found = namespace.until_object(object, &format!("it tells {reason}"), PATIENCE, told);
    let message = condition(&found, "Ready").unwrap()["message"].as_str().unwrap();
    for word in words {
        assert!(
            message.contains(word),
            "{object}: {reason} does not say {word:?}: {message}"
        );
    }
}

/// A further Deployment: with its own source, and what else its spec has.
fn another(name: &str, cluster: &str, repository: &str, more: &str) -> String {
    deployment(cluster, more)
        .replace("metadata: {name: shop}", &format!("metadata: {{name: {name}}}"))
        .replace("repositoryRef: {name: main}", &format!("repositoryRef: {repository}"))
}

/// A further Deployment of a server by its host, with CloudNativePG's role.
pub fn over(name: &str, host: &str, tls: &str, repository: &str, more: &str) -> String {
    let source = format!("{{connection: {{hosts: [{{host: {host}}}], user: streaming_replica, tls: {tls}}}}}");
    another(name, "shop", repository, more).replace("{cloudNativePG: {cluster: shop}}", &source)
}

/// A further BackupSchedule.
fn schedule(name: &str, deployment: &str, when: &str) -> String {
    format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: BackupSchedule\nmetadata: {{name: {name}}}\nspec:\n  \
         deploymentRef: {{name: {deployment}}}\n  schedule: \"{when}\"\n"
    )
}

#[test]
fn bad_input_is_told_and_touches_no_stream() {
    let site = Site::streaming("e2e-faults", 1);
    let namespace = &site.namespace;
    site.back_up("before");
    namespace.apply(&schedule("yearly", "shop", "0 0 1 1 *"));
    let stream = site.stream();

    step("what the API server refuses, in words that help");
    let two_sources = another("two", "shop", "{name: main}", "").replace(
        "source: {",
        "source: {connection: {hosts: [{host: db}], user: streamer}, ",
    );
    let greedy = "resources: {requests: {memory: 1Gi}, limits: {memory: 128Mi}}";
    let small = "  stream: {resources: {limits: {memory: 12Mi}}}\n";
    let bad_slot = another("bad", "shop", "{name: main}", "  stream: {slotName: _cnpg_shop}\n");
    for (manifest, words) in [
        (
            schedule("bad", "shop", "every day at noon"),
            "a schedule has five fields",
        ),
        (schedule("bad", "shop", "61 * * * *"), "a schedule has five fields"),
        (
            schedule("bad", "shop", "TZ=Europe/Berlin 0 3 * * *"),
            "write it into timeZone",
        ),
        (
            two_sources,
            "source has exactly one of cloudNativePG, patroni, connection",
        ),
        (bad_slot, "slotName does not start with _cnpg_"),
        (wish("bad", "  maxRate: 10MB\n"), "for example 50Mi"),
        (
            another("bad", "shop", "{name: main}", small),
            "limits.memory is at least 64Mi",
        ),
        (
            another("bad", "shop", "{name: main}", &format!("  stream: {{{greedy}}}\n")),
            "requests.memory is at most limits.memory",
        ),
        (
            format!("{}  {greedy}\n", schedule("bad", "shop", "@daily")),
            "requests.memory is at most limits.memory",
        ),
    ] {
        refused(namespace, &manifest, words);
    }

    step("what cannot be changed");
    for (object, patch, words) in [
        (
            "hsrepo/main",
            r#"{"url":"s3://another/place"}"#,
            "url cannot be changed",
        ),
        (
            "hsdep/shop",
            r#"{"source":{"cloudNativePG":{"cluster":"another"}}}"#,
            "source cannot be changed",
        ),
        (
            "hsdep/shop",
            r#"{"repositoryRef":{"name":"another"}}"#,
            "repositoryRef cannot be changed",
        ),
        (
            "hsdep/shop",
            r#"{"stream":{"slotName":"mine"}}"#,
            "slotName cannot be changed, added or removed",
        ),
        (
            "hssched/yearly",
            r#"{"deploymentRef":{"name":"another"}}"#,
            "deploymentRef cannot be changed",
        ),
        (
            "hsbk/before",
            r#"{"label":"another"}"#,
            "one object is one run; make another one",
        ),
    ] {
        let patch = format!(r#"{{"spec":{patch}}}"#);
        let answer = namespace.kubectl(&["patch", object, "--type=merge", "-p", &patch]);
        assert_eq!(answer.code, Some(1), "{answer}");
        assert!(answer.stderr.contains(words), "{answer}");
    }

    step("what is wrong only beside other objects");
    let everybody = "{name: main, namespace: e2e-faults}";
    let guests = Namespace::new("e2e-faults-guests");
    let taken = "  nameInRepository: e2e-faults.shop\n";
    guests.apply(&another("stranger", "shop", everybody, ""));
    until_told(&guests, "hsdep/stranger", "NamespaceNotAllowed", &["allowedNamespaces"]);
    namespace.patch(
        "hsrepo/main",
        r#"{"spec":{"allowedNamespaces":{"from":"All"},"shareCredentials":true}}"#,
    );
    namespace.apply(&another("lost", "shop", "{name: nowhere}", ""));
    namespace.apply(&another("twice", "shop", "{name: main}", ""));
    namespace.apply(&another("namesake", "another", "{name: main}", taken));
    namespace.apply(&schedule("lost", "nobody", "0 0 1 1 *"));
    namespace.apply(&schedule("backwards", "shop", "30-5 * * * *"));
    namespace.apply(&wish("lost", "").replace("deploymentRef: {name: shop}", "deploymentRef: {name: nobody}"));
    // No rule of ours sees this; what is made of it is refused.
    let odd = "podTemplate: {nodeSelector: {disk: no label}}";
    let spec = format!("  {odd}\n  deletion: {{slot: Keep}}\n");
    namespace.apply(&over("odd", "nobody", "{mode: Disable}", "{name: main}", &spec));
    namespace.apply(&format!("{}  {odd}\n", schedule("odd", "shop", "0 0 1 1 *")));
    guests.apply(&another("shop", "shop", everybody, taken));
    guests.apply(&another(
        "poacher",
        "other",
        everybody,
        "  nameInRepository: e2e-faults.free\n",
    ));
    let ours = "the Deployment e2e-faults/shop";
    for (place, object, reason, words) in [
        (
            namespace,
            "hsdep/lost",
            "RepositoryMissing",
            &["no Repository nowhere", "make it"][..],
        ),
        (
            namespace,
            "hsdep/twice",
            "SourceTaken",
            &[ours, "same source", "delete"],
        ),
        (
            namespace,
            "hsdep/namesake",
            "NameTaken",
            &[ours, "choose another nameInRepository"],
        ),
        (
            namespace,
            "hssched/lost",
            "DeploymentMissing",
            &["no Deployment nobody", "correct deploymentRef"],
        ),
        (namespace, "hssched/backwards", "InvalidSchedule", &["minute"]),
        (
            namespace,
            "hsbk/lost",
            "DeploymentMissing",
            &["no Deployment nobody", "correct deploymentRef"],
        ),
        (
            &guests,
            "hsdep/shop",
            "NameTaken",
            &[ours, "choose another nameInRepository"],
        ),
        (
            &guests,
            "hsdep/poacher",
            "NameNotAllowed",
            &["begin with e2e-faults-guests."],
        ),
        (
            namespace,
            "hsdep/odd",
            "ChildRefused",
            &["a valid label", "correct what it names"],
        ),
        (
            namespace,
            "hssched/odd",
            "ChildRefused",
            &["a valid label", "correct what it names"],
        ),
    ] {
        until_told(place, object, reason, words);
        assert!(is(&place.get(object), "Stalled", "True"), "{object} needs a person");
    }

    step("nothing was started for any of it, and it leaves at once");
    assert_eq!(namespace.list("deployments", "hardstorage.dev/role=wal").len(), 1);
    assert!(guests.list("deployments", "").is_empty());
    let cron_jobs = namespace.list("cronjobs", "hardstorage.dev/role=backup");
    assert_eq!(cron_jobs.len(), 1, "{cron_jobs:#?}");
    namespace
        .kubectl(&[
            "delete",
            "hsdep/lost",
            "hsdep/twice",
            "hsdep/namesake",
            "hsdep/odd",
            "--timeout=30s",
        ])
        .ok();
    guests.kubectl(&["delete", "hsdep", "--all", "--timeout=30s"]).ok();
    assert_eq!(site.stream(), stream, "the stream was touched");
    assert_eq!(site.database.slots(namespace), [site.slot()]);
    site.nothing_is_lost();
}

/// Has the API server refuse a manifest.
#[track_caller]
fn refused(namespace: &Namespace, manifest: &str, words: &str) {
    let apply = ["apply", "--server-side", "-n", namespace.name()];
    let answer = namespace.node().kubectl_with(manifest, &apply);
    assert_eq!(answer.code, Some(1), "{answer}");
    assert!(answer.stderr.contains(words), "it does not say {words:?}\n{answer}");
}

#[test]
fn a_repository_that_is_gone_stops_no_stream() {
    let site = Site::streaming("e2e-faults-gone", 1);
    let namespace = &site.namespace;
    site.back_up("before");
    let stream = site.stream();

    step("the Repository is deleted: the stream goes on, and everything that needs it says so");
    namespace.kubectl(&["delete", "hsrepo/main", "--timeout=60s"]).ok();
    namespace.apply(SCHEDULE);
    namespace.apply(&wish("meanwhile", ""));
    for object in ["hsdep/shop", "hssched/shop", "hsbk/meanwhile"] {
        until_told(
            namespace,
            object,
            "RepositoryMissing",
            &["no Repository main", "make it"],
        );
    }
    assert!(is(&namespace.get("hsdep/shop"), "Streaming", "True"));
    site.database
        .sql(namespace, "CREATE TABLE without_repository AS SELECT 1 AS n");
    site.until_archived();

    step("given back, it is the same one, and what waited for it happens");
    namespace.apply(&repository(&site.bucket.url("main")));
    site.until_ready();
    namespace.wait("hsbk/meanwhile", "jsonpath={.status.phase}=Completed", PATIENCE);
    namespace.until_condition("hssched/shop", "Ready", PATIENCE);
    assert_eq!(site.stream(), stream, "the stream was touched");
    site.nothing_is_lost();
}

const CLAIM: &str = "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: volume}\nspec:\n  \
    accessModes: [ReadWriteOnce]\n  resources: {requests: {storage: 1Gi}}\n";
const ON_CLAIM: &str = "apiVersion: hardstorage.dev/v1alpha1\nkind: Repository\nmetadata: {name: volume}\nspec:\n  \
    url: file:///repository/second\n  persistentVolumeClaim: {claimName: volume}\n";

#[test]
fn a_claim_that_goes_stops_no_stream() {
    let site = Site::streaming("e2e-faults-claim", 1);
    let namespace = &site.namespace;
    let stream = site.stream();

    step("a second copy on a claim that is not there");
    namespace.apply(ON_CLAIM);
    namespace.apply(&another("copy", "shop", "{name: volume}", ""));
    let missing = ["no PersistentVolumeClaim volume", "make the claim"];
    until_told(namespace, "hsrepo/volume", "ClaimMissing", &missing[..1]);
    until_told(namespace, "hsdep/copy", "ClaimMissing", &missing);
    assert!(namespace.find("deployment/copy-wal").is_none());

    step("it comes");
    namespace.apply(CLAIM);
    namespace.until_condition("hsrepo/volume", "Ready", PATIENCE);
    namespace.until_condition("hsdep/copy", "Ready", PATIENCE);
    let (copy, slot) = (site.stream_of("copy"), site.slot_of("copy"));

    step("it is deleted: as long as the stream has it, it stays and is written to");
    namespace.delete(&["pvc/volume"]);
    for object in ["hsrepo/volume", "hsdep/copy"] {
        until_told(namespace, object, "ClaimMissing", &["volume is being deleted"]);
    }
    site.database
        .sql(namespace, "CREATE TABLE without_claim AS SELECT 1 AS n");
    site.database.until_archived(namespace, &slot, PATIENCE);
    assert_eq!(site.stream_of("copy"), copy, "the stream was touched");

    step("the copy is given up: its slot goes, and with its Repository, whose Jobs have used it, the claim");
    namespace.delete(&["hsdep/copy"]);
    namespace.until_gone("hsdep/copy", PATIENCE);
    assert_eq!(site.database.slots(namespace), [site.slot()]);
    assert!(
        namespace.find("pvc/volume").is_some(),
        "the claim went before its Repository"
    );
    namespace.delete(&["hsrepo/volume"]);
    namespace.until_gone("pvc/volume", SOON);
    assert_eq!(site.stream(), stream, "the other stream was touched");
    site.nothing_is_lost();
}
