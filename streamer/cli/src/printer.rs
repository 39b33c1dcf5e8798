//! The only place that prints. The result goes to stdout as one document, events go to stderr; nothing of severity
//! warning or worse is ever hidden, and the format does not change because stdout is a file.

use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use hardstorage_report::{ByteSize, Error, Event, EventSink, Severity};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use serde_json::{Value, json};

/// The schema of every document that this program prints.
pub(crate) const SCHEMA: &str = "pg_hardstorage.v1";

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
}

/// Prints results, errors and events.
pub(crate) struct Printer {
    format: Format,
    quiet: bool,
    verbose: bool,
    zone: TimeZone,
    live: Option<ProgressBar>,
    last_progress: Mutex<Option<Instant>>,
}

/// In a log, progress is one event in so long.
const LOG_PROGRESS: Duration = Duration::from_secs(30);

impl Printer {
    /// A printer; a live progress line is drawn when stderr is a terminal and the format is text.
    pub(crate) fn new(format: Format, quiet: bool, verbose: bool, zone: TimeZone) -> Printer {
        let draw = format == Format::Text && !quiet && std::io::stderr().is_terminal();
        let live = draw.then(|| {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(5));
            // The template is a constant; a mistake in it would only cost the decoration.
            if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                bar.set_style(style);
            }
            bar
        });
        Printer {
            format,
            quiet,
            verbose,
            zone,
            live,
            last_progress: Mutex::new(None),
        }
    }

    /// The zone in which times are shown.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Prints a result. A closed pipe is not an error of the command.
    pub(crate) fn result<R: Report>(&self, command: &str, result: &R) {
        self.clear_live();
        let text = match self.format {
            Format::Text => result.text(),
            _ => match serde_json::to_value(result) {
                Ok(value) => self.document(command, "result", &value),
                Err(error) => format!("{error}\n"),
            },
        };
        Self::out(&text);
    }

    /// Prints an error: a line, a hint, and nothing half done. In the other formats it is the document.
    pub(crate) fn error(&self, command: &str, error: &Error) {
        self.clear_live();
        if self.format == Format::Text {
            return Self::err(&format!(
                "ERROR {}: {error}\n  hint: {}\n",
                error.code(),
                error.hint_text()
            ));
        }
        let value = json!({
            "code": error.code().as_str(),
            "message": error.to_string(),
            "hint": error.hint_text(),
            "exit_code": error.exit_code(),
        });
        let text = self.document(command, "error", &value);
        Self::out(&text);
    }

    fn document(&self, command: &str, member: &str, value: &Value) -> String {
        let document = json!({
            "schema": SCHEMA,
            "command": command,
            "generated_at": Timestamp::now().to_string(),
            member: value,
        });
        match self.format {
            Format::Yaml => serde_saphyr::to_string(&document).unwrap_or_else(|error| format!("{error}\n")),
            Format::Ndjson => format!("{document}\n"),
            Format::Json | Format::Text => format!("{document:#}\n"),
        }
    }

    fn out(text: &str) {
        let mut stdout = std::io::stdout().lock();
        // A reader that went away (`| head`) has what it wanted.
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    }

    fn err(text: &str) {
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn clear_live(&self) {
        if let Some(bar) = &self.live {
            bar.finish_and_clear();
        }
    }

    fn progress(&self, event: &Event) {
        if let Some(bar) = &self.live {
            return bar.set_message(progress_line(&event.name, &event.body));
        }
        let mut last = match self.last_progress.lock() {
            Ok(last) => last,
            Err(poisoned) => poisoned.into_inner(),
        };
        let due = last.is_none_or(|at| at.elapsed() >= LOG_PROGRESS);
        if due {
            let first = last.replace(Instant::now()).is_none();
            // The first says nothing yet: a short command stays short.
            if !first {
                self.line(event);
            }
        }
    }

    fn line(&self, event: &Event) {
        let text = if self.format == Format::Text {
            text_event(event, &Timestamp::now(), &self.zone)
        } else {
            let mut value = serde_json::to_value(event).unwrap_or(Value::Null);
            if let Value::Object(fields) = &mut value {
                fields.insert("schema".into(), SCHEMA.into());
                fields.insert("generated_at".into(), Timestamp::now().to_string().into());
            }
            format!("{value}\n")
        };
        match &self.live {
            Some(bar) => bar.suspend(|| Self::err(&text)),
            None => Self::err(&text),
        }
    }
}

