//! The way to a new default image: a few streams at a time, the next one when the last streams again, and no further once
//! one does not come back. Pure.
//!
//! Every reconcile judges for its own stream alone, from what all of them show. Whose turn it is follows from their order,
//! so that those that look at the same moment do not all go at once. A stream that does not flow anyway goes first: it
//! loses nothing, and may be cured by the change.

use std::time::Duration;

use jiff::Timestamp;

use super::build::Moved;

/// A stream as the others see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Namespace and name of its object.
    pub who: (String, String),
    /// The image that it runs.
    pub image: String,
    /// The last change of it.
    pub moved: Option<Moved>,
    /// Whether it streams, as its status says.
    pub streams: bool,
    /// Whether it does not, as its status says. One that is not heard may well stream: that the operator cannot ask is no
    /// reason to restart all of them.
    pub down: bool,
    /// When that was seen.
    pub observed: Option<Timestamp>,
    /// Whether it is expected to stream: not paused, not asleep, its source there.
    pub expected: bool,
    /// Whether its image is the user's own choice: then it goes with nobody.
    pub pinned: bool,
}

impl Seen {
    /// Whether it streams with the image that it was moved to, and not still with the one before.
    fn is_back(&self) -> bool {
        let after = self
            .moved
            .is_none_or(|moved| self.observed.is_some_and(|seen| seen > moved.at));
        self.streams && after
    }

    /// Whether it streamed before it was moved, and should again.
    fn should_come_back(&self) -> bool {
        self.expected && self.moved.is_some_and(|moved| moved.streamed)
    }
}

/// What a stream may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// It has the image, or may take it.
    Go,
    /// Others are before it.
    Wait(String),
    /// One did not come back.
    Halted(String),
}

/// How a new image goes from stream to stream.
#[derive(Debug, Clone, Copy)]
pub struct Staging {
    /// So many at a time.
    pub at_once: usize,
    /// One that has not come back after so long is lost.
    pub patience: Duration,
}

