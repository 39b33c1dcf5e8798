//! Times as people write them: `5 minutes ago`, `yesterday 9pm`, `2026-11-22 08:15 +01:00`, RFC 3339.
//!
//! Parsed once, against one `now` and one local zone, into one instant: a relative time that is computed twice is two
//! different restores. What could mean two things (`CET`, `13am`, 02:30 in the night
//! in which the clocks are set back) is refused.

use hardstorage_report::{Error, Result, code};
use jiff::civil::{Date, DateTime, Time};
use jiff::tz::{Offset, TimeZone};
use jiff::{SignedDuration, Timestamp};

/// Reads a time. Days and clock times without a zone are local.
pub fn parse_time(text: &str, now: Timestamp, local: &TimeZone) -> Result<Timestamp> {
    let trimmed = text.trim();
    let lower = trimmed.to_ascii_lowercase();
    let parsed = if lower == "now" {
        Some(now)
    } else if let Some(ago) = lower.strip_suffix(" ago") {
        ago_duration(ago).and_then(|back| now.checked_sub(back).ok())
    } else if let Some(day) = relative_day(&lower, now, local) {
        day
    } else if let Ok(instant) = trimmed.parse::<Timestamp>() {
        Some(instant)
    } else {
        absolute(trimmed, local)
    };
    let instant = parsed.ok_or_else(|| {
        Error::new(code::usage::TIME, format!("{text:?} is not a time, or the clock shows it twice or never"))
            .hint("write for example \"5 minutes ago\", \"yesterday 21:00\", 2026-11-22T08:15:00Z or \"2026-11-22 08:15:00+01:00\"")
    })?;
    // PostgreSQL did not exist before 1996, and year 1 is what an empty template variable becomes.
    if instant < Timestamp::from_second(820_454_400).unwrap_or(Timestamp::MIN) {
        return Err(Error::new(
            code::usage::TIME,
            format!("{text:?} lies before PostgreSQL existed"),
        ));
    }
    Ok(instant)
}

fn ago_duration(text: &str) -> Option<SignedDuration> {
    let text = text.trim();
    let split = text.find(|c: char| !c.is_ascii_digit())?;
    let number: i64 = text[..split].parse().ok()?;
    let seconds = match text[split..].trim() {
        "s" | "sec" | "secs" | "second" | "seconds" => 1,
        "m" | "min" | "mins" | "minute" | "minutes" => 60,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3600,
        "d" | "day" | "days" => 86_400,
        "w" | "week" | "weeks" => 7 * 86_400,
        _ => return None,
    };
    number.checked_mul(seconds).map(SignedDuration::from_secs)
}

#[expect(
    clippy::option_option,
    reason = "not a day word at all, or one with nonsense behind it"
)]
/// `Some(None)` when it begins with a day word and the rest makes no sense.
fn relative_day(lower: &str, now: Timestamp, local: &TimeZone) -> Option<Option<Timestamp>> {
    let (word, rest) = lower.split_once(' ').unwrap_or((lower, ""));
    let back = match word {
        "today" => 0,
        "yesterday" => 1,
        _ => return None,
    };
    let resolve = || {
        let day = local
            .to_datetime(now)
            .date()
            .checked_sub(jiff::Span::new().days(back))
            .ok()?;
        let time = if rest.trim().is_empty() {
            Time::midnight()
        } else {
            clock_time(rest.trim())?
        };
        once(local, day.to_datetime(time))
    };
    Some(resolve())
}

/// The instant of a clock time that a zone shows exactly once: in the hour that comes twice when summer time ends only
/// an offset tells which one is meant, and the hour that is left out when it begins never was.
fn once(zone: &TimeZone, time: DateTime) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(time).unambiguous().ok()
}

