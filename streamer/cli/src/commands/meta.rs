//! `version`, `completion`, `man` and `reference`: the program about itself.

use std::path::Path;

use clap::CommandFactory;
use hardstorage_report::{ALL_CODES, Error, Result, code};
use serde::Serialize;

use crate::args::{Cli, ReferencePart};
use crate::printer::Report;

/// The version.
#[derive(Debug, Serialize)]
pub(crate) struct VersionResult {
    version: &'static str,
    line: String,
}

impl Report for VersionResult {
    fn text(&self) -> String {
        format!("{}\n", self.line)
    }
}

/// `version`.
pub(crate) fn version() -> VersionResult {
    VersionResult {
        version: env!("CARGO_PKG_VERSION"),
        line: format!("pg_hardstorage {}", crate::version::LINE),
    }
}

/// Text that is the result: a script, a page, a table.
#[derive(Debug, Serialize)]
pub(crate) struct TextResult {
    text: String,
}

impl Report for TextResult {
    fn text(&self) -> String {
        self.text.clone()
    }
}

/// `completion SHELL`.
pub(crate) fn completion(shell: clap_complete::Shell) -> TextResult {
    let mut out = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pg_hardstorage", &mut out);
    TextResult {
        text: String::from_utf8_lossy(&out).into_owned(),
    }
}

/// `man [--dir DIR]`.
pub(crate) fn man(dir: Option<&Path>) -> Result<TextResult> {
    let failed = |error: std::io::Error| Error::new(code::cli::IO, "write the manual pages").source(error);
    if let Some(dir) = dir {
        clap_mangen::generate_to(Cli::command(), dir).map_err(failed)?;
        Ok(TextResult { text: String::new() })
    } else {
        let mut out = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut out).map_err(failed)?;
        Ok(TextResult {
            text: String::from_utf8_lossy(&out).into_owned(),
        })
    }
}

/// `reference codes|commands`, as Markdown.
pub(crate) fn reference(what: ReferencePart) -> TextResult {
    TextResult {
        text: match what {
            ReferencePart::Codes => codes(),
            ReferencePart::Commands => {
                let mut out = "# Commands\n".to_owned();
                commands(&mut Cli::command(), "", &mut out);
                out
            }
        },
    }
}

fn codes() -> String {
    let mut out = "# Error codes\n\n| code | exit | when | hint |\n|---|---|---|---|\n".to_owned();
    for code in ALL_CODES.iter().copied().flatten() {
        let info = code.info();
        let cell = |text: &str| text.replace('|', "\\|");
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            info.code,
            info.exit,
            cell(info.meaning),
            cell(info.hint)
        ));
    }
    out
}

fn commands(command: &mut clap::Command, parent: &str, out: &mut String) {
    if command.is_hide_set() || command.get_name() == "help" {
        return;
    }
    let name = format!("{parent}{}", command.get_name());
    *command = std::mem::take(command).term_width(100).bin_name(name.clone());
    out.push_str(&format!("\n## {name}\n\n```text\n{}```\n", command.render_long_help()));
    for child in command.get_subcommands_mut() {
        commands(child, &format!("{name} "), out);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::printer::shown;

    #[test]
    fn the_version_is_a_line() {
        let result = VersionResult {
            version: "0.1.0",
            line: "pg_hardstorage 0.1.0 (abcdef0, built 2026-11-22T08:00:00Z)".to_owned(),
        };
        insta::assert_snapshot!(shown("version", &result));
        assert!(
            version()
                .line
                .starts_with(&format!("pg_hardstorage {} (", version().version))
        );
    }

    #[test]
    fn the_book_says_what_the_program_says() {
        let hint = "run scripts/reference";
        assert!(
            reference(ReferencePart::Codes).text == include_str!("../../../../docs/reference/codes.md"),
            "{hint}"
        );
        let commands = include_str!("../../../../docs/reference/commands.md");
        assert!(reference(ReferencePart::Commands).text == commands, "{hint}");
    }

    #[test]
    fn the_reference_names_every_code_and_every_command() {
        let table = reference(ReferencePart::Codes).text;
        assert!(
            ALL_CODES
                .iter()
                .copied()
                .flatten()
                .all(|code| table.contains(code.as_str()))
        );
        let book = reference(ReferencePart::Commands).text;
        for command in [
            "pg_hardstorage wal stream",
            "pg_hardstorage repo init",
            "pg_hardstorage backup delete",
        ] {
            assert!(book.contains(&format!("## {command}\n")), "{command}");
        }
        assert!(
            !book.contains("## pg_hardstorage wal prefetch"),
            "hidden commands are not in the book"
        );
    }
}
