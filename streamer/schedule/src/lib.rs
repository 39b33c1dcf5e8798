//! When something runs: words such as `@daily-random` as five fields, and the next moment in a time zone. Pure. The operator
//! and the agent read a schedule by this one reader.
//!
//! They differ only where clocks are changed. [`Plan::next`] is the moment at which the CronJob controller starts: a time
//! that is left out is left out, and one that comes twice runs twice. [`Plan::next_once`] is for whoever starts the runs
//! itself, and owes one for each day: a time that is left out runs when the clocks are changed, and one that comes twice
//! runs once. The words for random minutes are ours, and never reach that controller: it gets five fields.

mod fields;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan as _};
use sha2::{Digest as _, Sha256};

use fields::Fields;

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
    pub fn new(schedule: &str, time_zone: &str, seed: &str) -> Result<Plan, String> {
        Plan::within(schedule, named_zone(time_zone)?, seed)
    }

    /// The same in a time zone that is known already, such as the machine's own.
    pub fn within(schedule: &str, zone: TimeZone, seed: &str) -> Result<Plan, String> {
        let fields = five_fields(schedule, seed)?;
        let read = Fields::read(&fields)?;
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

    /// The first moment after this one at which a run is owed, clocks changed or not.
    pub fn next_once(&self, after: Timestamp) -> Option<Timestamp> {
        let mut from = after;
        let regular = loop {
            match self.next(from) {
                Some(moment) if self.comes_again(moment) => from = moment,
                other => break other,
            }
        };
        // What was left out before that. A zone changes its clocks some times a year: few steps, or a moment is near.
        let horizon = regular.unwrap_or(after);
        let left_out = self
            .zone
            .following(after)
            .take_while(|change| change.timestamp() < horizon)
            .map(|change| change.timestamp())
            .find(|change| self.leaves_out(*change));
        left_out.or(regular)
    }

    /// Whether the clocks showed this time before, when they were set back, and the run was made then. What runs every hour
    /// runs in both.
    fn comes_again(&self, moment: Timestamp) -> bool {
        if self.read.in_every_hour() {
            return false;
        }
        let local = moment.to_zoned(self.zone.clone()).datetime();
        match self.zone.to_ambiguous_zoned(local).compatible() {
            Ok(first) => first.timestamp() < moment,
            Err(_) => false,
        }
    }

    /// Whether the clocks pass over a time of this schedule at that moment.
    fn leaves_out(&self, change: Timestamp) -> bool {
        let Ok(before) = change.checked_sub(SignedDuration::from_secs(1)) else {
            return false;
        };
        let (before, resumed) = (self.zone.to_datetime(before), self.zone.to_datetime(change));
        let mut passed = before.checked_add(1.second()).unwrap_or(resumed);
        while passed < resumed {
            if self.read.on(passed.date()) && self.read.in_hour(passed.hour()) && self.read.in_minute(passed.minute()) {
                // What runs every hour has a run in the hour that comes.
                return !self.read.in_every_hour();
            }
            let Ok(minute) = passed.checked_add(1.minute()) else {
                return false;
            };
            passed = minute;
        }
        false
    }

    /// The time between two runs, from now on.
    pub fn interval(&self, now: Timestamp) -> Option<SignedDuration> {
        let next = self.next(now)?;
        Some(self.next(next)?.duration_since(next))
    }
}

/// A time zone by its name, as the API server takes it.
pub fn named_zone(name: &str) -> Result<TimeZone, String> {
    if name.eq_ignore_ascii_case("local") {
        return Err("the time zone Local would depend on the node: write a name such as Europe/Berlin".to_owned());
    }
    let zone = TimeZone::get(name).map_err(|_| format!("there is no time zone {name:?}"))?;
    // The API server takes a name only as it is written.
    match zone.iana_name() {
        Some(known) if known != name && known.eq_ignore_ascii_case(name) => {
            Err(format!("there is no time zone {name:?}: write {known}"))
        }
        _ => Ok(zone),
    }
}

