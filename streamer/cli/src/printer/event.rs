//! An event as a line: for people with its advice below it, for programs as one JSON object.

use hardstorage_report::Event;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::Value;

use super::SCHEMA;
use super::document::Format;
use super::progress::how_far;

/// The line, or lines, of an event.
pub(super) fn event_line(format: Format, event: &Event, at: Timestamp, zone: &TimeZone) -> String {
    if format == Format::Text {
        return text(event, at, zone);
    }
    let mut value = serde_json::to_value(event).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut value {
        fields.insert("schema".into(), SCHEMA.into());
        fields.insert("generated_at".into(), at.to_string().into());
    }
    format!("{value}\n")
}

/// `HH:MM:SS [INFO ] backup.committed deployment=db1 ...`, all on one line.
fn text(event: &Event, at: Timestamp, zone: &TimeZone) -> String {
    let clock = at.to_zoned(zone.clone()).strftime("%H:%M:%S").to_string();
    let severity = format!("{:?}", event.severity).to_uppercase();
    let mut line = format!("{clock} [{severity:<7}] {}", event.name);
    if event.name.ends_with(".progress") {
        line.push_str(&format!("  {}\n", how_far(&event.body)));
        return line;
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_report::Severity;
    use serde_json::json;

    fn event() -> Event {
        Event::new(Severity::Info, "wal.preflight.wal_keep_size")
            .deployment(&"db1".parse().unwrap())
            .body(json!({"message": "wal_keep_size = 0", "observed": "0", "suggestion": null, "path": "a b"}))
    }

    #[test]
    fn an_event_is_one_line_and_its_advice_another() {
        let now: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        assert_eq!(
            event_line(Format::Text, &event(), now, &TimeZone::UTC),
            "08:15:00 [INFO   ] wal.preflight.wal_keep_size deployment=db1 observed=0 path=\"a b\"\n    wal_keep_size = 0\n"
        );
    }

    #[test]
    fn progress_in_a_log_reads_as_it_does_on_a_terminal() {
        let now: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        let event = Event::new(Severity::Info, "backup.progress").body(json!({"done_bytes": 200 << 20,
            "total_bytes": 400 << 20, "bytes_per_second": 20 << 20, "eta_seconds": 10, "reuse": 0.5}));
        assert_eq!(
            event_line(Format::Text, &event, now, &TimeZone::UTC),
            "08:15:00 [INFO   ] backup.progress  200.0 MiB of 400.0 MiB (50 %)  20.0 MiB/s  0:10 left  50.0 % reused\n"
        );
    }

    #[test]
    fn for_programs_it_is_one_object_on_one_line() {
        let now: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        for format in [Format::Json, Format::Ndjson, Format::Yaml] {
            let line = event_line(format, &event(), now, &TimeZone::UTC);
            assert_eq!(line.matches('\n').count(), 1, "{line}");
            let value: Value = serde_json::from_str(&line).unwrap();
            assert_eq!(value["generated_at"], "2026-11-22T08:15:00Z");
            assert_eq!(value["subject"]["deployment"], "db1");
            assert_eq!(value["body"]["observed"], "0");
        }
    }
}