impl EventSink for Printer {
    fn emit(&self, event: Event) {
        let is_progress = event.name.ends_with(".progress");
        let hidden = match event.severity {
            Severity::Debug => !self.verbose,
            Severity::Info | Severity::Notice => self.quiet,
            Severity::Warning | Severity::Error | Severity::Critical => false,
        };
        match (hidden, is_progress) {
            (true, _) => {}
            (false, true) => self.progress(&event),
            (false, false) => self.line(&event),
        }
    }
}

/// `HH:MM:SS [INFO ] backup.committed deployment=db1 ...`, all on one line.
fn text_event(event: &Event, now: &Timestamp, zone: &TimeZone) -> String {
    let clock = now.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
    let severity = format!("{:?}", event.severity).to_uppercase();
    let mut line = format!("{clock} [{severity:<7}] {}", event.name);
    let mut add = |key: &str, value: &Value| {
        let text = match value {
            Value::Null => return,
            Value::String(text) if text.is_empty() => return,
            Value::String(text) if text.contains([' ', '"', '\n']) => format!("{text:?}"),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        line.push_str(&format!(" {key}={text}"));
    };
    if let Ok(Value::Object(subject)) = serde_json::to_value(&event.subject) {
        subject.iter().for_each(|(key, value)| add(key, value));
    }
    let mut after = Vec::new();
    if let Value::Object(body) = &event.body {
        for (key, value) in body {
            // A message and what to do about it are for people: they get lines of their own.
            match (key.as_str(), value) {
                ("message" | "hint" | "suggestion", Value::String(text)) if !text.is_empty() => {
                    after.push(if key == "message" {
                        format!("    {text}\n")
                    } else {
                        format!("    hint: {text}\n")
                    });
                }
                ("message" | "hint" | "suggestion", _) => {}
                _ => add(key, value),
            }
        }
    }
    line.push('\n');
    line.extend(after);
    line
}

/// Bytes, rate, time left and reuse on one line.
fn progress_line(name: &str, body: &Value) -> String {
    let number = |key: &str| body.get(key).and_then(Value::as_u64);
    let mut parts = vec![name.trim_end_matches(".progress").to_owned()];
    match (number("done_bytes"), number("total_bytes")) {
        (Some(done), Some(total)) if total > 0 => {
            let percent = (done as f64 / total as f64 * 100.0).min(100.0);
            parts.push(format!("{} of {} ({percent:.0} %)", ByteSize(done), ByteSize(total)));
        }
        (Some(done), _) => parts.push(ByteSize(done).to_string()),
        _ => {}
    }
    if let Some(rate) = number("bytes_per_second") {
        parts.push(format!("{}/s", ByteSize(rate)));
    }
    if let Some(eta) = number("eta_seconds") {
        parts.push(format!("{}:{:02} left", eta / 60, eta % 60));
    }
    if let Some(reuse) = body.get("reuse").and_then(Value::as_f64) {
        parts.push(format!("{:.1} % reused", reuse * 100.0));
    }
    parts.join("  ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_and_its_advice_another() {
        let event = Event::new(Severity::Info, "wal.preflight.wal_keep_size")
            .deployment(&"db1".parse().unwrap())
            .body(json!({"message": "wal_keep_size = 0", "observed": "0", "suggestion": null, "path": "a b"}));
        let now: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        assert_eq!(
            text_event(&event, &now, &TimeZone::UTC),
            "08:15:00 [INFO   ] wal.preflight.wal_keep_size deployment=db1 observed=0 path=\"a b\"\n    wal_keep_size = 0\n"
        );
    }

    #[test]
    fn progress_says_how_much_how_fast_how_long() {
        let body = json!({"done_bytes": 1u64 << 30, "total_bytes": 1u64 << 31, "bytes_per_second": 100 << 20,
            "eta_seconds": 75, "reuse": 0.985});
        assert_eq!(
            progress_line("backup.progress", &body),
            "backup  1.0 GiB of 2.0 GiB (50 %)  100.0 MiB/s  1:15 left  98.5 % reused"
        );
    }
}
