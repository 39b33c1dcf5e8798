//! Names and paths: in every alphabet, with spaces and with all that a shell or PostgreSQL reads as something else; and
//! places that a restore cannot take.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use hardstorage_e2e::{Cluster, Hardstorage, Ledger};

use crate::site::{Site, step};
use crate::verdict::{Cases, all_refused};

/// A path that nobody would choose.
const ODD: &str = "база данных 数据库 قاعدة it's \"quoted\" 100%p $HOME `x` \\ ü";

#[test]
fn deployments_in_other_alphabets() {
    let site = Site::new();
    let target = site.place("target");
    let before = site.content();
    let mut cases = Cases::new();
    for name in [
        "база",
        "数据库",
        "データベース",
        "قاعدة",
        "ｄｂ１",
        "dbé",
        "db\u{301}",
        "db\u{200b}1",
        "db\u{202e}1",
        "😀",
        "db\n1",
        "-db1",
    ] {
        for words in [
            &["backup", "--pg-connection", "host=nowhere.invalid", "--", name][..],
            &["restore", "--target", target.to_str().unwrap(), "--", name],
            &["list", "--", name],
        ] {
            // The repository's option has to stand before the name.
            let words = [&words[..1], &["--repo", &site.repo], &words[1..]].concat();
            cases.push((
                format!("{}: {name:?}", words[0]),
                site.product.run(&words),
                2,
                "usage.invalid_name",
            ));
        }
    }
    all_refused(&cases);
    assert_eq!(site.content(), before);
    assert!(!target.exists());
}

/// The keys, the repository, the target and a tablespace lie where the words have to be quoted again and again: by us, for
/// the shell that runs restore_command, and for PostgreSQL's files.
#[test]
fn paths_that_have_to_be_quoted() {
    let source = Cluster::builder(18).start();
    let mut site = Site::new();
    let odd = site.dir(ODD);
    let place = odd.join("repository");
    site.repo = format!("file://{}", encoded(place.to_str().unwrap()));
    let keys = odd.join("keys");
    site.product.set("PG_HARDSTORAGE_KEYRING_DIR", keys.to_str().unwrap());
    fs::create_dir(&place).unwrap();
    give(&place, &odd);
    site.product.run(&["repo", "init", &site.repo]).ok();

    let space = site.dir(&format!("space {}", ODD.replace('\'', "")));
    source.sql(&format!(
        "CREATE TABLESPACE \"пространство 空间\" LOCATION '{}'",
        space.display()
    ));
    Ledger::create(&source);
    source.sql("CREATE TABLE \"имя таблицы\" TABLESPACE \"пространство 空间\" AS SELECT 42 AS n");
    let mut stream = site.stream("stream", &source.connection(), &[]);
    site.backup(&source);
    let wanted = Ledger::add(&source, "behind the backup", 100);
    stream.until_durable(&source);
    stream.stop();

    let (target, elsewhere) = (odd.join("target"), odd.join("tablespace"));
    let mapping = format!("{}={}", space.display(), elsewhere.display());
    let words = [
        "restore",
        "db1",
        "--target",
        target.to_str().unwrap(),
        "--tablespace-mapping",
        &mapping,
        "--to-latest",
    ];
    site.run(&words).ok();
    let mut restored = Cluster::builder(18).over(&target).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
    assert_eq!(restored.value("SELECT n FROM \"имя таблицы\""), "42");
    site.run(&["verify", "db1"]).ok();
}

