//! A result or an error as one document: text for people, or the same envelope as JSON, on one line, or as YAML.

use hardstorage_report::Error;
use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value, json};

use super::SCHEMA;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people.
    #[default]
    Text,
    /// One indented JSON document.
    Json,
    /// One JSON document on one line.
    Ndjson,
    /// One YAML document.
    Yaml,
}

/// A result that can be read by people as well as by programs.
pub(crate) trait Report: Serialize {
    /// The text form, with a line feed at the end of each line.
    fn text(&self) -> String;

    /// The error that this result means, when it is one that says no for a reason with a code.
    fn failure(&self) -> Option<Error> {
        None
    }

    /// What a scheduler's report holds of it: all, unless a part of it is served in pages.
    fn summary(&self) -> Value {
        // What can be printed can be written.
        serde_json::to_value(self).unwrap_or_default()
    }
}

/// A result.
pub(super) fn of_result<R: Report>(format: Format, command: &str, at: Timestamp, result: &R) -> String {
    match format {
        Format::Text => result.text(),
        _ => match serde_json::to_value(result) {
            Ok(value) => document(format, command, at, "result", &value),
            Err(error) => format!("{error}\n"),
        },
    }
}

/// An error, with what to do about it.
pub(super) fn of_error(format: Format, command: &str, at: Timestamp, error: &Error) -> String {
    if format == Format::Text {
        return format!("ERROR {}: {error}\n  hint: {}\n", error.code(), error.hint_text());
    }
    let mut value = json!({
        "code": error.code().as_str(),
        "message": error.to_string(),
        "hint": error.hint_text(),
        "exit_code": error.exit_code(),
    });
    if let (Some(reachable), Value::Object(members)) = (error.reach(), &mut value) {
        members.insert("reachable".to_owned(), json!(reachable));
    }
    document(format, command, at, "error", &value)
}

fn document(format: Format, command: &str, at: Timestamp, member: &str, value: &Value) -> String {
    let document = json!({
        "schema": SCHEMA,
        "command": command,
        "generated_at": at.to_string(),
        member: value,
    });
    match format {
        Format::Yaml => serde_saphyr::to_string(&document).unwrap_or_else(|error| format!("{error}\n")),
        Format::Ndjson => format!("{document}\n"),
        Format::Json | Format::Text => format!("{document:#}\n"),
    }
}

/// What a person and what a program reads of a result, at one fixed time: for snapshots.
#[cfg(test)]
pub(crate) fn shown<R: Report>(command: &str, result: &R) -> String {
    let forms = [Format::Text, Format::Json].map(|format| of_result(format, command, tests::NOW, result));
    forms.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_report::code;

    pub(super) const NOW: Timestamp = Timestamp::constant(1_795_335_300, 0);

    #[test]
    fn an_error_says_what_and_what_next_in_every_format() {
        let error = Error::new(
            code::repository::EXISTS,
            "file:///srv/backup holds a repository already",
        );
        let formats = [Format::Text, Format::Json, Format::Ndjson, Format::Yaml];
        let forms = formats.map(|format| of_error(format, "repo init", NOW, &error));
        insta::assert_snapshot!(forms.join("\n"));
    }

    #[test]
    fn every_format_says_the_same() {
        #[derive(Serialize)]
        struct Sum {
            bytes: u64,
            words: Option<&'static str>,
        }
        impl Report for Sum {
            fn text(&self) -> String {
                format!("Bytes: {}\n", self.bytes)
            }
        }
        let sum = Sum {
            bytes: 1 << 60,
            words: Some("yes: no"),
        };
        let read = |format| {
            let text = of_result(format, "sum", NOW, &sum);
            assert!(text.ends_with('\n'), "{text:?}");
            match format {
                Format::Yaml => serde_saphyr::from_str::<Value>(&text).unwrap(),
                _ => serde_json::from_str(&text).unwrap(),
            }
        };
        let json = read(Format::Json);
        assert_eq!(json["result"]["bytes"], 1u64 << 60);
        assert_eq!(read(Format::Ndjson), json);
        assert_eq!(read(Format::Yaml), json);
        assert_eq!(of_result(Format::Ndjson, "sum", NOW, &sum).lines().count(), 1);
    }
}
