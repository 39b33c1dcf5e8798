//! The scheduler under a clock of our own.

use jiff::ToSpan as _;
use proptest::prelude::*;

use super::*;

const SPREAD: Duration = Duration::from_mins(3);

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn when(text: &str) -> When {
    When::read(text, TimeZone::UTC, "db1").unwrap()
}

fn facts(now: &str, since: &str) -> Facts {
    Facts {
        now: time(now),
        since: time(since),
        spread: SPREAD,
        newest: Newest::Unknown,
        backed_up: None,
    }
}

fn backup(began: &str) -> Newest {
    Newest::At {
        started: time(began),
        stopped: time(began).checked_add(5.minutes()).unwrap(),
    }
}

#[test]
fn words() {
    assert!(matches!(when("off"), When::Off));
    assert!(matches!(when(" After-Backup "), When::AfterBackup));
    assert_eq!(when("0 2 * * *").shown(), "0 2 * * *");
    assert_eq!(when("@daily").shown(), "@daily (0 0 * * *)");
    let error = When::read("@fortnightly", TimeZone::UTC, "db1").unwrap_err();
    assert!(error.contains("@daily") && error.contains("@nightly"), "{error}");
    let error = When::read("0 0 30 2 *", TimeZone::UTC, "db1").unwrap_err();
    assert!(error.contains("never comes"), "{error}");
    for number in 0..300 {
        let When::Clock { plan, .. } = When::read("@nightly", TimeZone::UTC, &format!("db{number}")).unwrap() else {
            panic!()
        };
        let hour: u8 = plan.fields.split(' ').nth(1).unwrap().parse().unwrap();
        assert!(hour < 6, "{}", plan.fields);
    }
}

#[test]
fn a_deployment_without_a_backup_gets_one_at_once_and_one_of_which_nothing_is_known_waits_for_its_window() {
    let daily = when("0 2 * * *");
    let record = Record::new(time("2026-11-20T12:00:00Z"));
    let mut facts = facts("2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z");
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-21T02:00:00Z")));
    facts.newest = Newest::None;
    assert_eq!(due(&daily, true, &record, &facts), Some(facts.now));
    // A check of what is not there is not pressing.
    assert_eq!(due(&daily, false, &record, &facts), Some(time("2026-11-21T02:00:00Z")));
    assert_eq!(due(&When::Off, true, &record, &facts), None);
}

#[test]
fn a_repository_that_is_empty_again_gets_a_backup_and_no_storm() {
    let daily = when("0 2 * * *");
    let mut record = Record::new(time("2026-11-20T12:00:00Z"));
    let began = time("2026-11-20T12:00:00Z");
    record.end(began, time("2026-11-20T12:10:00Z"), Outcome::Succeeded);
    let mut facts = facts("2026-11-20T12:10:00Z", "2026-11-20T12:00:00Z");
    facts.newest = Newest::None;
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-20T13:00:00Z")));
    // What only a person can cure is not tried every hour.
    record.end(began, facts.now, Outcome::Refused);
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-21T02:00:00Z")));
}

#[test]
fn a_missed_window_is_made_up_once() {
    let daily = when("0 2 * * *");
    let since = time("2026-11-20T12:00:00Z");
    let mut facts = facts("2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z");
    // Three windows were missed, as the repository tells; nothing was remembered.
    let mut record = Record::new(since);
    facts.newest = backup("2026-11-17T02:00:00Z");
    let made_up = time("2026-11-20T12:03:00Z");
    assert_eq!(due(&daily, true, &record, &facts), Some(made_up));
    record.begin(made_up);
    record.end(made_up, time("2026-11-20T12:40:00Z"), Outcome::Succeeded);
    facts.now = time("2026-11-20T12:40:00Z");
    let next = Some(time("2026-11-21T02:00:00Z"));
    assert_eq!(due(&daily, true, &record, &facts), next);
    facts.newest = backup("2026-11-20T12:03:00Z");
    assert_eq!(due(&daily, true, &record, &facts), next);

    // A backup that somebody made by hand after the window is as good.
    let record = Record::new(since);
    facts.newest = backup("2026-11-20T04:00:00Z");
    assert_eq!(due(&daily, true, &record, &facts), next);
    // One of the future is not believed.
    facts.newest = backup("2026-12-20T04:00:00Z");
    assert_eq!(due(&daily, true, &record, &facts), next);
}

