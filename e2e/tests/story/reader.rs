//! A backup outlives the program that took it: a second reader, written from the description of the format alone and in
//! another language, restores what we restore, byte for byte, and PostgreSQL starts on it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use hardstorage_e2e::{Cluster, Hardstorage, Ledger, Reader, Scratch};

const MINUTE: Duration = Duration::from_mins(1);

/// What a directory holds: for each path its mode and its bytes, or where a link points. `skip` are the files that a
/// restore of ours adds or changes on purpose.
fn contents(root: &Path, skip: &dyn Fn(&str) -> bool) -> BTreeMap<String, (u32, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if skip(&name) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap();
            let bytes = if meta.is_dir() {
                folders.push(path);
                b"directory".to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(name, (meta.mode() & 0o7777, bytes));
        }
    }
    found
}

/// Fails with names, not with megabytes.
fn assert_same(ours: &Path, theirs: &Path) {
    // Settings and signal of recovery, the links to tablespaces (their content is compared by itself), and the WAL that
    // the reader put in place.
    let skip = |name: &str| {
        ["postgresql.auto.conf", "recovery.signal"].contains(&name)
            || name.starts_with("pg_tblspc/")
            || (name.starts_with("pg_wal/") && name.len() == "pg_wal/".len() + 24)
    };
    let (ours, theirs) = (contents(ours, &skip), contents(theirs, &skip));
    assert!(ours.len() > 10, "{} files are not a backup", ours.len());
    let names = |all: &BTreeMap<String, _>| all.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&ours), names(&theirs));
    let differing: Vec<_> = ours.keys().filter(|name| ours[*name] != theirs[*name]).collect();
    assert!(differing.is_empty(), "these differ: {differing:?}");
}

