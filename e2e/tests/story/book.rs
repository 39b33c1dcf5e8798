//! What the book says is what the program does: every command line in it parses, and the tutorial runs as it is written.

use std::process::Command;
use std::time::Duration;

use hardstorage_e2e::{product_binary, run, tree};

fn script(name: &str) -> Command {
    let path = tree("scripts").join(name);
    let mut command = Command::new(path);
    command.arg(product_binary());
    command
}

#[test]
fn every_command_code_and_link_of_the_book_is_there() {
    run(script("check-docs"), Duration::from_mins(1)).ok();
}

#[test]
fn the_tutorial_runs_as_it_is_written() {
    let told = run(script("run-tutorial"), Duration::from_mins(6)).ok();
    assert!(told.stdout.contains("a good day"), "{told}");
}
