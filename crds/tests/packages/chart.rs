//! The charts by themselves: what they refuse, and what each setting changes.

use serde_json::{Value, json};

use crate::{helm, named, objects, rendered, text, tree};

#[test]
fn the_linter_finds_nothing() {
    let chart = |name: &str| tree("charts").join(name).display().to_string();
    helm(["lint", "--strict", &chart("pg-hardstorage")]).ok();
    let url = "repository.spec.url=s3://bucket";
    helm(["lint", "--strict", &chart("pg-hardstorage-protect"), "--set", url]).ok();
}

#[test]
fn a_setting_that_is_wrong_is_refused() {
    let wrong = [
        ("replica=3", "replica"),
        ("replicas=0", "/replicas"),
        ("image.digest=sha256:1234", "/image/digest"),
        ("image.repository=", "/image/repository"),
        ("engine.image.pullPolicy=Sometimes", "/engine/image/pullPolicy"),
        ("watchNamespaces={Team_A}", "/watchNamespaces/0"),
        ("shareCredentials[0].from=backups", "/shareCredentials/0"),
        ("monitoring.rules.runbookURL=javascript", "/monitoring/rules/runbookURL"),
        ("crds.enabled=maybe", "/crds/enabled"),
    ];
    let chart = tree("charts/pg-hardstorage").display().to_string();
    for (setting, said) in wrong {
        let answer = helm(["template", "it", &chart, "--set", setting]);
        assert!(
            answer.code == Some(1) && answer.stderr.contains(said),
            "{setting}\n{answer}"
        );
    }
}

#[test]
fn the_schema_knows_every_value() {
    for chart in ["pg-hardstorage", "pg-hardstorage-protect"] {
        let values: Value = serde_saphyr::from_str(&text(&format!("charts/{chart}/values.yaml"))).unwrap();
        let schema: Value = serde_json::from_str(&text(&format!("charts/{chart}/values.schema.json"))).unwrap();
        let names = |value: &Value| -> Vec<String> {
            let mut all: Vec<String> = value.as_object().unwrap().keys().cloned().collect();
            all.retain(|name| name != "global");
            all.sort();
            all
        };
        assert_eq!(names(&values), names(&schema["properties"]), "{chart}");
    }
}

#[test]
fn the_definitions_are_those_of_the_tree_and_stay() {
    let all = rendered(&[]);
    let kept: Vec<&Value> = all
        .iter()
        .filter(|object| object["kind"] == "CustomResourceDefinition")
        .collect();
    let files = hardstorage_crds::definitions().unwrap();
    assert_eq!(kept.len(), files.len());
    for file in files {
        for folder in ["config/crd", "charts/pg-hardstorage/files/crds"] {
            let there = text(&format!("{folder}/{}", file.file));
            let make = "cargo run -p hardstorage-crds --bin crdgen";
            assert!(there == file.yaml, "{folder}/{} has drifted: run {make}", file.file);
        }
        let name = file.object["metadata"]["name"].as_str().unwrap();
        let made = named(&all, "CustomResourceDefinition", name);
        assert_eq!(made["spec"], file.object["spec"], "{name}");
        assert_eq!(
            made["metadata"]["annotations"]["helm.sh/resource-policy"], "keep",
            "{name}"
        );
    }
    let without = rendered(&["crds.enabled=false"]);
    assert!(
        without
            .iter()
            .all(|object| object["kind"] != "CustomResourceDefinition")
    );
}

/// The containers of operator and hook.
fn containers(all: &[Value]) -> Vec<&Value> {
    let pods = [
        named(all, "Deployment", "it-pg-hardstorage"),
        named(all, "Job", "it-pg-hardstorage-release"),
    ];
    pods.iter()
        .map(|object| &object["spec"]["template"]["spec"]["containers"][0])
        .collect()
}

#[test]
fn every_argument_is_one_of_the_program() {
    let all = rendered(&[
        r#"watchNamespaces=["team-a", "team-b"]"#,
        "patroni.patchConfig=true",
        r#"monitoring.scraperNamespace="monitoring""#,
    ]);
    let known = [text("operator/src/settings.rs"), text("operator/src/release.rs")];
    for (container, source) in containers(&all).into_iter().zip(&known) {
        let arguments = container["args"].as_array().unwrap();
        assert!(arguments.len() >= 3, "{container:#}");
        for argument in arguments {
            let name = argument.as_str().unwrap().split('=').next().unwrap();
            let field = name.strip_prefix("--").unwrap().replace('-', "_");
            assert!(source.contains(&format!("    pub {field}: ")), "{name} is unknown");
        }
        for variable in ["POD_NAME", "POD_NAMESPACE"] {
            assert!(
                source.contains(&format!("env = \"{variable}\"")),
                "{variable} is unknown"
            );
            let given = container["env"]
                .as_array()
                .unwrap()
                .iter()
                .any(|one| one["name"] == variable);
            assert!(given, "{variable} is not given");
        }
        assert!(
            arguments.contains(&json!("--watch-namespaces=team-a,team-b")),
            "{container:#}"
        );
        assert!(arguments.contains(&json!("--lease=it-pg-hardstorage")), "{container:#}");
    }
}