/// `HH:MM[:SS[.frac]]`, `9pm`, `9:30am`.
fn clock_time(text: &str) -> Option<Time> {
    let (digits, half) = match text {
        t if t.ends_with("am") => (t[..t.len() - 2].trim(), Some(0)),
        t if t.ends_with("pm") => (t[..t.len() - 2].trim(), Some(12)),
        t => (t, None),
    };
    let mut parts = digits.splitn(3, ':');
    let number = |part: &str| -> Option<i8> {
        ((1..=2).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit())).then(|| part.parse().ok())?
    };
    let hour = number(parts.next()?)?;
    let minute = parts.next().map_or(Some(0), number)?;
    let (second, nanosecond) = match parts.next() {
        None => (0, 0),
        Some(part) => match part.split_once('.') {
            None => (number(part)?, 0),
            Some((whole, fraction)) => {
                let digits =
                    !fraction.is_empty() && fraction.len() <= 9 && fraction.bytes().all(|b| b.is_ascii_digit());
                let nanos: i32 = digits.then(|| format!("{fraction:0<9}").parse().ok())??;
                (number(whole)?, nanos)
            }
        },
    };
    let hour = match half {
        None if digits.contains(':') => hour,
        None => return None,
        Some(_) if !(1..=12).contains(&hour) => return None,
        Some(half) => hour % 12 + half,
    };
    Time::new(hour, minute, second, nanosecond).ok()
}

/// `YYYY-MM-DD[ HH:MM[:SS[.frac]]][ UTC|GMT|UT|Z|±HH[:MM]]`.
fn absolute(text: &str, local: &TimeZone) -> Option<Timestamp> {
    let date_text = text.get(..10)?;
    let date: Date = date_text.parse().ok()?;
    let rest = text[10..].trim_start_matches(['T', 't']).trim();
    let (clock, zone) = split_zone(rest, local)?;
    let time = if clock.is_empty() {
        Time::midnight()
    } else {
        clock_time(&clock.to_ascii_lowercase())?
    };
    once(&zone, DateTime::from_parts(date, time))
}

fn split_zone(text: &str, local: &TimeZone) -> Option<(String, TimeZone)> {
    let upper = text.to_ascii_uppercase();
    for name in ["UTC", "GMT", "UT", "Z"] {
        if let Some(clock) = upper.strip_suffix(name) {
            return Some((clock.trim().to_owned(), TimeZone::UTC));
        }
    }
    let Some(at) = text.find(['+', '-']) else {
        return Some((text.to_owned(), local.clone()));
    };
    let sign = if text.as_bytes()[at] == b'-' { -1 } else { 1 };
    let digits: String = text[at + 1..].chars().filter(|c| *c != ':').collect();
    if !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let (hours, minutes) = match digits.len() {
        1 | 2 => (digits.parse::<i32>().ok()?, 0),
        4 => (digits[..2].parse::<i32>().ok()?, digits[2..].parse::<i32>().ok()?),
        _ => return None,
    };
    if hours > 15 || minutes > 59 {
        return None;
    }
    let offset = Offset::from_seconds(sign * (hours * 3600 + minutes * 60)).ok()?;
    Some((text[..at].trim().to_owned(), TimeZone::fixed(offset)))
}

