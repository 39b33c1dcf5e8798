//! Where a restore writes, and for whom.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use hardstorage_e2e::{Cluster, Ledger, run};
use rustix::process::geteuid;

use crate::site::{PATIENCE, Site, id, step};

#[test]
fn root_restores_for_the_owner_of_the_place() {
    if !geteuid().is_root() {
        step("not root: nothing to show here");
        return;
    }
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 100);
    site.backup(&source);
    let as_root = |target: &str| {
        let words = ["restore", "db1", "--target", target, "--repo", &site.repo];
        run(site.product.command_as_caller(&words), Duration::from_mins(2))
    };

    step("a directory of root");
    let theirs = tempfile();
    let refused = as_root(theirs.join("data").to_str().unwrap()).exits(4);
    assert!(refused.stderr.contains("ERROR preflight.owner_unclear: "), "{refused}");
    assert!(refused.stderr.contains("--owner"), "{refused}");
    assert_eq!(fs::read_dir(&theirs).unwrap().count(), 0);
    fs::remove_dir(&theirs).unwrap();

    step("a directory of the server's user");
    let target = site.dir("postgres").join("data");
    let done = as_root(target.to_str().unwrap()).ok();
    let wanted_owner = fs::metadata(site.dir("postgres")).unwrap().uid();
    assert_ne!(wanted_owner, 0);
    let mut waiting = vec![target.clone()];
    while let Some(path) = waiting.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        assert_eq!(metadata.uid(), wanted_owner, "{}\n{done}", path.display());
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
}

/// A directory of root's own.
fn tempfile() -> std::path::PathBuf {
    let path = std::path::PathBuf::from(format!("/tmp/hs.root.{}", std::process::id()));
    fs::create_dir(&path).unwrap();
    path
}

#[test]
fn targets_that_are_in_use_are_refused() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let backup = id(&site.backup(&source));
    let refuse = |target: &str, exit: i32, code: &str| {
        let words = ["restore", "db1", "latest", "--target", target];
        let answer = site.run(&words).exits(exit);
        // There may be more than one reason; the first is the error, the preview has all of them.
        let preview = site.run(&[&words[..], &["--preview"]].concat()).exits(exit);
        assert!(
            answer.stderr.contains("ERROR ") && answer.stderr.contains("hint: "),
            "{answer}"
        );
        assert!(preview.stdout.contains(code), "{preview}");
    };

    step("a directory with a file in it");
    let full = site.dir("full");
    fs::write(full.join("keep"), "me").unwrap();
    refuse(full.to_str().unwrap(), 7, "conflict.target_not_empty");
    assert_eq!(fs::read_to_string(full.join("keep")).unwrap(), "me");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);

    step("a running server's directory");
    let running = source.data().to_str().unwrap().to_owned();
    refuse(&running, 7, "conflict.target_running");
    assert_eq!(source.value("SELECT 1"), "1");

    step("another cluster's directory");
    let foreign = Cluster::builder(18).own_identity().make();
    let control = fs::read(foreign.data().join("global/pg_control")).unwrap();
    refuse(foreign.data().to_str().unwrap(), 7, "conflict.target_foreign_cluster");
    assert_eq!(fs::read(foreign.data().join("global/pg_control")).unwrap(), control);

    step("a directory inside the repository");
    let before = site.content();
    let inside = site.repository().join("data");
    refuse(inside.to_str().unwrap(), 2, "usage.target_in_repository");
    assert!(!inside.exists());

    step("a link into the repository");
    let link = site.place("link");
    std::os::unix::fs::symlink(site.repository(), &link).unwrap();
    refuse(link.join("data").to_str().unwrap(), 2, "usage.target_in_repository");
    assert_eq!(
        site.content().keys().collect::<Vec<_>>(),
        before.keys().collect::<Vec<_>>()
    );

    step("a backup of another deployment");
    let other = Cluster::builder(18).start();
    let connection = other.connection();
    site.run(&["backup", "db2", "--pg-connection", &connection]).ok();
    let target = site.place("other");
    let answer = site
        .run(&["restore", "db2", &backup, "--target", target.to_str().unwrap()])
        .exits(6);
    assert!(answer.stderr.contains("ERROR notfound.backup: "), "{answer}");
    assert!(!target.exists());
}

