//! Pods as they are built.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

use super::*;
use crate::access::SecretKey;

fn access() -> RepositoryAccess {
    RepositoryAccess {
        namespace: "team".into(),
        name: "main".into(),
        url: "file:///repository".into(),
        credentials: None,
        service_account: None,
        ca: None,
        kek: Some(SecretKey {
            secret: "main-kek".into(),
            key: "kek".into(),
        }),
        signing: SecretKey {
            secret: "main-signing".into(),
            key: "signing-key".into(),
        },
        claim: Some("backups".into()),
        shared_claim: false,
        read_only: false,
    }
}

fn pod<'a>(
    repository: &'a RepositoryAccess,
    life: Life,
    signs: bool,
    template: Option<&'a PodTemplate>,
) -> EnginePod<'a> {
    EnginePod {
        command: vec!["repo".into(), "sync".into()],
        labels: BTreeMap::from([(label::REPOSITORY.to_owned(), "main".to_owned())]),
        image: Image {
            name: "engine:1".into(),
            pull_policy: "IfNotPresent".into(),
        },
        life,
        run_id: None,
        repository: Some(repository),
        signs,
        source: None,
        snapshot: None,
        data: None,
        resources: None,
        default_resources: DefaultResources::LOOK,
        template,
        surroundings: Surroundings::default(),
    }
}

#[test]
fn every_secret_is_an_optional_file() {
    let access = access();
    let built = pod(&access, Life::Once { linger: 30 }, true, None).build();
    let spec = built.spec.unwrap();
    let mut secrets = Vec::new();
    for volume in spec.volumes.unwrap() {
        assert!(volume.secret.is_none(), "a plain Secret volume cannot come late");
        for source in volume
            .projected
            .and_then(|projected| projected.sources)
            .unwrap_or_default()
        {
            let secret = source.secret.unwrap();
            assert_eq!(secret.optional, Some(true), "{}", secret.name);
            secrets.extend(secret.items.unwrap().into_iter().map(|item| item.path));
        }
    }
    assert_eq!(secrets, ["kek", "signing-key"]);
    assert_eq!(spec.automount_service_account_token, Some(false));
    let env = serde_json::to_string(&spec.containers[0].env).unwrap();
    assert!(!env.contains("secretKeyRef"), "{env}");
}

#[test]
fn only_what_signs_has_the_signing_key() {
    let access = access();
    let text = serde_json::to_string(&pod(&access, Life::Always, false, None).build()).unwrap();
    assert!(!text.contains("signing"), "{text}");
}

#[test]
fn it_is_restricted_and_limited() {
    let access = access();
    let spec = pod(&access, Life::Always, false, None).build().spec.unwrap();
    let context = spec.security_context.unwrap();
    assert_eq!(context.run_as_non_root, Some(true));
    let container = &spec.containers[0];
    let inner = container.security_context.clone().unwrap();
    assert_eq!(inner.read_only_root_filesystem, Some(true));
    assert_eq!(inner.allow_privilege_escalation, Some(false));
    assert!(
        container
            .resources
            .clone()
            .unwrap()
            .limits
            .unwrap()
            .contains_key("memory")
    );
}

#[test]
fn the_users_settings_go_over_ours_but_not_over_whose_it_is() {
    let template = PodTemplate {
        labels: Some(BTreeMap::from([
            (label::REPOSITORY.to_owned(), "another".to_owned()),
            ("team".to_owned(), "a".to_owned()),
        ])),
        annotations: Some(BTreeMap::from([(
            "sidecar.istio.io/inject".to_owned(),
            "true".to_owned(),
        )])),
        priority_class_name: Some("high".into()),
        env: Some(vec![
            EnvVar {
                name: "HTTPS_PROXY".into(),
                value: Some("http://proxy".into()),
                ..EnvVar::default()
            },
            EnvVar {
                name: "RUN_ID".into(),
                value: Some("mine".into()),
                ..EnvVar::default()
            },
        ]),
        ..PodTemplate::default()
    };
    let access = access();
    let built = pod(&access, Life::Once { linger: 30 }, false, Some(&template)).build();
    let metadata = built.metadata.unwrap();
    let labels = metadata.labels.unwrap();
    assert_eq!(
        (labels[label::REPOSITORY].as_str(), labels["team"].as_str()),
        ("main", "a")
    );
    assert_eq!(metadata.annotations.unwrap()["sidecar.istio.io/inject"], "true");
    let spec = built.spec.unwrap();
    assert_eq!(spec.priority_class_name.as_deref(), Some("high"));
    let env = spec.containers[0].env.clone().unwrap();
    assert_eq!(env.iter().filter(|variable| variable.name == "RUN_ID").count(), 1);
    assert!(env.iter().any(|variable| variable.name == "HTTPS_PROXY"));
}

#[test]
fn a_claim_of_one_node_keeps_its_pods_together() {
    let mut access = access();
    let near = |access: &RepositoryAccess| pod(access, Life::Always, false, None).build().spec.unwrap().affinity;
    assert!(near(&access).unwrap().pod_affinity.is_some());
    access.shared_claim = true;
    assert_eq!(near(&access), None);
}

#[test]
fn what_fills_a_data_directory_runs_as_its_owner_and_may_bring_the_program() {
    let mut access = access();
    let mut data = DataDirectory {
        mounts: vec![Mount {
            claim: "pg".into(),
            path: "/restore".into(),
        }],
        user: User { uid: 26, gid: 27 },
        engine: None,
    };
    let build = |access: &RepositoryAccess, data: &DataDirectory, assigns_users| {
        let mut pod = pod(access, Life::Once { linger: 30 }, false, None);
        pod.data = Some(data);
        pod.surroundings = Surroundings { assigns_users };
        pod.build().spec.unwrap()
    };
    let spec = build(&access, &data, false);
    let security = spec.security_context.unwrap();
    assert_eq!(
        (security.run_as_user, security.run_as_group, security.fs_group),
        (Some(26), Some(27), Some(27))
    );
    assert_eq!(security.fs_group_change_policy.as_deref(), Some("OnRootMismatch"));
    assert_eq!(spec.init_containers, None);
    assert_eq!(spec.containers[0].command.as_ref().unwrap()[0], path::ENGINE);
    let claims: Vec<String> = spec
        .volumes
        .unwrap()
        .into_iter()
        .filter_map(|volume| volume.persistent_volume_claim)
        .map(|claim| claim.claim_name)
        .collect();
    assert_eq!(claims, ["backups", "pg"]);
    access.claim = None;
    data.engine = Some(Image {
        name: "engine:1".into(),
        pull_policy: "Always".into(),
    });
    let spec = build(&access, &data, true);
    let security = spec.security_context.unwrap();
    assert_eq!(
        (security.run_as_user, security.fs_group),
        (None, None),
        "OpenShift chooses"
    );
    assert_eq!(security.fs_group_change_policy.as_deref(), Some("OnRootMismatch"));
    let install = &spec.init_containers.unwrap()[0];
    assert_eq!(install.args.as_ref().unwrap(), &["self", "install", "/hardstorage"]);
    assert_eq!(install.image.as_deref(), Some("engine:1"));
    assert_eq!(
        spec.containers[0].command.as_ref().unwrap()[0],
        "/hardstorage/pg_hardstorage"
    );
    assert!(
        serde_json::to_string(&install.env).unwrap().contains("null"),
        "no credential goes there"
    );
    assert_eq!(install.volume_mounts.as_ref().unwrap().len(), 1);
}
