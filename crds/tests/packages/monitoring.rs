//! What the Prometheus operator reads: a real API server that has its definitions takes every monitor and rule that the chart
//! and the folder for kustomize make, under strict validation, where a field that is unknown is an error.

use hardstorage_e2e::{ApiServer, cache_root};

use crate::{helm, tree};

fn server() -> ApiServer {
    let definitions = cache_root().join("definitions/monitoring");
    assert!(
        definitions.is_dir(),
        "{} is missing: run scripts/fetch-definitions",
        definitions.display()
    );
    let server = ApiServer::start();
    server.define(&definitions);
    server.kubectl(["create", "namespace", "pg-hardstorage"]).ok();
    server
}

/// What `apply` answers, without doing it.
fn tried(server: &ApiServer, text: &str) -> hardstorage_e2e::Answer {
    let path = server.scratch().path("tried.yaml");
    std::fs::write(&path, text).unwrap();
    let path = path.display().to_string();
    server.kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", &path])
}

#[test]
fn monitors_and_rules_are_what_their_definitions_say() {
    let server = server();
    let chart = tree("charts/pg-hardstorage").display().to_string();
    let everything = r#"{"podMonitor": {"enabled": true, "interval": "90s", "labels": {"release": "prometheus"}},
        "rules": {"enabled": true, "labels": {"release": "prometheus"}}, "dashboard": {"enabled": true}}"#;
    for namespaces in ["[]", r#"["team-a", "team-b"]"#] {
        let made = helm([
            "template",
            "hs",
            &chart,
            "--namespace",
            "pg-hardstorage",
            "--show-only=templates/monitoring.yaml",
            "--set-json",
            &format!("monitoring={everything}"),
            "--set-json",
            &format!("watchNamespaces={namespaces}"),
        ])
        .ok()
        .stdout;
        let answer = tried(&server, &made).ok();
        for object in [
            "podmonitor.monitoring.coreos.com/hs-pg-hardstorage created",
            "podmonitor.monitoring.coreos.com/hs-pg-hardstorage-streams created",
            "prometheusrule.monitoring.coreos.com/hs-pg-hardstorage created",
            "configmap/hs-pg-hardstorage-dashboard created",
        ] {
            assert!(answer.stdout.contains(object), "{object}\n{answer}");
        }
        assert!(!answer.stderr.contains("Warning"), "{answer}");
        // The definitions are looked at: a field of no kind, a time that is none.
        for (right, wrong, said) in [
            (
                "sourceLabels:",
                "sourceLabel:",
                "unknown field \"spec.podMetricsEndpoints[0].relabelings[0].sourceLabel\"",
            ),
            ("for: 5m", "for: soon", "spec.groups[0].rules[0].for"),
        ] {
            let broken = made.replacen(right, wrong, 1);
            assert_ne!(broken, made, "{right}");
            let answer = tried(&server, &broken);
            assert!(
                answer.code == Some(1) && answer.stderr.contains(said),
                "{wrong}\n{answer}"
            );
        }
    }
}

#[test]
fn kustomize_installs_them() {
    let server = server();
    let folder = tree("config/monitoring").display().to_string();
    server
        .kubectl(["apply", "--server-side", "--validate=strict", "-k", &folder])
        .ok();
    server.kubectl(["diff", "--server-side", "-k", &folder]).ok();
}
