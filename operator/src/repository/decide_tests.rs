//! Each state of a Repository, and the one step that follows.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::needless_pass_by_value,
    reason = "test code"
)]

use super::super::resolve::ClaimFacts;
use super::super::samples::{ID, absent, at, job, lost, one, present, repository, runs, went_well, went_wrong};
use super::super::verdict::judge;
use super::*;
use crate::job::Observed;
use serde_json::{Value, json};

/// What is known, and what is done at a second.
#[derive(Default)]
struct Scene {
    spec: Value,
    status: Value,
    claim: Option<ClaimFacts>,
    probe: Runs<Probe>,
    init: Runs<Init>,
    sync: Runs<Sync>,
    sync_now: Option<&'static str>,
    news: Option<&'static str>,
    generation: Option<i64>,
}

impl Scene {
    fn new(probe: Runs<Probe>) -> Scene {
        Scene {
            probe,
            spec: json!({}),
            ..Scene::default()
        }
    }

    /// A repository that was found, and whose catalogue was read at 20.
    fn at_rest() -> Scene {
        Scene {
            status: json!({"repositoryID": ID, "lastSyncTime": at(20)}),
            sync: runs(vec![(job("s", 15, Some(20), Value::Null), went_well(json!({}), None))]),
            ..Scene::new(one("p", went_well(present(), None)))
        }
    }

    fn at(&self, second: i64) -> Step {
        let repository = repository(self.spec.clone(), self.status.clone());
        let status = repository.status.clone().unwrap_or_default();
        let claim = self.claim.clone().unwrap_or(ClaimFacts::NotNeeded);
        let verdict = judge(&repository.spec, &status, &claim, &self.probe, &self.init);
        decide(&Facts {
            spec: &repository.spec,
            generation: self.generation.unwrap_or(1),
            status: &status,
            verdict: &verdict,
            sync_now: self.sync_now,
            news: self.news.unwrap_or("n"),
            probe: &self.probe,
            init: &self.init,
            sync: &self.sync,
            now: at(second),
        })
    }
}

fn probe(attempt: u32, after: Option<&str>) -> Step {
    Step::Probe {
        attempt,
        after: after.map(str::to_owned),
    }
}

fn sync(attempt: u32, asked: Option<&str>) -> Step {
    Step::Sync {
        attempt,
        asked: asked.map(str::to_owned),
        news: "n".to_owned(),
    }
}

fn waits(step: &Step) -> Option<u64> {
    match step {
        Step::Wait(wait) => Some(wait.as_secs()),
        _ => None,
    }
}

#[test]
fn from_nothing_to_a_catalogue() {
    let mut scene = Scene::new(Runs::default());
    assert_eq!(scene.at(0), probe(0, None));
    scene.probe = runs(vec![(job("p", 0, None, Value::Null), Observed::Running(None))]);
    assert_eq!(waits(&scene.at(1)), Some(5));
    scene.probe = one("p", went_well(absent(), None));
    let create = Step::Create {
        attempt: 0,
        after: "p".into(),
    };
    assert_eq!(scene.at(11), create);
    assert_eq!(scene.at(310), probe(0, None), "it may be there by now");
    let follows = json!({"hardstorage.dev/after": "p"});
    scene.init = runs(vec![(job("i", 11, None, follows.clone()), Observed::Running(None))]);
    assert_eq!(waits(&scene.at(12)), Some(5));
    scene.init = runs(vec![(
        job("i", 11, Some(14), follows),
        went_well(json!({"id": ID}), None),
    )]);
    // What was created is looked at: only a look says that our key opens it.
    assert_eq!(scene.at(15), probe(0, Some("i")));
    let again = json!({"hardstorage.dev/after": "i"});
    let first = (job("p", 0, Some(10), Value::Null), went_well(absent(), None));
    scene.probe = runs(vec![
        first,
        (job("p2", 15, Some(18), again), went_well(present(), None)),
    ]);
    assert_eq!(scene.probe.old.len(), 1);
    scene.status = json!({"repositoryID": ID});
    assert_eq!(scene.at(19), sync(0, None));
    scene.sync = runs(vec![(job("s", 19, None, Value::Null), Observed::Running(None))]);
    assert_eq!(waits(&scene.at(20)), Some(5));
}