/// As in a URL.
fn encoded(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"/-._~".contains(&b);
    let bytes = path.bytes();
    bytes
        .map(|b| {
            if plain(b) {
                char::from(b).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

/// To the owner of another path.
fn give(path: &Path, like: &Path) {
    let owner = fs::metadata(like).unwrap();
    chown(path, Some(owner.uid()), Some(owner.gid())).unwrap();
}

#[test]
fn targets_that_cannot_be_taken() {
    let source = Cluster::builder(18).start();
    let site = Site::new();
    Ledger::create(&source);
    let wanted = Ledger::add(&source, "rows", 100);
    site.backup(&source);
    let (full, closed, empty) = (site.dir("full"), site.dir("closed"), site.dir("empty"));
    fs::write(full.join("mine"), "mine").unwrap();
    let file = full.join("mine");
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o555)).unwrap();
    let (to_full, to_nothing, to_file, in_circles) = (
        site.place("to-full"),
        site.place("to-nothing"),
        site.place("to-file"),
        site.place("in-circles"),
    );
    symlink(&full, &to_full).unwrap();
    symlink(site.place("nothing"), &to_nothing).unwrap();
    symlink(&file, &to_file).unwrap();
    symlink(&in_circles, &in_circles).unwrap();
    let long = site.place(&"n".repeat(300));
    let running = source.data().to_owned();
    let home = site.product.home();
    let before = data(&site);
    let mut cases = Cases::new();
    for (what, target, exit, code) in [
        ("a directory with a file", full.clone(), 7, "conflict.target_not_empty"),
        ("a link to one", to_full, 7, "conflict.target_not_empty"),
        ("a file", file.clone(), 7, "conflict.target_not_empty"),
        ("a link to a file", to_file, 7, "conflict.target_not_empty"),
        ("a link to nothing", to_nothing, 1, "io"),
        ("a link to itself", in_circles, 1, "io"),
        ("below a file", file.join("data"), 1, "io"),
        ("a device", "/dev/null".into(), 7, "conflict.target_not_empty"),
        ("the root", "/".into(), 2, "usage.target_in_repository"),
        ("the kernel's", "/proc/x".into(), 4, "preflight.no_space"),
        ("no permission", closed.join("data"), 1, "io"),
        ("a name that is too long", long, 1, "io"),
        ("a running server", running.clone(), 7, "conflict.target_running"),
        ("the repository", site.repository(), 2, "usage.target_in_repository"),
        (
            "in the repository",
            site.repository().join("data"),
            2,
            "usage.target_in_repository",
        ),
        ("no path", "".into(), 2, "usage.invalid"),
    ] {
        let words = ["restore", "db1", "--target", target.to_str().unwrap()];
        cases.push((what.to_owned(), site.run(&words), exit, code));
    }
    let target = site.place("target");
    let target = target.to_str().unwrap();
    for (what, more, exit, code) in [
        (
            "a mapping of nothing",
            ["--tablespace-mapping", "/nowhere=/elsewhere"],
            2,
            "usage.invalid",
        ),
        (
            "a relative mapping",
            ["--tablespace-mapping", "a=b"],
            2,
            "usage.invalid",
        ),
        (
            "two targets",
            ["--to-latest", "--to=2026-01-01 00:00Z"],
            2,
            "usage.invalid",
        ),
        (
            "an owner that is not there",
            ["--owner", "nobody-of-this-name"],
            2,
            "usage.invalid",
        ),
    ] {
        let words = [&["restore", "db1", "--target", target], &more[..]].concat();
        cases.push((what.to_owned(), site.run(&words), exit, code));
    }
    assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    assert_eq!(fs::read_dir(&full).unwrap().count(), 1);
    assert_eq!(fs::read_dir(&closed).unwrap().count(), 0);
    assert!(fs::symlink_metadata(site.place("nothing")).is_err());
    assert_eq!(source.value("SELECT 1"), "1");
    all_refused(&cases);
    assert_eq!(data(&site), before);

    step("an empty directory, and a link to one, are as good as none");
    let link = home.join("link");
    symlink(&empty, &link).unwrap();
    site.run(&["restore", "db1", "--target", link.to_str().unwrap()]).ok();
    let mut restored = Cluster::builder(18).over(&empty).start();
    restored.until_promoted();
    assert_eq!(Ledger::read(&restored), wanted);
}

/// What is stored, without the record of who tried to restore it.
pub fn data(site: &Site) -> Vec<PathBuf> {
    let record = site.repository().join("audit");
    let stored = site.stored().into_keys();
    stored.filter(|path| !path.starts_with(&record)).collect()
}

/// A user of the machine who may do nothing: no home, no key, no configuration.
#[test]
fn a_user_without_a_place() {
    let site = Site::new();
    let stranger = Hardstorage::new();
    fs::set_permissions(stranger.home(), fs::Permissions::from_mode(0o555)).unwrap();
    let new = format!("file://{}", site.dir("new").display());
    let before = site.content();
    let cases: Cases = vec![
        (
            "a key cannot be kept".to_owned(),
            stranger.run(&["repo", "init", &new]),
            1,
            "other.keyring_io",
        ),
        (
            "no key".to_owned(),
            stranger.run(&["list", "db1", "--repo", &site.repo]),
            3,
            "auth.key_missing",
        ),
    ];
    all_refused(&cases);
    assert_eq!(
        fs::read_dir(site.place("new")).unwrap().count(),
        0,
        "a repository without its key"
    );
    assert_eq!(site.content(), before);
}
