//! Every way in which a run can go, as a table.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]
use super::*;
use hardstorage_report::ErrorReport;
use k8s_openapi::api::batch::v1::JobSpec;
use k8s_openapi::api::batch::v1::{JobCondition, JobStatus};
use std::time::Duration;

const LIMIT: Duration = Duration::from_mins(15);

fn job(condition: Option<(&str, &str)>) -> Job {
    let mut job = Job::default();
    job.metadata.uid = Some("run-1".into());
    job.metadata.creation_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now(0)));
    job.status = Some(JobStatus {
        conditions: condition.map(|(type_, reason)| {
            vec![JobCondition {
                type_: type_.into(),
                status: "True".into(),
                reason: Some(reason.into()),
                ..JobCondition::default()
            }]
        }),
        ..JobStatus::default()
    });
    job
}

fn now(second: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + second).unwrap()
}

fn report(run: &str, state: RunState) -> RunReport {
    let mut report = RunReport::new("backup", Some(run.into()), "0.1.0");
    report.state = state;
    report
}

fn ended(code: i32, reason: &str, message: Option<RunReport>) -> PodFacts {
    PodFacts {
        name: "p".into(),
        phase: "Failed".into(),
        ended: Some((
            code,
            Some(reason.into()),
            message.map(|report| serde_json::to_string(&report).unwrap()),
        )),
        ..PodFacts::default()
    }
}

#[test]
fn a_served_end_counts_and_a_strangers_does_not() {
    let pod = PodFacts {
        name: "p".into(),
        phase: "Running".into(),
        ..PodFacts::default()
    };
    let observed = judge(
        &job(None),
        Some(&pod),
        Some(report("run-1", RunState::Succeeded)),
        now(1),
        LIMIT,
    );
    assert!(matches!(observed, Observed::Ended { pod: Some(_), .. }), "{observed:?}");
    let stranger = judge(
        &job(None),
        Some(&pod),
        Some(report("run-2", RunState::Succeeded)),
        now(1),
        LIMIT,
    );
    assert_eq!(stranger, Observed::Running(None));
}

#[test]
fn the_last_words_of_a_failed_try_count_when_the_job_has_given_up() {
    let pod = ended(8, "Error", Some(report("run-1", RunState::Failed)));
    let trying = judge(&job(None), Some(&pod), None, now(1), LIMIT);
    assert!(matches!(trying, Observed::Running(None)), "{trying:?}");
    let over = judge(
        &job(Some(("Failed", "BackoffLimitExceeded"))),
        Some(&pod),
        None,
        now(1),
        LIMIT,
    );
    assert!(matches!(over, Observed::Ended { pod: None, .. }), "{over:?}");
}

#[test]
fn every_way_to_go_without_a_word() {
    let failed = Some(("Failed", "BackoffLimitExceeded"));
    let cases = [
        (ended(137, "OOMKilled", None), failed, FailureReason::OutOfMemory),
        (ended(1, "Error", None), failed, FailureReason::ReportLost),
        (
            PodFacts {
                reason: Some("Evicted".into()),
                phase: "Failed".into(),
                ..PodFacts::default()
            },
            failed,
            FailureReason::Evicted,
        ),
        (
            ended(143, "Error", None),
            Some(("Failed", "DeadlineExceeded")),
            FailureReason::DeadlineExceeded,
        ),
    ];
    for (pod, condition, wanted) in cases {
        match judge(&job(condition), Some(&pod), None, now(1), LIMIT) {
            Observed::Failed { reason, .. } => assert_eq!(reason, wanted),
            other => panic!("{wanted:?}: {other:?}"),
        }
    }
    match judge(&job(failed), None, None, now(1), LIMIT) {
        Observed::Failed { reason, .. } => assert_eq!(reason, FailureReason::NodeLost),
        other => panic!("{other:?}"),
    }
}

#[test]
fn waiting_has_an_end() {
    let waits = |pod: &PodFacts, second| judge(&job(None), Some(pod), None, now(second), LIMIT);
    let no_node = PodFacts {
        phase: "Pending".into(),
        unschedulable: Some("0/3 nodes are available".into()),
        created: Some(now(0)),
        ..PodFacts::default()
    };
    assert!(matches!(waits(&no_node, 10), Observed::Waiting("Unschedulable", _)));
    assert!(matches!(
        waits(&no_node, 900),
        Observed::Failed {
            reason: FailureReason::Unschedulable,
            ..
        }
    ));
    assert!(matches!(
        judge(&job(None), None, None, now(10), LIMIT),
        Observed::Waiting("NoPod", _)
    ));
    assert!(matches!(
        judge(&job(None), None, None, now(901), LIMIT),
        Observed::Failed {
            reason: FailureReason::QuotaExceeded,
            ..
        }
    ));
}

