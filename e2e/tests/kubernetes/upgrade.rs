//! Another default image of the engine: the streams go to it one after the other, and no further when the first of them
//! does not come back.

use std::time::Duration;

use hardstorage_e2e::kubernetes::{Bucket, Database, Namespace, Node, Operator, Outside, is, is_for};
use serde_json::Value;

use crate::site::{PATIENCE, SOON, repository, step};

/// Longer than the operator waits for a stream to come back.
const HALT: Duration = Duration::from_mins(4);
/// Before all others, so that a stream that something else has left behind is not the first to go.
const NAMESPACE: &str = "a-e2e-upgrade";
const NAMES: [&str; 3] = ["alpha", "beta", "gamma"];
/// The engine under another name.
const NEXT: &str = "next";
/// An image in which there is no engine.
const BROKEN: &str = "broken";

#[test]
fn streams_move_one_after_the_other_and_stop_at_the_first_that_is_lost() {
    let operator = Operator::get();
    let fleet = Fleet::start(NAMESPACE);
    tag(fleet.namespace.node(), "localhost/pg-hardstorage:dev", NEXT);
    tag(fleet.namespace.node(), "localhost/pause:1", BROKEN);
    let before = NAMES.map(|name| fleet.pod(name));

    step("another image: each waits until the one before it streams again");
    let configured = operator.configured(&values(NEXT));
    fleet.until_all("all have moved", PATIENCE, |fleet, name| fleet.runs(name, NEXT));
    let pods = NAMES.map(|name| fleet.pod(name));
    for (old, new) in before.iter().zip(&pods) {
        assert_ne!(uid(old), uid(new));
    }
    for (moved, next) in NAMES.iter().zip(&NAMES[1..]) {
        let (started, moved_at) = (fleet.started(moved), fleet.moved_at(next));
        assert!(
            to_the_second(&moved_at) >= to_the_second(&started),
            "{next} was moved at {moved_at}, and the new pod of {moved} was started at {started}"
        );
    }
    fleet.archived(&NAMES);

    step("a broken image: the first is lost, and the others keep what they have");
    operator.install_with(&values(BROKEN));
    fleet.until_all("all tell that it is halted", HALT, |fleet, name| {
        let object = fleet.object(name);
        is_for(&object, "UpgradeHalted", "True", "StreamLost").then_some(())
    });
    let said = fleet.object("gamma")["status"]["conditions"].to_string();
    assert!(said.contains(&format!("{NAMESPACE}/alpha")), "{said}");
    assert_eq!(image(&fleet.child("alpha")), full(BROKEN));
    assert!(is(&fleet.object("alpha"), "Streaming", "False"));
    for (name, pod) in NAMES.iter().zip(&pods).skip(1) {
        assert_eq!(uid(&fleet.pod(name)), uid(pod), "{name} was touched");
    }
    fleet.archived(&NAMES[1..]);

    step("set back: the first heals, and nothing is missing");
    operator.install_with(&values(NEXT));
    fleet.until_all("all stream the image of before", PATIENCE, |fleet, name| {
        fleet.runs(name, NEXT)?;
        is(&fleet.object(name), "UpgradeHalted", "False").then_some(())
    });
    fleet.archived(&NAMES);
    drop(configured);
    fleet.until_all("all are back", PATIENCE, |fleet, name| fleet.runs(name, "dev"));
    let (_forward, url) = fleet.bucket.outside(&fleet.namespace);
    let outside = Outside::new(url("main"));
    outside.take(&fleet.namespace, "s3");
    outside.take(&fleet.namespace, "main-kek");
    for name in NAMES {
        outside.run(&["wal", "audit", &format!("{NAMESPACE}.{name}")]).ok();
    }
}

/// The chart's values for an image of the engine, one stream at a time, and less patience than usual.
fn values(tag: &str) -> [&str; 3] {
    match tag {
        NEXT => [
            "engine.upgradeAtOnce=1",
            "engine.upgradePatienceSeconds=90",
            "engine.image.tag=next",
        ],
        BROKEN => [
            "engine.upgradeAtOnce=1",
            "engine.upgradePatienceSeconds=90",
            "engine.image.tag=broken",
        ],
        other => panic!("there is no image {other}"),
    }
}

fn full(tag: &str) -> String {
    format!("localhost/pg-hardstorage:{tag}")
}

