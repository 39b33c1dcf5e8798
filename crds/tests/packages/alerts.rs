//! Alerts and dashboard: they ask for metrics that exist, fire when they should, stay silent when all is well, and each alert
//! has a runbook.

use std::collections::BTreeSet;
use std::fs;

use hardstorage_e2e::Scratch;
use serde_json::Value;

use crate::{named, objects, rendered, text, tool, tree};

/// What Prometheus loads on Kubernetes and on machines, and the series that each file is tried with.
const FILES: [(&str, &str); 2] = [
    ("charts/pg-hardstorage/files/alerts.yaml", "alerts.test.yaml"),
    ("config/prometheus/agent.rules.yaml", "agent.rules.test.yaml"),
];

fn rules_of(groups: &Value) -> Vec<Value> {
    let groups = groups.as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

/// Those for machines, where nothing says where the pages are.
fn rules_of_the_agent() -> Vec<Value> {
    rules_of(&objects(&text(FILES[1].0))[0]["groups"])
}

fn rules() -> Vec<Value> {
    let all = rendered(&[
        "monitoring.rules.enabled=true",
        r#"monitoring.rules.runbookURL="https://runbooks.example.com/""#,
    ]);
    rules_of(&named(&all, "PrometheusRule", "it-pg-hardstorage")["spec"]["groups"])
}

#[test]
fn each_fires_when_it_should_and_only_then() {
    for (file, cases) in FILES {
        let scratch = Scratch::new();
        let name = file.rsplit('/').next().unwrap();
        fs::write(scratch.path(name), text(file)).unwrap();
        let asked = fs::read_to_string(tree("crds/tests/packages").join(cases)).unwrap();
        fs::write(scratch.path(cases), &asked).unwrap();
        let path = |name: &str| scratch.path(name).display().to_string();
        tool(
            "bin/promtool",
            ["check", "rules", "--lint=all", "--lint-fatal", &path(name)],
        )
        .ok();
        tool("bin/promtool", ["test", "rules", &path(cases)]).ok();
        // Every alert is seen to fire in one of the cases.
        for rule in rules_of(&objects(&text(file))[0]["groups"]) {
            let name = rule["alert"].as_str().unwrap();
            let fires = asked.split("alertname: ").skip(1).any(|case| {
                let this = case.lines().next().unwrap().trim() == name;
                this && case.contains("exp_labels")
            });
            assert!(fires, "no case of {cases} shows that {name} fires");
        }
    }
}

/// The headings of a page, in their order, with a command that looks.
fn parts(looks: &'static str) -> [&'static str; 6] {
    [
        "## What it means\n",
        "## Why it matters\n",
        "## Look\n\n```sh\n",
        looks,
        "## Do\n",
        "## When it is over\n",
    ]
}

#[test]
fn each_has_a_runbook_that_is_found_by_its_link() {
    let (index, summary) = (text("docs/reference/alerts.md"), text("docs/SUMMARY.md"));
    let mut known = BTreeSet::new();
    let on_kubernetes = rules()
        .into_iter()
        .map(|rule| (rule, "https://runbooks.example.com", ["kubectl ", "kubectl "]));
    let on_machines = rules_of_the_agent().into_iter().map(|rule| {
        (
            rule,
            "https://hardstorage.dev/docs/runbooks",
            ["pg_hardstorage", "```sh\n"],
        )
    });
    for (rule, pages, [looks, over]) in on_kubernetes.chain(on_machines) {
        let name = rule["alert"].as_str().unwrap().to_owned();
        let severity = rule["labels"]["severity"].as_str().unwrap();
        assert_eq!(
            rule["annotations"]["runbook_url"],
            format!("{pages}/{name}.html"),
            "as mdbook names the page"
        );
        let page = text(&format!("docs/runbooks/{name}.md"));
        let after = rule["for"].as_str().unwrap_or_default();
        let begin = format!("# {name}\n\n*{severity}, after {}", in_words(after));
        assert!(
            page.starts_with(&begin),
            "the page of {name} does not begin with {begin}"
        );
        let mut rest = page.as_str();
        for part in parts(looks) {
            let found = rest.split_once(part);
            rest = found.unwrap_or_else(|| panic!("the page of {name} has no {part}")).1;
        }
        // An alert of both sets has one page, whose end is told for one of them.
        assert!(
            rest.contains(over),
            "the page of {name} does not say how to see that it is over"
        );
        assert!(
            summary.contains(&format!("[{name}](runbooks/{name}.md)")),
            "{name} is not in SUMMARY.md"
        );
        assert!(
            index.contains(&format!("| [{name}](../runbooks/{name}.md) | {severity} |")),
            "{name} is not in docs/reference/alerts.md"
        );
        known.insert(format!("{name}.md"));
    }
    let pages: BTreeSet<String> = fs::read_dir(tree("docs/runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(pages, known, "runbooks and alerts");
    // Where the chart says nothing else, alerts lead to the book.
    let all = rendered(&["monitoring.rules.enabled=true"]);
    let rule = &named(&all, "PrometheusRule", "it-pg-hardstorage")["spec"]["groups"][0]["rules"][0];
    let url = rule["annotations"]["runbook_url"].as_str().unwrap();
    assert!(url.ends_with("/runbooks/HardstorageNotStreaming.html"), "{url}");
}

/// `5m` as a page says it; an alert without a time fires at the first look.
fn in_words(after: &str) -> String {
    let (number, unit) = after.split_at(after.len().saturating_sub(1));
    let unit = match unit {
        "m" => "minute",
        "h" => "hour",
        "d" => "day",
        _ => return "the ".to_owned(),
    };
    format!("{number} {unit}")
}

#[test]
fn they_ask_for_metrics_that_exist() {
    let served: BTreeSet<String> = words(&text("docs/reference/metrics.md"));
    let alerts = text(FILES[0].0) + &text(FILES[1].0);
    let dashboard = text("charts/pg-hardstorage/files/dashboard.json");
    let asked = &words(&alerts) | &words(&dashboard);
    assert!(asked.len() > 10, "{asked:?}");
    let missing: Vec<&String> = asked.difference(&served).collect();
    assert!(missing.is_empty(), "not in docs/reference/metrics.md: {missing:?}");
    // And the page tells of nothing that the programs do not have.
    let source = text("streamer/cli/src/metrics.rs")
        + &text("streamer/cli/src/agent/metrics.rs")
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

/// Grafana's word for what comes out of a question: by the unit in the metric's name, unless it counts series.
fn unit_of(asked: &str) -> Option<&'static str> {
    if asked.starts_with("count(") || asked.starts_with("sum(") {
        return None;
    }
    let ends = |unit: &str| words(asked).iter().any(|name| name.ends_with(unit));
    if asked.starts_with("rate(") && ends("_bytes_total") {
        Some("Bps")
    } else if ends("_bytes") {
        Some("bytes")
    } else if ends("_seconds") {
        Some("s")
    } else {
        None
    }
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
        for target in panel["targets"].as_array().unwrap() {
            let asked = target["expr"].as_str().unwrap();
            assert_eq!(
                panel["fieldConfig"]["defaults"]["unit"].as_str(),
                unit_of(asked),
                "{asked}"
            );
        }
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
