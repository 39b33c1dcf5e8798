//! What every reconcile has at hand.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Semaphore;

use crate::metrics::Metrics;
use crate::names::MANAGER;
use crate::report::Reports;
use crate::settings::Settings;

/// The longest note of an event, in bytes.
const NOTE_LIMIT: usize = 1024;

/// So many show backups as objects at the same time.
const SHOWING: usize = 4;

/// Shared by all controllers.
#[derive(Clone)]
pub struct Context {
    /// The API server.
    pub client: Client,
    /// What it was started with.
    pub settings: Arc<Settings>,
    /// Asks engine pods.
    pub reports: Arc<dyn Reports>,
    /// Writes events.
    pub recorder: Recorder,
    /// Counts.
    pub metrics: Metrics,
    /// Looks that show backups as objects, at the same time: each reads all of a namespace.
    pub showing: Arc<Semaphore>,
    clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

impl Context {
    /// A context on the real clock.
    pub fn new(client: Client, settings: Settings, reports: Arc<dyn Reports>, metrics: Metrics) -> Context {
        Context::with_clock(client, settings, reports, metrics, Arc::new(Timestamp::now))
    }

    /// A context with a clock of its own.
    pub fn with_clock(
        client: Client,
        settings: Settings,
        reports: Arc<dyn Reports>,
        metrics: Metrics,
        clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
    ) -> Context {
        let reporter = Reporter {
            controller: MANAGER.to_owned(),
            instance: Some(settings.identity.clone()),
        };
        Context {
            recorder: Recorder::new(client.clone(), reporter),
            client,
            settings: Arc::new(settings),
            reports,
            metrics,
            showing: Arc::new(Semaphore::new(SHOWING)),
            clock,
        }
    }

    /// One for all namespaces, or one for each that is looked after.
    pub fn each_scope(&self) -> Vec<Context> {
        let watched = &self.settings.watch_namespaces;
        if watched.len() < 2 {
            return vec![self.clone()];
        }
        let narrowed = watched.iter().map(|namespace| {
            let mut settings = Settings::clone(&self.settings);
            settings.watch_namespaces = vec![namespace.clone()];
            let mut scope = self.clone();
            scope.settings = Arc::new(settings);
            scope
        });
        narrowed.collect()
    }

    /// The time.
    pub fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Writes an event about an object. An event that cannot be written is no reason to stop.
    pub async fn tell(&self, about: &ObjectReference, warning: bool, reason: &str, note: &str) {
        let event = Event {
            type_: if warning { EventType::Warning } else { EventType::Normal },
            reason: reason.to_owned(),
            note: Some(cut(note).to_owned()),
            action: "Reconcile".to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, about).await {
            tracing::debug!(%error, reason, "an event was not written");
        }
    }
}

/// As much as the API server takes, which counts bytes: a longer note would be no event at all.
fn cut(note: &str) -> &str {
    let end = (0..=note.len().min(NOTE_LIMIT))
        .rev()
        .find(|end| note.is_char_boundary(*end));
    &note[..end.unwrap_or(0)]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
    use super::*;
    use crate::scripted::{Answers, scripted};

    #[test]
    fn a_note_in_any_script_is_an_event() {
        let russian = "не удалось ".repeat(100);
        assert!(russian.chars().count() > 1000 && russian.len() > 1024);
        assert!(cut(&russian).len() <= 1024 && cut(&russian).len() > 1020);
        assert_eq!(cut("short"), "short");
    }

    #[tokio::test]
    async fn each_namespace_is_a_scope_of_its_own_and_all_together_are_one() {
        let (context, server) = scripted(vec![], Answers::default(), Timestamp::UNIX_EPOCH);
        let scopes = |watched: &[&str]| -> Vec<Vec<String>> {
            let mut settings = Settings::clone(&context.settings);
            settings.watch_namespaces = watched.iter().map(|&namespace| namespace.to_owned()).collect();
            let mut of = Context::clone(&context);
            of.settings = Arc::new(settings);
            let each = of.each_scope();
            each.iter()
                .map(|scope| scope.settings.watch_namespaces.clone())
                .collect()
        };
        assert_eq!(scopes(&[]), [Vec::<String>::new()]);
        assert_eq!(scopes(&["a"]), [["a"]]);
        assert_eq!(scopes(&["a", "b"]), [["a"], ["b"]]);
        drop(context);
        server.await.unwrap();
    }
}
