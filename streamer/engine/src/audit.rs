//! What is done is recorded in the deployment's audit chain.
//!
//! A record comes behind what it tells: it never undoes or fails that, and when it cannot be written, a warning says so.
//! Such deeds can be taken back, or leave a record of their own (a state, a gap) in the repository. A purge cannot and is
//! the other way round: the collector records it first, and without the record nothing is purged.

use std::time::Duration;

use hardstorage_report::{Code, Error, Event, EventSink, Result, Severity, code};
use hardstorage_repository::{AuditAction, AuditEvent, AuditLog, Deployment};
use serde_json::json;

/// A store that does not answer keeps nobody longer from ending than this: what was to be done is done.
const PATIENCE: Duration = Duration::from_mins(1);

/// The store takes no writes, or takes them from a later program only.
const NOT_ALLOWED: [Code; 3] = [
    code::storage::DENIED,
    code::storage::READ_ONLY,
    code::repository::NEWER_FORMAT,
];

/// Records what is done already.
pub async fn record(deployment: &Deployment, event: &AuditEvent, sink: &dyn EventSink) {
    if let Err(error) = in_time(AuditLog::of(deployment).append(event)).await {
        sink.emit(not_recorded(&error).deployment(deployment.name()));
    }
}

/// The same of what a reader did: one who may not write leaves no record, and that is no fault.
pub async fn record_if_allowed(deployment: &Deployment, event: &AuditEvent, sink: &dyn EventSink) {
    match in_time(AuditLog::of(deployment).append(event)).await {
        Ok(_) => {}
        Err(error) if NOT_ALLOWED.iter().any(|code| error.is(*code)) => {
            tracing::info!(%error, "this reader leaves no record in the audit chain");
        }
        Err(error) => sink.emit(not_recorded(&error).deployment(deployment.name())),
    }
}

/// Records that a deployment was made, as the first of its chain.
pub async fn begin(deployment: &Deployment, run_id: Option<String>, sink: &dyn EventSink) {
    let descriptor = deployment.descriptor();
    let event = AuditEvent::new(AuditAction::DeploymentCreated, run_id).body(json!({
        "repository_id": hex::encode(descriptor.repository_id),
        "repository_created_at": descriptor.created_at,
        "repository_created_by": descriptor.created_by,
        "encrypted": deployment.key().seals(),
        "single_writer": descriptor.single_writer,
    }));
    if let Err(error) = in_time(AuditLog::of(deployment).begin(&event)).await {
        sink.emit(not_recorded(&error).deployment(deployment.name()));
    }
}

/// Waits no longer than what is done already may be held up.
pub async fn in_time<T>(append: impl Future<Output = Result<T>>) -> Result<T> {
    let waited = PATIENCE.as_secs();
    tokio::time::timeout(PATIENCE, append).await.unwrap_or_else(|_| {
        let message = format!("the audit chain was not written within {waited} s");
        Err(Error::new(code::storage::UNREACHABLE, message))
    })
}

/// The warning that something was done and is not in the chain.
pub fn not_recorded(error: &Error) -> Event {
    Event::new(Severity::Warning, "audit.append_failed").body(json!({
        "code": error.code().as_str(),
        "message": format!("it is done, and could not be recorded in the audit chain: {error}"),
        "hint": error.hint_text(),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use std::sync::{Arc, Mutex};

    use hardstorage_report::BackupId;
    use hardstorage_storage::{Call, Fault, FaultStore, MemoryStore};

    use super::*;

    #[derive(Default)]
    struct Heard(Mutex<Vec<Event>>);

    impl EventSink for Heard {
        fn emit(&self, event: Event) {
            self.0.lock().unwrap().push(event);
        }
    }

    fn broken() -> Fault {
        Fault::FailBefore(Error::new(code::storage::DENIED, "no"))
    }

    fn id() -> BackupId {
        "db1.full.20260625T083040Z.68ac".parse().unwrap()
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_is_told_and_fails_nothing() {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let deployment = Deployment::for_tests(faults.clone(), "db1");
        let heard = Heard::default();
        begin(&deployment, None, &heard).await;
        let event = AuditEvent::new(AuditAction::BackupCommitted, Some("r1".to_owned())).backup(&id());
        record(&deployment, &event, &heard).await;
        assert!(heard.0.lock().unwrap().is_empty());
        faults.every(Call::PutNew, broken);
        record(&deployment, &event, &heard).await;
        record_if_allowed(&deployment, &event, &heard).await;
        assert_eq!(heard.0.lock().unwrap().len(), 1, "a reader says nothing");
        let told = heard.0.lock().unwrap().pop().unwrap();
        assert_eq!(
            (told.name.as_str(), told.severity),
            ("audit.append_failed", Severity::Warning)
        );
        assert_eq!(told.body["code"], code::storage::DENIED.as_str());
        faults.clear();
        faults.every(Call::PutNew, || Fault::NoSpace);
        record_if_allowed(&deployment, &event, &heard).await;
        assert_eq!(heard.0.lock().unwrap().len(), 1, "but what is no refusal");
        let records = AuditLog::of(&deployment).last(None).await.unwrap();
        let actions: Vec<String> = records
            .into_iter()
            .map(|listed| listed.record.unwrap().action)
            .collect();
        assert_eq!(actions, ["deployment.created", "backup.committed"]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_keeps_nobody_for_long() {
        let faults = Arc::new(FaultStore::new(Arc::new(MemoryStore::new())));
        let deployment = Deployment::for_tests(faults.clone(), "db1");
        faults.every(Call::List, || Fault::Delay(Duration::from_hours(1)));
        let heard = Heard::default();
        record(&deployment, &AuditEvent::new(AuditAction::GapRecorded, None), &heard).await;
        let told = heard.0.lock().unwrap().pop().unwrap();
        assert_eq!(told.body["code"], code::storage::UNREACHABLE.as_str());
    }
}