fn failed_with(code: u8) -> RunReport {
    let mut report = report("run-1", RunState::Failed);
    report.error = Some(ErrorReport {
        code: "x.y".into(),
        message: "m".into(),
        hint: "h".into(),
        exit_code: code,
    });
    report
}

#[test]
fn a_served_failure_is_the_end_only_when_no_try_follows() {
    let pod = PodFacts {
        name: "p".into(),
        phase: "Running".into(),
        ..PodFacts::default()
    };
    // Exit code, failed tries so far, whether the Job is over: whether it is the end.
    let cases = [
        (8, 0, false, false),
        (8, 2, false, true),
        (8, 0, true, true),
        (3, 0, false, true),
    ];
    for (code, tries, over, end) in cases {
        let mut job = job(over.then_some(("Failed", "BackoffLimitExceeded")));
        job.spec = Some(JobSpec {
            backoff_limit: Some(2),
            ..JobSpec::default()
        });
        if let Some(status) = &mut job.status {
            status.failed = Some(tries);
        }
        let observed = judge(&job, Some(&pod), Some(failed_with(code)), now(1), LIMIT);
        assert_eq!(
            matches!(observed, Observed::Ended { .. }),
            end,
            "{code} {tries} {over}: {observed:?}"
        );
        assert_eq!(
            matches!(observed, Observed::Running(Some(_))),
            !end,
            "{code} {tries} {over}"
        );
    }
}

#[test]
fn a_run_may_bear_the_uid_of_the_object_it_was_made_for() {
    let mut job = job(None);
    assert_eq!(run_id(&job), Some("run-1"));
    job.metadata.annotations = Some([(annotation::RUN_ID.to_owned(), "wish".to_owned())].into());
    assert_eq!(run_id(&job), Some("wish"));
    let pod = PodFacts {
        name: "p".into(),
        phase: "Running".into(),
        ..PodFacts::default()
    };
    let observed = judge(
        &job,
        Some(&pod),
        Some(report("wish", RunState::Succeeded)),
        now(1),
        LIMIT,
    );
    assert!(matches!(observed, Observed::Ended { .. }));
    let stranger = judge(
        &job,
        Some(&pod),
        Some(report("run-1", RunState::Succeeded)),
        now(1),
        LIMIT,
    );
    assert_eq!(stranger, Observed::Running(None));
}

#[test]
fn the_time_in_the_queue_is_nobodys_quota() {
    let mut queued = job(Some(("Suspended", "JobSuspended")));
    assert!(matches!(
        judge(&queued, None, None, now(9000), LIMIT),
        Observed::Waiting("NoPod", _)
    ));
    if let Some(status) = &mut queued.status {
        status.conditions = None;
        status.start_time = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(now(9000)));
    }
    assert!(matches!(
        judge(&queued, None, None, now(9010), LIMIT),
        Observed::Waiting("NoPod", _)
    ));
    assert!(matches!(
        judge(&queued, None, None, now(9900), LIMIT),
        Observed::Failed {
            reason: FailureReason::QuotaExceeded,
            ..
        }
    ));
}

#[test]
fn what_comes_before_the_engine_speaks_for_the_pod() {
    let pod = |init: serde_json::Value| -> PodFacts {
        let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": {"name": "p"}, "status": {
            "phase": "Pending", "initContainerStatuses": [{"name": "install", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": init}],
            "containerStatuses": [{"name": "engine", "image": "", "imageID": "", "ready": false, "restartCount": 0,
                "state": {"waiting": {"reason": "PodInitializing"}}}]}}))
        .unwrap();
        PodFacts::of(&pod)
    };
    let no_image = pod(serde_json::json!({"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}));
    assert_eq!(no_image.waiting.unwrap().0, "ImagePullBackOff");
    let failed = pod(serde_json::json!({"terminated": {"exitCode": 127, "reason": "Error"}}));
    assert_eq!(failed.ended.unwrap().0, 127);
    let done = pod(serde_json::json!({"terminated": {"exitCode": 0, "reason": "Completed"}}));
    assert_eq!(done.waiting.unwrap().0, "PodInitializing");
}
