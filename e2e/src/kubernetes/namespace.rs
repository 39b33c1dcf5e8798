//! A namespace for one test, under the restricted Pod Security standard, gone with the value. When the test fails, it tells
//! first what there was.

use std::ffi::OsStr;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::diagnosis;
use super::node::Node;
use crate::answer::{Answer, until_every};
use crate::background::Background;
use crate::scratch::Scratch;

/// Between two questions to the API server, where nothing can be watched: each starts a process, and half a dozen stories
/// that ask all the time would leave no processor to what they wait for.
const PAUSE: Duration = Duration::from_secs(1);
/// A namespace goes when its pods have ended and its volumes are removed.
const END: Duration = Duration::from_mins(3);

/// An object that was read, as it can be applied: what the server adds is not for those who write.
#[must_use]
pub fn without_server_fields(mut object: Value) -> Value {
    for field in ["uid", "resourceVersion", "creationTimestamp", "managedFields"] {
        object["metadata"].as_object_mut().unwrap().remove(field);
    }
    object
}

/// The namespace.
#[derive(Debug)]
pub struct Namespace {
    node: &'static Node,
    name: String,
    scratch: Scratch,
}

impl Namespace {
    /// An empty one of this name; what a run that was killed left of it goes first.
    #[track_caller]
    pub fn new(name: &str) -> Namespace {
        let node = Node::get();
        delete(node, name);
        let manifest = format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {name}, labels: \
             {{pod-security.kubernetes.io/enforce: restricted, team: e2e}}}}}}"
        );
        node.kubectl_with(&manifest, &["create"]).ok();
        let scratch = Scratch::new();
        let name = name.to_owned();
        Namespace { node, name, scratch }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster that it is in.
    pub fn node(&self) -> &'static Node {
        self.node
    }

    /// Files that go with it.
    pub fn scratch(&self) -> &Scratch {
        &self.scratch
    }

    /// Runs kubectl in it.
    #[track_caller]
    pub fn kubectl(&self, args: &[&str]) -> Answer {
        self.node.kubectl([&["-n", &self.name], args].concat())
    }

    /// Makes objects, or changes them.
    #[track_caller]
    pub fn apply(&self, manifest: &str) {
        self.node
            .kubectl_with(manifest, &["apply", "--server-side", "-n", &self.name])
            .ok();
    }

    /// Gives an object back as it was read before it was deleted or changed.
    #[track_caller]
    pub fn give_back(&self, object: &Value) {
        self.apply(&without_server_fields(object.clone()).to_string());
    }

    /// Changes an object by a merge patch.
    #[track_caller]
    pub fn patch(&self, object: &str, patch: &str) {
        self.kubectl(&["patch", object, "--type=merge", "-p", patch]).ok();
    }

    /// Deletes objects and does not wait for their end.
    #[track_caller]
    pub fn delete(&self, objects: &[&str]) {
        self.kubectl(&[&["delete", "--wait=false"], objects].concat()).ok();
    }

    /// Waits until an object is gone.
    #[track_caller]
    pub fn until_gone(&self, object: &str, deadline: Duration) {
        self.wait(object, "delete", deadline);
    }

    /// Waits until a condition of an object is True.
    #[track_caller]
    pub fn until_condition(&self, object: &str, condition: &str, deadline: Duration) {
        self.wait(object, &format!("condition={condition}"), deadline);
    }

    /// `kubectl wait` with its own words: `condition=Ready`, `delete`, `jsonpath={.status.phase}=Completed`.
    #[track_caller]
    pub fn wait(&self, object: &str, what: &str, deadline: Duration) {
        let limit = format!("--timeout={}s", deadline.as_secs());
        let words = ["-n", &self.name, "wait", object, "--for", what, &limit];
        let answer = self.node.kubectl_within(deadline + Duration::from_secs(30), words);
        if answer.code != Some(0) {
            let there = self.kubectl(&["get", object, "-o", "yaml"]);
            panic!("{object} has not come to {what} within {deadline:?}\n{answer}\n{there}");
        }
    }

    /// One object (`hsdep/shop`); nothing when it is not there.
    #[track_caller]
    pub fn find(&self, object: &str) -> Option<Value> {
        self.node.object(&[object, "-n", &self.name])
    }

    /// One object; fails the test when it is not there.
    #[track_caller]
    pub fn get(&self, object: &str) -> Value {
        self.find(object)
            .unwrap_or_else(|| panic!("there is no {object} in {}", self.name))
    }

    /// All objects of a kind, with a selector when there is one.
    #[track_caller]
    pub fn list(&self, kind: &str, selector: &str) -> Vec<Value> {
        let words = ["get", kind, "-o", "json", "-l", selector];
        let words = if selector.is_empty() { &words[..4] } else { &words };
        let list = self.kubectl(words).ok().json();
        list["items"]
            .as_array()
            .unwrap_or_else(|| panic!("no items: {list}"))
            .clone()
    }

    /// Asks again and again until there is an answer; fails the test with `what` after the deadline.
    #[track_caller]
    pub fn until<T>(&self, what: &str, deadline: Duration, mut ask: impl FnMut(&Namespace) -> Option<T>) -> T {
        until_every(PAUSE, what, deadline, || ask(self))
    }

    /// Waits for something about one object, whose last state is told when it does not come.
    #[track_caller]
    pub fn until_object(&self, object: &str, what: &str, deadline: Duration, is: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let found = self.find(object);
            if let Some(found) = found.as_ref().filter(|found| is(found)) {
                return found.clone();
            }
            assert!(
                begun.elapsed() < deadline,
                "not within {deadline:?}: {object}: {what}\n{}",
                found.map_or_else(|| "it is not there".to_owned(), |found| format!("{found:#}"))
            );
            thread::sleep(PAUSE);
        }
    }

    /// Runs a command in a pod.
    #[track_caller]
    pub fn exec(&self, pod: &str, container: &str, command: &[&str]) -> Answer {
        let words = ["exec", pod, "-c", container, "--"];
        self.kubectl(&[&words[..], command].concat())
    }

    /// What a pod has said so far.
    #[track_caller]
    pub fn logs(&self, pod: &str) -> String {
        self.kubectl(&["logs", pod, "--all-containers"]).ok().stdout
    }

    /// Starts kubectl beside the test.
    pub fn start(&self, log: &str, args: &[&str]) -> Background {
        let mut command = self.node.kubectl_command();
        command.args(["-n", &self.name]).args(args);
        Background::start(command, &self.scratch.path(log))
    }

    /// Deletes it and everything in it, and waits for the end; how long that took.
    #[track_caller]
    pub fn remove(self, deadline: Duration) -> Duration {
        let begun = Instant::now();
        self.node
            .kubectl(["delete", "namespace", &self.name, "--wait=false", "--ignore-not-found"])
            .ok();
        let limit = format!("--timeout={}s", deadline.as_secs());
        let words = ["wait", "--for=delete", "namespace", &self.name, &limit];
        let gone = self.node.kubectl_within(deadline + Duration::from_secs(30), words);
        assert!(
            gone.code == Some(0),
            "the namespace is still there\n{gone}\n{}",
            self.node.kubectl(["get", "namespace", &self.name, "-o", "yaml"])
        );
        begun.elapsed()
    }
}