/// Whether the stream of `me` may have the image `target` now.
pub fn turn(all: &[Seen], me: (&str, &str), target: &str, staging: Staging, now: Timestamp) -> Turn {
    let ours = || all.iter().filter(|seen| !seen.pinned);
    let is_me = |seen: &&Seen| (seen.who.0.as_str(), seen.who.1.as_str()) == me;
    let mine = ours().find(is_me);
    let lost = ours()
        .filter(|seen| seen.image == target && seen.should_come_back() && !seen.is_back())
        .find(|seen| {
            seen.moved.is_some_and(|moved| {
                Duration::try_from(now.duration_since(moved.at)).is_ok_and(|since| since >= staging.patience)
            })
        });
    if let Some(lost) = lost {
        let message = format!(
            "the stream {}/{} did not come back within {} s after it was given the image {target}",
            lost.who.0,
            lost.who.1,
            staging.patience.as_secs()
        );
        let concerned = mine.is_none_or(|mine| mine.image != target || mine.who == lost.who);
        // Those that came back are well, and one that does not flow may try the image as well as any other.
        let nothing_to_lose = mine.is_some_and(|mine| mine.image != target && mine.down);
        if concerned && !nothing_to_lose {
            return Turn::Halted(message);
        }
        return Turn::Go;
    }
    let Some(mine) = mine else { return Turn::Go };
    if mine.image == target || mine.down {
        return Turn::Go;
    }
    let moving = ours()
        .filter(|seen| seen.image == target && seen.should_come_back() && !seen.is_back())
        .count();
    let mut waiting: Vec<&Seen> = ours().filter(|seen| seen.image != target && !seen.down).collect();
    waiting.sort_by(|a, b| a.who.cmp(&b.who));
    let place = waiting.iter().position(|seen| seen.who == mine.who).unwrap_or(0);
    if place < staging.at_once.max(1).saturating_sub(moving) {
        Turn::Go
    } else {
        Turn::Wait(format!("{place} streams are before it, {moving} are on their way"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn staging(at_once: usize) -> Staging {
        Staging {
            at_once,
            patience: Duration::from_mins(5),
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap_or_default()
    }

    fn seen(name: &str, image: &str) -> Seen {
        Seen {
            who: ("team".into(), name.into()),
            image: image.into(),
            moved: None,
            streams: true,
            down: false,
            observed: Some(at(0)),
            expected: true,
            pinned: false,
        }
    }

    fn moved(name: &str, at_second: i64, back: bool) -> Seen {
        Seen {
            moved: Some(Moved {
                at: at(at_second),
                streamed: true,
            }),
            streams: back,
            down: !back,
            observed: Some(at(at_second + 10)),
            ..seen(name, "new")
        }
    }

    fn go(all: &[Seen], name: &str, now: i64) -> bool {
        turn(all, ("team", name), "new", staging(2), at(now)) == Turn::Go
    }

    #[test]
    fn so_many_at_once_whoever_looks() {
        let all: Vec<Seen> = ["a", "b", "c", "d"].map(|name| seen(name, "old")).into();
        let going: Vec<bool> = ["a", "b", "c", "d"].map(|name| go(&all, name, 0)).into();
        assert_eq!(going, [true, true, false, false]);
        // Two are on their way: nobody else goes; one is back: one more goes.
        let all = [
            moved("a", 0, false),
            moved("b", 0, false),
            seen("c", "old"),
            seen("d", "old"),
        ];
        assert!(!go(&all, "c", 20) && go(&all, "a", 20));
        let all = [
            moved("a", 0, true),
            moved("b", 0, false),
            seen("c", "old"),
            seen("d", "old"),
        ];
        assert!(go(&all, "c", 20) && !go(&all, "d", 20));
    }

    #[test]
    fn what_was_seen_before_the_change_is_no_return() {
        let mut early = moved("a", 100, true);
        early.observed = Some(at(90));
        let all = [early.clone(), moved("b", 100, false), seen("c", "old")];
        assert!(!go(&all, "c", 110));
        assert!(matches!(
            turn(&all, ("team", "c"), "new", staging(2), at(500)),
            Turn::Halted(_)
        ));
    }

    #[test]
    fn one_that_does_not_come_back_halts_the_others() {
        let all = [moved("a", 0, false), moved("b", 0, true), seen("c", "old")];
        let verdict = |name: &str, now| turn(&all, ("team", name), "new", staging(5), at(now));
        assert_eq!(verdict("c", 299), Turn::Go);
        match verdict("c", 300) {
            Turn::Halted(message) => assert!(message.contains("team/a"), "{message}"),
            other => assert_eq!(other, Turn::Halted(String::new())),
        }
        assert!(matches!(verdict("a", 300), Turn::Halted(_)), "it says so itself too");
        assert_eq!(verdict("b", 300), Turn::Go, "this one is well");
        // Back to the old image: the one that is lost has another image than the target, and does not flow: it goes first.
        assert_eq!(turn(&all, ("team", "a"), "old", staging(1), at(400)), Turn::Go);
        assert_eq!(turn(&all, ("team", "b"), "old", staging(1), at(400)), Turn::Go);
    }

    #[test]
    fn those_that_were_not_expected_back_halt_nobody() {
        let mut asleep = moved("a", 0, false);
        asleep.expected = false;
        let mut never_streamed = moved("b", 0, false);
        never_streamed.moved = Some(Moved {
            at: at(0),
            streamed: false,
        });
        let mut pinned = moved("p", 0, false);
        pinned.pinned = true;
        let all = [asleep, never_streamed, pinned, seen("c", "old")];
        assert!(go(&all, "c", 900));
        // One that does not flow need not wait for its turn, nor for a halted upgrade.
        let mut broken = seen("z", "old");
        (broken.streams, broken.down) = (false, true);
        let all = [moved("a", 0, false), broken, seen("c", "old")];
        assert!(go(&all, "z", 900) && !go(&all, "c", 900));
        assert!(
            go(&all, "new-one", 10),
            "one that is not there yet begins with the new image"
        );
    }

    #[test]
    fn those_that_are_not_heard_wait_for_their_turn_too() {
        let unheard = |name: &str| Seen {
            streams: false,
            ..seen(name, "old")
        };
        let all: Vec<Seen> = ["a", "b", "c", "d"].map(unheard).into();
        let going: Vec<bool> = ["a", "b", "c", "d"].map(|name| go(&all, name, 0)).into();
        assert_eq!(going, [true, true, false, false]);
        // The first ones are not heard afterwards either: it goes no further.
        let all = [
            Seen {
                down: false,
                ..moved("a", 0, false)
            },
            unheard("b"),
            unheard("c"),
        ];
        assert!(matches!(
            turn(&all, ("team", "b"), "new", staging(2), at(300)),
            Turn::Halted(_)
        ));
    }
}
