//! The metrics of the agent: those of its streams, and what it knows of its own work.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;

use hardstorage_report::DeploymentName;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::task::TaskName;
use super::view::{DeploymentView, TaskView, View};
use crate::metrics::{Float, Labels};

/// Everything, as it is now.
pub(super) fn encode(view: &View) -> String {
    let streams = view
        .deployments
        .values()
        .filter_map(|one| one.stream.as_ref()?.status.as_ref());
    let streams: Vec<_> = streams.collect();
    crate::metrics::encode("agent", &streams, |registry| register(registry, view))
}

fn register(registry: &mut Registry, view: &View) {
    let taken = Gauge::<i64>::default();
    taken.set(i64::from(view.config_error.is_none()));
    let help = "Whether the newest configuration is the one in use";
    registry.register("agent_config_taken", help, taken);
    of_deployments(registry, &view.deployments);
    of_tasks(registry, &view.deployments);
}

fn seconds(at: Option<Timestamp>) -> Option<f64> {
    at.map(|at| at.as_microsecond() as f64 / 1e6)
}

fn of_deployments(registry: &mut Registry, deployments: &BTreeMap<DeploymentName, DeploymentView>) {
    let mut gauge = |name: &str, help: &str, value: &dyn Fn(&DeploymentView) -> Option<f64>| {
        let family = Family::<Labels, Float>::default();
        for (deployment, view) in deployments {
            if let Some(value) = value(view) {
                family.get_or_create(&labels(deployment)).set(value);
            }
        }
        registry.register(name, help, family);
    };
    gauge("agent_stream_up", "Whether the stream runs and answers", &|view| {
        let stream = view.stream.as_ref()?;
        Some(f64::from(u8::from(stream.runs && stream.status.is_some())))
    });
    gauge(
        "agent_newest_backup_time_seconds",
        "When the newest backup ended",
        &|view| seconds(view.newest_backup_at),
    );
    let restarts = Family::<Labels, Counter>::default();
    for (deployment, view) in deployments {
        if let Some(stream) = &view.stream {
            restarts.get_or_create(&labels(deployment)).inc_by(stream.restarts);
        }
    }
    registry.register(
        "agent_stream_restarts",
        "Streams that ended and were started again",
        restarts,
    );
}

fn of_tasks(registry: &mut Registry, deployments: &BTreeMap<DeploymentName, DeploymentView>) {
    let each = || {
        deployments
            .iter()
            .flat_map(|(deployment, view)| view.tasks.iter().map(move |(task, view)| (deployment, *task, view)))
    };
    let mut gauge = |name: &str, help: &str, unit: Option<Unit>, value: &dyn Fn(&TaskView) -> Option<f64>| {
        let family = Family::<Labels, Float>::default();
        for (deployment, task, view) in each() {
            if let Some(value) = value(view) {
                family.get_or_create(&task_labels(deployment, task)).set(value);
            }
        }
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, family),
            None => registry.register(name, help, family),
        }
    };
    let unit = || Some(Unit::Seconds);
    gauge("agent_task_running", "Whether the task runs", None, &|task| {
        Some(f64::from(u8::from(task.running_since.is_some())))
    });
    gauge("agent_task_next_time", "When the task is due", unit(), &|task| {
        seconds(task.next_at)
    });
    gauge("agent_task_succeeded_time", "When it succeeded last", unit(), &|task| {
        seconds(task.last.succeeded)
    });
    gauge("agent_task_duration", "How long the last run took", unit(), &|task| {
        let (started, ended) = task.last.started.zip(task.last.ended)?;
        Some(ended.duration_since(started).as_secs_f64())
    });
    gauge(
        "agent_task_failures",
        "Runs that failed since the last one that succeeded",
        None,
        &|task| Some(f64::from(task.last.failures)),
    );
    let runs = Family::<Labels, Counter<u64, AtomicU64>>::default();
    for (deployment, task, view) in each() {
        for (outcome, count) in &view.runs {
            let mut labels = task_labels(deployment, task);
            labels.push(("outcome".to_owned(), outcome.as_str().to_owned()));
            runs.get_or_create(&labels).inc_by(*count);
        }
    }
    registry.register("agent_task_runs", "Runs that ended, since the start of the agent", runs);
}

fn labels(deployment: &DeploymentName) -> Labels {
    vec![("deployment".to_owned(), deployment.to_string())]
}

fn task_labels(deployment: &DeploymentName, task: TaskName) -> Labels {
    let mut labels = labels(deployment);
    labels.push(("task".to_owned(), task.as_str().to_owned()));
    labels
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::schedule::{Outcome, Record};
    use crate::agent::view::StreamView;
    use crate::metrics::tests::{served, told};

    /// What dashboards and alerts are written against is the page: it names all of them, and no other.
    #[test]
    fn the_page_names_what_is_served() {
        let now = Timestamp::UNIX_EPOCH;
        let mut view = View::new(now);
        let mut last = Record::new(now);
        last.end(now, now, Outcome::Succeeded);
        let task = TaskView {
            schedule: String::new(),
            next_at: Some(now),
            running_since: Some(now),
            waiting: false,
            runs: Outcome::ALL.map(|outcome| (outcome, 1)).into_iter().collect(),
            last,
        };
        let stream = StreamView {
            runs: true,
            restarts: 3,
            error: None,
            address: None,
            status: None,
        };
        let deployment = DeploymentView {
            stream: Some(stream),
            newest_backup_at: Some(now),
            repository_error: None,
            tasks: TaskName::all().map(|name| (name, task.clone())).collect(),
        };
        view.deployments.insert("db1".parse().unwrap(), deployment);
        let text = encode(&view);
        assert!(
            text.contains("agent_stream_up{deployment=\"db1\"} 0"),
            "a stream that is silent is not up: {text}"
        );
        assert!(
            text.contains("agent_task_runs_total{deployment=\"db1\",task=\"backup\",outcome=\"hung\"} 1"),
            "{text}"
        );
        let mut served = served(&text);
        served.remove("pg_hardstorage_build_info");
        let page = include_str!("../../../../docs/reference/metrics.md");
        let (_, page) = page.split_once("\n## The agent\n").unwrap();
        let (page, _) = page.split_once("\n## The operator\n").unwrap();
        assert_eq!(served, told(page));
    }
}
