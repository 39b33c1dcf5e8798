//! Conditions of a status: computed anew at each reconcile, with the time of the last *change* kept. Pure.
//!
//! `Ready` is there from the first reconcile: `kubectl wait`, Flux and Argo CD take an object without it for finished.
//! A failure that does not go away by itself is Ready=False with Stalled=True.

use hardstorage_crds::condition::{Condition, READY, STALLED};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The value of a condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Is {
    /// It holds.
    True,
    /// It does not hold.
    False,
    /// It cannot be told.
    Unknown,
}

impl Is {
    /// The word.
    pub fn as_str(self) -> &'static str {
        match self {
            Is::True => "True",
            Is::False => "False",
            Is::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Is {
    fn from(holds: bool) -> Is {
        if holds { Is::True } else { Is::False }
    }
}

/// Nobody reads more than this.
const MESSAGE_LIMIT: usize = 1024;
/// The longest message that the API server takes.
const WHOLE_LIMIT: usize = 32 * 1024;

/// Builds the conditions of one object.
#[derive(Debug, Clone)]
pub struct Conditions {
    before: Vec<Condition>,
    now: Vec<Condition>,
    generation: Option<i64>,
    time: Timestamp,
}

impl Conditions {
    /// Begins from what the status said.
    pub fn new(before: &[Condition], generation: Option<i64>, time: Timestamp) -> Conditions {
        Conditions {
            before: before.to_vec(),
            now: Vec::new(),
            generation,
            time,
        }
    }

    /// Says something. The last word on a type counts.
    pub fn set(&mut self, type_: &str, is: Is, reason: &str, message: impl Into<String>) {
        self.put(type_, is, reason, &message.into(), MESSAGE_LIMIT);
    }

    /// The same with a message that is read again, and so must not be cut where nobody reads on.
    pub fn set_whole(&mut self, type_: &str, is: Is, reason: &str, message: impl Into<String>) {
        self.put(type_, is, reason, &message.into(), WHOLE_LIMIT);
    }

    fn put(&mut self, type_: &str, is: Is, reason: &str, message: &str, limit: usize) {
        let message: String = message.chars().take(limit).collect();
        let old = self.before.iter().find(|condition| condition.type_ == type_);
        let since = old
            .filter(|old| old.status == is.as_str())
            .map_or(Time(self.time), |old| old.last_transition_time.clone());
        self.now.retain(|condition| condition.type_ != type_);
        self.now.push(Condition {
            type_: type_.to_owned(),
            status: is.as_str().to_owned(),
            reason: reason.to_owned(),
            message,
            observed_generation: self.generation,
            last_transition_time: since,
        });
    }

    /// Everything is as the spec says.
    pub fn ready(&mut self, reason: &str, message: impl Into<String>) {
        self.set(READY, Is::True, reason, message);
        self.set(STALLED, Is::False, reason, "");
    }

    /// It is on the way and gets there by itself.
    pub fn progressing(&mut self, reason: &str, message: impl Into<String>) {
        self.set(READY, Is::False, reason, message);
        self.set(STALLED, Is::False, reason, "");
    }

    /// Somebody has to look.
    pub fn stalled(&mut self, reason: &str, message: impl Into<String>) {
        let message = message.into();
        self.set(READY, Is::False, reason, message.clone());
        self.set(STALLED, Is::True, reason, message);
    }

    /// Keeps what the status said of a type that cannot be judged now.
    pub fn keep(&mut self, type_: &str) {
        if self.now.iter().any(|condition| condition.type_ == type_) {
            return;
        }
        if let Some(old) = self.before.iter().find(|condition| condition.type_ == type_) {
            self.now.push(old.clone());
        }
    }

    /// What was said of a type so far.
    pub fn get(&self, type_: &str) -> Option<&Condition> {
        self.now.iter().find(|condition| condition.type_ == type_)
    }

    /// The types whose value differs from before: what an event is written for.
    pub fn changed(&self) -> Vec<&Condition> {
        let was = |type_: &str| self.before.iter().find(|old| old.type_ == type_);
        let differs =
            |new: &&Condition| was(&new.type_).is_none_or(|old| old.status != new.status || old.reason != new.reason);
        self.now.iter().filter(differs).collect()
    }

    /// The conditions, in the order in which they were said.
    pub fn finish(self) -> Vec<Condition> {
        self.now
    }
}

/// A code of the engine's table as a reason, which has no dots: `unreachable.store` is `UnreachableStore`. Words that are
/// reasons already stay what they are.
pub fn reason_of(code: &str) -> String {
    let words = code.split(|c: char| !c.is_ascii_alphanumeric());
    let reason: String = words
        .flat_map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map(|first| first.to_ascii_uppercase())
                .into_iter()
                .chain(letters)
        })
        .skip_while(|c| !c.is_ascii_alphabetic())
        .collect();
    if reason.is_empty() { "Failed".to_owned() } else { reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn the_time_of_a_change_is_kept_until_the_next_one() {
        let mut first = Conditions::new(&[], Some(1), at(100));
        first.ready("Streaming", "");
        let first = first.finish();
        assert_eq!(first[0].last_transition_time.0, at(100));
        let mut second = Conditions::new(&first, Some(2), at(200));
        second.ready("CaughtUp", "still");
        assert!(second.changed().iter().any(|condition| condition.type_ == READY));
        let second = second.finish();
        assert_eq!(second[0].last_transition_time.0, at(100));
        assert_eq!(second[0].observed_generation, Some(2));
        let mut third = Conditions::new(&second, Some(2), at(300));
        third.stalled("KeyMissing", "no key");
        let third = third.finish();
        assert_eq!(third[0].last_transition_time.0, at(300));
        assert_eq!(third.iter().filter(|condition| condition.type_ == READY).count(), 1);
    }

    #[test]
    fn what_cannot_be_judged_stays_as_it_was() {
        let mut first = Conditions::new(&[], Some(1), at(1));
        first.set("Reachable", Is::True, "Answers", "");
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(2), at(2));
        second.keep("Reachable");
        second.keep("Never");
        assert!(second.changed().is_empty());
        assert_eq!(second.finish(), first);
    }

    #[test]
    fn a_code_becomes_a_reason() {
        for (code, reason) in [
            ("unreachable.store", "UnreachableStore"),
            ("auth.store_denied", "AuthStoreDenied"),
            ("OOMKilled", "OOMKilled"),
            ("9", "Failed"),
            ("", "Failed"),
        ] {
            assert_eq!(reason_of(code), reason);
        }
    }
}
