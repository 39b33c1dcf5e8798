//! Files that are refused, merged, and answered for one deployment.

use super::*;

#[test]
fn unknown_fields_and_other_schemas_are_refused() {
    for bad in [
        "deploymentz: {}",
        "deployments: {db1: {retentoin: {}}}",
        "deployments: {db1: {retention: {keep_dayly: 7}}}",
        "deployments: {db1: {retention: {policy: lifo}}}",
        "schema: pg_hardstorage.config.v2",
        "deployments: {../x: {}}",
        "deployments: [",
        "schedule: {bakup: '@daily'}",
        "deployments: {db1: {schedule: {rotat: off}}}",
        "deployments: {db1: {stream: perhaps}}",
        "deployments: {db1: {patroni: {password: secret}}}",
        "agent: {max_concurent: 2}",
        "agent: {max_concurrent: 0}",
        "agent: {limits: {backup: soon}}",
        "agent: {limits: {stream: 1h}}",
        "agent: {listen: everywhere}",
    ] {
        let error = parse(bad, Path::new("x.yaml")).expect_err(bad);
        assert!(error.is(code::cli::CONFIG), "{bad}");
        assert!(error.to_string().contains("x.yaml"), "{error}");
    }
}

#[test]
fn drop_ins_win_field_by_field() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("pg_hardstorage.yaml");
    std::fs::create_dir(root.path().join("conf.d")).unwrap();
    std::fs::write(
        &file,
        "deployments: {db1: {repo: 'file:///a', retention: {policy: gfs, keep_daily: 3}}}",
    )
    .unwrap();
    std::fs::write(
        root.path().join("conf.d/10.yaml"),
        "deployments: {db1: {repo: 'file:///b'}}",
    )
    .unwrap();
    std::fs::write(root.path().join("conf.d/20.yaml"), "deployments: {db1: {slot: s}}").unwrap();
    let config = Config::load(&file, true).unwrap();
    let db1 = &config.deployments[&"db1".parse::<DeploymentName>().unwrap()];
    assert_eq!(
        (db1.repo.as_deref(), db1.slot.as_deref()),
        (Some("file:///b"), Some("s"))
    );
    assert_eq!(db1.retention.unwrap().gfs().keep_daily, 3);
    assert_eq!(db1.retention.unwrap().gfs().keep_weekly, 4);
}

#[test]
fn what_the_agent_reads_is_merged_and_written_as_it_was_read() {
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("pg_hardstorage.yaml");
    std::fs::create_dir(root.path().join("conf.d")).unwrap();
    let text = "timezone: Europe/Berlin\nschedule: {backup: '@daily', check: off}\n\
        agent: {max_concurrent: 3, limits: {backup: 2d, check: 90m}}\n\
        deployments: {db1: {schedule: {backup: 0 2 * * *, rotate: off}}}";
    std::fs::write(&file, text).unwrap();
    std::fs::write(
        root.path().join("conf.d/10.yaml"),
        "schedule: {check: '@weekly'}\nagent: {listen: '127.0.0.1:0', limits: {check: 1h}}\n\
         deployments: {db1: {stream: false, schedule: {rotate: '@daily'}}}",
    )
    .unwrap();
    let config = Config::load(&file, true).unwrap();
    let words = |map: &BTreeMap<TaskName, String>| -> Vec<String> {
        map.iter()
            .map(|(name, text)| format!("{} {text}", name.as_str()))
            .collect()
    };
    assert_eq!(words(&config.schedule), ["backup @daily", "check @weekly"]);
    let db1 = &config.deployments[&"db1".parse::<DeploymentName>().unwrap()];
    assert_eq!(words(&db1.schedule), ["backup 0 2 * * *", "rotate @daily"]);
    assert_eq!(db1.stream, Some(false));
    assert_eq!(config.agent.max_concurrent.map(u16::from), Some(3));
    let limits: Vec<u64> = config.agent.limits.values().map(|span| span.0.as_secs()).collect();
    assert_eq!(limits, [2 * 86_400, 3600]);
    let copy = root.path().join("elsewhere/copy.yaml");
    config.clone().save(&copy).unwrap();
    let read = Config::load(&copy, true).unwrap();
    assert_eq!(
        read,
        Config {
            schema: Some(SCHEMA.to_owned()),
            ..config
        }
    );
}

#[test]
fn saving_keeps_the_others_and_is_private() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let file = root.path().join("new/pg_hardstorage.yaml");
    for name in ["db1", "db2"] {
        let entry = DeploymentConfig {
            repo: Some(format!("file:///{name}")),
            ..DeploymentConfig::default()
        };
        Config::save_deployment(&file, &name.parse().unwrap(), entry).unwrap();
    }
    let config = Config::load(&file, true).unwrap();
    assert_eq!(config.deployments.len(), 2);
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(Config::load(&root.path().join("absent.yaml"), true).is_err());
    assert_eq!(
        Config::load(&root.path().join("absent.yaml"), false).unwrap(),
        Config::default()
    );
}