#[test]
fn a_run_that_was_interrupted_is_owed() {
    let daily = when("0 2 * * *");
    let mut record = Record::new(time("2026-11-19T12:00:00Z"));
    record.begin(time("2026-11-20T02:00:00Z"));
    // The process died, and comes back.
    let mut facts = facts("2026-11-20T02:10:00Z", "2026-11-20T02:10:00Z");
    facts.newest = backup("2026-11-19T12:30:00Z");
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-20T02:13:00Z")));
    // Unless its backup was committed all the same.
    facts.newest = backup("2026-11-20T02:00:00Z");
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-21T02:00:00Z")));
    record.end(
        time("2026-11-20T02:00:00Z"),
        time("2026-11-20T02:09:00Z"),
        Outcome::Stopped,
    );
    facts.newest = backup("2026-11-19T12:30:00Z");
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-20T02:13:00Z")));
}

#[test]
fn failures_are_tried_again_and_refusals_are_not() {
    let daily = when("0 2 * * *");
    let window = time("2026-11-20T02:00:00Z");
    let mut record = Record::new(time("2026-11-19T12:00:00Z"));
    let mut facts = facts("2026-11-20T02:00:00Z", "2026-11-01T00:00:00Z");
    let mut pauses = Vec::new();
    for _ in 0..9 {
        record.begin(facts.now);
        record.end(facts.now, facts.now, Outcome::Failed);
        let next = due(&daily, true, &record, &facts).unwrap();
        pauses.push(next.duration_since(facts.now).as_mins());
        facts.now = next;
    }
    assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
    // The next window takes over.
    facts.now = time("2026-11-21T01:30:00Z");
    record.begin(facts.now);
    record.end(facts.now, facts.now, Outcome::Hung);
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-21T02:00:00Z")));

    let mut record = Record::new(time("2026-11-19T12:00:00Z"));
    record.end(window, window, Outcome::Refused);
    assert_eq!(record.failures, 1);
    facts.now = window;
    assert_eq!(due(&daily, true, &record, &facts), Some(time("2026-11-21T02:00:00Z")));
}

#[test]
fn what_follows_a_backup_follows_each_once() {
    let mut record = Record::new(time("2026-11-19T12:00:00Z"));
    let mut facts = facts("2026-11-20T03:00:00Z", "2026-11-19T12:00:00Z");
    let rotate = |record: &Record, facts: &Facts| due(&When::AfterBackup, false, record, facts);
    assert_eq!(rotate(&record, &facts), None);
    // What was there before this agent was somebody else's to rotate.
    facts.newest = backup("2026-11-18T02:00:00Z");
    assert_eq!(rotate(&record, &facts), None);
    facts.backed_up = Some(time("2026-11-20T02:30:00Z"));
    assert_eq!(rotate(&record, &facts), facts.backed_up);
    record.end(facts.now, facts.now, Outcome::Failed);
    assert_eq!(rotate(&record, &facts), Some(time("2026-11-20T03:01:00Z")));
    record.end(facts.now, facts.now, Outcome::Succeeded);
    assert_eq!(rotate(&record, &facts), None);
    // And one by hand.
    facts.now = time("2026-11-20T09:00:00Z");
    facts.newest = backup("2026-11-20T08:00:00Z");
    assert!(rotate(&record, &facts).is_some());
}

/// What the supervisor does, without processes.
struct World {
    now: Timestamp,
    since: Timestamp,
    record: Record,
    newest: Newest,
    running: Option<(Timestamp, Timestamp, Outcome)>,
    runs: Vec<Timestamp>,
}