/// A time for people: local with its offset, and UTC behind it.
pub fn both_zones(instant: Timestamp, local: &TimeZone) -> String {
    let there = instant
        .to_zoned(local.clone())
        .strftime("%Y-%m-%d %H:%M:%S%:z")
        .to_string();
    let utc = instant
        .to_zoned(TimeZone::UTC)
        .strftime("%Y-%m-%d %H:%M:%S UTC")
        .to_string();
    if there.ends_with("+00:00") {
        utc
    } else {
        format!("{there} ({utc})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        "2026-11-22T10:00:00Z".parse().unwrap()
    }

    fn berlin() -> TimeZone {
        TimeZone::fixed(Offset::from_seconds(3600).unwrap())
    }

    #[test]
    fn every_form_of_the_grammar() {
        let cases = [
            ("now", "2026-11-22T10:00:00Z"),
            ("5 minutes ago", "2026-11-22T09:55:00Z"),
            ("5m ago", "2026-11-22T09:55:00Z"),
            ("1 h ago", "2026-11-22T09:00:00Z"),
            ("2 days ago", "2026-11-20T10:00:00Z"),
            ("1 week ago", "2026-11-15T10:00:00Z"),
            ("today", "2026-11-21T23:00:00Z"),
            ("yesterday", "2026-11-20T23:00:00Z"),
            ("yesterday 9pm", "2026-11-21T20:00:00Z"),
            ("today 12am", "2026-11-21T23:00:00Z"),
            ("today 12pm", "2026-11-22T11:00:00Z"),
            ("yesterday 21:30", "2026-11-21T20:30:00Z"),
            ("2026-11-20", "2026-11-19T23:00:00Z"),
            ("2026-11-20 08:15", "2026-11-20T07:15:00Z"),
            ("2026-11-20 08:15:30", "2026-11-20T07:15:30Z"),
            ("2026-11-20 08:15:30.25", "2026-11-20T07:15:30.25Z"),
            ("2026-11-20 08:15 UTC", "2026-11-20T08:15:00Z"),
            ("2026-11-20 08:15GMT", "2026-11-20T08:15:00Z"),
            ("2026-11-20 08:15:00+02", "2026-11-20T06:15:00Z"),
            ("2026-11-20 08:15:00 -05:30", "2026-11-20T13:45:00Z"),
            ("2026-11-20T08:15:00Z", "2026-11-20T08:15:00Z"),
            ("2026-11-20T08:15:00+01:00", "2026-11-20T07:15:00Z"),
        ];
        for (text, expected) in cases {
            let got = parse_time(text, now(), &berlin()).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(got, expected.parse::<Timestamp>().unwrap(), "{text}");
        }
    }

    #[test]
    fn what_is_impossible_or_ambiguous_is_refused() {
        for bad in [
            "",
            "soon",
            "13am today",
            "today 13am",
            "today 0am",
            "today 0pm",
            "yesterday 25:00",
            "2026-02-30",
            "2026-13-01",
            "2026-11-20 08:15 CET",
            "2026-11-20 24:01",
            "0001-01-01",
            "5 fortnights ago",
            "-5 minutes ago",
            "99999999999999999999 days ago",
            "2026-11-20 8",
            "2026-11-20 08:15 +25:00",
            "1970-01-01",
        ] {
            let error = parse_time(bad, now(), &berlin()).expect_err(bad);
            assert!(error.is(code::usage::TIME), "{bad}");
        }
    }

    #[test]
    fn clock_times_that_come_twice_or_never_are_refused() {
        let there = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let at = |text: &str| parse_time(text, "2026-10-25T10:00:00Z".parse().unwrap(), &there);
        for bad in [
            "2026-10-25 02:30",
            "today 2:30am",
            "2026-10-25 02:00",
            "2026-03-29 02:30",
            "2026-03-29 02:00:00",
        ] {
            assert!(at(bad).is_err_and(|error| error.is(code::usage::TIME)), "{bad}");
        }
        for (text, expected) in [
            ("2026-10-25 01:59:59", "2026-10-24T23:59:59Z"),
            ("today 3am", "2026-10-25T02:00:00Z"),
            ("2026-10-25 02:30 +02:00", "2026-10-25T00:30:00Z"),
            ("2026-10-25 02:30 +01:00", "2026-10-25T01:30:00Z"),
            ("2026-03-29 03:00", "2026-03-29T01:00:00Z"),
            ("yesterday", "2026-10-23T22:00:00Z"),
        ] {
            assert_eq!(at(text).unwrap(), expected.parse::<Timestamp>().unwrap(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in ".{0,40}") {
            let _ = parse_time(&text, now(), &berlin());
        }
    }

    #[test]
    fn shown_in_both_zones() {
        assert_eq!(
            both_zones(now(), &berlin()),
            "2026-11-22 11:00:00+01:00 (2026-11-22 10:00:00 UTC)"
        );
        assert_eq!(both_zones(now(), &TimeZone::UTC), "2026-11-22 10:00:00 UTC");
    }
}
