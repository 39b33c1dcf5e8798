//! A window of recovery in the whole seconds that a status shows: never wider than what a restore accepts, so that whoever
//! writes the first or the last moment into a Restore is not refused for a part of a second.

use jiff::{RoundMode, Timestamp, TimestampRound, Unit};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The first and the last whole second within. Where no second is whole there is no last one yet.
pub fn whole(from: Option<Timestamp>, to: Option<Timestamp>) -> (Option<Time>, Option<Time>) {
    let from = from.map(|from| second(from, RoundMode::Ceil));
    let to = to.map(|to| second(to, RoundMode::Floor));
    (
        from.map(Time),
        to.filter(|to| from.is_none_or(|from| from <= *to)).map(Time),
    )
}

fn second(at: Timestamp, mode: RoundMode) -> Timestamp {
    // Only what lies at an end of all time cannot be rounded.
    at.round(TimestampRound::new().smallest(Unit::Second).mode(mode))
        .unwrap_or(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    #[test]
    fn what_is_shown_lies_within_what_can_be_reached() {
        let shown = |from: &str, to: &str| {
            let (from, to) = whole(from.parse().ok(), to.parse().ok());
            // As the API server keeps it.
            let text = |time: Option<Time>| serde_json::to_value(time).unwrap().as_str().map(str::to_owned);
            (text(from), text(to))
        };
        let moments = |from: &str, to: Option<&str>| (Some(from.to_owned()), to.map(str::to_owned));
        let (first, last) = ("2026-11-22T08:15:01Z", "2026-11-22T08:16:00Z");
        for (from, to) in [
            ("2026-11-22T08:15:00.140396Z", "2026-11-22T08:16:00.999999Z"),
            (first, last),
        ] {
            assert_eq!(shown(from, to), moments(first, Some(last)));
        }
        let short = shown("2026-11-22T08:15:00.1Z", "2026-11-22T08:15:00.9Z");
        assert_eq!(short, moments(first, None));
        assert_eq!(whole(None, None), (None, None));
    }
}
