//! Each rule of the operator's roles, taken away: something is missed, the API server's words for it are told, nothing that
//! protects is touched, and the operator goes on by itself when it has the right again. A rule that nothing misses is one
//! too many.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Operator, without_server_fields};
use serde_json::{Value, json};

use crate::restore;
use crate::site::{PATIENCE, SCHEDULE, SOON, Site, deployment, repository, step, wish};

/// The roles of the installation, as kubectl names them.
const EVERYWHERE: &str = "clusterrole/pg-hardstorage-pg-hardstorage";
const AT_HOME: &str = "role/pg-hardstorage-own";

/// What makes the operator want a right.
#[derive(Clone, Copy)]
enum Need {
    /// It looks at an object.
    Look(&'static str),
    /// It writes what a Deployment has asked for.
    Write,
    /// A backup is asked for.
    Wish,
    /// A run of the schedule is asked for.
    Run,
    /// A restore is asked for.
    Restore,
    /// A restore is asked for, to a StatefulSet that Patroni runs in.
    Member,
    /// It starts.
    Start,
    /// The Lease is gone, and so is the one that held it.
    Lease,
    /// It holds the Lease.
    Hold,
}

/// Role, a resource and a verb of the rule, what needs it, and a word of what is told then.
const RULES: [(&str, &str, &str, Need, &str); 22] = [
    (
        EVERYWHERE,
        "customresourcedefinitions",
        "get",
        Need::Start,
        "customresourcedefinitions",
    ),
    (EVERYWHERE, "namespaces", "get", Need::Look("hsdep/shop"), "namespace"),
    (EVERYWHERE, "hsrepositories", "list", Need::Start, "hsrepositories"),
    (EVERYWHERE, "hsbackups", "patch", Need::Wish, "hsbackups"),
    (EVERYWHERE, "hsbackups", "create", Need::Run, "hsbackups"),
    (EVERYWHERE, "hsbackups/status", "patch", Need::Wish, "hsbackups/status"),
    (EVERYWHERE, "deployments", "patch", Need::Write, "deployments"),
    (
        EVERYWHERE,
        "replicasets",
        "list",
        Need::Look("hsdep/shop"),
        "replicasets",
    ),
    (EVERYWHERE, "statefulsets", "get", Need::Member, "statefulsets"),
    (EVERYWHERE, "endpoints", "get", Need::Member, "endpoints"),
    (EVERYWHERE, "jobs", "create", Need::Wish, "jobs"),
    (EVERYWHERE, "cronjobs", "list", Need::Start, "cronjobs"),
    (
        EVERYWHERE,
        "configmaps",
        "patch",
        Need::Look("hsdep/shop"),
        "configmaps",
    ),
    (EVERYWHERE, "services", "list", Need::Start, "services"),
    (
        EVERYWHERE,
        "networkpolicies",
        "patch",
        Need::Look("hsdep/shop"),
        "networkpolicies",
    ),
    (EVERYWHERE, "pods", "list", Need::Look("hsdep/shop"), "pods"),
    (
        EVERYWHERE,
        "persistentvolumeclaims",
        "create",
        Need::Restore,
        "persistentvolumeclaims",
    ),
    (EVERYWHERE, "secrets", "create", Need::Look("hsrepo/main"), "secrets"),
    (EVERYWHERE, "events", "create", Need::Wish, "events"),
    (EVERYWHERE, "clusters", "get", Need::Look("hsdep/shop"), "clusters"),
    (AT_HOME, "leases", "create", Need::Lease, "leases"),
    (AT_HOME, "leases", "update", Need::Hold, "leases"),
];

/// A role without one of its rules, until the value goes.
struct Without<'a> {
    site: &'a Site,
    whole: Value,
}

impl<'a> Without<'a> {
    #[track_caller]
    fn new(site: &'a Site, role: &str, resource: &str, verb: &str) -> Without<'a> {
        let whole = without_server_fields(read(site, role));
        let has = |rule: &Value, list: &str, word: &str| rule[list].as_array().unwrap().contains(&json!(word));
        let mut less = whole.clone();
        let rules = less["rules"].as_array_mut().unwrap();
        let before = rules.len();
        rules.retain(|rule| !(has(rule, "resources", resource) && has(rule, "verbs", verb)));
        assert_eq!(
            rules.len() + 1,
            before,
            "{role} has not one rule for {verb} of {resource}"
        );
        apply(site, &less);
        Without { site, whole }
    }
}

impl Drop for Without<'_> {
    fn drop(&mut self) {
        apply(self.site, &self.whole);
    }
}

#[track_caller]
fn read(site: &Site, role: &str) -> Value {
    let words = ["get", role, "-n", "pg-hardstorage", "-o", "json"];
    site.namespace.node().kubectl(words).ok().json()
}

/// As the one who installed it: a later upgrade would not take what is another's.
#[track_caller]
fn apply(site: &Site, role: &Value) {
    let words = ["apply", "--server-side", "--field-manager=helm", "--force-conflicts"];
    site.namespace.node().kubectl_with(&role.to_string(), &words).ok();
}

