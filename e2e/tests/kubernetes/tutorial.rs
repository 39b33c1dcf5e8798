//! The tutorials run as they are written.

use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::kubernetes::Node;
use hardstorage_e2e::{product_binary, run, tree};

const LIMIT: Duration = Duration::from_mins(25);

/// On the node that the other stories use, which stays up.
#[track_caller]
fn tutorial(source: &str, says: &str) {
    assert!(Node::get().is_ours(), "tutorials run on the node only");
    let script = tree("scripts/demo-kubernetes");
    let mut command = Command::new(script);
    command.arg(product_binary()).arg(source);
    let told = run(command, LIMIT).ok();
    assert!(told.stdout.contains(says), "{told}");
}

#[test]
fn the_tutorial_for_cloud_native_pg() {
    tutorial("cloudnative-pg", "a good day");
}

#[test]
fn the_tutorial_for_patroni() {
    tutorial("patroni", "Streaming");
}
