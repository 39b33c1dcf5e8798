//! What the operator may do: no more than its page says, and nothing with Secrets that it need not.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{named, rendered, text};

/// Group, resource and verb.
type Right = (String, String, String);

fn rights(role: &Value) -> BTreeSet<Right> {
    let mut all = BTreeSet::new();
    let list = |value: &Value| -> Vec<String> {
        value
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one.as_str().unwrap().to_owned())
            .collect()
    };
    for rule in role["rules"].as_array().unwrap() {
        for group in list(&rule["apiGroups"]) {
            for resource in list(&rule["resources"]) {
                for verb in list(&rule["verbs"]) {
                    all.insert((group.clone(), resource.clone(), verb));
                }
            }
        }
    }
    all
}

/// The rows of the tables below a heading, until the next one.
fn told(heading: &str) -> BTreeSet<Right> {
    let page = text("docs/explanation/operator-rights.md");
    let (_, below) = page.split_once(heading).unwrap();
    let mut all = BTreeSet::new();
    let section = below
        .lines()
        .take_while(|line| !line.starts_with("## ") && !line.starts_with("In "));
    for line in section.filter(|line| line.starts_with("| `") || line.starts_with("| core")) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let group = cells[1].trim_matches('`').replace("core", "");
        for resource in cells[2].split_whitespace() {
            for verb in cells[3].split_whitespace() {
                all.insert((group.clone(), resource.trim_matches('`').to_owned(), verb.to_owned()));
            }
        }
    }
    assert!(!all.is_empty(), "{heading}");
    all
}

#[test]
fn the_page_tells_every_right() {
    let all = rendered(&[r#"watchNamespaces=["team"]"#]);
    assert_eq!(
        rights(named(&all, "Role", "it-pg-hardstorage")),
        told("# What the operator may do")
    );
    let everywhere = rendered(&[]);
    let cluster = rights(named(&everywhere, "ClusterRole", "ops-it-pg-hardstorage"));
    let expected = &told("# What the operator may do") | &told("In the cluster as a whole");
    assert_eq!(cluster, expected);
}

#[test]
fn secrets_can_be_made_and_not_read() {
    for settings in [vec![], vec![r#"watchNamespaces=["team"]"#, "patroni.patchConfig=true"]] {
        for role in rendered(&settings) {
            if !["Role", "ClusterRole"].contains(&role["kind"].as_str().unwrap()) {
                continue;
            }
            for (_, resource, verb) in rights(&role) {
                assert!(resource != "*" && verb != "*", "{role:#}");
                assert!(resource != "secrets" || verb == "create", "{verb} of Secrets: {role:#}");
                assert!(!resource.starts_with("pods/"), "{resource}: {role:#}");
                assert!(
                    !["escalate", "bind", "impersonate"].contains(&verb.as_str()),
                    "{role:#}"
                );
            }
        }
    }
}

/// The Job that runs before the chart is removed has to take the finalizers of both kinds off, wherever the operator was.
#[test]
fn the_end_may_let_every_object_go() {
    for (settings, kind, role) in [
        (vec![], "ClusterRole", "ops-it-pg-hardstorage"),
        (vec![r#"watchNamespaces=["team"]"#], "Role", "it-pg-hardstorage"),
    ] {
        let all = rendered(&settings);
        let account =
            &named(&all, "Job", "it-pg-hardstorage-release")["spec"]["template"]["spec"]["serviceAccountName"];
        let binding = named(&all, &format!("{kind}Binding"), role);
        assert_eq!(
            (&binding["roleRef"]["name"], &binding["subjects"][0]["name"]),
            (&role.into(), account)
        );
        let may = rights(named(&all, kind, role));
        // It stops the operator first, which is in a namespace of its own.
        let own = rights(named(&all, "Role", "it-pg-hardstorage-own"));
        let stops = ("apps".to_owned(), "deployments".to_owned(), "patch".to_owned());
        assert_eq!(own.contains(&stops), kind == "Role", "{own:?}");
        assert!(may.contains(&stops), "{kind}");
        for plural in ["hsdeployments", "hsbackups"] {
            for verb in ["get", "list", "patch"] {
                let right = ("hardstorage.dev".to_owned(), plural.to_owned(), verb.to_owned());
                assert!(may.contains(&right), "{kind}: {right:?}");
            }
        }
    }
}

#[test]
fn a_namespaced_operator_has_no_right_elsewhere() {
    let all = rendered(&[r#"watchNamespaces=["team-a", "team-b"]"#]);
    let cluster = rights(named(&all, "ClusterRole", "ops-it-pg-hardstorage"));
    let only = ("apiextensions.k8s.io", "customresourcedefinitions", "get");
    let only = (only.0.to_owned(), only.1.to_owned(), only.2.to_owned());
    assert_eq!(cluster, BTreeSet::from([only]));
    let bound: Vec<&str> = all
        .iter()
        .filter(|object| object["kind"] == "RoleBinding")
        .map(|object| object["metadata"]["namespace"].as_str().unwrap())
        .collect();
    assert_eq!(bound, ["ops", "team-a", "team-b"]);
}

#[test]
fn credentials_are_shared_only_where_it_was_asked_for() {
    let all = rendered(&[r#"shareCredentials=[{"from": "backups", "to": ["team-a", "team-b"]}]"#]);
    let roles: Vec<(&str, BTreeSet<Right>)> = all
        .iter()
        .filter(|object| object["kind"] == "Role" && object["metadata"]["namespace"] != "ops")
        .map(|object| (object["metadata"]["namespace"].as_str().unwrap(), rights(object)))
        .collect();
    let secrets = |verbs: &[&str]| -> BTreeSet<Right> {
        verbs
            .iter()
            .map(|verb| (String::new(), "secrets".to_owned(), (*verb).to_owned()))
            .collect()
    };
    let copies = secrets(&["create", "delete"]);
    let expected = [
        ("backups", secrets(&["get"])),
        ("team-a", copies.clone()),
        ("team-b", copies),
    ];
    assert_eq!(roles, expected);
}
