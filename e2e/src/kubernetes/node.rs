//! The Kubernetes that stories run on: the node that `e2e/kubernetes/up` starts, or a cluster of your own.
//!
//! A test makes namespaces, installs the operator and deletes pods. So a cluster that merely happens to be in KUBECONFIG is
//! never touched: its context must be named in `HARDSTORAGE_E2E_CONTEXT` too, and it must have CloudNativePG.

use std::ffi::OsStr;
use std::io::Write as _;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use crate::answer::{Answer, run};
use crate::place::{cache_root, tree};

/// The longest that one call of kubectl may take which waits for nothing.
const PATIENCE: Duration = Duration::from_mins(2);
/// The first start builds Kubernetes, when the cache lacks it.
const START: Duration = Duration::from_mins(40);

/// A cluster, with every right.
#[derive(Debug)]
pub struct Node {
    /// The context of a cluster that is not ours; none for the node.
    context: Option<String>,
}

impl Node {
    /// The one of this process; started when it is not up. It stays up afterwards: `e2e/kubernetes/down`.
    pub fn get() -> &'static Node {
        static NODE: OnceLock<Node> = OnceLock::new();
        NODE.get_or_init(|| {
            let node = Node {
                context: variable("HARDSTORAGE_E2E_CONTEXT"),
            };
            if node.is_ours() {
                node.script("up", &[], START);
                node.script("cloudnative-pg", &[], START);
            } else {
                assert!(
                    variable("KUBECONFIG").is_some(),
                    "HARDSTORAGE_E2E_CONTEXT names a context, but KUBECONFIG is not set"
                );
                node.kubectl(["get", "crd", "clusters.postgresql.cnpg.io"]).ok();
            }
            node
        })
    }

    /// Whether it is the node that the scripts start.
    pub fn is_ours(&self) -> bool {
        self.context.is_none()
    }

    /// The context of a cluster of your own.
    pub(super) fn context(&self) -> Option<&str> {
        self.context.as_deref()
    }

    /// Runs one of the scripts in `e2e/kubernetes` to its end.
    #[track_caller]
    pub fn script(&self, name: &str, args: &[&OsStr], deadline: Duration) -> Answer {
        assert!(self.is_ours(), "{name} works on the node only");
        let mut command = Command::new(tree("e2e/kubernetes").join(name));
        command.args(args);
        run(command, deadline).ok()
    }

    /// A program as it reaches the API server.
    pub fn command(&self, program: &str) -> Command {
        if self.is_ours() {
            let mut command = Command::new(tree("e2e/kubernetes").join("enter"));
            command.arg(program);
            return command;
        }
        let cached = cache_root().join("kubernetes/bin").join(program);
        if cached.exists() {
            Command::new(cached)
        } else {
            Command::new(program)
        }
    }

    /// kubectl, ready for its arguments.
    pub fn kubectl_command(&self) -> Command {
        let mut command = self.command("kubectl");
        if let Some(context) = &self.context {
            command.args(["--context", context]);
        }
        command
    }

    /// Runs kubectl to its end.
    #[track_caller]
    pub fn kubectl(&self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
        self.kubectl_within(PATIENCE, args)
    }

    /// The same for what waits for something.
    #[track_caller]
    pub fn kubectl_within(&self, deadline: Duration, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Answer {
        let mut command = self.kubectl_command();
        command.args(args);
        run(command, deadline)
    }

    /// Runs kubectl with a manifest: `["apply"]`, `["delete"]`.
    #[track_caller]
    pub fn kubectl_with(&self, manifest: &str, args: &[&str]) -> Answer {
        let mut file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        file.write_all(manifest.as_bytes()).unwrap();
        let path = file.path().display().to_string();
        let answer = self.kubectl([args, &["-f", &path]].concat());
        Answer {
            command: format!("{}\n{}", answer.command, manifest.trim_end()),
            ..answer
        }
    }

    /// One object; nothing when it is not there.
    #[track_caller]
    pub fn object(&self, args: &[&str]) -> Option<Value> {
        let answer = self.kubectl([&["get", "-o", "json"], args].concat());
        if answer.code == Some(1) && answer.stderr.contains("(NotFound)") {
            return None;
        }
        Some(answer.ok().json())
    }
}

/// An image that stories use; another name for it in a cluster of your own.
pub(super) fn image(variable_name: &str, ours: &str) -> String {
    variable(variable_name).unwrap_or_else(|| ours.to_owned())
}

/// A variable that says something.
pub(super) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
