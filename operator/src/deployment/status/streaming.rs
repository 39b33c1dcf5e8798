//! Whether WAL flows: from the stream's own report, or from why there is none.

use hardstorage_crds::condition::{Condition, deployment::STREAMING};
use hardstorage_report::{ErrorReport, SlotHealth, StreamPhase};

use super::{Findings, Heard};
use crate::condition::{Is, reason_of};
use crate::deployment::source::State;
use crate::settings::Settings;

/// A value for a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    /// Whether it holds.
    pub is: Is,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
    /// Whether a person has to do something before it changes.
    pub needs_a_person: bool,
}

impl Word {
    /// One that changes by itself.
    pub fn new(is: Is, reason: impl Into<String>, message: impl Into<String>) -> Word {
        Word {
            is,
            reason: reason.into(),
            message: message.into(),
            needs_a_person: false,
        }
    }

    /// An error in the engine's words.
    pub fn error(error: &ErrorReport) -> Word {
        let kind = error.code.split('.').next().unwrap_or_default();
        Word {
            needs_a_person: matches!(kind, "auth" | "conflict" | "preflight" | "usage" | "verify"),
            ..Word::new(
                Is::False,
                reason_of(&error.code),
                format!("{}; {}", error.message, error.hint),
            )
        }
    }
}

/// Whether WAL flows.
pub fn streaming(findings: &Findings<'_>, before: &[Condition]) -> Word {
    if findings.paused() {
        return Word::new(
            Is::False,
            "Paused",
            "stream.paused is set; the slot holds the server's WAL",
        );
    }
    if findings.source.state == State::Hibernated {
        return Word::new(
            Is::False,
            "SourceHibernated",
            "the source sleeps, and so does the stream",
        );
    }
    if !findings.has_child {
        return Word::new(Is::False, "NotStarted", "no stream was started yet");
    }
    match findings.heard {
        Heard::Now(report) => match &report.stream {
            Some(stream) => told(stream.phase, stream.last_error.as_ref()),
            None => report
                .error
                .as_ref()
                .map_or_else(|| Word::new(Is::False, "Starting", "the stream begins"), Word::error),
        },
        Heard::Silent { seconds } => silent(findings, *seconds, before),
    }
}

fn told(phase: StreamPhase, error: Option<&ErrorReport>) -> Word {
    match phase {
        StreamPhase::Streaming => Word::new(Is::True, "Streaming", ""),
        StreamPhase::CatchingUp => Word::new(Is::True, "CatchingUp", "the stream is behind the server"),
        StreamPhase::Connecting | StreamPhase::Reconnecting => error.map_or_else(
            || Word::new(Is::False, "Connecting", "the stream connects"),
            Word::error,
        ),
        StreamPhase::Stopping | StreamPhase::Stopped => {
            error.map_or_else(|| Word::new(Is::False, "Stopped", "the stream ends"), Word::error)
        }
        StreamPhase::Unknown => Word::new(Is::Unknown, "UnknownPhase", "the engine is of another version"),
    }
}

/// A pod that does not answer: what is known of it tells why, and for a while nothing is said.
fn silent(findings: &Findings<'_>, seconds: i64, before: &[Condition]) -> Word {
    let run = findings.deployment.metadata.uid.clone().unwrap_or_default();
    if let Some(pod) = findings.pod {
        if let Some(error) = pod.last_words(&run).and_then(|report| report.error) {
            return Word::error(&error);
        }
        if let Some(said) = &pod.unschedulable {
            return Word::new(Is::False, "Unschedulable", said.clone());
        }
        if let Some((reason, message)) = &pod.waiting
            && matches!(
                reason.as_str(),
                "ErrImagePull" | "ImagePullBackOff" | "InvalidImageName" | "CreateContainerConfigError"
            )
        {
            return Word {
                needs_a_person: true,
                ..Word::new(Is::False, reason.clone(), message.clone())
            };
        }
        if let Some((code, reason, _)) = pod.ended.as_ref().or(pod.crashed.as_ref()) {
            let reason = reason.clone().unwrap_or_default();
            if reason == "OOMKilled" {
                return Word::new(
                    Is::False,
                    reason,
                    "it took more memory than its limit; raise stream.resources",
                );
            }
            return Word::new(Is::False, "Ended", format!("the stream ended with {code} ({reason})"));
        }
    }
    let limit = i64::try_from(Settings::UNHEARD.as_secs()).unwrap_or(i64::MAX);
    if seconds < limit
        && let Some(old) = before.iter().find(|condition| condition.type_ == STREAMING)
    {
        let is = match old.status.as_str() {
            "True" => Is::True,
            "False" => Is::False,
            _ => Is::Unknown,
        };
        return Word::new(is, old.reason.clone(), old.message.clone());
    }
    let why = match findings.pod {
        None => "it has no pod: the events of the Deployment of apps/v1 tell why".to_owned(),
        Some(pod) => {
            let reason = pod
                .reason
                .clone()
                .or_else(|| pod.waiting.as_ref().map(|(reason, _)| reason.clone()));
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            let going = if pod.deleting { ", on its way out" } else { "" };
            format!("its pod {} is {}{reason}{going}", pod.name, pod.phase)
        }
    };
    if seconds < limit {
        return Word::new(Is::False, "Starting", why);
    }
    Word::new(
        Is::Unknown,
        "NotHeard",
        format!("the stream has not answered for {seconds} s; {why}"),
    )
}

/// Whether the slot is there and ours.
pub fn slot(findings: &Findings<'_>) -> Option<Word> {
    let streamed = findings.streamed()?;
    let said = streamed.last_error.as_ref();
    let with = |otherwise: &str| {
        said.map_or_else(
            || otherwise.to_owned(),
            |error| format!("{}; {}", error.message, error.hint),
        )
    };
    let own = match streamed.slot_health {
        SlotHealth::Active => Word::new(Is::True, "Active", ""),
        SlotHealth::Inactive => Word::new(Is::False, "Inactive", "nobody streams from the slot at the moment"),
        SlotHealth::HeldByOther => Word::new(Is::False, "HeldByOther", with("another process streams from the slot")),
        SlotHealth::Missing => Word::new(
            Is::False,
            "Missing",
            with("the server has no such slot; it is made again"),
        ),
        SlotHealth::Lost => Word {
            needs_a_person: true,
            ..Word::new(
                Is::False,
                "Lost",
                with("the server has removed WAL that the slot was to keep"),
            )
        },
        SlotHealth::None => Word::new(Is::False, "NoSlot", "the stream runs without a slot"),
        SlotHealth::Unknown => return None,
    };
    match findings.slot {
        Some(patroni) if own.is == Is::True && patroni.is != Is::True => Some(Word {
            needs_a_person: patroni.is == Is::False,
            ..Word::new(patroni.is, patroni.reason, patroni.message.clone())
        }),
        _ => Some(own),
    }
}