impl World {
    fn step(&mut self, when: &When, outcome: Outcome, seconds: i64) {
        self.since = self.since.min(self.now);
        self.record.mend(self.now);
        if let Some((started, until, outcome)) = self.running {
            // A run that began in the future ends when its time is over on any clock.
            if self.now >= until || self.now < started {
                let started = started.min(self.now);
                self.record.end(started, self.now, outcome);
                if outcome == Outcome::Succeeded {
                    self.newest = Newest::At {
                        started,
                        stopped: self.now,
                    };
                }
                self.running = None;
            }
        }
        let facts = Facts {
            now: self.now,
            since: self.since,
            spread: SPREAD,
            newest: self.newest,
            backed_up: None,
        };
        let due = due(when, true, &self.record, &facts);
        if self.running.is_none() && due.is_some_and(|at| at <= self.now) {
            self.record.begin(self.now);
            self.runs.push(self.now);
            self.running = Some((self.now, self.now.checked_add(seconds.seconds()).unwrap(), outcome));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Restarts, losses of the state file and pauses of days: a success settles its windows, so no window has two, and
    /// none that passed stays without.
    #[test]
    fn no_window_has_two_runs_and_none_is_forgotten(
        zone in 0..4_usize,
        minute in 0..60,
        hour in 0..24,
        gaps in prop::collection::vec((1..4000_i64, any::<bool>()), 1..12),
        start in 1_700_000_000_i64..1_900_000_000,
        length in 60..7000_i64,
    ) {
        let zones = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Etc/UTC"];
        let zone = TimeZone::get(zones[zone]).unwrap();
        let when = When::read(&format!("{minute} {hour} * * *"), zone, "db1").unwrap();
        let When::Clock { plan, .. } = &when else { panic!() };
        let now = Timestamp::from_second(start).unwrap();
        let mut world = World { now, since: now, record: Record::new(now), newest: Newest::None, running: None, runs: Vec::new() };
        let mut interrupted = 0;
        for (away, lost) in gaps {
            for _ in 0..400 {
                world.step(&when, Outcome::Succeeded, length);
                world.now = world.now.checked_add(10.minutes()).unwrap();
            }
            // The agent ends with what it runs, and comes back later, perhaps without its memory.
            interrupted += usize::from(world.running.take().is_some());
            world.now = world.now.checked_add(away.minutes()).unwrap();
            world.since = world.now;
            if lost {
                world.record = Record::new(world.now);
            }
        }
        for _ in 0..400 {
            world.step(&when, Outcome::Succeeded, length);
            world.now = world.now.checked_add(10.minutes()).unwrap();
        }
        // Between two runs there is always a window, unless the first was interrupted and is owed.
        let twice = world.runs.windows(2).filter(|pair| plan.next_once(pair[0]).unwrap() > pair[1]).count();
        prop_assert!(twice <= interrupted, "{twice} of {:?}", world.runs);
        // The last stretch has no interruption: one run at each of its windows.
        let step = 10.minutes();
        let last = world.now.checked_sub(step).unwrap();
        let mut at = world.now.checked_sub((400 * 10).minutes()).unwrap().checked_add(4.hours()).unwrap();
        while let Some(window) = plan.next_once(at).filter(|window| *window <= last) {
            let until = window.checked_add(step).unwrap();
            let runs = world.runs.iter().filter(|run| (window..until).contains(run)).count();
            prop_assert_eq!(runs, 1, "{} in {:?}", window, world.runs);
            at = window;
        }
    }

    /// A clock that jumps by up to two days, to and fro: never more runs than windows on the way and one for each jump,
    /// and after it stands still a run within two days: one window may bear a date that a backup bears already.
    #[test]
    fn jumps_of_the_clock_make_no_storm_and_no_standstill(
        jumps in prop::collection::vec(-172_800..172_800_i64, 1..10),
        hour in 0..24,
        fails in any::<bool>(),
    ) {
        let when = When::read(&format!("30 {hour} * * *"), TimeZone::UTC, "db1").unwrap();
        let now = time("2026-06-01T00:00:00Z");
        let mut world = World { now, since: now, record: Record::new(now), newest: Newest::None, running: None, runs: Vec::new() };
        let outcome = if fails { Outcome::Failed } else { Outcome::Succeeded };
        let mut minutes = 0_i64;
        for jump in &jumps {
            for _ in 0..144 {
                world.step(&when, outcome, 300);
                world.now = world.now.checked_add(10.minutes()).unwrap();
                minutes += 10;
            }
            world.now = world.now.checked_add(jump.seconds()).unwrap();
        }
        let most = if fails {
            // Hourly at the longest, and the short pauses at the beginning.
            usize::try_from(minutes / 60).unwrap() + 8 + 2 * jumps.len()
        } else {
            usize::try_from(minutes / 1440).unwrap() + 2 + 2 * jumps.len()
        };
        prop_assert!(world.runs.len() <= most, "{} runs, at most {most}", world.runs.len());
        world.runs.clear();
        for _ in 0..300 {
            world.step(&when, Outcome::Succeeded, 300);
            world.now = world.now.checked_add(10.minutes()).unwrap();
        }
        prop_assert!(!world.runs.is_empty(), "it stands still: {:?}", world.record);
    }
}
