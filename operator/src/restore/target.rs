//! The moment that is wanted, resolved once: a relative time counts from when the object was made, so that a restore that is
//! looked at again tomorrow means the same moment. Pure.

use hardstorage_crds::{RecoveryTarget, Restore};
use jiff::{SignedDuration, Timestamp};

/// The time that is wanted, when it is a time; an error is one that is none.
pub fn wanted_time(restore: &Restore) -> Result<Option<Timestamp>, String> {
    let target = restore.spec.recovery_target.as_ref();
    let Some(text) = target.and_then(|target| target.time.as_deref()) else {
        return Ok(None);
    };
    let made = restore.metadata.creation_timestamp.as_ref().map(|time| time.0);
    let read = match text.strip_suffix(" ago") {
        Some(back) => ago(back).and_then(|back| made?.checked_sub(back).ok()),
        None => text.parse().ok(),
    };
    read.map(Some).ok_or_else(|| text.to_owned())
}

fn ago(text: &str) -> Option<SignedDuration> {
    let (number, unit) = text.split_once(' ')?;
    let seconds = match unit.trim_end_matches('s') {
        "second" => 1,
        "minute" => 60,
        "hour" => 3600,
        "day" => 86_400,
        "week" => 7 * 86_400,
        _ => return None,
    };
    let number: i64 = number.parse().ok()?;
    number.checked_mul(seconds).map(SignedDuration::from_secs)
}

/// The engine's words for a moment; `time` stands for the one in the target, and `timeline` for a resolved one.
pub fn words(target: Option<&RecoveryTarget>, time: Option<Timestamp>, timeline: Option<i64>) -> Vec<String> {
    let none = RecoveryTarget::default();
    let target = target.unwrap_or(&none);
    let mut words = Vec::new();
    if let Some(time) = time {
        words.push(format!("--to={time}"));
    } else if let Some(text) = &target.time {
        // Never the end of the archive because a time was lost.
        words.push(format!("--to={text}"));
    } else if let Some(lsn) = &target.lsn {
        words.push(format!("--to-lsn={lsn}"));
    } else if let Some(name) = &target.name {
        // Kubernetes puts the values of variables into arguments; a restore point has none.
        words.push(format!("--to-name={}", name.replace('$', "$$")));
    } else if let Some(xid) = target.xid {
        words.push(format!("--to-xid={xid}"));
    } else if target.immediate != Some(true) {
        words.push("--to-latest".to_owned());
    }
    if target.inclusive == Some(false) {
        words.push("--to-exclusive".to_owned());
    }
    let wanted = target.timeline.clone().filter(|timeline| timeline != "latest");
    if let Some(timeline) = timeline.map(|number| number.to_string()).or(wanted) {
        words.push(format!("--to-timeline={timeline}"));
    }
    words
}

/// The moment in a word.
pub fn moment(target: Option<&RecoveryTarget>, time: Option<Timestamp>) -> String {
    let none = RecoveryTarget::default();
    let target = target.unwrap_or(&none);
    if let Some(time) = time {
        return time.to_string();
    }
    let xid = target.xid.map(|xid| format!("xid {xid}"));
    let immediate = (target.immediate == Some(true)).then(|| "immediate".to_owned());
    let named = target.lsn.clone().or_else(|| target.name.clone());
    named.or(xid).or(immediate).unwrap_or_else(|| "latest".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::super::samples::restore;
    use super::*;
    use serde_json::{Value, json};

    /// A target, its time and timeline as they were resolved, the engine's words, and a person's.
    type Case = (
        Value,
        Option<Timestamp>,
        Option<i64>,
        &'static [&'static str],
        &'static str,
    );

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn a_time_is_resolved_once() {
        let time = |text: &str| {
            let spec = json!({"recoveryTarget": {"time": text}});
            wanted_time(&restore(spec, Value::Null))
        };
        for (text, wanted) in [
            ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00Z"),
            ("2026-01-01 01:00:00.25+01:00", "2026-01-01T00:00:00.25Z"),
            ("2026-01-01T01:00+01:00", "2026-01-01T00:00:00Z"),
            // The sample was made at 08:00.
            ("5 minutes ago", "2026-01-02T07:55:00Z"),
            ("1 hour ago", "2026-01-02T07:00:00Z"),
            ("2 weeks ago", "2025-12-19T08:00:00Z"),
        ] {
            assert_eq!(time(text), Ok(Some(at(wanted))), "{text}");
        }
        for text in ["2026-02-30T00:00:00Z", "999999999 weeks ago", "soon"] {
            assert_eq!(time(text), Err(text.to_owned()));
        }
        assert_eq!(wanted_time(&restore(json!({}), Value::Null)), Ok(None));
    }

    #[test]
    fn every_target_in_the_engines_words() {
        let time = at("2026-01-01T00:00:00Z");
        let cases: [Case; 7] = [
            (json!({}), None, None, &["--to-latest"], "latest"),
            (
                json!({"timeline": "latest"}),
                None,
                Some(3),
                &["--to-latest", "--to-timeline=3"],
                "latest",
            ),
            (
                json!({"time": "1 hour ago", "inclusive": false, "timeline": "2"}),
                Some(time),
                None,
                &["--to=2026-01-01T00:00:00Z", "--to-exclusive", "--to-timeline=2"],
                "2026-01-01T00:00:00Z",
            ),
            (json!({"lsn": "0/4"}), None, None, &["--to-lsn=0/4"], "0/4"),
            (
                json!({"name": "$(HOME)"}),
                None,
                None,
                &["--to-name=$$(HOME)"],
                "$(HOME)",
            ),
            (json!({"xid": 7}), None, None, &["--to-xid=7"], "xid 7"),
            (json!({"immediate": true}), None, None, &[], "immediate"),
        ];
        for (target, time, timeline, wanted, word) in cases {
            let target: RecoveryTarget = serde_json::from_value(target).unwrap();
            assert_eq!(words(Some(&target), time, timeline), wanted);
            assert_eq!(moment(Some(&target), time), word);
        }
        assert_eq!(words(None, None, None), ["--to-latest"]);
    }
}
