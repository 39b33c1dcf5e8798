//! Completions for `kubectl hardstorage`. kubectl asks a program named `kubectl_complete-hardstorage` with the words that
//! were typed; a link of that name to this program is all that it takes.

use std::path::Path;

use clap::Command;

/// The name that kubectl asks.
const ASKED_AS: &str = "kubectl_complete-hardstorage";
/// kubectl: take these, and no names of files.
const NO_FILES: &str = ":4";

/// What to answer when this program was called by that name.
pub fn answer(command: &Command, words: &[String]) -> Option<String> {
    let (called, typed) = words.split_first()?;
    let is_asked = Path::new(called).file_name()?.to_str()? == ASKED_AS;
    is_asked.then(|| candidates(command, typed))
}

fn candidates(command: &Command, typed: &[String]) -> String {
    let (begun, before) = typed
        .split_last()
        .map_or(("", typed), |(last, before)| (last.as_str(), before));
    let subcommand = before.iter().find_map(|word| command.find_subcommand(word));
    let options = |of: &Command| -> Vec<String> {
        let long = of.get_arguments().filter_map(clap::Arg::get_long);
        long.map(|name| format!("--{name}")).collect()
    };
    let mut all: Vec<String> = match subcommand {
        Some(of) => options(of).into_iter().chain(options(command)).collect(),
        None if begun.starts_with('-') => options(command),
        None => command.get_subcommands().map(|one| one.get_name().to_owned()).collect(),
    };
    all.retain(|one| one.starts_with(begun));
    all.push(NO_FILES.to_owned());
    all.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Args;
    use clap::CommandFactory as _;

    fn asked(line: &str) -> Option<String> {
        let words: Vec<String> = line.split(' ').map(str::to_owned).collect();
        answer(&Args::command(), &words)
    }

    #[test]
    fn commands_and_then_their_options() {
        let asked_as = |typed: &str| asked(&format!("/usr/local/bin/{ASKED_AS} {typed}")).unwrap_or_default();
        assert_eq!(asked_as("sta"), "status\n:4\n");
        assert!(asked_as("").contains("backup\nrestore\n"));
        assert_eq!(asked_as("restore shop --into-"), "--into-cluster\n--into-claim\n:4\n");
        assert_eq!(asked_as("status --all"), "--all-namespaces\n:4\n");
        assert_eq!(asked("kubectl-hardstorage status"), None);
    }
}
