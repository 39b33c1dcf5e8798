//! `make golden NAME=…`: writes a new golden repository with the program of today. One that is there is never changed: a
//! format that was released stays readable as it was.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program for developers that stops where a step fails"
)]

mod keep;
mod recipes;
mod small;
mod stream;

use std::process::exit;

use hardstorage_e2e::golden;

fn main() {
    let name = std::env::var("NAME").unwrap_or_default();
    // `timelines-2` is a second one by the recipe `timelines`.
    let recipe = name.split('-').next().unwrap_or_default();
    let Some((_, make)) = recipes::ALL.iter().find(|(known, _)| *known == recipe) else {
        let known: Vec<&str> = recipes::ALL.iter().map(|(name, _)| *name).collect();
        eprintln!(
            "NAME is one of {}, or one of these with `-` and more behind it",
            known.join(", ")
        );
        exit(2);
    };
    let folder = golden::home().join(&name);
    if folder.exists() {
        eprintln!(
            "{} is there, and a golden repository is never changed: take another NAME",
            folder.display()
        );
        exit(1);
    }
    let made = make();
    keep::keep(&made, &folder);
    println!("{}: add it to the commit", folder.display());
}
