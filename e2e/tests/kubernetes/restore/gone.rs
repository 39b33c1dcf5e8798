//! Everything is gone but the bucket and the key: another namespace, a Repository, and a Restore. No other manifest.

use hardstorage_e2e::kubernetes::{Database, Namespace, is};

use super::{ASK, ROWS, until_completed};
use crate::site::{PATIENCE, Site, repository, step};

#[test]
fn a_key_a_repository_and_a_restore_bring_everything_back() {
    let site = Site::streaming("e2e-lost", 1);
    let moment = super::before_a_mistake(&site);
    let name = site.name();
    let key = site.namespace.get("secret/main-kek")["data"].clone();
    let url = site.bucket.url("main");

    step("the cluster and every object of ours are gone");
    site.namespace
        .kubectl(&["delete", "hsdep,hsrepo,hsbk", "--all", "--timeout=120s"])
        .ok();
    site.namespace.delete(&[&site.database.object()]);

    step("what was kept on paper");
    let other = Namespace::new("e2e-afresh");
    let secret =
        serde_json::json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "main-kek"}, "data": key});
    other.apply(&format!("{}  creation: MustExist\n", repository(&url)));
    other.apply(&format!(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Restore\nmetadata: {{name: back}}\nspec:\n  \
         source: {{repository: {{ref: {{name: main}}, name: {name}}}}}\n  recoveryTarget: {{time: \"{moment}\"}}\n  \
         destination: {{cloudNativePG: {{cluster: shop}}}}\n"
    ));
    other.until_object("hsrs/back", "it says that the key is missing", PATIENCE, |object| {
        let conditions = object["status"]["conditions"].to_string();
        is(object, "Ready", "False") && conditions.contains("KeyMissing")
    });
    assert!(other.find("pvc/shop-1").is_none());

    step("and the key");
    other.apply(&secret.to_string());
    until_completed(&other, "back");
    let back = Database::of_cloud_native_pg("shop");
    back.until_healthy(&other, 1);
    assert_eq!(back.sql(&other, ASK), ROWS);

    step("and it is protected again");
    other.apply(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Deployment\nmetadata: {name: shop}\nspec:\n  \
         source: {cloudNativePG: {cluster: shop}}\n  repositoryRef: {name: main}\n",
    );
    other.until_condition("hsdep/shop", "Streaming", PATIENCE);
}