#[test]
fn all_within_one_second_is_told_apart() {
    let first = || (job("p", 0, Some(0), Value::Null), went_well(absent(), None));
    let init = (
        job("i", 0, Some(0), json!({"hardstorage.dev/after": "p"})),
        went_well(json!({"id": ID}), None),
    );
    let second = (
        job("p2", 0, Some(0), json!({"hardstorage.dev/after": "i"})),
        went_well(present(), None),
    );
    let mut scene = Scene::new(runs(vec![first()]));
    scene.init = runs(vec![init]);
    assert_eq!(scene.at(0), probe(0, Some("i")));
    scene.probe = runs(vec![second.clone(), first()]);
    assert_eq!(scene.at(0), sync(0, None));

    // So is the look after a change of the spec: it answers nobody.
    let changed = (
        job("p3", 0, Some(0), json!({"hardstorage.dev/generation": "2"})),
        went_well(absent(), None),
    );
    scene.generation = Some(2);
    scene.probe = runs(vec![changed, second, first()]);
    scene.status = json!({"repositoryID": ID});
    assert_eq!(scene.probe.last.as_ref().map(Run::uid), Some("p3"));
    assert!(waits(&scene.at(0)).is_some());
}

#[test]
fn nothing_is_ever_created_but_in_an_empty_place_that_may_be() {
    let foreign = json!({"state": "foreign", "examples": ["photos/1.jpg"]});
    let lost = json!({"state": "descriptor lost"});
    let own_key = json!({"encryption": {"secretRef": {"name": "own", "key": "kek"}}});
    let cases = [
        ("it was there", json!({}), json!({"repositoryID": ID}), absent()),
        ("must exist", json!({"creation": "MustExist"}), Value::Null, absent()),
        (
            "a word of a later version",
            json!({"creation": "Perhaps"}),
            Value::Null,
            absent(),
        ),
        ("for reading", json!({"accessMode": "ReadOnly"}), Value::Null, absent()),
        ("something else is there", json!({}), Value::Null, foreign),
        ("its head is gone", json!({}), Value::Null, lost),
        ("the user's key is not there", own_key, Value::Null, absent()),
        ("another is there", json!({}), json!({"repositoryID": "ff"}), present()),
        (
            "a word that nobody knows",
            json!({}),
            Value::Null,
            json!({"state": "asleep"}),
        ),
    ];
    for (what, spec, status, seen) in cases {
        let scene = Scene {
            spec,
            status,
            ..Scene::new(one("p", went_well(seen, None)))
        };
        // It is looked at again, because nothing tells us that somebody has put it right.
        assert_eq!(waits(&scene.at(12)), Some(13), "{what}");
        assert_eq!(scene.at(25), probe(1, None), "{what}");
    }
}

#[test]
fn a_store_that_does_not_answer_is_asked_again_and_ever_later() {
    for (attempt, wait) in [(0, 15), (1, 30), (3, 120), (5, 300), (4_000_000_000_u32, 300)] {
        let notes = json!({"hardstorage.dev/attempt": attempt.to_string()});
        let failed = (job("p", 0, Some(10), notes), went_wrong("unreachable.store"));
        let scene = Scene::new(runs(vec![failed]));
        assert_eq!(waits(&scene.at(10)), Some(wait), "{attempt}");
        let next = probe(attempt.saturating_add(1), None);
        assert_eq!(scene.at(10 + wait as i64), next);
    }
    // A pod that no node takes is not joined by another.
    let scene = Scene::new(runs(vec![(job("p", 0, None, Value::Null), lost())]));
    assert_eq!(waits(&scene.at(9_000)), Some(5));
}

#[test]
fn a_creation_that_failed_is_looked_at_first() {
    let notes = json!({"hardstorage.dev/after": "p", "hardstorage.dev/attempt": "1"});
    let mut scene = Scene::new(one("p", went_well(absent(), None)));
    scene.init = runs(vec![(job("i", 11, Some(20), notes), went_wrong("storage.full"))]);
    assert_eq!(waits(&scene.at(20)), Some(30));
    assert_eq!(scene.at(50), probe(2, Some("i")));
    let again = json!({"hardstorage.dev/after": "i", "hardstorage.dev/attempt": "2"});
    scene.probe = runs(vec![(job("p2", 50, Some(55), again), went_well(absent(), None))]);
    let create = Step::Create {
        attempt: 2,
        after: "p2".into(),
    };
    assert_eq!(scene.at(56), create);
}

#[test]
fn a_change_of_the_spec_is_looked_at_at_once() {
    let scene = Scene {
        generation: Some(2),
        ..Scene::at_rest()
    };
    assert_eq!(scene.at(30), probe(0, None));
    let seen = job("p", 30, Some(31), json!({"hardstorage.dev/generation": "2"}));
    let scene = Scene {
        generation: Some(2),
        probe: runs(vec![(seen, went_well(present(), None))]),
        ..Scene::at_rest()
    };
    // Then the catalogue: it may be shown otherwise.
    assert_eq!(scene.at(32), sync(0, None));
}

