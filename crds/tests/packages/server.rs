//! Both ways of installing, on a real API server: it takes everything, a second time changes nothing, definitions and objects
//! stay when the chart goes, and the rights are what they were meant to be. What runs is tried on a node.

use std::time::Duration;

use hardstorage_e2e::{Answer, ApiServer, until};
use serde_json::{Value, json};

use crate::{helm, tree};

fn on(server: &ApiServer, arguments: &[&str]) -> Answer {
    let config = server.kubeconfig().display().to_string();
    helm(arguments.iter().copied().chain(["--kubeconfig", &config]))
}

fn apply(server: &ApiServer, text: &str) {
    let path = server.scratch().path("apply.yaml");
    std::fs::write(&path, text).unwrap();
    server.kubectl(["apply", "-f", &path.display().to_string()]).ok();
}

const PROTECTED: &str = "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {name: orders, namespace: default, \
                         finalizers: [hardstorage.dev/slot]}\nspec: {source: {cloudNativePG: {cluster: orders}}, \
                         repositoryRef: {name: main}}\n";

#[test]
fn kustomize_installs_it_and_the_samples_are_taken() {
    let server = ApiServer::start();
    let folder = |name: &str| tree("config").join(name).display().to_string();
    let first = server.kubectl(["apply", "-k", &folder("default")]).ok();
    assert!(!first.stderr.contains("Warning"), "{first}");
    server.established();
    // The second time nothing is different.
    server.kubectl(["diff", "-k", &folder("default")]).ok();
    server
        .kubectl(["apply", "-k", &folder("release"), "--dry-run=server"])
        .ok();
    server.kubectl(["create", "namespace", "argocd"]).ok();
    server.kubectl(["apply", "--server-side", "-k", &folder("argocd")]).ok();
    for sample in ["cloudnative-pg", "patroni", "restore", "s3", "volume"] {
        let path = folder(&format!("samples/{sample}.yaml"));
        let answer = server.kubectl(["apply", "--validate=strict", "-f", &path]).ok();
        assert!(!answer.stderr.contains("Warning"), "{answer}");
    }
    rights(&server, "system:serviceaccount:pg-hardstorage:pg-hardstorage");
}

/// What the authorizer answers, also for kinds that are not there.
fn rights(server: &ApiServer, user: &str) {
    let allowed = |verb: &str, group: &str, resource: &str| {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": {"user": user,
            "resourceAttributes": {"namespace": "default", "verb": verb, "group": group, "resource": resource,
                "subresource": subresource}}});
        let path = server.scratch().path("review.json");
        std::fs::write(&path, review.to_string()).unwrap();
        let path = path.display().to_string();
        server.kubectl(["create", "-o", "json", "-f", &path]).ok().json()["status"]["allowed"].clone()
    };
    for (verb, group, resource) in [
        ("create", "", "secrets"),
        ("patch", "hardstorage.dev", "hsdeployments/status"),
        ("patch", "apps", "deployments"),
        ("delete", "", "pods"),
        ("get", "postgresql.cnpg.io", "clusters"),
        ("create", "events.k8s.io", "events"),
    ] {
        assert_eq!(allowed(verb, group, resource), true, "{verb} {resource}");
    }
    for (verb, group, resource) in [
        ("get", "", "secrets"),
        ("list", "", "secrets"),
        ("watch", "", "secrets"),
        ("patch", "", "secrets"),
        ("delete", "", "secrets"),
        ("create", "", "pods/exec"),
        ("patch", "", "persistentvolumeclaims"),
        ("patch", "postgresql.cnpg.io", "clusters"),
        ("delete", "postgresql.cnpg.io", "clusters"),
        ("patch", "", "endpoints"),
        ("list", "postgresql.cnpg.io", "clusters"),
        ("delete", "apps", "deployments"),
        ("watch", "", "pods"),
        ("list", "", "configmaps"),
        ("create", "rbac.authorization.k8s.io", "roles"),
    ] {
        assert_eq!(allowed(verb, group, resource), false, "{verb} {resource}");
    }
}

