//! Whether one Deployment protects its cluster, judged from what its status says. Pure.

use hardstorage_crds::condition::Condition;
use hardstorage_crds::{BackupSchedule, ProtectedDeployment};
use jiff::Timestamp;
use kube::ResourceExt as _;
use serde::Serialize;

/// Figures that are older than this say nothing of now.
const STALE_SECONDS: i64 = 300;

/// One protected cluster, on one line.
#[derive(Debug, Clone, Serialize)]
pub struct Protection {
    /// Namespace of the Deployment.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The cluster, as KIND/NAME.
    pub source: String,
    /// `Yes`, `No`, or `Unknown`, and the reason.
    pub protected: Answer,
    /// The word for what the stream does.
    pub phase: Option<String>,
    /// Seconds that the repository is behind the server.
    pub lag_seconds: Option<i64>,
    /// The first moment that can be restored.
    pub recoverable_from: Option<Timestamp>,
    /// The last one.
    pub recoverable_to: Option<Timestamp>,
    /// When the last backup ended.
    pub last_backup: Option<Timestamp>,
    /// When the next one begins.
    pub next_backup: Option<Timestamp>,
    /// When the last drill ended that could be tried.
    pub last_drill: Option<Timestamp>,
    /// What it has proven: `Passed` or `Failed`.
    pub last_drill_result: Option<String>,
    /// When the figures were taken.
    pub observed: Option<Timestamp>,
}

/// Whether it is protected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Answer {
    /// `Yes`, `No` or `Unknown`.
    #[serde(rename = "answer")]
    pub word: &'static str,
    /// Why, when it is not `Yes`: the reason of a condition.
    pub reason: Option<String>,
    /// In a sentence.
    pub message: Option<String>,
}

/// A condition by its type.
pub fn condition<'a>(all: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    all.iter().find(|condition| condition.type_ == type_)
}

/// Judges one Deployment, with the schedules of its namespace.
pub fn judge(deployment: &ProtectedDeployment, schedules: &[BackupSchedule], now: Timestamp) -> Protection {
    let status = deployment.status.clone().unwrap_or_default();
    let namespace = deployment.namespace().unwrap_or_default();
    let name = deployment.name_any();
    let stream = status.stream.clone().unwrap_or_default();
    let recoverable = status.recoverable.clone().unwrap_or_default();
    let drill = status.last_drill.clone().unwrap_or_default();
    let next = schedules
        .iter()
        .filter(|schedule| schedule.namespace().as_deref() == Some(namespace.as_str()))
        .filter(|schedule| schedule.spec.deployment_ref.name == name && !schedule.spec.suspend)
        .filter_map(|schedule| schedule.status.as_ref()?.next_time.as_ref().map(|time| time.0))
        .min();
    Protection {
        source: source(deployment),
        protected: answer(deployment, now),
        phase: status.phase.map(|phase| phase.to_string()),
        lag_seconds: stream.lag_seconds,
        recoverable_from: recoverable.from.map(|time| time.0),
        recoverable_to: recoverable.to.map(|time| time.0),
        last_backup: status.last_backup.and_then(|last| last.time).map(|time| time.0),
        last_drill: drill.time.map(|time| time.0),
        last_drill_result: drill.result,
        next_backup: next,
        observed: stream.observed_time.map(|time| time.0),
        namespace,
        name,
    }
}

/// Protected is what streams, has no hole, and has a backup to begin with.
fn answer(deployment: &ProtectedDeployment, now: Timestamp) -> Answer {
    let status = deployment.status.clone().unwrap_or_default();
    let no = |word, condition: Option<&Condition>, otherwise: &str| Answer {
        word,
        reason: Some(condition.map_or_else(|| otherwise.to_owned(), |condition| condition.reason.clone())),
        message: condition
            .map(|condition| condition.message.clone())
            .filter(|message| !message.is_empty()),
    };
    for type_ in ["Streaming", "ArchiveContinuous"] {
        let found = condition(&status.conditions, type_);
        match found.map(|condition| condition.status.as_str()) {
            Some("True") => {}
            Some("False") => return no("No", found, ""),
            _ => return no("Unknown", found, "NotHeard"),
        }
    }
    if status.recoverable.as_ref().is_none_or(|window| window.from.is_none()) {
        return no("No", None, "NoBackup");
    }
    let observed = status.stream.and_then(|stream| stream.observed_time).map(|time| time.0);
    // A dead operator leaves the last good words behind.
    if observed.is_none_or(|observed| now.duration_since(observed).as_secs() > STALE_SECONDS)
        && condition(&status.conditions, "Streaming").is_none_or(|streaming| streaming.reason != "SourceHibernated")
    {
        return no("Unknown", None, "FiguresTooOld");
    }
    Answer {
        word: "Yes",
        reason: None,
        message: None,
    }
}

