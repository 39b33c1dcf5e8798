//! How far a recovery is, as events: the stage, and while WAL is replayed the position.

use std::sync::Arc;
use std::time::Instant;

use hardstorage_report::{Event, EventSink, Lsn, Severity};
use serde_json::{Value, json};

use crate::progress::facts;
use crate::restore::{RestorePlan, StopAt};

/// A part of the work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// WAL is replayed.
    Recovering,
    /// The copy begins its own timeline.
    Promoting,
    /// It is asked, stopped and handed over.
    Finishing,
}

impl Stage {
    fn as_str(self) -> &'static str {
        match self {
            Stage::Recovering => "recovering",
            Stage::Promoting => "promoting",
            Stage::Finishing => "finishing",
        }
    }
}

/// Tells of a recovery; each state once.
pub(super) struct Told {
    sink: Arc<dyn EventSink>,
    from: Lsn,
    total: u64,
    target: Option<Lsn>,
    began: Instant,
    last: Option<(Stage, Option<Lsn>)>,
}

impl Told {
    pub(super) fn new(plan: &RestorePlan, sink: Arc<dyn EventSink>) -> Told {
        Told {
            sink,
            from: plan.start_lsn,
            total: plan.wal_bytes,
            target: match &plan.stop_at {
                StopAt::Immediate => Some(plan.stop_lsn),
                StopAt::Lsn(lsn) => Some(*lsn),
                StopAt::EndOfArchive => plan.reachable.to_lsn,
                StopAt::Time(_) | StopAt::Name(_) | StopAt::Xid(_) => None,
            },
            began: Instant::now(),
            last: None,
        }
    }

    /// This is how far it is. Replay behind the plan's bytes is at its end: the archive grows while it is read.
    pub(super) fn is(&mut self, stage: Stage, replayed: Option<Lsn>) {
        let now = (stage, replayed.or(self.last.and_then(|(_, replayed)| replayed)));
        if self.last == Some(now) {
            return;
        }
        self.last = Some(now);
        let done = match now {
            (Stage::Recovering, Some(at)) => self.from.bytes_until(at).min(self.total),
            (Stage::Recovering, None) => 0,
            _ => self.total,
        };
        let mut body = facts(done, Some(self.total), self.began.elapsed());
        if let Value::Object(body) = &mut body {
            body.insert("stage".to_owned(), json!(stage.as_str()));
            body.insert("replayed_lsn".to_owned(), json!(now.1));
            body.insert("target_lsn".to_owned(), json!(self.target));
        }
        self.sink
            .emit(Event::new(Severity::Info, "restore.progress").body(body));
    }
}
