//! Everything is gone but the bucket and the key: a Repository in another namespace shows what there is to restore.

use std::collections::BTreeSet;

use hardstorage_e2e::kubernetes::{Namespace, is};
use serde_json::Value;

use crate::site::{PATIENCE, Site, repository, step};

#[test]
fn a_repository_alone_shows_its_backups() {
    let site = Site::streaming("e2e-gone", 1);
    let wanted = BTreeSet::from([site.back_up("one"), site.back_up("two")]);
    site.until_archived();
    let name = site.name();
    let key = site.namespace.get("secret/main-kek")["data"].clone();
    let id = site.namespace.get("hsrepo/main")["status"]["repositoryID"].clone();

    step("database and objects are gone");
    site.namespace
        .kubectl(&["delete", "hsrepo,hsdep,hsbk", "--all", "--timeout=120s"])
        .ok();
    site.namespace.delete(&[&site.database.object()]);

    step("the key, the bucket, and one object");
    let other = Namespace::new("e2e-rebuilt");
    let secret =
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "main-kek"}, "data": key});
    other.apply(&secret.to_string());
    other.apply(&format!(
        "{}  creation: MustExist\n",
        repository(&site.bucket.url("main"))
    ));
    other.until_condition("hsrepo/main", "Ready", PATIENCE);
    let shown = |object: &Value| object["status"]["backups"] == 2;
    let object = other.until_object("hsrepo/main", "two backups are counted", PATIENCE, shown);
    assert_eq!(object["status"]["repositoryID"], id);
    assert_eq!(object["status"]["names"][0]["name"], name.as_str());
    assert!(object["status"]["names"][0]["recoverableTo"].is_string(), "{object:#}");
    other.until("each is an object", PATIENCE, |other| {
        let mirrors = other.list("hsbk", "");
        let ids = mirrors
            .iter()
            .filter(|one| one["status"]["phase"] == "Completed")
            .filter_map(|one| one["spec"]["recorded"]["backupID"].as_str().map(str::to_owned));
        (ids.collect::<BTreeSet<_>>() == wanted).then_some(())
    });
    step("and none of them starts anything");
    assert!(other.list("jobs", "hardstorage.dev/role=backup").is_empty());
    assert_eq!(other.list("secrets", "").len(), 3, "main-kek, s3, main-signing");

    step("without the key it says so, and makes none");
    other.kubectl(&["delete", "hsrepo/main", "secret/main-kek"]).ok();
    other.apply(&repository(&site.bucket.url("main")));
    let missed = |object: &Value| is(object, "KeyAvailable", "False") && is(object, "Ready", "False");
    other.until_object("hsrepo/main", "its key is missed", PATIENCE, missed);
    assert!(
        other.find("secret/main-kek").is_none(),
        "a key was made for a repository that exists"
    );
}
