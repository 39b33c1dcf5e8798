//! How far a drill is, as events: one after each database, each check, and some indexes.

use std::sync::Arc;

use hardstorage_report::{Event, EventSink, Severity};
use serde_json::json;

/// Tells of a drill: databases, indexes and checks are counted alike.
pub(super) struct Told {
    sink: Arc<dyn EventSink>,
    done: usize,
    total: usize,
}

impl Told {
    /// The server starts.
    pub(super) fn starting(sink: Arc<dyn EventSink>) -> Told {
        let told = Told {
            sink,
            done: 0,
            total: 0,
        };
        told.emit("starting");
        told
    }

    /// So many more are to be done.
    pub(super) fn expect(&mut self, more: usize) {
        self.total += more;
    }

    /// So many more are done.
    pub(super) fn done(&mut self, more: usize) {
        self.done += more;
        self.emit("checking");
    }

    fn emit(&self, stage: &str) {
        let body = json!({"stage": stage, "done": self.done, "total": self.total});
        self.sink.emit(Event::new(Severity::Info, "drill.progress").body(body));
    }
}
