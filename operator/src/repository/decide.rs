//! What is done next about a Repository. One step at a time, each found again after a crash: a Job's name and annotations
//! tell what it was for. Pure.

use std::time::Duration;

use hardstorage_crds::{Catalog, RepositorySpec, RepositoryStatus};
use jiff::Timestamp;

use super::outcome::{Init, Probe, Run, Runs, Sync, asked, attempt, follows, generation, news};
use super::verdict::Verdict;
use crate::settings::Settings;

/// The first wait after a run that did not bring what was wanted; it doubles.
const FIRST_WAIT: Duration = Duration::from_secs(15);
/// The longest. Nothing tells us that a Secret has come, because we may not read any, so it is looked at again.
const LONGEST_WAIT: Duration = Duration::from_mins(5);
/// A look that found nothing counts so long for that a repository may be created.
const FRESH: Duration = Duration::from_mins(5);
/// However often something new comes, the catalogue rests so long between two readings, or as long as a reading takes.
const REST: Duration = Duration::from_mins(1);

/// What is known when deciding.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The spec.
    pub spec: &'a RepositorySpec,
    /// Its generation.
    pub generation: i64,
    /// The status as it will be written.
    pub status: &'a RepositoryStatus,
    /// What was judged.
    pub verdict: &'a Verdict,
    /// The value of `sync-now`.
    pub sync_now: Option<&'a str>,
    /// What others tell of new backups, in a word.
    pub news: &'a str,
    /// Looks at the URL.
    pub probe: &'a Runs<Probe>,
    /// Creations.
    pub init: &'a Runs<Init>,
    /// Readings of the catalogue.
    pub sync: &'a Runs<Sync>,
    /// The time.
    pub now: Timestamp,
}

/// A step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Look at what is there.
    Probe {
        /// How many looks before it saw nothing good.
        attempt: u32,
        /// The Job whose outcome is the reason.
        after: Option<String>,
    },
    /// Make the keys, then the repository.
    Create {
        /// How many before it failed.
        attempt: u32,
        /// The look that found nothing.
        after: String,
    },
    /// Read the catalogue.
    Sync {
        /// How many before it failed.
        attempt: u32,
        /// The value of `sync-now` that it answers.
        asked: Option<String>,
        /// What others tell of new backups.
        news: String,
    },
    /// Nothing; look again after this long.
    Wait(Duration),
}

/// Decides.
pub fn decide(facts: &Facts<'_>) -> Step {
    if matches!(facts.verdict, Verdict::ClaimMissing(_)) {
        // A pod would hang in Pending. The claim is no object of ours, so nothing wakes us.
        return Step::Wait(LONGEST_WAIT.min(FIRST_WAIT * 2));
    }
    if facts.probe.running.is_some() || facts.init.running.is_some() {
        return Step::Wait(Settings::JOB_PERIOD);
    }
    let wait = match probe(facts) {
        Next::Now(step) => return step,
        Next::After(wait) => Some(wait),
        Next::Never => None,
    };
    if *facts.verdict == Verdict::MayCreate
        && let Some(last) = &facts.probe.last
    {
        let failed = facts.init.last.as_ref().filter(|run| run.outcome.is_err());
        return Step::Create {
            attempt: failed.map_or(0, |run| attempt(&run.job) + 1),
            after: last.uid().to_owned(),
        };
    }
    if *facts.verdict != Verdict::Good {
        return Step::Wait(wait.unwrap_or(LONGEST_WAIT));
    }
    if facts.sync.running.is_some() {
        return Step::Wait(Settings::JOB_PERIOD);
    }
    let sync = match sync(facts) {
        Next::Now(step) => return step,
        Next::After(wait) => wait,
        Next::Never => LONGEST_WAIT,
    };
    // A pod that still answers is looked at until it has ended, so that its Job is over.
    let answering = [
        facts.probe.last.as_ref().map(|run| run.over),
        facts.sync.last.as_ref().map(|run| run.over),
    ];
    if answering.contains(&Some(false)) {
        return Step::Wait(Settings::JOB_PERIOD);
    }
    Step::Wait(wait.map_or(sync, |wait| wait.min(sync)))
}

