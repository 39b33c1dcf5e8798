//! What a namespace held when its test failed: objects, events, what the pods and the operator said.
#![allow(clippy::print_stderr, reason = "the runner keeps it for the test that fails")]

use super::node::Node;
use super::operator;

/// Lines of each pod.
const TAIL: &str = "--tail=30";
/// Characters of each line: CloudNativePG writes long ones.
const WIDTH: usize = 400;

/// Tells everything. It never fails: the test has failed already, and what could not be told is told as such.
pub(super) fn tell(node: &Node, namespace: &str) {
    let ours = "hsrepositories,hsdeployments,hsbackupschedules,hsbackups,hsrestores";
    show(node, "our objects", &["-n", namespace, "get", ours, "-o", "yaml"]);
    show(
        node,
        "theirs",
        &[
            "-n",
            namespace,
            "get",
            "pods,jobs,cronjobs,deployments,clusters.postgresql.cnpg.io,pvc,secrets",
            "-o",
            "wide",
        ],
    );
    show(
        node,
        "events",
        &["-n", namespace, "get", "events", "--sort-by=.lastTimestamp"],
    );
    let names = output(node, &["-n", namespace, "get", "pods", "-o", "name"]);
    for pod in names.lines().filter(|line| line.starts_with("pod/")) {
        show(
            node,
            pod,
            &["-n", namespace, "logs", pod, "--all-containers", "--prefix", TAIL],
        );
        let previous = ["-n", namespace, "logs", pod, "--all-containers", "--previous", TAIL];
        let before = output(node, &previous);
        if !before.contains("not found") {
            eprintln!("--- {pod}, before its last restart\n{}", before.trim_end());
        }
    }
    show(
        node,
        "the operator",
        &[
            "-n",
            operator::NAMESPACE,
            "logs",
            "-l",
            operator::SELECTOR,
            "--prefix",
            "--tail=150",
        ],
    );
}

fn show(node: &Node, what: &str, args: &[&str]) {
    eprintln!("--- {what}\n{}", output(node, args).trim_end());
}

fn output(node: &Node, args: &[&str]) -> String {
    let mut command = node.kubectl_command();
    command.args(args).arg("--request-timeout=20s");
    match command.output() {
        Ok(output) => {
            let both = [output.stdout, output.stderr].concat();
            let text = String::from_utf8_lossy(&both);
            let cut = |line: &str| line.chars().take(WIDTH).chain(['\n']).collect::<String>();
            text.lines().map(cut).collect()
        }
        Err(error) => format!("cannot start kubectl: {error}"),
    }
}