#[test]
fn the_documented_format_is_enough_to_restore() {
    let scratch = Scratch::new();
    let repo = format!("file://{}", scratch.dir("backup").display());
    let product = Hardstorage::new();
    let mut source = Cluster::builder(18).start();
    let connection = source.connection();
    product.run(&["repo", "init", &repo]).ok();
    let reader = Reader::new(&scratch, Some(&product.config().join("keyring/kek.bin")), &repo);

    let mut stream = product.start(
        "stream",
        &[
            "wal",
            "stream",
            "db1",
            "--pg-connection",
            &connection,
            "--repo",
            &repo,
            "--flush-interval",
            "1s",
        ],
    );
    stream.until("the slot is in use", MINUTE, || {
        source.try_value("SELECT 1 FROM pg_replication_slots WHERE active").ok()
    });

    // Backups between which few pages of a large relation change, and one at which it has shrunk, so that layers pile up;
    // the last one shares the rest with all of them.
    let space = scratch.dir("space");
    source.sql(&format!("CREATE TABLESPACE elsewhere LOCATION '{}'", space.display()));
    source.sql("CREATE TABLE away (id int PRIMARY KEY, filling text) TABLESPACE elsewhere");
    source.sql("INSERT INTO away SELECT g, repeat('x', 500) FROM generate_series(1, 10000) g");
    source.sql("VACUUM (FREEZE) away");
    Ledger::create(&source);
    let first_rows = Ledger::add(&source, "in both", 5000);
    let backup = || {
        let answer = product
            .run(&[
                "backup",
                "db1",
                "--pg-connection",
                &connection,
                "--repo",
                &repo,
                "-o",
                "json",
            ])
            .ok();
        answer.result()["backup_id"].as_str().unwrap().to_owned()
    };
    let first = backup();
    for round in 0..8 {
        if round == 4 {
            source.sql("DELETE FROM away WHERE id > 9000");
            source.sql("VACUUM away");
        }
        let some = round * 700;
        source.sql(&format!(
            "UPDATE away SET filling = 'changed' WHERE id BETWEEN {some} AND {some} + 5"
        ));
        backup();
    }
    source.sql("UPDATE away SET filling = 'at last' WHERE id BETWEEN 6000 AND 6005");
    let second_rows = Ledger::add(&source, "in the second", 20_000);
    assert_ne!(first_rows, second_rows);
    let second = backup();

    let listed = reader.run("list", &["db1"]).ok();
    let ids: Vec<&str> = listed
        .stdout
        .lines()
        .filter_map(|line| line.split('\t').next())
        .collect();
    assert_eq!(ids.len(), 10, "{listed}");
    assert!(
        ids.contains(&first.as_str()) && ids.contains(&second.as_str()),
        "{listed}"
    );

    let oid = source.value("SELECT oid FROM pg_tablespace WHERE spcname = 'elsewhere'");
    for (id, rows, tag) in [(&first, &first_rows, "first"), (&second, &second_rows, "second")] {
        let path = |who: &str, what: &str| scratch.path(&format!("{who}-{tag}-{what}"));
        let (ours, our_space) = (path("ours", "data"), path("ours", "space"));
        let (theirs, their_space) = (path("theirs", "data"), path("theirs", "space"));
        let mapping = format!("{}={}", space.display(), our_space.display());
        let target = ours.display().to_string();
        product
            .run(&[
                "restore",
                "db1",
                id,
                "--target",
                &target,
                "--repo",
                &repo,
                "--tablespace-mapping",
                &mapping,
            ])
            .ok();
        let mapping = format!("{oid}={}", their_space.display());
        let target = theirs.display().to_string();
        let told = reader
            .run("restore", &["db1", id, &target, "--tablespace", &mapping, "--with-wal"])
            .ok();
        // Otherwise this would prove the easy half only.
        assert_eq!(told.stdout.contains(" 1 layers"), tag == "first", "{told}");
        assert_same(&ours, &theirs);
        let everything = |root: &Path| contents(root, &|_| false);
        assert_eq!(everything(&our_space), everything(&their_space));
        source
            .tool("pg_verifybackup", &["--no-parse-wal", "--ignore=pg_wal", &target])
            .ok();

        let restored = Cluster::builder(18).over(&theirs).start();
        assert_eq!(&Ledger::read(&restored), rows);
    }

    // WAL: a finished segment and the unfinished one, held against the server's own files.
    Ledger::add(&source, "in a finished segment", 100);
    let finished = source.value("SELECT pg_walfile_name(pg_switch_wal())");
    Ledger::add(&source, "in the tail", 100);
    source.until_acknowledged();
    let unfinished = source.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())");
    let used: usize = source
        .value("SELECT (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset")
        .parse()
        .unwrap();
    let own = source.data().join("pg_wal");
    let reads = |name: &str, length: usize| {
        let out = scratch.path(name);
        reader.run("wal", &["db1", name, &out.display().to_string()]).ok();
        let (read, own) = (fs::read(&out).unwrap(), fs::read(own.join(name)).unwrap());
        assert_eq!(read.len(), 16 << 20);
        let differs = (0..length).find(|at| read[*at] != own[*at]);
        assert_eq!(differs, None, "{name} is not what the server wrote up to {length}");
    };
    reads(&finished, 16 << 20);
    reads(&unfinished, used);
    stream.stop().ok();
    let connection = ["--pg-connection", &connection, "--repo", &repo];
    let words = [&["wal", "stream", "db1", "--synchronous"][..], &connection].concat();
    let mut stream = product.start("synchronous", &words);
    stream.until("the slot is in use", MINUTE, || {
        source.try_value("SELECT 1 FROM pg_replication_slots WHERE active").ok()
    });
    for _ in 0..20 {
        Ledger::add(&source, "in the journal", 10);
    }
    source.until_acknowledged();
    let used = source.value("SELECT (pg_walfile_name_offset(pg_current_wal_flush_lsn())).file_offset");
    stream.kill();
    let lineages = fs::read_dir(scratch.path("backup/wal/db1")).unwrap();
    let lineage = lineages.into_iter().next().unwrap().unwrap().path();
    let tails = fs::read_dir(lineage.join("tails/00000001").join(&unfinished)).unwrap();
    let names: Vec<_> = tails
        .map(|tail| tail.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(names.iter().any(|name| name.contains("-journal-")), "{names:?}");
    reads(&unfinished, used.parse().unwrap());

    // What an archiver hands over besides.
    let wal = source.data().join("pg_wal");
    let partial = wal.join(format!("{finished}.partial"));
    fs::copy(wal.join(&finished), &partial).unwrap();
    fs::set_permissions(&partial, fs::Permissions::from_mode(0o644)).unwrap();
    let history = wal.join("00000002.history");
    fs::write(&history, "1\t0/3000158\tno recovery target specified\n").unwrap();
    let start = "000000010000000000000009.00000028.backup";
    let label = "START WAL LOCATION: 0/9000028 (file 000000010000000000000009)\nLABEL: by hand\n";
    fs::write(wal.join(start), label).unwrap();
    for path in [partial, history, wal.join(start)] {
        let (path, name) = (path.to_str().unwrap(), path.file_name().unwrap().to_str().unwrap());
        product.run(&["wal", "push", "db1", path, "--repo", &repo]).ok();
        let out = scratch.path(name);
        reader.run("wal", &["db1", name, out.to_str().unwrap()]).ok();
        assert!(
            fs::read(&out).unwrap() == fs::read(path).unwrap(),
            "{name} is not what was archived"
        );
    }

    let all = reader.check().ok();
    for kind in ["manifest\t10", "history\t1", "partial\t1", "backup_history\t1"] {
        assert!(all.stdout.contains(&format!("{kind}\n")), "{kind}: {all}");
    }

    refuses_what_was_changed(&scratch, &reader, &second);
}

/// A reader that believes everything would prove nothing.
fn refuses_what_was_changed(scratch: &Scratch, reader: &Reader, backup: &str) {
    let manifest = scratch.path(&format!("backup/manifests/db1/{backup}/manifest.json"));
    let target = scratch.path("never").display().to_string();
    let original = fs::read(&manifest).unwrap();
    let mut changed = original.clone();
    let last = changed.len() - 10;
    changed[last] ^= 1;
    fs::set_permissions(&manifest, fs::Permissions::from_mode(0o644)).unwrap();
    fs::write(&manifest, &changed).unwrap();
    let refused = reader.run("restore", &["db1", backup, &target]).exits(1);
    assert!(refused.stderr.contains("signature"), "{refused}");
    let found = reader.check().exits(1);
    assert!(found.stdout.contains("damaged\tmanifests/"), "{found}");
    fs::write(&manifest, &original).unwrap();

    let other_key = scratch.path("other.bin");
    fs::write(&other_key, [7; 32]).unwrap();
    fs::set_permissions(&other_key, fs::Permissions::from_mode(0o644)).unwrap();
    let stranger = reader.with_kek(&other_key);
    stranger.run("list", &["db1"]).exits(1);
}
