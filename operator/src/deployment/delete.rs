//! What happens before a Deployment goes: its slot is dropped, so that it does not hold back the server's WAL for ever, and
//! on explicit words its backups are marked as deleted. Pure.
//!
//! Nothing here may hold up a deletion for long: what is going anyway is let go at once, what cannot be reached is let go
//! after a while, with what is left to do in an event.

use std::time::Duration;

/// How long backups may take to be marked.
pub const DATA_LIMIT: Duration = Duration::from_hours(1);

/// How far a Job has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// It was not made.
    NotMade,
    /// It runs.
    Running,
    /// It did what it should.
    Done,
    /// It failed, in these words.
    Failed(String),
}

/// Why the slot is nobody's business any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoSlot {
    /// The user wants to keep it.
    Kept,
    /// It was never made.
    NeverMade,
    /// The cluster is gone, and the slot with it.
    ClusterGone,
    /// The server is another cluster, which has no slot of ours.
    OtherSystem,
}

/// What is known.
#[derive(Debug, Clone)]
pub struct DeletionFacts {
    /// Whether the namespace goes away too.
    pub namespace_going: bool,
    /// Whether the object goes because its owner does.
    pub owner_going: bool,
    /// Why no slot has to be dropped, if so.
    pub no_slot: Option<NoSlot>,
    /// Whether the stream is still wanted to run.
    pub stream_runs: bool,
    /// Whether a pod of it is still there.
    pub pod_there: bool,
    /// Whether the server can be told to anybody.
    pub reachable: bool,
    /// How far dropping the slot has come.
    pub drop: Progress,
    /// Since the object was deleted.
    pub elapsed: Duration,
    /// How long to try.
    pub slot_timeout: Duration,
    /// Whether backups are to be marked as deleted.
    pub delete_data: bool,
    /// How far that has come.
    pub data: Progress,
}

/// What is to be done next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// The stream has to end: it holds the slot.
    StopStream,
    /// Its pod is on its way out.
    AwaitPod,
    /// The slot is to be dropped.
    DropSlot,
    /// It failed and is tried again.
    RetryDrop,
    /// That is under way.
    AwaitDrop,
    /// Backups are to be marked, or are being marked.
    DeleteData,
    /// The object may go; what is left to do for a person.
    LetGo(Vec<Left>),
}

/// What was left undone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Left {
    /// The slot may still be there; why.
    Slot(String),
    /// Backups are still there; why.
    Data(String),
}

/// Decides.
pub fn decide(facts: &DeletionFacts) -> Step {
    if facts.namespace_going {
        return Step::LetGo(Vec::new());
    }
    let mut left = Vec::new();
    match slot(facts) {
        Ok(None) => {}
        Ok(Some(why)) => left.push(Left::Slot(why)),
        Err(step) => return step,
    }
    if facts.delete_data && facts.owner_going {
        left.push(Left::Data(
            "it belongs to another object and may go because that one does".to_owned(),
        ));
    } else if facts.delete_data {
        match &facts.data {
            Progress::Done => {}
            _ if facts.elapsed >= DATA_LIMIT => {
                left.push(Left::Data("not all could be marked in an hour".to_owned()));
            }
            Progress::Failed(why) => left.push(Left::Data(why.clone())),
            Progress::NotMade | Progress::Running => return Step::DeleteData,
        }
    }
    Step::LetGo(left)
}