/// A number that is always the same for one name, and spread evenly over many: below `among`.
pub fn spread(seed: &str, among: u64) -> u64 {
    let hash = Sha256::digest(seed.as_bytes());
    let bytes: [u8; 8] = std::array::from_fn(|index| hash[index]);
    u64::from_be_bytes(bytes) % among.max(1)
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
        Plan::new(text, zone, "team/orders").unwrap()
    }

    fn next(text: &str, zone: &str, after: &str) -> String {
        plan(text, zone).next(after.parse().unwrap()).unwrap().to_string()
    }

    #[test]
    fn words_are_fields_and_random_ones_are_stable() {
        let fields = |text: &str, seed: &str| Plan::new(text, "Etc/UTC", seed).unwrap().fields;
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
                let plan = Plan::new(word, "Etc/UTC", &seed.to_string()).unwrap();
                assert!(plan.next(Timestamp::UNIX_EPOCH).is_some(), "{}", plan.fields);
            }
        }
    }

    #[test]
    fn nonsense_is_a_sentence() {
        let refused = |text: &str, zone: &str| Plan::new(text, zone, "a/b").unwrap_err();
        assert!(refused("@yearly", "Etc/UTC").contains("@monthly"));
        assert!(refused("5-3 * * * *", "Etc/UTC").contains("minute"));
        assert!(refused("0 0 * * *", "Mars/Olympus").contains("Mars/Olympus"));
        assert!(refused("0 0 * * *", "Local").contains("Local"));
        assert!(refused("0 0 * * *", "europe/berlin").contains("Europe/Berlin"));
        for zone in ["UTC", "Etc/UTC", "Europe/Berlin", "US/Eastern"] {
            assert!(Plan::new("@daily", zone, "a/b").is_ok(), "{zone}");
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
    fn one_run_is_owed_for_each_time_of_a_day() {
        let berlin = "Europe/Berlin";
        let once = |text: &str, zone: &str, after: &str| plan(text, zone).next_once(after.parse().unwrap());
        let cases = [
            // 02:30 does not exist on 29 March 2026: it runs at 03:00.
            ("30 2 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:00:00Z"),
            ("30 2 * * *", berlin, "2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"),
            // 03:30 does, and nothing is left out.
            ("30 3 * * *", berlin, "2026-03-28T12:00:00Z", "2026-03-29T01:30:00Z"),
            // 02:30 comes twice on 25 October 2026.
            ("30 2 * * *", berlin, "2026-10-25T00:00:00Z", "2026-10-25T00:30:00Z"),
            ("30 2 * * *", berlin, "2026-10-25T00:30:00Z", "2026-10-26T01:30:00Z"),
            // Every hour is every hour.
            ("0 * * * *", berlin, "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"),
            ("30 * * * *", berlin, "2026-03-29T00:30:00Z", "2026-03-29T01:30:00Z"),
            // A whole day is left out in Apia, 30 December 2011.
            (
                "0 12 30 12 *",
                "Pacific/Apia",
                "2011-12-01T00:00:00Z",
                "2011-12-30T10:00:00Z",
            ),
        ];
        for (text, zone, after, wanted) in cases {
            assert_eq!(
                once(text, zone, after),
                Some(wanted.parse().unwrap()),
                "{text} after {after}"
            );
        }
    }

    proptest::proptest! {
        /// Whatever the day: one run of a daily schedule for each day of the calendar, and always later than asked.
        #[test]
        fn a_day_has_one_run(start in 1_000_000_000_i64..2_500_000_000, hour in 0..24, minute in 0..60, zone in 0..5) {
            let zones = ["Europe/Berlin", "America/New_York", "Asia/Beirut", "Australia/Lord_Howe", "Etc/UTC"];
            let zone = zones[usize::try_from(zone).unwrap()];
            let plan = plan(&format!("{minute} {hour} * * *"), zone);
            let mut at = Timestamp::from_second(start).unwrap();
            let mut last = None;
            for _ in 0..400 {
                let next = plan.next_once(at).unwrap();
                proptest::prop_assert!(next > at);
                let date = plan.zone.to_datetime(next).date();
                if let Some(last) = last {
                    proptest::prop_assert_eq!(date, jiff::civil::Date::tomorrow(last).unwrap(), "{} {}", next, zone);
                }
                (at, last) = (next, Some(date));
            }
        }
    }

    #[test]
    fn a_spread_is_stable_and_within_its_bounds() {
        assert_eq!(spread("db1", 300), spread("db1", 300));
        assert_ne!(spread("db1", 1 << 40), spread("db2", 1 << 40));
        assert!((0..100).all(|number| spread(&number.to_string(), 7) < 7));
        assert_eq!(spread("db1", 0), 0);
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