/// What is said in conditions of our objects, and by the operator's pods.
fn said(site: &Site, operator: &Operator) -> Vec<String> {
    let kinds = "hsrepo,hsdep,hssched,hsbk,hsrs";
    let mut all = Vec::new();
    for object in site.namespace.list(kinds, "") {
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        all.extend(
            conditions
                .iter()
                .filter_map(|one| one["message"].as_str().map(str::to_owned)),
        );
    }
    for pod in operator.pods() {
        // One that has ended is told of by the one after it.
        for which in ["--previous=true", "--previous=false"] {
            let answer = operator.kubectl(&["logs", &pod, which]);
            all.extend(answer.stdout.lines().map(str::to_owned));
        }
    }
    all
}

/// How often the API server's refusal for this word was told.
fn refusals(site: &Site, operator: &Operator, word: &str) -> usize {
    let told = |line: &&String| {
        let refused = ["forbidden", "may not", "lacks"]
            .iter()
            .any(|refusal| line.contains(refusal));
        refused && line.contains(word)
    };
    said(site, operator).iter().filter(told).count()
}

/// Makes the operator want it; an object that waits for the right.
#[track_caller]
fn want(site: &Site, operator: &Operator, need: Need, number: usize) -> Option<String> {
    let namespace = &site.namespace;
    let restart = || {
        for pod in operator.pods() {
            operator.kill(&pod);
        }
    };
    match need {
        Need::Look(object) => {
            let word = format!("e2e/look={number}");
            namespace.kubectl(&["annotate", "--overwrite", object, &word]).ok();
        }
        Need::Write => namespace.patch(
            "hsdep/shop",
            r#"{"spec":{"podTemplate":{"annotations":{"e2e/written":"yes"}}}}"#,
        ),
        Need::Wish => {
            let name = format!("wish-{number}");
            namespace.apply(&wish(&name, ""));
            return Some(name);
        }
        Need::Run => {
            let word = format!("hardstorage.dev/run-now={number}");
            namespace
                .kubectl(&["annotate", "--overwrite", "hssched/shop", &word])
                .ok();
        }
        Need::Restore => namespace.apply(&restore::object("back", &restore::into_claim("back"))),
        Need::Member => namespace.apply(&format!(
            "apiVersion: hardstorage.dev/v1alpha1\nkind: Restore\nmetadata: {{name: member-{number}}}\nspec:\n  \
             source: {{deploymentRef: {{name: shop}}}}\n  \
             destination: {{patroni: {{statefulSet: member-{number}, claim: data}}}}\n"
        )),
        Need::Start => restart(),
        Need::Lease => {
            operator.kubectl(&["delete", "lease", "pg-hardstorage"]).ok();
            restart();
        }
        Need::Hold => {}
    }
    None
}

#[test]
fn each_rule_is_missed_and_told() {
    let operator = Operator::get();
    let _debug = operator.configured(&["replicas=1", "logLevel=debug", "monitoring.scraperNamespace=default"]);
    let site = Site::new("e2e-rights", 1);
    let namespace = &site.namespace;
    namespace.apply(&repository(&site.bucket.url("main")));
    namespace.apply(&deployment(site.database.name(), ""));
    namespace.apply(&SCHEDULE.replace("* * * * *", "0 0 1 1 *"));
    site.until_ready();
    site.back_up("first");
    let stream = site.stream();
    for role in [EVERYWHERE, AT_HOME] {
        let named = RULES.iter().filter(|one| one.0 == role).count();
        let there = read(&site, role)["rules"].as_array().map_or(0, Vec::len);
        assert_eq!(named, there, "{role}: a rule is not told of here");
    }

    let mut waiting = Vec::new();
    for (number, (role, resource, verb, need, word)) in RULES.into_iter().enumerate() {
        step(&format!("without {verb} of {resource}"));
        let before = refusals(&site, operator, word);
        let without = Without::new(&site, role, resource, verb);
        waiting.extend(want(&site, operator, need, number));
        namespace.until(
            &format!("a refusal for {word} is told"),
            Duration::from_secs(90),
            |_| (refusals(&site, operator, word) > before).then_some(()),
        );
        if matches!(need, Need::Write) {
            // What was asked for is taken back before it could be done.
            namespace.patch("hsdep/shop", r#"{"spec":{"podTemplate":null}}"#);
        }
        drop(without);
        if matches!(need, Need::Start | Need::Lease | Need::Hold) {
            operator.ready();
        }
    }

    step("with every right again all is done that was asked for");
    site.until_ready();
    for name in waiting {
        site.until_completed(&name);
    }
    for restore in namespace.list("hsrs", "") {
        let name = restore["metadata"]["name"].as_str().unwrap();
        namespace.wait(&format!("hsrs/{name}"), "condition=Ready", PATIENCE);
    }
    namespace.until("the schedule's run is told of", SOON, |namespace| {
        (!namespace.list("hsbk", "hardstorage.dev/schedule=shop").is_empty()).then_some(())
    });
    assert_eq!(site.stream(), stream, "the stream was touched");
    site.nothing_is_lost();
}
