//! The page of events: whoever is woken by one finds it there.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The first words of events. Error codes share some of them.
const PARTS: [&str; 10] = [
    "agent", "audit", "backup", "drill", "gc", "init", "report", "restore", "verify", "wal",
];
/// What `doctor` finds in a repository, and the agent in its children: issues and a code, no events.
const NO_EVENTS: [&str; 5] = [
    "agent.child_failed",
    "audit.anchor_missing",
    "audit.unreadable",
    "backup.overdue",
    "backup.problem",
];

/// The dotted names of events among words in quotes.
fn names(text: &str, quote: char) -> impl Iterator<Item = String> + '_ {
    text.split(quote).filter_map(|word| {
        let (part, rest) = word.split_once('.')?;
        let dotted = rest.split('.').all(|step| {
            step.starts_with(|c: char| c.is_ascii_lowercase())
                && step.chars().all(|c| c.is_ascii_lowercase() || c == '_')
        });
        (PARTS.contains(&part) && dotted).then(|| word.to_owned())
    })
}

/// The program's own text below a directory, without its tests.
fn program(folder: &Path, found: &mut String) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap();
        if path.is_dir() {
            if name != "tests" {
                program(&path, found);
            }
        } else if path.extension().is_some_and(|kind| kind == "rs") && !name.ends_with("tests.rs") {
            let text = fs::read_to_string(&path).unwrap();
            found.push_str(text.split("#[cfg(test)]").next().unwrap_or_default());
        }
    }
}

#[test]
fn the_page_names_every_event_and_no_other() {
    let streamer = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut text = String::new();
    for entry in fs::read_dir(streamer).unwrap() {
        let source = entry.unwrap().path().join("src");
        if source.is_dir() {
            program(&source, &mut text);
        }
    }
    let codes: BTreeSet<&str> = hardstorage_report::ALL_CODES
        .iter()
        .copied()
        .flatten()
        .map(|code| code.as_str())
        .collect();
    let emitted: BTreeSet<String> = names(&text, '"')
        .filter(|name| !codes.contains(name.as_str()) && !NO_EVENTS.contains(&name.as_str()))
        .filter(|name| !name.starts_with("wal.preflight."))
        .collect();
    let page = include_str!("../../../../docs/reference/events.md");
    let (events, actions) = page.split_once("\n## Actions of the audit chain\n").unwrap();
    let rows = |page: &str| -> BTreeSet<String> {
        let rows = page.lines().filter(|line| line.starts_with("| `"));
        rows.flat_map(|line| names(line.split('|').nth(1).unwrap(), '`').collect::<Vec<_>>())
            .collect()
    };
    let (told, recorded) = (rows(events), rows(actions));
    assert!(told.len() > 60, "{told:?}");
    let missing: Vec<_> = emitted
        .iter()
        .filter(|name| !told.contains(*name) && !recorded.contains(*name))
        .collect();
    assert!(missing.is_empty(), "not on the page: {missing:?}");
    let gone: Vec<_> = told.iter().filter(|name| !emitted.contains(*name)).collect();
    assert!(gone.is_empty(), "on the page, and never emitted: {gone:?}");
}
