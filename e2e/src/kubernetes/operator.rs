//! Our operator in the cluster: the image of the binaries that were built with the tests, the chart (or the manifests of
//! `config/default` where there is no helm), and the replica that acts.

use std::ffi::OsStr;
use std::process::Command;
use std::sync::OnceLock;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::node::{Node, image, variable};
use crate::answer::{Answer, run, until_every};
use crate::place::tree;
use crate::place::{cache_root, product_binary};

/// Where it is installed.
pub(super) const NAMESPACE: &str = "pg-hardstorage";
/// Its pods.
pub(super) const SELECTOR: &str = "app.kubernetes.io/name=pg-hardstorage,app.kubernetes.io/component=operator";
/// The release, and so the name of its Deployment and of its Lease.
const RELEASE: &str = "pg-hardstorage";
const PATIENCE: Duration = Duration::from_mins(3);
/// Between two questions: sooner than a namespace asks, since how fast another replica takes over is measured with it.
const PAUSE: Duration = Duration::from_millis(300);

/// The installed operator.
#[derive(Debug)]
pub struct Operator {
    node: &'static Node,
}

impl Operator {
    /// The one of this process, from the binaries beside this test; installed when it is asked for the first time.
    pub fn get() -> &'static Operator {
        static OPERATOR: OnceLock<Operator> = OnceLock::new();
        OPERATOR.get_or_init(|| {
            let operator = Operator { node: Node::get() };
            operator.load();
            operator.install();
            // The image's name stays while its content changes, which moves nothing by itself.
            operator
                .kubectl(&["rollout", "restart", &format!("deployment/{RELEASE}")])
                .ok();
            operator.ready();
            operator
        })
    }

    /// The image of engine and operator.
    pub fn image() -> String {
        image("HARDSTORAGE_E2E_IMAGE", "localhost/pg-hardstorage:dev")
    }

    fn load(&self) {
        if !self.node.is_ours() {
            let named = variable("HARDSTORAGE_E2E_IMAGE");
            assert!(
                named.is_some(),
                "HARDSTORAGE_E2E_IMAGE has to name an image that this cluster can pull"
            );
            return;
        }
        let engine = product_binary();
        let operator = engine.with_file_name("pg_hardstorage_operator");
        assert!(
            operator.is_file(),
            "{} is missing: run cargo build -p pg_hardstorage -p pg_hardstorage_operator",
            operator.display()
        );
        self.node.script("load", &[engine.as_os_str()], PATIENCE);
    }

    /// Installs it, or upgrades it to the chart of this tree; further values as `NAME=VALUE`.
    #[track_caller]
    pub fn install_with(&self, values: &[&str]) {
        self.upgrade(values).ok();
    }

    /// The same until the answer goes, so that no other story finds the operator like this.
    #[track_caller]
    pub fn configured(&self, values: &[&str]) -> Configured<'_> {
        let configured = Configured(self);
        self.install_with(values);
        self.ready();
        configured
    }

    #[track_caller]
    fn upgrade(&self, values: &[&str]) -> Answer {
        let full = Self::image();
        let (repository, tag) = full
            .rsplit_once(':')
            .unwrap_or_else(|| panic!("the image needs a tag: {full}"));
        let (registry, repository) = repository.split_once('/').unwrap_or(("", repository));
        let image = format!("image.registry={registry},image.repository={repository},image.tag={tag}");
        let chart = tree("charts/pg-hardstorage");
        let mut helm = self.helm();
        helm.args(["upgrade", RELEASE]).arg(chart);
        helm.args(["--install", "--namespace", NAMESPACE, "--create-namespace"]);
        helm.args(["--set", &image, "--wait", "--timeout", "150s"]);
        for value in values {
            helm.args(["--set", value]);
        }
        run(helm, PATIENCE)
    }

    /// Whether charts can be installed here.
    pub fn has_helm(&self) -> bool {
        cache_root().join("bin/helm").exists()
    }

    fn helm(&self) -> Command {
        let program = cache_root().join("bin/helm");
        assert!(program.exists(), "helm is missing: run scripts/fetch-tools helm");
        let mut command = self.node.command(&program.display().to_string());
        if let Some(context) = self.node.context() {
            command.args(["--kube-context", context]);
        }
        command
    }

    #[track_caller]
    fn install(&self) {
        if self.has_helm() {
            return self.install_with(&[]);
        }
        let rendered = self
            .node
            .kubectl([OsStr::new("kustomize"), tree("config/default").as_os_str()])
            .ok();
        let released = concat!("localhost/pg-hardstorage:", env!("CARGO_PKG_VERSION"));
        assert!(rendered.stdout.contains(released), "no image {released}\n{rendered}");
        let manifest = rendered.stdout.replace(released, &Self::image());
        self.node.kubectl_with(&manifest, &["apply", "--server-side"]).ok();
    }

    /// Removes the chart.
    #[track_caller]
    pub fn uninstall(&self) -> Answer {
        let mut helm = self.helm();
        helm.args([
            "uninstall",
            RELEASE,
            "--namespace",
            NAMESPACE,
            "--wait",
            "--timeout",
            "170s",
        ]);
        run(helm, PATIENCE).ok()
    }

    /// Waits until all replicas are as the newest manifest says, and one of them acts.
    #[track_caller]
    pub fn ready(&self) {
        let words = ["rollout", "status", &format!("deployment/{RELEASE}"), "--timeout=110s"];
        self.kubectl(&words).ok();
        self.until_led("a replica that is there holds the Lease", |_| true);
    }

    /// The pod that acts: it holds the Lease, and it is there.
    pub fn leader(&self) -> Option<String> {
        let lease = self.node.object(&["lease", RELEASE, "-n", NAMESPACE])?;
        let holder = lease["spec"]["holderIdentity"]
            .as_str()
            .filter(|holder| !holder.is_empty())?;
        self.pods().into_iter().find(|pod| pod == holder)
    }

    /// Waits for a leader; its name.
    #[track_caller]
    pub fn until_led(&self, what: &str, is: impl Fn(&str) -> bool) -> String {
        until_every(PAUSE, what, Duration::from_mins(1), || {
            self.leader().filter(|leader| is(leader))
        })
    }

    /// Its pods that are not on their way out.
    #[track_caller]
    pub fn pods(&self) -> Vec<String> {
        let list = self.kubectl(&["get", "pods", "-o", "json", "-l", SELECTOR]).ok().json();
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        let stays = |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null();
        let name = |pod: &Value| pod["metadata"]["name"].as_str().map(str::to_owned);
        pods.iter().filter(stays).filter_map(name).collect()
    }

    /// Ends a pod as a power cut would.
    #[track_caller]
    pub fn kill(&self, pod: &str) {
        self.kubectl(&["delete", "pod", pod, "--grace-period=0", "--force"])
            .ok();
    }

    /// Changes the number of replicas and waits until it is so.
    #[track_caller]
    pub fn scale(&self, replicas: u32) {
        let count = format!("--replicas={replicas}");
        self.kubectl(&["scale", &format!("deployment/{RELEASE}"), &count]).ok();
        until_every(PAUSE, "the replicas are as many as asked for", PATIENCE, || {
            (self.pods().len() == replicas as usize).then_some(())
        });
        if replicas > 0 {
            self.ready();
        }
    }

    /// Runs kubectl in its namespace.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Answer {
        self.node.kubectl_within(PATIENCE, [&["-n", NAMESPACE], args].concat())
    }
}

/// The operator with other values than the stories' own, which are given back to it at the end.
#[derive(Debug)]
pub struct Configured<'a>(&'a Operator);

impl Drop for Configured<'_> {
    #[allow(clippy::print_stderr, reason = "the runner keeps it for the test that fails")]
    fn drop(&mut self) {
        let answer = self.0.upgrade(&[]);
        // A second panic would end the whole run.
        if answer.code != Some(0) && thread::panicking() {
            eprintln!("the operator has kept the values of this story\n{answer}");
        } else {
            answer.ok();
        }
    }
}
