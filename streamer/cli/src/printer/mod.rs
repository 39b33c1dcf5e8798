//! The only place that prints. The result goes to stdout as one document, events go to stderr; nothing of severity
//! warning or worse is ever hidden, and the format does not change because stdout is a file.
//!
//! What is printed is made by the pure functions of the files beside this one.

mod document;
mod event;
mod progress;

use std::io::{IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use hardstorage_report::{Error, Event, EventSink, Severity};
use hardstorage_storage::trial;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;
use jiff::tz::TimeZone;

#[cfg(test)]
pub(crate) use self::document::shown;
pub(crate) use self::document::{Format, Report};
use self::document::{of_error, of_result};
use self::event::event_line;
use self::progress::{LogPace, live_line};

/// The schema of every document that this program prints.
pub(crate) const SCHEMA: &str = "pg_hardstorage.v1";

/// Prints results, errors and events.
pub(crate) struct Printer {
    format: Format,
    quiet: bool,
    verbose: bool,
    zone: TimeZone,
    live: Option<ProgressBar>,
    pace: Mutex<LogPace>,
}

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
            pace: Mutex::new(LogPace::default()),
        }
    }

    /// Whether details are printed.
    pub(crate) fn is_verbose(&self) -> bool {
        self.verbose
    }

    /// The zone in which times are shown.
    pub(crate) fn zone(&self) -> &TimeZone {
        &self.zone
    }

    /// Prints a result. A closed pipe is not an error of the command.
    pub(crate) fn result<R: Report>(&self, command: &str, result: &R) {
        self.clear_live();
        trial::promise(|| format!("result {command} {}", result.summary()));
        Self::out(&of_result(self.format, command, Timestamp::now(), result));
    }

    /// Prints an error: a line, a hint, and nothing half done. In the other formats it is the document.
    pub(crate) fn error(&self, command: &str, error: &Error) {
        self.clear_live();
        let text = of_error(self.format, command, Timestamp::now(), error);
        if self.format == Format::Text {
            Self::err(&text);
        } else {
            Self::out(&text);
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
            // A line that was printed in between has cleared it.
            if bar.is_finished() {
                bar.reset();
            }
            return bar.set_message(live_line(&event.name, &event.body));
        }
        let due = {
            let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
            pace.is_due(event, Instant::now())
        };
        if due {
            self.line(event);
        }
    }

    /// Prints an event that another process has told: what of its progress is worth a line was decided there.
    pub(crate) fn relay(&self, event: &Event) {
        if !self.hides(event) {
            self.line(event);
        }
    }

    fn hides(&self, event: &Event) -> bool {
        match event.severity {
            Severity::Debug => !self.verbose,
            Severity::Info | Severity::Notice => self.quiet,
            Severity::Warning | Severity::Error | Severity::Critical => false,
        }
    }

    /// What was done until now may be over with this event: the live line comes back only with further progress.
    fn line(&self, event: &Event) {
        self.clear_live();
        Self::err(&event_line(self.format, event, Timestamp::now(), &self.zone));
    }
}

impl EventSink for Printer {
    fn emit(&self, event: Event) {
        let is_progress = event.name.ends_with(".progress");
        match (self.hides(&event), is_progress) {
            (true, _) => {}
            (false, true) => self.progress(&event),
            (false, false) => self.line(&event),
        }
    }
}
