//! When something runs: words such as `@daily-random` as five fields, and the next moment in a time zone. Pure.
//!
//! The next moment is the one at which the CronJob controller starts: a time that a clock change leaves out is left out,
//! and one that comes twice runs twice. Its words for random minutes are ours, and never reach it: it gets five fields.

use hardstorage_crds::Schedule;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use sha2::{Digest as _, Sha256};

use super::fields::Fields;

/// How far it is looked ahead: the 29th of February comes within eight years.
const HORIZON_DAYS: i64 = 366 * 8 + 2;

/// A schedule that can be followed.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Five fields.
    pub fields: String,
    read: Fields,
    zone: TimeZone,
}

impl Plan {
    /// Reads a schedule; an error is a sentence for the user. `seed` is `NAMESPACE/NAME`: the random words are always the
    /// same for one of them, and others for others, so that a hundred schedules do not begin in the same minute.
    pub fn new(schedule: &Schedule, time_zone: &str, seed: &str) -> Result<Plan, String> {
        let fields = five_fields(schedule.as_str(), seed)?;
        let read = Fields::read(&fields)?;
        if time_zone.eq_ignore_ascii_case("local") {
            return Err("the time zone Local would depend on the node: write a name such as Europe/Berlin".to_owned());
        }
        let zone = TimeZone::get(time_zone).map_err(|_| format!("there is no time zone {time_zone:?}"))?;
        // The API server takes a name only as it is written.
        if let Some(name) = zone
            .iana_name()
            .filter(|name| *name != time_zone && name.eq_ignore_ascii_case(time_zone))
        {
            return Err(format!("there is no time zone {time_zone:?}: write {name}"));
        }
        Ok(Plan { fields, read, zone })
    }

    /// The first moment after this one; none for a day that never comes, such as the 30th of February.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let minute = SignedDuration::from_mins(1);
        let whole = after.as_second().div_euclid(60).checked_add(1)?.checked_mul(60)?;
        let mut moment = Timestamp::from_second(whole).ok()?;
        let mut days = 0;
        loop {
            let local = moment.to_zoned(self.zone.clone());
            if !self.read.on(local.date()) {
                days += 1;
                if days > HORIZON_DAYS {
                    return None;
                }
                // Where midnight is left out, the day begins later.
                moment = local
                    .date()
                    .checked_add(1.day())
                    .ok()?
                    .to_zoned(self.zone.clone())
                    .ok()?
                    .timestamp();
                continue;
            }
            if !self.read.in_hour(local.hour()) {
                let rest = SignedDuration::from_mins(60 - i64::from(local.minute()));
                moment = moment.checked_add(rest).ok()?;
            } else if self.read.in_minute(local.minute()) {
                return Some(moment);
            } else {
                moment = moment.checked_add(minute).ok()?;
            }
        }
    }

    /// The time between two runs, from now on.
    pub fn interval(&self, now: Timestamp) -> Option<SignedDuration> {
        let next = self.next(now)?;
        Some(self.next(next)?.duration_since(next))
    }
}