#[test]
fn streams_run_the_operators_image_unless_another_is_named() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let cases: [(Vec<String>, String, String); 5] = [
        (
            vec![],
            "localhost/pg-hardstorage:0.1.0".into(),
            "localhost/pg-hardstorage:0.1.0".into(),
        ),
        (
            vec![r#"image={"registry": "r.example.com", "tag": "2"}"#.into()],
            "r.example.com/pg-hardstorage:2".into(),
            "r.example.com/pg-hardstorage:2".into(),
        ),
        (
            vec![format!(
                r#"image={{"registry": "r.example.com", "digest": "{digest}"}}"#
            )],
            format!("r.example.com/pg-hardstorage@{digest}"),
            format!("r.example.com/pg-hardstorage@{digest}"),
        ),
        // The operator's digest is not that of another repository, and goes before a tag that was asked for.
        (
            vec![
                format!(r#"image={{"registry": "r.example.com", "digest": "{digest}"}}"#),
                r#"engine.image={"repository": "mirror/engine"}"#.into(),
            ],
            format!("r.example.com/pg-hardstorage@{digest}"),
            "r.example.com/mirror/engine:0.1.0".into(),
        ),
        (
            vec![
                format!(r#"image={{"digest": "{digest}"}}"#),
                r#"engine.image={"tag": "0.0.9"}"#.into(),
            ],
            format!("localhost/pg-hardstorage@{digest}"),
            "localhost/pg-hardstorage:0.0.9".into(),
        ),
    ];
    for (settings, operator, engine) in cases {
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        let all = rendered(&settings);
        for container in containers(&all) {
            assert_eq!(container["image"], json!(operator), "{settings:?}");
        }
        let first = &containers(&all)[0]["args"][0];
        assert_eq!(*first, json!(format!("--engine-image={engine}")), "{settings:?}");
    }
}

#[test]
fn two_replicas_that_are_restricted_and_spread() {
    let all = rendered(&[]);
    let operator = &named(&all, "Deployment", "it-pg-hardstorage")["spec"];
    assert_eq!(operator["replicas"], 2);
    let pod = &operator["template"]["spec"];
    let labels = &operator["template"]["metadata"]["labels"];
    assert_eq!(
        operator["selector"]["matchLabels"], *labels,
        "a user's labels would be in the selector"
    );
    let spread = &pod["topologySpreadConstraints"][0];
    assert_eq!(spread["labelSelector"]["matchLabels"], *labels);
    let budget = &named(&all, "PodDisruptionBudget", "it-pg-hardstorage")["spec"];
    assert_eq!(
        (&budget["maxUnavailable"], &budget["selector"]["matchLabels"]),
        (&json!(1), labels)
    );
    for container in containers(&all) {
        let restricted = json!({"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"drop": ["ALL"]}});
        assert_eq!(container["securityContext"], restricted);
        assert!(
            container["resources"]["limits"]["memory"].is_string() && container["resources"]["requests"].is_object()
        );
    }
    // OpenShift chooses the user; the image names one that is not root.
    assert_eq!(
        pod["securityContext"],
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}})
    );
    let container = &pod["containers"][0];
    let probed = [
        &container["livenessProbe"]["httpGet"]["path"],
        &container["readinessProbe"]["httpGet"]["path"],
    ];
    assert_eq!(probed, [&json!("/healthz"), &json!("/readyz")]);
    // The hook does not count as a replica.
    let hook = named(&all, "Job", "it-pg-hardstorage-release");
    assert_eq!(hook["metadata"]["annotations"]["helm.sh/hook"], "pre-delete");
    assert_ne!(hook["spec"]["template"]["metadata"]["labels"], *labels);
}

#[test]
fn a_list_of_clusters_becomes_objects() {
    let chart = tree("charts/pg-hardstorage-protect").display().to_string();
    let clusters = r#"clusters=[{"name": "orders"}, {"name": "shop", "namespace": "team-b", "schedule": false},
        {"name": "erp", "source": {"patroni": {"scope": "erp"}}, "deployment": {"retention": {"keepDaily": 30}},
        "schedule": {"schedule": "@hourly"}}]"#;
    let base = [
        "template",
        "it",
        &chart,
        "--namespace",
        "team-a",
        "--set-json",
        clusters,
    ];
    let answer = helm(base);
    assert!(
        answer.code == Some(1) && answer.stderr.contains("where do backups go?"),
        "{answer}"
    );
    let all = objects(
        &helm(base.into_iter().chain(["--set", "repository.spec.url=s3://b"]))
            .ok()
            .stdout,
    );
    let specs: Vec<(&str, &str, &Value)> = all
        .iter()
        .map(|object| {
            let at = |pointer| object.pointer(pointer).unwrap().as_str().unwrap();
            (at("/kind"), at("/metadata/namespace"), &object["spec"])
        })
        .collect();
    let daily = |name| json!({"deploymentRef": {"name": name}, "immediate": true, "schedule": "@daily-random"});
    let expected = [
        (
            "Deployment",
            "team-a",
            json!({"repositoryRef": {"name": "main"}, "source": {"cloudNativePG": {"cluster": "orders"}}}),
        ),
        (
            "Deployment",
            "team-b",
            json!({"repositoryRef": {"name": "main", "namespace": "team-a"}, "source": {"cloudNativePG": {"cluster": "shop"}}}),
        ),
        (
            "Deployment",
            "team-a",
            json!({"repositoryRef": {"name": "main"}, "retention": {"keepDaily": 30}, "source": {"patroni": {"scope": "erp"}}}),
        ),
        ("BackupSchedule", "team-a", daily("orders")),
        (
            "BackupSchedule",
            "team-a",
            json!({"deploymentRef": {"name": "erp"}, "immediate": true, "schedule": "@hourly"}),
        ),
        ("Repository", "team-a", json!({"url": "s3://b"})),
    ];
    assert_eq!(specs.len(), expected.len());
    for (kind, namespace, spec) in &expected {
        assert!(
            specs.contains(&(*kind, *namespace, spec)),
            "{kind} in {namespace}: {spec}\n{specs:#?}"
        );
    }
}
