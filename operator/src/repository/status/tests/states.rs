//! Each state, and the conditions that it has.

use super::*;

#[test]
fn every_state_has_its_conditions() {
    let ours = json!({"repositoryID": ID});
    let seen = |value: Value| one("p", went_well(value, None));
    let with = |key: &str, value: Value| {
        let mut all = present();
        all[key] = value;
        all
    };
    let no_key = || {
        let mut all = present();
        all.as_object_mut().unwrap().remove("own_key");
        all
    };
    let cases = vec![
        // what, spec, status, probe, Ready, Stalled, Reachable, KeyAvailable
        (
            json!({}),
            Value::Null,
            Runs::default(),
            "False/Probing",
            "False",
            "Unknown/Probing",
            "Unknown/Probing",
        ),
        (
            json!({}),
            Value::Null,
            one("p", went_wrong("unreachable.store")),
            "False/Unreachable",
            "False",
            "False/UnreachableStore",
            "Unknown/Unreachable",
        ),
        (
            json!({}),
            Value::Null,
            one("p", went_wrong("auth.store_denied")),
            "False/Unreachable",
            "False",
            "False/AuthStoreDenied",
            "Unknown/Unreachable",
        ),
        (
            json!({}),
            Value::Null,
            one("p", lost()),
            "False/Unreachable",
            "False",
            "False/Unschedulable",
            "Unknown/Unreachable",
        ),
        (
            json!({}),
            Value::Null,
            seen(absent()),
            "False/Creating",
            "False",
            "True/Answers",
            "Unknown/Creating",
        ),
        (
            json!({"creation": "MustExist"}),
            Value::Null,
            seen(absent()),
            "False/NotFound",
            "True",
            "True/Answers",
            "Unknown/NotFound",
        ),
        (
            json!({"accessMode": "ReadOnly"}),
            Value::Null,
            seen(absent()),
            "False/NotFound",
            "True",
            "True/Answers",
            "Unknown/NotFound",
        ),
        (
            json!({}),
            ours.clone(),
            seen(absent()),
            "False/RepositoryVanished",
            "True",
            "True/Answers",
            "Unknown/RepositoryVanished",
        ),
        (
            json!({}),
            json!({"repositoryID": "ff"}),
            seen(present()),
            "False/RepositoryReplaced",
            "True",
            "True/Answers",
            "Unknown/RepositoryReplaced",
        ),
        (
            json!({}),
            Value::Null,
            seen(json!({"state": "foreign", "examples": ["a"]})),
            "False/NotARepository",
            "True",
            "True/Answers",
            "Unknown/NotARepository",
        ),
        (
            json!({}),
            ours.clone(),
            seen(json!({"state": "descriptor lost"})),
            "False/DescriptorLost",
            "True",
            "True/Answers",
            "Unknown/DescriptorLost",
        ),
        (
            json!({}),
            ours.clone(),
            seen(no_key()),
            "False/KeyMissing",
            "True",
            "True/Answers",
            "False/KeyMissing",
        ),
        (
            json!({}),
            ours.clone(),
            seen(with("own_key", json!("ff"))),
            "False/KeyMismatch",
            "True",
            "True/Answers",
            "False/KeyMismatch",
        ),
        (
            json!({}),
            Value::Null,
            seen(json!({"state": "present", "id": ID, "encrypted": false})),
            "False/EncryptionMismatch",
            "True",
            "True/Answers",
            "Unknown/EncryptionMismatch",
        ),
        (
            json!({"encryption": {"none": {}}}),
            Value::Null,
            seen(present()),
            "False/EncryptionMismatch",
            "True",
            "True/Answers",
            "True/NotEncrypted",
        ),
        (
            json!({"encryption": {"none": {}}}),
            Value::Null,
            seen(json!({"state": "present", "id": ID, "encrypted": false})),
            "True/Ready",
            "False",
            "True/Answers",
            "True/NotEncrypted",
        ),
        (
            json!({}),
            Value::Null,
            seen(present()),
            "True/Ready",
            "False",
            "True/Answers",
            "True/Matches",
        ),
        (
            json!({}),
            ours,
            seen(present()),
            "True/Ready",
            "False",
            "True/Answers",
            "True/Matches",
        ),
    ];
    for (spec, status, probe, ready, stalled, reachable, key) in cases {
        let scene = Scene::new(spec.clone(), status, probe);
        let status = scene.status();
        assert_eq!(says(&status, READY), ready, "{spec}");
        assert!(
            says(&status, STALLED).starts_with(stalled),
            "{ready}: {}",
            says(&status, STALLED)
        );
        assert_eq!(says(&status, REACHABLE), reachable, "{ready}");
        assert_eq!(says(&status, KEY_AVAILABLE), key, "{ready}");
        let pattern = |reason: &str| reason.chars().all(|c| c.is_ascii_alphanumeric());
        assert!(
            status.conditions.iter().all(|one| pattern(&one.reason)),
            "{:?}",
            status.conditions
        );
        if ready != "True/Ready" {
            assert!(!message(&status, READY).is_empty(), "{ready} says nothing");
        }
    }
}
