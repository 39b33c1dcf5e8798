//! Names the slot to Patroni before the stream makes it, and tells how that went.
//!
//! WAL matters more: what keeps Patroni from knowing the slot is told, and tried again beside the stream until it is known.
//! Only where something else has the slot's name, a stream that has not begun does not begin: Patroni would drop the slot, or
//! has one of another kind under that name, and whoever starts the stream can choose another.

use std::sync::Arc;
use std::time::Duration;

use hardstorage_report::{
    DeploymentName, Error, ErrorReport, Event, EventSink, PatroniSlot, Result, Severity, SystemId, code,
};
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::monitor::Monitor;
use super::stream::Streamer;
use crate::patroni::{Kept, Patroni};

/// So often Patroni is asked again.
const AGAIN: Duration = Duration::from_secs(30);

impl Streamer {
    /// Makes sure that Patroni knows the slot, where there is a Patroni.
    pub(super) async fn name_to_patroni(&mut self, system: SystemId) -> Result<()> {
        self.patroni_later = None;
        let (Some(patroni), Some(slot)) = (self.plan.patroni.clone(), self.plan.slot.clone()) else {
            return Ok(());
        };
        let naming = Naming {
            patroni,
            slot,
            system,
            deployment: self.deployment.name().clone(),
            sink: Arc::clone(&self.sink),
            monitor: Arc::clone(&self.monitor),
            again: AGAIN,
        };
        match naming.once(None).await {
            Ok(()) => {}
            Err(error) if error.is(code::engine::PATRONI_SLOT) && !self.started => return Err(error),
            Err(error) => {
                naming.warn(&error);
                let later = tokio::spawn(naming.until_known(error));
                self.patroni_later = Some(AbortOnDropHandle::new(later));
            }
        }
        Ok(())
    }
}

struct Naming {
    patroni: Patroni,
    slot: String,
    system: SystemId,
    deployment: DeploymentName,
    sink: Arc<dyn EventSink>,
    monitor: Arc<Monitor>,
    again: Duration,
}

impl Naming {
    /// Asks once; what went wrong before, and was told, is told to be well again.
    async fn once(&self, before: Option<&Error>) -> Result<()> {
        match self.patroni.keep(&self.slot, self.system).await {
            Ok(kept) => {
                self.show(true, None);
                if kept == Kept::Now || before.is_some() {
                    let body = json!({"slot": self.slot, "added": kept == Kept::Now});
                    self.emit(Severity::Notice, "wal.patroni.slot_known", body);
                }
                Ok(())
            }
            Err(error) => {
                self.show(false, Some(&error));
                Err(error)
            }
        }
    }

    async fn until_known(self, mut told: Error) {
        loop {
            tokio::time::sleep(self.again).await;
            match self.once(Some(&told)).await {
                Ok(()) => return,
                Err(error) if error.is(told.code()) => {}
                Err(error) => {
                    self.warn(&error);
                    told = error;
                }
            }
        }
    }

    fn show(&self, kept: bool, error: Option<&Error>) {
        let error = error.map(ErrorReport::from);
        self.monitor
            .update(|status| status.patroni = Some(PatroniSlot { kept, error }));
    }

    fn warn(&self, error: &Error) {
        self.emit(Severity::Warning, "wal.patroni.slot_unknown", json!({
            "slot": self.slot,
            "code": error.code().as_str(),
            "error": error.to_string(),
            "hint": error.hint_text(),
            "message": "it is not certain that Patroni keeps the slot: after a failover the new primary may lack WAL",
        }));
    }

    fn emit(&self, severity: Severity, name: &str, body: serde_json::Value) {
        self.sink
            .emit(Event::new(severity, name).deployment(&self.deployment).body(body));
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::Mutex;

    use hardstorage_report::StreamStatus;
    use jiff::Timestamp;

    use super::*;
    use crate::patroni::stand_in::{Answer, SYSTEM, StandIn};

    #[derive(Default)]
    struct Events(Mutex<Vec<Event>>);

    impl EventSink for Events {
        fn emit(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    /// Patroni is away, then refuses, then takes it: each is told once, however often it is asked meanwhile.
    #[tokio::test]
    async fn it_is_asked_until_it_knows_the_slot() {
        let patroni = StandIn::start().await;
        let (sink, deployment): (Arc<Events>, DeploymentName) = (Arc::default(), "db1".parse().unwrap());
        let monitor = Arc::new(Monitor::new(StreamStatus::new(deployment.clone(), Timestamp::now())));
        let naming = Naming {
            patroni: patroni.client(),
            slot: "ours".to_owned(),
            system: SYSTEM,
            deployment,
            sink: Arc::clone(&sink) as Arc<dyn EventSink>,
            monitor: Arc::clone(&monitor),
            again: Duration::from_millis(2),
        };
        let status = || monitor.status().patroni.unwrap();
        patroni.answer("/config", Answer::Status(500));
        let error = naming.once(None).await.unwrap_err();
        assert_eq!(status().error.unwrap().code, "unreachable.patroni");
        naming.warn(&error);
        let later = tokio::spawn(naming.until_known(error));
        let asked = patroni.asked().len();
        patroni.until(|| patroni.asked().len() >= asked + 3).await;
        patroni.answer("/config", Answer::Status(401));
        patroni.until(|| sink.0.lock().unwrap().len() > 1).await;
        assert!(!status().kept);
        patroni.answer("/config", Answer::Itself);
        later.await.unwrap();
        assert_eq!(
            status(),
            PatroniSlot {
                kept: true,
                error: None
            }
        );
        assert_eq!(patroni.config()["slots"]["ours"]["type"], "physical");
        let events = sink.0.lock().unwrap();
        let told: Vec<_> = events
            .iter()
            .map(|event| (event.name.as_str(), &event.body["code"], &event.body["added"]))
            .collect();
        let (away, refused, nothing, added) = (
            json!("unreachable.patroni"),
            json!("auth.patroni"),
            json!(null),
            json!(true),
        );
        let unknown = "wal.patroni.slot_unknown";
        let wanted = [
            (unknown, &away, &nothing),
            (unknown, &refused, &nothing),
            ("wal.patroni.slot_known", &nothing, &added),
        ];
        assert_eq!(told, wanted);
    }
}