#[test]
fn the_catalogue_is_read_when_it_is_due_or_asked_for() {
    let scene = Scene::at_rest();
    // Of an hour since it was read at 20.
    assert_eq!(waits(&scene.at(21)), Some(3599));
    assert_eq!(scene.at(3620), sync(0, None));
    let often = Scene {
        spec: json!({"catalog": {"syncInterval": "1m"}}),
        ..Scene::at_rest()
    };
    assert_eq!(waits(&often.at(21)), Some(59));
    let nonsense = Scene {
        spec: json!({"catalog": {"syncInterval": "often"}}),
        ..Scene::at_rest()
    };
    assert_eq!(waits(&nonsense.at(21)), Some(3599));
    let asked = Scene {
        sync_now: Some("today"),
        ..Scene::at_rest()
    };
    assert_eq!(asked.at(21), sync(0, Some("today")));
    let answered = job("s", 15, Some(20), json!({"hardstorage.dev/sync-now": "today"}));
    let answered = Scene {
        sync_now: Some("today"),
        sync: runs(vec![(answered, went_well(json!({}), None))]),
        ..Scene::at_rest()
    };
    assert_eq!(waits(&answered.at(21)), Some(3599));
}

#[test]
fn something_new_is_read_soon_and_never_more_often_than_once_a_minute() {
    let told = |word: &str, made: i64, ended: i64| {
        let job = job("s", made, Some(ended), json!({"hardstorage.dev/news": word}));
        runs(vec![(job, went_well(json!({}), None))])
    };
    let mut scene = Scene {
        sync: told("n", 15, 20),
        ..Scene::at_rest()
    };
    assert_eq!(waits(&scene.at(21)), Some(3599), "it is known already");
    scene.news = Some("m");
    assert_eq!(waits(&scene.at(21)), Some(59));
    let read = Step::Sync {
        attempt: 0,
        asked: None,
        news: "m".into(),
    };
    assert_eq!(scene.at(80), read);
    // A reading that takes long leaves as much time to the others.
    scene.sync = told("n", 15, 315);
    assert_eq!(waits(&scene.at(316)), Some(299));
    // One that was made before news were counted is due when it is.
    scene.sync = Scene::at_rest().sync;
    assert_eq!(waits(&scene.at(80)), Some(3540));
    // And a store that fails is not asked more often for it.
    let failed = job(
        "s",
        15,
        Some(20),
        json!({"hardstorage.dev/news": "n", "hardstorage.dev/attempt": "9"}),
    );
    scene.sync = runs(vec![(failed, went_wrong("unreachable.store"))]);
    scene.probe = runs(vec![(
        job("p2", 21, Some(22), json!({"hardstorage.dev/after": "s"})),
        went_well(present(), None),
    )]);
    assert_eq!(waits(&scene.at(80)), Some(240));
}

#[test]
fn a_catalogue_that_nobody_heard_is_read_again() {
    let mut scene = Scene::at_rest();
    scene.status = json!({"repositoryID": ID, "lastSyncTime": at(14)});
    assert_eq!(waits(&scene.at(20)), Some(15));
    assert_eq!(scene.at(35), sync(1, None));
    // While its pod serves it, it is not lost.
    let serving = (job("s", 15, None, Value::Null), went_well(json!({}), Some("pod")));
    scene.sync = runs(vec![serving]);
    assert_eq!(waits(&scene.at(60)), Some(5));
}

#[test]
fn a_reading_that_failed_is_looked_into_once() {
    let failed = (job("s", 15, Some(20), Value::Null), went_wrong("notfound.repo"));
    let mut scene = Scene {
        sync: runs(vec![failed]),
        ..Scene::at_rest()
    };
    assert_eq!(scene.at(21), probe(0, Some("s")));
    let looked = job("p2", 21, Some(22), json!({"hardstorage.dev/after": "s"}));
    scene.probe = runs(vec![(looked.clone(), went_well(present(), None))]);
    assert_eq!(waits(&scene.at(23)), Some(12));
    assert_eq!(scene.at(35), sync(1, None));
    scene.probe = runs(vec![(looked, went_well(absent(), None))]);
    assert_eq!(waits(&scene.at(23)), Some(14), "vanished: nothing but another look");
    assert_eq!(scene.at(40), probe(1, None));
}

#[test]
fn without_its_claim_nothing_is_started() {
    let scene = Scene {
        claim: Some(ClaimFacts::Missing("gone".into())),
        ..Scene::at_rest()
    };
    assert_eq!(waits(&scene.at(9_999)), Some(30));
}

#[test]
fn a_folder_of_a_claim_that_is_not_there_yet_is_an_empty_place() {
    let volume = json!({"url": "file:///repository/a", "persistentVolumeClaim": {"claimName": "bk"}});
    let mut scene = Scene::new(one("p", went_wrong("notfound.bucket")));
    assert_eq!(scene.at(25), probe(1, None), "a bucket is not made");
    scene.spec = volume;
    assert!(matches!(scene.at(11), Step::Create { .. }));
    scene.status = json!({"repositoryID": ID});
    assert_eq!(scene.at(25), probe(1, None), "nor a repository that was there");
}
