//! Alerts and dashboard: they ask for metrics that exist, fire when they should, stay silent when all is well, and each alert
//! has a runbook.

use std::collections::BTreeSet;
use std::fs;

use hardstorage_e2e::Scratch;
use serde_json::Value;

use crate::{named, rendered, text, tool, tree};

fn rules() -> Vec<Value> {
    let all = rendered(&[
        "monitoring.rules.enabled=true",
        r#"monitoring.rules.runbookURL="https://runbooks.example.com/""#,
    ]);
    let groups = named(&all, "PrometheusRule", "it-pg-hardstorage")["spec"]["groups"].clone();
    groups
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

#[test]
fn each_fires_when_it_should_and_only_then() {
    let scratch = Scratch::new();
    fs::write(
        scratch.path("alerts.yaml"),
        text("charts/pg-hardstorage/files/alerts.yaml"),
    )
    .unwrap();
    let cases = fs::read_to_string(tree("crds/tests/packages/alerts.test.yaml")).unwrap();
    fs::write(scratch.path("alerts.test.yaml"), &cases).unwrap();
    tool(
        "bin/promtool",
        [
            "check",
            "rules",
            "--lint=all",
            "--lint-fatal",
            &scratch.path("alerts.yaml").display().to_string(),
        ],
    )
    .ok();
    tool(
        "bin/promtool",
        ["test", "rules", &scratch.path("alerts.test.yaml").display().to_string()],
    )
    .ok();
    // Every alert is seen to fire in one of the cases.
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap();
        let fires = cases.split("alertname: ").skip(1).any(|case| {
            let this = case.lines().next().unwrap().trim() == name;
            this && case.contains("exp_labels")
        });
        assert!(fires, "no case shows that {name} fires");
    }
}

#[test]
fn each_has_a_runbook_that_is_found_by_its_link() {
    let page = text("docs/reference/alerts.md");
    let told: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .map(str::to_owned)
        .collect();
    let mut known = BTreeSet::new();
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap().to_owned();
        assert_eq!(
            rule["annotations"]["runbook_url"],
            format!("https://runbooks.example.com/#{}", name.to_lowercase())
        );
        assert!(
            ["critical", "warning"].contains(&rule["labels"]["severity"].as_str().unwrap()),
            "{name}"
        );
        let (_, section) = page
            .split_once(&format!("## {name}\n"))
            .unwrap_or_else(|| panic!("{name} has no runbook"));
        let section = section.split("\n## ").next().unwrap();
        for part in ["**Means.**", "**Look.**", "kubectl ", "**Do.**"] {
            assert!(section.contains(part), "the runbook of {name} has no {part}");
        }
        known.insert(name);
    }
    assert_eq!(told, known, "runbooks and alerts");
}

#[test]
fn they_ask_for_metrics_that_exist() {
    let served: BTreeSet<String> = words(&text("docs/reference/metrics.md"));
    let (alerts, dashboard) = (
        text("charts/pg-hardstorage/files/alerts.yaml"),
        text("charts/pg-hardstorage/files/dashboard.json"),
    );
    let asked = &words(&alerts) | &words(&dashboard);
    assert!(asked.len() > 10, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&served).collect();
    assert!(missing.is_empty(), "not in docs/reference/metrics.md: {missing:?}");
    // And the page tells of nothing that the programs do not have.
    let source = text("streamer/cli/src/metrics.rs")
        + &text("operator/src/object_metrics.rs")
        + &text("operator/src/metrics.rs");
    for name in &asked {
        let short = name
            .replace("pg_hardstorage_operator_", "")
            .replace("pg_hardstorage_", "");
        let known = ["", "_total", "_bytes", "_seconds"].iter().any(|unit| {
            short
                .strip_suffix(unit)
                .is_some_and(|bare| source.contains(&format!("\"{bare}\"")))
        });
        assert!(known, "{name} is in no program");
    }
    // Conditions that an alert looks for are conditions.
    let types = text("crds/src/condition.rs");
    for part in alerts.split("type=\"").skip(1) {
        let name = part.split('"').next().unwrap();
        assert!(types.contains(&format!("\"{name}\"")), "{name} is no condition");
    }
}

fn words(text: &str) -> BTreeSet<String> {
    let all = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    all.filter(|word| word.starts_with("pg_hardstorage_") && *word != "pg_hardstorage_operator")
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dashboard_is_one() {
    let all = rendered(&["monitoring.dashboard.enabled=true"]);
    let map = named(&all, "ConfigMap", "it-pg-hardstorage-dashboard");
    assert_eq!(map["metadata"]["labels"]["grafana_dashboard"], "1");
    let board: Value = serde_json::from_str(map["data"]["pg-hardstorage.json"].as_str().unwrap()).unwrap();
    let panels = board["panels"].as_array().unwrap();
    assert!(panels.len() > 10);
    let mut taken = BTreeSet::new();
    for panel in panels {
        assert!(
            panel["description"].as_str().is_some_and(|text| text.len() > 10),
            "{panel:#}"
        );
        let at = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        for (x, y) in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
            assert!(x < 24 && taken.insert((x, y)), "two panels at {x},{y}");
        }
    }
}

#[test]
fn streams_are_scraped_where_their_pods_are() {
    let all = rendered(&["monitoring.podMonitor.enabled=true"]);
    let streams = named(&all, "PodMonitor", "it-pg-hardstorage-streams");
    assert_eq!(streams["spec"]["namespaceSelector"]["any"], true);
    let names = text("operator/src/names.rs");
    let (label, role) = streams["spec"]["selector"]["matchLabels"]
        .as_object()
        .unwrap()
        .iter()
        .next()
        .unwrap();
    assert!(
        names.contains(&format!("pub const ROLE: &str = \"{label}\"")),
        "{label}"
    );
    assert!(names.contains(&format!("Role::Stream => {role}")), "{role}");
    let endpoint = &streams["spec"]["podMetricsEndpoints"][0];
    assert!(text("operator/src/pod/mod.rs").contains(&format!("name: Some({}.to_owned())", endpoint["port"])));
    let narrowed = rendered(&["monitoring.podMonitor.enabled=true", r#"watchNamespaces=["team"]"#]);
    let streams = named(&narrowed, "PodMonitor", "it-pg-hardstorage-streams");
    assert_eq!(streams["spec"]["namespaceSelector"]["matchNames"][0], "team");
}
