//! What stands in the way of a restore, and what does not.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
use super::*;

fn codes(problems: &[Error]) -> Vec<&'static str> {
    problems.iter().map(|problem| problem.code().as_str()).collect()
}

fn place(path: &Path, bytes: u64) -> Place {
    Place {
        path: resolve(path).unwrap(),
        bytes,
    }
}

#[test]
fn an_empty_or_missing_target_is_fine() {
    let root = tempfile::tempdir().unwrap();
    for target in [root.path().join("new/deep"), root.path().to_owned()] {
        assert!(check(&place(&target, 1), &[], None, SystemId(1), None).is_empty());
    }
}

#[test]
fn every_problem_is_named() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    fs::create_dir_all(data.join("global")).unwrap();
    fs::write(data.join("global/pg_control"), 7u64.to_ne_bytes()).unwrap();
    fs::write(data.join("postmaster.pid"), "1").unwrap();
    let found = check(&place(&data, u64::MAX / 2), &[], None, SystemId(1), None);
    assert_eq!(
        codes(&found),
        [
            "conflict.target_running",
            "conflict.target_foreign_cluster",
            "conflict.target_not_empty",
            "preflight.no_space"
        ]
    );
    let inside = check(
        &place(&root.path().join("repo/x"), 1),
        &[],
        Some(&place(&root.path().join("repo"), 0).path),
        SystemId(1),
        None,
    );
    assert_eq!(codes(&inside), ["usage.target_in_repository"]);
    let nested = check(
        &place(&root.path().join("a"), 1),
        &[place(&root.path().join("a/b"), 1)],
        None,
        SystemId(1),
        None,
    );
    assert_eq!(codes(&nested), ["usage.invalid"]);
}

#[test]
fn what_an_earlier_process_has_left_is_no_problem_for_the_same_restore() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    fs::create_dir_all(data.join("global")).unwrap();
    fs::write(data.join("global/pg_control"), 7u64.to_ne_bytes()).unwrap();
    fs::write(data.join(MARKER), "run-1\n").unwrap();
    let found = |bytes: u64, id: Option<&str>| codes(&check(&place(&data, bytes), &[], None, SystemId(1), id));
    assert_eq!(found(1, Some("run-1")), [""; 0]);
    for other in [None, Some("run-2")] {
        assert_eq!(
            found(1, other),
            ["conflict.target_foreign_cluster", "conflict.target_not_empty"]
        );
    }
    // What it holds is free again: the difference between too much and just enough.
    fs::write(data.join("half"), vec![1; 8 << 20]).unwrap();
    fs::File::open(data.join("half")).unwrap().sync_all().unwrap();
    assert!(occupied(&data) >= 8 << 20, "{}", occupied(&data));
    fs::write(data.join("postmaster.pid"), "1").unwrap();
    assert_eq!(found(1, Some("run-1")), ["conflict.target_running"]);
}

#[test]
fn a_link_into_the_repository_is_seen() {
    let root = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join("repo")).unwrap();
    std::os::unix::fs::symlink(root.path().join("repo"), root.path().join("link")).unwrap();
    let repository = place(&root.path().join("repo"), 0).path;
    let found = check(
        &place(&root.path().join("link/x"), 1),
        &[],
        Some(&repository),
        SystemId(1),
        None,
    );
    assert_eq!(codes(&found), ["usage.target_in_repository"]);
}

#[test]
fn owners() {
    let passwd = "root:x:0:0::/root:/bin/sh\npostgres:x:26:27::/var/lib:/bin/sh\n";
    let group = "postgres:x:27:\nbackup:x:34:\n";
    assert_eq!(
        parse_owner("postgres", passwd, group).unwrap(),
        Owner { uid: 26, gid: 27 }
    );
    assert_eq!(
        parse_owner("postgres:backup", passwd, group).unwrap(),
        Owner { uid: 26, gid: 34 }
    );
    assert_eq!(parse_owner("26:26", passwd, group).unwrap(), Owner { uid: 26, gid: 26 });
    assert!(parse_owner("nobody-here", passwd, group).is_err());
}