#[test]
fn helm_installs_upgrades_and_removes_it() {
    let server = ApiServer::start();
    let chart = tree("charts/pg-hardstorage").display().to_string();
    let install = ["install", "hs", &chart, "--namespace", "ops", "--create-namespace"];
    let everything = [
        "--set-json",
        r#"watchNamespaces=["default"]"#,
        "--set-json",
        r#"shareCredentials=[{"from": "default", "to": ["ops"]}]"#,
        "--set",
        "monitoring.dashboard.enabled=true,patroni.patchConfig=true,monitoring.scraperNamespace=monitoring",
    ];
    let installed = on(&server, &install).ok();
    assert!(
        installed
            .stdout
            .contains("kubectl -n ops rollout status deployment/hs-pg-hardstorage"),
        "{installed}"
    );
    server.established();
    apply(&server, PROTECTED);
    let protect = tree("charts/pg-hardstorage-protect").display().to_string();
    let clusters = r#"clusters=[{"name": "shop"}]"#;
    let own = [
        "install",
        "shop",
        &protect,
        "--set",
        "repository.spec.url=s3://b",
        "--set-json",
        clusters,
    ];
    let told = on(&server, &own).ok();
    assert!(told.stdout.contains("kubectl get secret main-kek -n default"), "{told}");
    server
        .kubectl(["get", "hsrepo/main", "hsdep/shop", "hssched/shop"])
        .ok();

    let upgrade = ["upgrade", "hs", &chart, "--namespace", "ops"];
    on(&server, &[&upgrade[..], &everything[..]].concat()).ok();
    let get = |what: &[&str]| server.kubectl(["get", "-o", "json"].iter().chain(what)).ok().json();
    let operator = get(&["-n", "ops", "deployment.apps/hs-pg-hardstorage"]);
    let arguments = operator["spec"]["template"]["spec"]["containers"][0]["args"].to_string();
    assert!(
        arguments.contains("--watch-namespaces=default") && arguments.contains("--patroni-patch-config"),
        "{arguments}"
    );
    get(&["-n", "default", "role/hs-pg-hardstorage"]);
    // An upgrade is the way of a definition too.
    server
        .kubectl([
            "annotate",
            "crd",
            "hsbackups.hardstorage.dev",
            "helm.sh/resource-policy-",
        ])
        .ok();
    on(&server, &upgrade).ok();
    let definition = get(&["crd", "hsbackups.hardstorage.dev"]);
    assert_eq!(definition["metadata"]["annotations"]["helm.sh/resource-policy"], "keep");

    // Nothing runs Jobs here: the hook is tried on a node.
    on(&server, &["uninstall", "hs", "--namespace", "ops", "--no-hooks"]).ok();
    server.established();
    let left = get(&["hsdep", "orders"]);
    assert_eq!(left["metadata"]["deletionTimestamp"], Value::Null, "objects stay");
    assert_eq!(get(&["crd"])["items"].as_array().unwrap().len(), 5);
    let gone = server.kubectl([
        "get",
        "clusterrole,clusterrolebinding,role,deployment.apps",
        "-A",
        "-o",
        "name",
        "-l",
        "app.kubernetes.io/instance=hs",
    ]);
    assert_eq!(gone.ok().text(), "");
    // And come back under the same release.
    on(&server, &install).ok();
}

