//! What a malformed command line gets: one line with a code, a hint, exit 2, in the format that was asked for.

use std::ffi::OsString;

use clap::ValueEnum;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use hardstorage_report::{Code, Error, code};
use jiff::tz::TimeZone;

use crate::printer::{Format, Printer};

/// Prints help or the error and gives the exit code.
pub(crate) fn answer(error: &clap::Error, arguments: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // A closed pipe has had what it wanted.
            let _ = error.print();
            0
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            2
        }
        _ => {
            let answer = translate(error);
            Printer::new(format(arguments), false, false, TimeZone::UTC).error("usage", &answer);
            answer.exit_code()
        }
    }
}

/// The format that was asked for, as far as it can be read from a line that cannot be parsed.
fn format(arguments: &[OsString]) -> Format {
    let words: Vec<&str> = arguments.iter().filter_map(|word| word.to_str()).collect();
    let mut found = words.windows(2).filter_map(|pair| match pair {
        ["-o" | "--output", value] => Some(*value),
        _ => None,
    });
    let joined = words
        .iter()
        .find_map(|word| word.strip_prefix("--output=").or_else(|| word.strip_prefix("-o")));
    found
        .next()
        .or(joined)
        .and_then(|value| Format::from_str(value.trim_start_matches('='), true).ok())
        .unwrap_or_default()
}

fn translate(error: &clap::Error) -> Error {
    let argument = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(name)) => name.as_str(),
        _ => "",
    };
    let meaning: Code = match (error.kind(), argument) {
        (ErrorKind::ValueValidation, name) if name.contains("LSN") => code::usage::LSN,
        (ErrorKind::ValueValidation, name)
            if name.contains("<DEPLOYMENT>")
                || name.contains("<BACKUP>")
                || name.contains("[BACKUP]")
                || name.contains("[DEPLOYMENT]")
                || name.contains("<NAME>") =>
        {
            code::usage::NAME
        }
        _ => code::usage::INVALID,
    };
    // The first paragraph says what is wrong; usage and tips follow it.
    let rendered = error.render().to_string();
    let mut lines = rendered.lines();
    let first = lines
        .next()
        .unwrap_or_default()
        .trim_start_matches("error: ")
        .to_owned();
    let more: Vec<&str> = lines
        .by_ref()
        .take_while(|line| !line.trim().is_empty())
        .map(str::trim)
        .collect();
    let message = if more.is_empty() {
        first
    } else {
        format!("{first} {}", more.join(", "))
    };
    let answer = Error::new(meaning, message);
    let answer = if meaning == code::usage::NAME && argument.contains("BACKUP") {
        answer.hint("`pg_hardstorage list DEPLOYMENT` shows the ids; `latest` is the newest backup")
    } else {
        answer
    };
    // How to pass a word that begins with a dash as a value helps nobody who misspelt an option.
    let tips = rendered.lines().filter_map(|line| line.trim().strip_prefix("tip: "));
    let tip = tips.into_iter().find(|tip| !tip.starts_with("to pass "));
    let usage = rendered.lines().find_map(|line| line.strip_prefix("Usage: "));
    match (tip, usage) {
        (Some(tip), _) => answer.hint(tip),
        (None, Some(usage)) if meaning == code::usage::INVALID => answer.hint(format!("usage: {usage}")),
        _ => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::Cli;
    use clap::Parser;

    fn code_of(words: &[&str]) -> (&'static str, String) {
        let error = Cli::try_parse_from(std::iter::once("pg_hardstorage").chain(words.iter().copied())).unwrap_err();
        let answer = translate(&error);
        assert_eq!(answer.exit_code(), 2);
        (answer.code().as_str(), answer.to_string())
    }

    #[test]
    fn malformed_values_have_codes_of_their_own() {
        assert_eq!(code_of(&["list", "../x"]).0, "usage.invalid_name");
        assert_eq!(code_of(&["list", ""]).0, "usage.invalid_name");
        assert_eq!(code_of(&["list", &"a".repeat(300)]).0, "usage.invalid_name");
        assert_eq!(code_of(&["show", "db1", "x/y"]).0, "usage.invalid_name");
        assert_eq!(
            code_of(&["restore", "db1", "--target", "/t", "--to-lsn", "zzz"]).0,
            "usage.invalid_lsn"
        );
        let (code, message) = code_of(&["bakup", "db1"]);
        assert_eq!(code, "usage.invalid");
        assert!(message.contains("bakup") && !message.contains('\n'), "{message}");
    }

    #[test]
    fn the_format_is_found_in_a_line_that_cannot_be_parsed() {
        for line in [
            &["x", "-o", "json", "bakup"][..],
            &["x", "bakup", "--output=json"],
            &["x", "-ojson"],
        ] {
            let words: Vec<OsString> = line.iter().map(OsString::from).collect();
            assert_eq!(format(&words), Format::Json, "{line:?}");
        }
        assert_eq!(format(&[]), Format::Text);
    }
}