/// The cluster in a word.
pub fn source(deployment: &ProtectedDeployment) -> String {
    let source = &deployment.spec.source;
    if let Some(cluster) = &source.cloud_native_pg {
        return format!("cnpg/{}", cluster.cluster);
    }
    if let Some(patroni) = &source.patroni {
        return format!("patroni/{}", patroni.scope);
    }
    let hosts = source.connection.as_ref().map(|connection| {
        let names = connection.hosts.iter().map(|host| host.host.clone());
        names.collect::<Vec<_>>().join(",")
    });
    hosts.unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "test code")]
    use super::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn deployment(status: Value) -> ProtectedDeployment {
        serde_json::from_value(json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "Deployment",
            "metadata": {"name": "shop", "namespace": "team"},
            "spec": {"source": {"cloudNativePG": {"cluster": "shop"}}, "repositoryRef": {"name": "main"}},
            "status": status}))
        .unwrap()
    }

    fn condition(type_: &str, status: &str, reason: &str) -> Value {
        json!({"type": type_, "status": status, "reason": reason, "message": "in words",
            "lastTransitionTime": at(0)})
    }

    #[test]
    fn protected_is_what_streams_has_no_hole_and_has_a_backup() {
        let good = json!([
            condition("Streaming", "True", "Streaming"),
            condition("ArchiveContinuous", "True", "NoGap")
        ]);
        let window = json!({"from": at(0), "to": at(90)});
        let stream = json!({"observedTime": at(100)});
        let answer = |conditions: &Value, window: &Value, now: i64| {
            let of = deployment(json!({"conditions": conditions, "recoverable": window, "stream": stream}));
            let answer = judge(&of, &[], at(now)).protected;
            (answer.word, answer.reason.unwrap_or_default())
        };
        assert_eq!(answer(&good, &window, 130), ("Yes", String::new()));
        assert_eq!(answer(&good, &Value::Null, 130), ("No", "NoBackup".to_owned()));
        assert_eq!(answer(&good, &window, 500), ("Unknown", "FiguresTooOld".to_owned()));
        assert_eq!(answer(&json!([]), &window, 130), ("Unknown", "NotHeard".to_owned()));
        let hole = json!([
            condition("Streaming", "True", "Streaming"),
            condition("ArchiveContinuous", "False", "Gap")
        ]);
        assert_eq!(answer(&hole, &window, 130), ("No", "Gap".to_owned()));
    }

    #[test]
    fn the_next_backup_is_that_of_its_own_schedules() {
        let schedule = |namespace: &str, of: &str, suspend: bool, next: i64| -> BackupSchedule {
            serde_json::from_value(
                json!({"apiVersion": "hardstorage.dev/v1alpha1", "kind": "BackupSchedule",
                "metadata": {"name": "x", "namespace": namespace},
                "spec": {"deploymentRef": {"name": of}, "schedule": "@daily", "suspend": suspend},
                "status": {"nextTime": at(next)}}),
            )
            .unwrap()
        };
        let all = [
            schedule("other", "shop", false, 1),
            schedule("team", "orders", false, 2),
            schedule("team", "shop", true, 3),
            schedule("team", "shop", false, 5),
            schedule("team", "shop", false, 4),
        ];
        assert_eq!(judge(&deployment(json!({})), &all, at(0)).next_backup, Some(at(4)));
    }
}