/// Gives an image of the node another name.
#[track_caller]
fn tag(node: &Node, image: &str, tag: &str) {
    assert!(node.is_ours(), "images are named anew on the node only");
    let mut command = node.command("ctr");
    command.args(["-n", "k8s.io", "images", "tag", "--force", image, &full(tag)]);
    hardstorage_e2e::run(command, SOON).ok();
}

/// Several databases with a stream each.
struct Fleet {
    namespace: Namespace,
    bucket: Bucket,
    databases: [Database; 3],
}

impl Fleet {
    #[track_caller]
    fn start(name: &str) -> Fleet {
        let namespace = Namespace::new(name);
        let databases = NAMES.map(|name| Database::make_cloud_native_pg(&namespace, name, 1));
        let bucket = Bucket::start(&namespace);
        namespace.apply(&repository(&bucket.url("main")));
        for database in &databases {
            database.until_healthy(&namespace, 1);
            namespace.apply(&format!(
                "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {{name: {name}}}\nspec:\n  \
                 source: {{cloudNativePG: {{cluster: {name}}}}}\n  repositoryRef: {{name: main}}\n",
                name = database.name()
            ));
        }
        for name in NAMES {
            namespace.until_condition(&format!("hsdep/{name}"), "Ready", PATIENCE);
        }
        Fleet {
            namespace,
            bucket,
            databases,
        }
    }

    #[track_caller]
    fn until_all(&self, what: &str, deadline: Duration, ask: impl Fn(&Fleet, &str) -> Option<()>) {
        for name in NAMES {
            self.namespace
                .until(&format!("{name}: {what}"), deadline, |_| ask(self, name));
        }
    }

    #[track_caller]
    fn object(&self, name: &str) -> Value {
        self.namespace.get(&format!("hsdep/{name}"))
    }

    /// The stream.
    #[track_caller]
    fn child(&self, name: &str) -> Value {
        self.namespace.get(&format!("deployment/{name}-wal"))
    }

    /// The pod of the stream.
    #[track_caller]
    fn pod(&self, name: &str) -> Value {
        let selector = format!("hardstorage.dev/role=wal,hardstorage.dev/deployment={name}");
        let pods = self.namespace.list("pods", &selector);
        assert_eq!(pods.len(), 1, "{pods:#?}");
        pods[0].clone()
    }

    /// Whether it streams from a pod with this image.
    #[track_caller]
    fn runs(&self, name: &str, tag: &str) -> Option<()> {
        let object = self.object(name);
        let pod = object["status"]["stream"]["pod"].as_str()?;
        let pod = self.namespace.find(&format!("pod/{pod}"))?;
        let new = pod["spec"]["containers"][0]["image"] == full(tag) && pod["metadata"]["deletionTimestamp"].is_null();
        (new && is(&object, "Streaming", "True")).then_some(())
    }

    /// When the pod that streams now was started.
    #[track_caller]
    fn started(&self, name: &str) -> String {
        let pod = self.pod(name);
        let started = &pod["status"]["containerStatuses"][0]["state"]["running"]["startedAt"];
        started.as_str().unwrap_or_else(|| panic!("{pod:#}")).to_owned()
    }

    /// When the image was changed to the one that it has.
    #[track_caller]
    fn moved_at(&self, name: &str) -> String {
        let child = self.child(name);
        let moved = &child["metadata"]["annotations"]["hardstorage.dev/moved-at"];
        moved.as_str().unwrap_or_else(|| panic!("{child:#}")).to_owned()
    }

    /// Writes something into these databases, and waits until it is in the repository.
    #[track_caller]
    fn archived(&self, names: &[&str]) {
        for database in self.databases.iter().filter(|one| names.contains(&one.name())) {
            let sql = "CREATE TABLE IF NOT EXISTS ledger (note text); INSERT INTO ledger VALUES (md5(random()::text))";
            database.sql(&self.namespace, sql);
            let object = self.object(database.name());
            let slot = object["status"]["stream"]["slot"].as_str().unwrap();
            database.until_archived(&self.namespace, slot, PATIENCE);
        }
    }
}

/// Kubernetes counts no less.
fn to_the_second(time: &str) -> &str {
    &time[.."2026-01-01T00:00:00".len()]
}

fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}

fn image(child: &Value) -> &str {
    let containers = &child["spec"]["template"]["spec"]["containers"];
    containers[0]["image"].as_str().unwrap()
}
