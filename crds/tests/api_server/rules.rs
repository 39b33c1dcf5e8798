//! What is accepted, what is refused and with which words, and what the server writes by itself.

use serde_json::{Value, json};

use crate::sample::samples;
use crate::{apply, crds, file, installed, namespaces};
use hardstorage_e2e::ApiServer;

#[test]
fn every_sample_is_taken_or_refused_with_a_sentence_that_says_why() {
    let server = installed();
    let (good, bad) = (samples("good"), samples("bad"));
    assert!(
        good.len() >= 15 && bad.len() >= 80,
        "{} and {} samples",
        good.len(),
        bad.len()
    );
    namespaces(&server, good.iter().chain(&bad).map(|sample| sample.name.as_str()));
    for sample in &good {
        for document in &sample.documents {
            apply(&server, &sample.name, document, &sample.name);
        }
    }
    let mut wrong = Vec::new();
    for sample in &bad {
        let refused = sample.refused.as_ref().unwrap();
        let (last, before) = sample.documents.split_last().unwrap();
        for document in before {
            apply(&server, &sample.name, document, &sample.name);
        }
        let path = file(&server, &sample.name, last);
        let answer = server.kubectl(["apply", "-n", &sample.name, "-f", &path]);
        if answer.code != Some(1) || !answer.stderr.contains(refused.as_str()) {
            wrong.push(format!("{}: expected {refused:?}\n{answer}", sample.name));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} of {}\n{}",
        wrong.len(),
        bad.len(),
        wrong.join("\n\n")
    );
}

#[test]
fn the_server_warns_of_nothing_and_writes_no_more_than_the_defaults_that_are_said() {
    let server = ApiServer::start();
    let path = crds().display().to_string();
    let answer = server.kubectl(["apply", "-f", &path]).ok();
    assert!(!answer.stderr.contains("Warning"), "{answer}");
    server.established();
    // The second time nothing is different, so that a pipeline that compares does not cry wolf.
    server.kubectl(["diff", "-f", &path]).ok();

    let stored = |kind: &str, document: &str| -> Value {
        apply(&server, kind, document, "default");
        server.kubectl(["diff", "-f", &file(&server, kind, document)]).ok();
        let mut object = server.kubectl(["get", "-o", "json", kind, "x"]).ok().json();
        object["spec"].take()
    };
    let head = |kind: &str| format!("apiVersion: hardstorage.dev/v1alpha1\nkind: {kind}\nmetadata: {{name: x}}\n");
    assert_eq!(
        stored(
            "hsrepo",
            &format!("{}spec: {{url: 's3://bucket'}}\n", head("Repository"))
        ),
        json!({
            "url": "s3://bucket", "encryption": {"managed": {}}, "creation": "CreateIfMissing",
            "accessMode": "ReadWrite", "shareCredentials": false,
        })
    );
    assert_eq!(
        stored(
            "hsdep",
            &format!(
                "{}spec: {{source: {{cloudNativePG: {{cluster: c}}}}, repositoryRef: {{name: r}}}}\n",
                head("Deployment")
            )
        ),
        json!({"source": {"cloudNativePG": {"cluster": "c"}}, "repositoryRef": {"name": "r"}, "onNewSystem": "Refuse"})
    );
    assert_eq!(
        stored(
            "hssched",
            &format!(
                "{}spec: {{deploymentRef: {{name: d}}, schedule: '@daily'}}\n",
                head("BackupSchedule")
            )
        ),
        json!({
            "deploymentRef": {"name": "d"}, "schedule": "@daily", "timeZone": "Etc/UTC", "suspend": false,
            "immediate": false, "type": "Auto", "from": "Primary", "maxRate": "0", "startingDeadline": "1h",
            "pendingDeadline": "15m", "activeDeadline": "24h", "backoffLimit": 2,
        })
    );
    assert_eq!(
        stored(
            "hsbk",
            &format!("{}spec: {{deploymentRef: {{name: d}}}}\n", head("Backup"))
        ),
        json!({"deploymentRef": {"name": "d"}})
    );
    assert_eq!(
        stored(
            "hsrs",
            &format!(
                "{}spec: {{source: {{deploymentRef: {{name: d}}}}, destination: {{persistentVolumeClaim: {{name: c}}}}}}\n",
                head("Restore")
            )
        ),
        json!({
            "source": {"deploymentRef": {"name": "d"}}, "backup": "latest", "onUnreachable": "Refuse", "dryRun": false,
            "destination": {"persistentVolumeClaim": {"name": "c", "path": "pgdata", "uid": 26, "gid": 26}},
            "subscriptions": "Disable", "backoffLimit": 2, "activeDeadline": "24h",
        })
    );
}
