//! Repositories that cannot be opened: missing, made already, of a newer program, without the key.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use hardstorage_e2e::{Answer, Cluster};

use crate::site::{Site, step};
use crate::verdict::refused;

/// A repository with one backup, a place for a restore, and every command that opens it.
struct Opened {
    source: Cluster,
    site: Site,
}

impl Opened {
    fn new() -> Opened {
        let source = Cluster::builder(18).start();
        let site = Site::new();
        site.backup(&source);
        Opened { source, site }
    }

    fn target(&self) -> PathBuf {
        self.site.place("target")
    }

    /// Every command that opens the repository is refused so, and nothing is written anywhere.
    #[track_caller]
    fn refuse(&self, what: &str, url: &str, exit: i32, code: &str) {
        let before = self.site.content();
        let (connection, target) = (self.source.connection(), self.target());
        let (target, fetched) = (target.to_str().unwrap(), self.site.place("fetched"));
        let fetch = fetched.to_str().unwrap();
        for (words, exit) in [
            (&["backup", "db1", "--pg-connection", &connection][..], exit),
            (&["wal", "stream", "db1", "--pg-connection", &connection], exit),
            (&["restore", "db1", "--target", target], exit),
            (&["list", "db1"], exit),
            (&["show", "db1", "latest"], exit),
            (&["verify", "db1"], exit),
            (&["status", "db1"], exit),
            (&["wal", "audit", "db1"], exit),
            (&["wal", "fetch", "db1", "000000010000000000000001", fetch], 126),
        ] {
            let answer = self.site.product.run(&[words, &["--repo", url]].concat());
            refused(&format!("{what}: {}", words[..2].join(" ")), &answer, exit, code);
        }
        refused(what, &self.site.product.run(&["repo", "check", url]), exit, code);
        assert_eq!(self.site.content(), before, "{what}: something was written");
        assert!(
            !self.target().exists() && !fetched.exists(),
            "{what}: something was restored"
        );
    }

    fn kek(&self) -> PathBuf {
        self.site.product.config().join("keyring/kek.bin")
    }

    fn init(&self, name: &str) -> (Answer, PathBuf) {
        let place = self.site.dir(name);
        let url = format!("file://{}", place.display());
        (self.site.product.run(&["repo", "init", &url]), place)
    }
}

#[test]
fn that_are_not_there_or_are_newer() {
    let opened = Opened::new();
    let site = &opened.site;
    let empty = format!("file://{}", site.dir("empty").display());
    opened.refuse("no directory", "file:///nowhere/at/all", 6, "notfound.bucket");
    opened.refuse("nothing in it", &empty, 6, "notfound.repo");
    assert_eq!(fs::read_dir(site.dir("empty")).unwrap().count(), 0);

    step("there already");
    let before = site.content();
    refused(
        "again",
        &site.product.run(&["repo", "init", &site.repo]),
        7,
        "conflict.repo_exists",
    );
    let inside = format!("file://{}", opened.source.data().display());
    refused(
        "in a data directory",
        &site.product.run(&["repo", "init", &inside]),
        7,
        "conflict.repo_not_empty",
    );
    assert_eq!(site.content(), before);

    let descriptor = site.repository().join("HARDSTORAGE");
    let original = fs::read_to_string(&descriptor).unwrap();
    let edit = |from: &str, to: &str| {
        assert_eq!(original.matches(from).count(), 1, "{original}");
        fs::write(&descriptor, original.replacen(from, to, 1)).unwrap();
    };
    let newer = "conflict.repo_newer_format";
    edit(r#""format":1"#, r#""format":2"#);
    opened.refuse("a newer format", &site.repo, 7, newer);
    refused(
        "a newer format",
        &site.product.run(&["repo", "init", &site.repo]),
        7,
        newer,
    );
    edit(r#""must_read":[]"#, r#""must_read":["holograms"]"#);
    opened.refuse("an unknown feature", &site.repo, 7, newer);
    step("what nobody may have changed is not believed");
    edit(r#""must_write":[]"#, r#""must_write":["holograms"]"#);
    opened.refuse("an edited descriptor", &site.repo, 9, "verify.object_corrupt");
    fs::remove_file(&descriptor).unwrap();
    opened.refuse("no descriptor", &site.repo, 9, "verify.descriptor_missing");
    let over = site.product.run(&["repo", "init", &site.repo]);
    refused("over what is there", &over, 9, "verify.descriptor_missing");
    fs::write(&descriptor, original).unwrap();
    site.run(&["verify", "db1"]).ok();
}

#[test]
fn without_the_right_key() {
    let opened = Opened::new();
    let site = &opened.site;
    let (kek, repo) = (opened.kek(), &site.repo);
    let key = fs::read(&kek).unwrap();
    let mode = |mode: u32| fs::set_permissions(&kek, fs::Permissions::from_mode(mode)).unwrap();
    let refuse_init = |name: &str, code: &str| {
        let (answer, place) = opened.init(name);
        refused(&format!("repo init with {name}"), &answer, 3, code);
        assert_eq!(fs::read_dir(place).unwrap().count(), 0);
    };

    mode(0o644);
    opened.refuse("a key that others can read", repo, 3, "auth.key_permissions");
    refuse_init("readable", "auth.key_permissions");
    mode(0o600);
    fs::write(&kek, &key[..31]).unwrap();
    opened.refuse("a key that is cut short", repo, 3, "auth.key_malformed");
    refuse_init("short", "auth.key_malformed");
    let mut other = key.clone();
    other[0] ^= 1;
    fs::write(&kek, other).unwrap();
    opened.refuse("another key", repo, 3, "auth.key_wrong");
    fs::remove_file(&kek).unwrap();
    opened.refuse("no key", repo, 3, "auth.key_missing");
    assert!(!kek.exists(), "a key was made for a repository that has one");

    step("only repo init makes one, and it opens nothing else");
    let (made, _) = opened.init("fresh");
    assert!(made.ok().stdout.contains("KEK generated"));
    assert_ne!(fs::read(&kek).unwrap(), key);
    opened.refuse("the key of another repository", repo, 3, "auth.key_wrong");
    fs::write(&kek, &key).unwrap();
    site.run(&["verify", "db1"]).ok();
}

/// What may only be read is told as such: it is enough to restore with.
#[test]
fn that_take_no_writes() {
    let site = Site::new();
    let place = site.repository();
    let look = || {
        site.product
            .run(&["repo", "probe", &site.repo, "--prove-writes", "-o", "json"])
    };
    assert_eq!(look().ok().result()["create_only_proven"], true);
    let before = site.content();
    let closed = fs::Permissions::from_mode(0o555);
    let open = fs::metadata(&place).unwrap().permissions();
    let folder = place.join("probe");
    let folders = [Some(&place), Some(&folder).filter(|folder| folder.exists())];
    for folder in folders.into_iter().flatten() {
        fs::set_permissions(folder, closed.clone()).unwrap();
    }
    let refused = look();
    for folder in folders.into_iter().flatten() {
        fs::set_permissions(folder, open.clone()).unwrap();
    }
    let result = refused.ok().result();
    assert_eq!(
        (&result["state"], &result["create_only_proven"]),
        (&"present".into(), &serde_json::Value::Null)
    );
    assert_eq!(result["write_problem"]["code"], "auth.store_denied", "{result}");
    assert_eq!(site.content(), before);
}