/// A value of an object's condition: `True`, `False`, `Unknown`, or nothing.
pub fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let conditions = object["status"]["conditions"].as_array()?;
    conditions.iter().find(|condition| condition["type"] == name)
}

/// Whether a condition has this status.
pub fn is(object: &Value, name: &str, status: &str) -> bool {
    condition(object, name).is_some_and(|condition| condition["status"] == status)
}

/// Whether a condition has this status for this reason.
pub fn is_for(object: &Value, name: &str, status: &str, reason: &str) -> bool {
    condition(object, name).is_some_and(|condition| condition["status"] == status && condition["reason"] == reason)
}

fn delete(node: &Node, name: &str) {
    let words: [&OsStr; 5] = ["delete", "namespace", name, "--ignore-not-found", "--timeout=180s"].map(OsStr::new);
    node.kubectl_within(END + Duration::from_secs(30), words).ok();
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if !thread::panicking() {
            delete(self.node, &self.name);
            return;
        }
        diagnosis::tell(self.node, &self.name);
        if std::env::var_os("HARDSTORAGE_KEEP").is_none() {
            // A second panic would end the whole run; the next test of that name removes what is left.
            let mut command = self.node.kubectl_command();
            command.args(["delete", "namespace", &self.name, "--wait=false"]);
            command.output().ok();
        }
    }
}