#[test]
fn the_verb_use_can_be_asked_for() {
    let server = ApiServer::start();
    let chart = tree("charts/pg-hardstorage").display().to_string();
    let asked = [
        "install",
        "hs",
        &chart,
        "-n",
        "ops",
        "--create-namespace",
        "--set",
        "admission.askForUse=true",
    ];
    on(&server, &asked).ok();
    server.established();
    apply(
        &server,
        "{apiVersion: v1, kind: Namespace, metadata: {name: team}}\n---\n\
         {apiVersion: v1, kind: Namespace, metadata: {name: backups}}",
    );
    let as_user = |words: &[&str]| server.kubectl(["--as", "somebody", "-n", "team"].iter().chain(words));
    let mut granted = vec!["create", "clusterrole", "own", "--verb=create"];
    granted.push("--resource=hsdeployments.hardstorage.dev,hsrestores.hardstorage.dev");
    server.kubectl(granted).ok();
    server
        .kubectl([
            "-n",
            "team",
            "create",
            "rolebinding",
            "own",
            "--clusterrole=own",
            "--user=somebody",
        ])
        .ok();
    let make = |name: &str, reference: &str| {
        let path = server.scratch().path("asked.yaml");
        let text = format!(
            "{{apiVersion: hardstorage.dev/v1alpha1, kind: Deployment, metadata: {{name: {name}}}, spec: {{source: \
             {{cloudNativePG: {{cluster: orders}}}}, repositoryRef: {reference}}}}}"
        );
        std::fs::write(&path, text).unwrap();
        as_user(&["create", "-f", &path.display().to_string()])
    };
    let elsewhere = "{name: main, namespace: backups}";
    // A policy acts a moment after it was made.
    let refused = until("the policy acts", Duration::from_secs(30), || {
        let answer = make("elsewhere", elsewhere);
        if answer.code == Some(0) {
            server.kubectl(["-n", "team", "delete", "hsdep", "elsewhere"]).ok();
            return None;
        }
        Some(answer)
    });
    assert!(
        refused.stderr.contains("somebody may not use Repository backups/main"),
        "{refused}"
    );
    make("here", "{name: main}").ok();
    apply(
        &server,
        "{apiVersion: rbac.authorization.k8s.io/v1, kind: Role, metadata: {name: use, namespace: backups}, rules: \
         [{apiGroups: [hardstorage.dev], resources: [hsrepositories], resourceNames: [main], verbs: [use]}]}",
    );
    let bind = ["create", "rolebinding", "use", "--role=use", "--user=somebody"];
    server.kubectl(["-n", "backups"].iter().chain(&bind)).ok();
    until("the right is known", Duration::from_secs(30), || {
        (make("elsewhere", elsewhere).code == Some(0)).then_some(())
    });
    let other = make("other", "{name: another, namespace: backups}");
    assert!(
        other.code == Some(1) && other.stderr.contains("backups/another"),
        "{other}"
    );
    // A Restore reads it as a Deployment writes it; one that names a Deployment of its namespace refers to none.
    let restore = |source: &str| {
        let path = server.scratch().path("restore.yaml");
        let text = format!(
            "{{apiVersion: hardstorage.dev/v1alpha1, kind: Restore, metadata: {{generateName: r-}}, spec: {{source: {source}, \
             destination: {{persistentVolumeClaim: {{name: pg}}}}}}}}"
        );
        std::fs::write(&path, text).unwrap();
        as_user(&["create", "-f", &path.display().to_string()])
    };
    restore("{repository: {ref: {name: main, namespace: backups}, name: team.orders}}").ok();
    restore("{deploymentRef: {name: orders}}").ok();
    let other = restore("{repository: {ref: {name: another, namespace: backups}, name: team.orders}}");
    assert!(
        other.code == Some(1) && other.stderr.contains("backups/another"),
        "{other}"
    );
}

#[test]
fn every_object_of_every_setting_is_valid() {
    let server = ApiServer::start();
    let chart = tree("charts/pg-hardstorage").display().to_string();
    server.kubectl(["create", "namespace", "ops"]).ok();
    for settings in [
        r#"{"watchNamespaces": ["default", "ops"], "admission": {"askForUse": true}}"#,
        r#"{"shareCredentials": [{"from": "default", "to": ["ops"]}], "patroni": {"patchConfig": true}}"#,
        r#"{"imagePullSecrets": [{"name": "registry"}], "priorityClassName": "system-cluster-critical", "replicas": 1,
            "nodeSelector": {"disk": "ssd"}, "podAnnotations": {"a": "b"}, "podLabels": {"team": "dba"},
            "tolerations": [{"key": "dedicated", "operator": "Exists"}],
            "affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference":
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}]}},
            "topologySpreadConstraints": [{"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
            "serviceAccount": {"annotations": {"a": "b"}, "name": "own"}, "monitoring": {"dashboard": {"enabled": true}}}"#,
        r#"{"rbac": {"create": false}, "serviceAccount": {"create": false}, "releaseOnUninstall": false, "crds": {"keep": false}}"#,
    ] {
        let values = server.scratch().path("values.json");
        std::fs::write(&values, settings).unwrap();
        let values = values.display().to_string();
        let made = helm(["template", "hs", &chart, "--namespace", "ops", "--values", &values]).ok();
        let path = server.scratch().path("made.yaml");
        std::fs::write(&path, &made.stdout).unwrap();
        let path = path.display().to_string();
        let answer = server
            .kubectl(["apply", "--dry-run=server", "--validate=strict", "-f", &path])
            .ok();
        assert!(!answer.stderr.contains("Warning"), "{settings}\n{answer}");
    }
}