enum Next {
    Now(Step),
    After(Duration),
    Never,
}

/// Whether to look at the URL again.
fn probe(facts: &Facts<'_>) -> Next {
    let begin = |attempt, after: Option<&str>| {
        Next::Now(Step::Probe {
            attempt,
            after: after.map(str::to_owned),
        })
    };
    let Some(last) = &facts.probe.last else {
        return begin(0, None);
    };
    if generation(&last.job) != Some(facts.generation) {
        return begin(0, None);
    }
    // What was created is looked at, and so is what was not: perhaps somebody else has.
    if let Some(init) = facts
        .init
        .last
        .as_ref()
        .filter(|init| follows(&init.job) == Some(last.uid()))
    {
        return match &init.outcome {
            Ok(_) => begin(0, Some(init.uid())),
            Err(_) => later(init, facts.now, |attempt| begin(attempt, Some(init.uid()))),
        };
    }
    // A reading that failed may have met what only a look can name.
    if let Some(sync) = facts.sync.last.as_ref().filter(|sync| sync.outcome.is_err())
        && sync.made >= last.made
        && follows(&last.job) != Some(sync.uid())
    {
        return begin(0, Some(sync.uid()));
    }
    match facts.verdict {
        // Somebody may have created one since, and a key is never made for that.
        Verdict::MayCreate if due(last.ended, FRESH, facts.now).is_zero() => begin(0, None),
        Verdict::Good | Verdict::MayCreate | Verdict::Creating => Next::Never,
        _ => later(last, facts.now, |attempt| begin(attempt, None)),
    }
}

/// Whether to read the catalogue again.
fn sync(facts: &Facts<'_>) -> Next {
    let begin = |attempt| {
        Next::Now(Step::Sync {
            attempt,
            asked: facts.sync_now.map(str::to_owned),
            news: facts.news.to_owned(),
        })
    };
    let Some(last) = &facts.sync.last else {
        return begin(0);
    };
    let told = facts.sync_now.is_some() && facts.sync_now != asked(&last.job);
    if last.over && (told || generation(&last.job) != Some(facts.generation)) {
        return begin(0);
    }
    let stored = facts.status.last_sync_time.as_ref().map(|time| time.0);
    if last.outcome.is_err() || !is_stored(stored, last) {
        return later(last, facts.now, begin);
    }
    let catalog = facts.spec.catalog.clone().unwrap_or_default();
    let interval = catalog.sync_interval.get().or(Catalog::default().sync_interval.get());
    let mut wait = interval.unwrap_or(LONGEST_WAIT);
    if news(&last.job).is_some_and(|known| known != facts.news) {
        let took: Duration = last.ended.duration_since(last.made).try_into().unwrap_or_default();
        wait = wait.min(REST.max(took));
    }
    let due = due(last.ended, wait, facts.now);
    if due.is_zero() && last.over {
        return begin(0);
    }
    Next::After(due.max(Settings::JOB_PERIOD))
}

/// Whether the catalogue of a run is in the status: the API server keeps whole seconds.
pub fn is_stored<T>(stored: Option<Timestamp>, run: &Run<T>) -> bool {
    stored.is_some_and(|stored| stored.as_second() >= run.made.as_second())
}

/// Again after a wait that grows with each try.
fn later<T>(last: &Run<T>, now: Timestamp, begin: impl FnOnce(u32) -> Next) -> Next {
    if !last.over {
        return Next::After(Settings::JOB_PERIOD);
    }
    let tries = attempt(&last.job);
    let wait = due(last.ended, backoff(tries), now);
    if wait.is_zero() {
        begin(tries.saturating_add(1))
    } else {
        Next::After(wait)
    }
}

fn backoff(tries: u32) -> Duration {
    FIRST_WAIT
        .saturating_mul(2u32.saturating_pow(tries.min(16)))
        .min(LONGEST_WAIT)
}

/// How long until so much time has passed since then; nothing when it has.
fn due(since: Timestamp, wait: Duration, now: Timestamp) -> Duration {
    let passed: Duration = now.duration_since(since).try_into().unwrap_or_default();
    wait.saturating_sub(passed)
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