/// Whether the slot is done with, and what was left of it; or what is to be done next.
fn slot(facts: &DeletionFacts) -> Result<Option<String>, Step> {
    if facts.no_slot.is_some() || facts.drop == Progress::Done {
        return Ok(None);
    }
    if facts.elapsed >= facts.slot_timeout {
        let why = match &facts.drop {
            Progress::Failed(why) => why.clone(),
            _ if !facts.reachable => "the server is not known or not there".to_owned(),
            _ if facts.pod_there => "the pod that streams did not end".to_owned(),
            _ => "the server did not answer in time".to_owned(),
        };
        return Ok(Some(why));
    }
    if facts.stream_runs {
        return Err(Step::StopStream);
    }
    if facts.pod_there || !facts.reachable {
        return Err(Step::AwaitPod);
    }
    Err(match facts.drop {
        Progress::NotMade => Step::DropSlot,
        Progress::Failed(_) => Step::RetryDrop,
        Progress::Running | Progress::Done => Step::AwaitDrop,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> DeletionFacts {
        DeletionFacts {
            namespace_going: false,
            owner_going: false,
            no_slot: None,
            stream_runs: true,
            pod_there: true,
            reachable: true,
            drop: Progress::NotMade,
            elapsed: Duration::ZERO,
            slot_timeout: Duration::from_mins(2),
            delete_data: false,
            data: Progress::NotMade,
        }
    }

    #[test]
    fn step_by_step() {
        let mut now = facts();
        assert_eq!(decide(&now), Step::StopStream);
        now.stream_runs = false;
        assert_eq!(decide(&now), Step::AwaitPod, "the slot is held until the pod is gone");
        now.pod_there = false;
        assert_eq!(decide(&now), Step::DropSlot);
        now.drop = Progress::Running;
        assert_eq!(decide(&now), Step::AwaitDrop);
        now.drop = Progress::Failed("refused".into());
        assert_eq!(decide(&now), Step::RetryDrop);
        now.drop = Progress::Done;
        assert_eq!(decide(&now), Step::LetGo(vec![]));
    }

    #[test]
    fn what_goes_anyway_is_let_go_at_once() {
        let going = DeletionFacts {
            namespace_going: true,
            delete_data: true,
            ..facts()
        };
        assert_eq!(decide(&going), Step::LetGo(vec![]), "and no backup is marked");
        for reason in [
            NoSlot::Kept,
            NoSlot::NeverMade,
            NoSlot::ClusterGone,
            NoSlot::OtherSystem,
        ] {
            let now = DeletionFacts {
                no_slot: Some(reason),
                ..facts()
            };
            assert_eq!(decide(&now), Step::LetGo(vec![]), "{reason:?}");
        }
    }

    #[test]
    fn what_cannot_be_reached_is_let_go_in_time() {
        for (change, word) in [
            (
                DeletionFacts {
                    drop: Progress::Failed("unreachable.postgres".into()),
                    stream_runs: false,
                    pod_there: false,
                    ..facts()
                },
                "unreachable.postgres",
            ),
            (
                DeletionFacts {
                    stream_runs: false,
                    ..facts()
                },
                "did not end",
            ),
            (
                DeletionFacts {
                    reachable: false,
                    ..facts()
                },
                "not known",
            ),
            (
                DeletionFacts {
                    drop: Progress::Running,
                    stream_runs: false,
                    pod_there: false,
                    ..facts()
                },
                "in time",
            ),
        ] {
            let early = DeletionFacts {
                elapsed: Duration::from_secs(119),
                ..change.clone()
            };
            assert!(!matches!(decide(&early), Step::LetGo(_)));
            let late = DeletionFacts {
                elapsed: Duration::from_mins(2),
                ..change
            };
            let step = decide(&late);
            assert!(
                matches!(&step, Step::LetGo(left) if matches!(&left[..], [Left::Slot(why)] if why.contains(word))),
                "{word}: {step:?}"
            );
        }
    }

    #[test]
    fn backups_go_on_explicit_words_alone_and_last() {
        let mut now = DeletionFacts {
            no_slot: Some(NoSlot::ClusterGone),
            delete_data: true,
            ..facts()
        };
        assert_eq!(decide(&now), Step::DeleteData);
        now.data = Progress::Running;
        assert_eq!(decide(&now), Step::DeleteData);
        now.data = Progress::Done;
        assert_eq!(decide(&now), Step::LetGo(vec![]));
        now.data = Progress::Failed("auth.store_denied".into());
        assert_eq!(decide(&now), Step::LetGo(vec![Left::Data("auth.store_denied".into())]));
        now.data = Progress::Running;
        now.elapsed = DATA_LIMIT;
        assert!(matches!(decide(&now), Step::LetGo(left) if matches!(&left[..], [Left::Data(_)])));
        now.owner_going = true;
        assert!(
            matches!(decide(&now), Step::LetGo(left) if matches!(&left[..], [Left::Data(why)] if why.contains("belongs"))),
            "it went because its owner did: nobody said it of this one"
        );
        let slot_first = DeletionFacts {
            delete_data: true,
            ..facts()
        };
        assert_eq!(decide(&slot_first), Step::StopStream);
    }
}