fn five_fields(schedule: &str, seed: &str) -> Result<String, String> {
    let Some(word) = schedule.trim().strip_prefix('@') else {
        return Ok(schedule.split_whitespace().collect::<Vec<_>>().join(" "));
    };
    let hash = Sha256::digest(seed.as_bytes());
    let pick = |index: usize, among: u16| u16::from_be_bytes([hash[index], hash[index + 1]]) % among;
    let (minute, hour) = (pick(0, 60), pick(2, 24));
    // No month is without a 28th.
    let (weekday, day) = (pick(4, 7), 1 + pick(6, 28));
    Ok(match word.to_ascii_lowercase().as_str() {
        "hourly" => "0 * * * *".to_owned(),
        "daily" => "0 0 * * *".to_owned(),
        "weekly" => "0 0 * * 0".to_owned(),
        "monthly" => "0 0 1 * *".to_owned(),
        "hourly-random" => format!("{minute} * * * *"),
        "daily-random" => format!("{minute} {hour} * * *"),
        "weekly-random" => format!("{minute} {hour} * * {weekday}"),
        "monthly-random" => format!("{minute} {hour} {day} * *"),
        _ => {
            return Err(format!(
                "{schedule:?} is no schedule: write @hourly, @daily, @weekly or @monthly, each also with -random, or five fields"
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "test code")]
    use super::*;

    fn plan(text: &str, zone: &str) -> Plan {
        Plan::new(&Schedule::new(text), zone, "team/orders").unwrap()
    }

    fn next(text: &str, zone: &str, after: &str) -> String {
        plan(text, zone).next(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn words_are_fields_and_random_ones_are_stable() {
        let fields = |text: &str, seed: &str| Plan::new(&Schedule::new(text), "Etc/UTC", seed).unwrap().fields;
        for (word, wanted) in [
            ("@hourly", "0 * * * *"),
            ("@daily", "0 0 * * *"),
            ("@Weekly", "0 0 * * 0"),
            ("@monthly", "0 0 1 * *"),
            ("5  4 * *  sun", "5 4 * * sun"),
            // These are what a cluster runs by: they must not move with a new version.
            ("@hourly-random", "17 * * * *"),
            ("@daily-random", "17 18 * * *"),
            ("@weekly-random", "17 18 * * 0"),
            ("@monthly-random", "17 18 15 * *"),
        ] {
            assert_eq!(fields(word, "team/orders"), wanted, "{word}");
        }
        assert_ne!(
            fields("@daily-random", "team/orders"),
            fields("@daily-random", "team/customers")
        );
        for seed in 0..500 {
            for word in ["@hourly-random", "@daily-random", "@weekly-random", "@monthly-random"] {
                let plan = Plan::new(&Schedule::new(word), "Etc/UTC", &seed.to_string()).unwrap();
                assert!(plan.next(Timestamp::UNIX_EPOCH).is_some(), "{}", plan.fields);
            }
        }
    }

    #[test]
    fn nonsense_is_a_sentence() {
        let refused = |text: &str, zone: &str| Plan::new(&Schedule::new(text), zone, "a/b").unwrap_err();
        assert!(refused("@yearly", "Etc/UTC").contains("@monthly"));
        assert!(refused("5-3 * * * *", "Etc/UTC").contains("minute"));
        assert!(refused("0 0 * * *", "Mars/Olympus").contains("Mars/Olympus"));
        assert!(refused("0 0 * * *", "Local").contains("Local"));
        assert!(refused("0 0 * * *", "europe/berlin").contains("Europe/Berlin"));
        for zone in ["UTC", "Etc/UTC", "Europe/Berlin", "US/Eastern"] {
            assert!(Plan::new(&Schedule::new("@daily"), zone, "a/b").is_ok(), "{zone}");
        }
        assert!(refused("TZ=UTC 0 0 * * *", "Etc/UTC").contains("five fields"));
    }

    #[test]
    fn the_next_moment_is_after_this_one() {
        let cases = [
            ("30 4 * * *", "2026-03-01T04:29:59Z", "2026-03-01T04:30:00Z"),
            ("30 4 * * *", "2026-03-01T04:30:00Z", "2026-03-02T04:30:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("*/15 9-17 * * mon-fri", "2026-06-19T17:46:00Z", "2026-06-22T09:00:00Z"),
            ("59 23 31 12 *", "2026-12-31T23:59:00Z", "2027-12-31T23:59:00Z"),
        ];
        for (text, after, wanted) in cases {
            assert_eq!(next(text, "Etc/UTC", after), wanted, "{text} after {after}");
        }
        assert_eq!(plan("0 0 30 2 *", "Etc/UTC").next(Timestamp::UNIX_EPOCH), None);
        // 2100 is no leap year.
        assert_eq!(
            next("0 0 29 2 *", "Etc/UTC", "2096-03-01T00:00:00Z"),
            "2104-02-29T00:00:00Z"
        );
    }

    #[test]
    fn clocks_are_changed() {
        let berlin = "Europe/Berlin";
        let cases = [
            // Before, in and after summer.
            ("30 4 * * *", "2026-01-01T00:00:00Z", "2026-01-01T03:30:00Z"),
            ("30 4 * * *", "2026-07-01T00:00:00Z", "2026-07-01T02:30:00Z"),
            // 02:30 does not exist on 29 March 2026.
            ("30 2 * * *", "2026-03-28T12:00:00Z", "2026-03-30T00:30:00Z"),
            ("0 * * * *", "2026-03-29T00:59:00Z", "2026-03-29T01:00:00Z"),
            // 02:30 comes twice on 25 October 2026.
            ("30 2 * * *", "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z"),
            ("30 2 * * *", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z"),
        ];
        for (text, after, wanted) in cases {
            assert_eq!(next(text, berlin, after), wanted, "{text} after {after}");
        }
        // Midnight itself is left out in Beirut on 29 March 2026.
        assert_eq!(
            next("0 0 * * *", "Asia/Beirut", "2026-03-28T12:00:00Z"),
            "2026-03-29T21:00:00Z"
        );
        assert_eq!(
            next("5 1 29 3 *", "Asia/Beirut", "2026-03-28T12:00:00Z"),
            "2026-03-28T22:05:00Z"
        );
        assert_eq!(
            next("0 9 * * *", "Asia/Kathmandu", "2026-05-01T00:00:00Z"),
            "2026-05-01T03:15:00Z"
        );
    }

    #[test]
    fn intervals() {
        let now = "2026-06-15T12:00:00Z".parse().unwrap();
        let hours = |text: &str| plan(text, "Etc/UTC").interval(now).map(|time| time.as_hours());
        assert_eq!(hours("@hourly"), Some(1));
        assert_eq!(hours("@daily-random"), Some(24));
        assert_eq!(hours("@weekly"), Some(168));
        assert_eq!(hours("0 0 30 2 *"), None);
    }
}