/// What a scheduler put beside a backup comes back with the plan, so that nobody has to write it again by hand.
#[test]
fn a_plan_tells_the_definition_of_the_source() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    let connection = source.connection();
    let take = ["backup", "db1", "--pg-connection", &connection, "-o", "json"];
    let definition = site.dir("s").join("cluster.json");
    let preview = |backup: &str| {
        let target = site.place("restored");
        let words = [
            "restore",
            "db1",
            backup,
            "--target",
            target.to_str().unwrap(),
            "--preview",
        ];
        site.ask(&words)
    };
    let plain = id(&site.run(&take).ok().result());
    assert!(preview(&plain)["source_snapshot"].is_null());

    fs::write(&definition, r#"{"kind": "Cluster", "spec": {"instances": 3}}"#).unwrap();
    let with = [&take[..], &["--source-snapshot", definition.to_str().unwrap()]].concat();
    let described = id(&site.run(&with).ok().result());
    let plan = preview(&described);
    assert_eq!(plan["source_snapshot"]["spec"]["instances"], 3, "{plan}");

    step("one that is no JSON stands in nobody's way");
    fs::write(&definition, "kind: Cluster").unwrap();
    let plan = preview(&id(&site.run(&with).ok().result()));
    assert!(plan["source_snapshot"].is_null(), "{plan}");
    assert!(plan.to_string().contains("definition of the source"), "{plan}");
}

/// Both see an empty directory; one gets it, and the other leaves it alone.
#[test]
fn two_restores_into_one_place() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 1000);
    site.backup(&source);
    for round in 0..4 {
        step(&format!("round {round}"));
        let target = site.place(&format!("target-{round}"));
        let words = [
            "restore",
            "db1",
            "--target",
            target.to_str().unwrap(),
            "--repo",
            &site.repo,
        ];
        let both = ["a", "b"].map(|name| site.product.start(&format!("restore-{round}-{name}"), &words));
        let answers = both.map(|mut restore| restore.wait(PATIENCE));
        let mut ends = answers.each_ref().map(|answer| answer.code);
        ends.sort_unstable();
        let [first, second] = &answers;
        assert_eq!(ends, [Some(0), Some(7)], "{first}\n{second}");
        let loser = answers.iter().find(|answer| answer.code == Some(7)).unwrap();
        assert!(loser.stderr.contains("ERROR conflict.target_not_empty: "), "{loser}");
        assert!(!target.join(".pg_hardstorage.restore").exists());
        let mut restored = Cluster::builder(18).over(&target).start();
        restored.until_promoted();
        assert_eq!(Ledger::read(&restored), wanted);
    }
}

/// A file system that is too small is told before the first byte, and a repository that fills up commits nothing.
#[test]
fn too_little_space() {
    if !geteuid().is_root() {
        step("not root: no file system can be mounted");
        return;
    }
    let source = Cluster::builder(18).start();
    let site = Site::new();
    site.backup(&source);
    let small = site.dir("small");
    let place = small.to_str().unwrap();
    // In a mount namespace of its own, which ends with the command.
    let inside = |script: &str| {
        let product = site.product.command(&[]);
        let words: Vec<String> = std::iter::once(product.get_program())
            .chain(product.get_args())
            .map(|word| word.to_str().unwrap().to_owned())
            .collect();
        let mut command = std::process::Command::new("unshare");
        command.env_clear();
        for (name, value) in product.get_envs() {
            command.env(name, value.unwrap_or_default());
        }
        command
            .env("RUN", words.join(" "))
            .env("SMALL", place)
            .env("REPO", &site.repo)
            .env("SOURCE", source.connection());
        let mount = r#"mount -t tmpfs -o size=2m,mode=0777 none "$SMALL" || exit 99; "#;
        command.args(["--mount", "sh", "-c", &format!("{mount}{script}")]);
        run(command, Duration::from_mins(2))
    };

    step("a restore");
    let answer =
        inside(r#"$RUN restore db1 --repo "$REPO" --target "$SMALL/data"; code=$?; ls -A "$SMALL"; exit $code"#);
    let answer = answer.exits(4);
    assert!(answer.stderr.contains("ERROR preflight.no_space: "), "{answer}");
    assert_eq!(answer.stdout, "", "{answer}");

    step("a backup");
    let answer = inside(
        r#"$RUN repo init "file://$SMALL/r" >&2 && ! $RUN backup db1 --pg-connection "$SOURCE" --repo "file://$SMALL/r" >&2 \
        && exec $RUN list db1 --repo "file://$SMALL/r" -o json"#,
    )
    .ok();
    assert!(answer.stderr.contains("ERROR storage.full: "), "{answer}");
    assert_eq!(answer.result()["count"], 0, "{answer}");
}
