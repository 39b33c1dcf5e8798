//! The operator dies: at every step of a new protection, and as the one of two replicas that acts.

use std::time::{Duration, Instant};

use hardstorage_e2e::kubernetes::Operator;

use crate::site::{PATIENCE, SOON, Site, deployment, repository, step};

/// Another replica acts after so long at most: the Lease's 15 seconds, and a look at it.
const TAKEOVER: Duration = Duration::from_secs(20);

#[test]
fn another_replica_takes_over() {
    let operator = Operator::get();
    let site = Site::streaming("e2e-leader", 1);
    let stream = site.stream();
    let leader = operator.until_led("somebody acts", |_| true);
    step(&format!("{leader} is killed"));
    operator.kill(&leader);
    let killed = Instant::now();
    let next = operator.until_led("another one acts", |one| one != leader);
    let took = killed.elapsed();
    assert!(took < TAKEOVER, "{next} acts after {took:?}");
    step("it acts: a wish becomes a backup");
    site.back_up("after");
    assert_eq!(site.stream(), stream, "the stream was touched");
    operator.ready();
}

/// Each object that the operator makes is a moment at which it may die. What was begun is found again, and done once.
#[test]
fn killed_at_every_step() {
    let operator = Operator::get();
    let site = Site::new("e2e-killed", 1);
    let namespace = &site.namespace;
    let kill = |after: &str| {
        step(&format!("the operator is killed after: {after}"));
        for pod in operator.pods() {
            operator.kill(&pod);
        }
    };
    let until = |kind: &str, selector: &str| {
        namespace.until(&format!("{kind} {selector}"), PATIENCE, |namespace| {
            (!namespace.list(kind, selector).is_empty()).then_some(())
        });
    };

    namespace.apply(&repository(&site.bucket.url("main")));
    until("jobs", "hardstorage.dev/role=probe");
    kill("the probe");
    namespace.until("the key is there", PATIENCE, |namespace| {
        namespace.find("secret/main-kek")
    });
    let key = namespace.get("secret/main-kek")["metadata"]["uid"].clone();
    kill("the key");
    until("jobs", "hardstorage.dev/role=init");
    kill("the creation");
    namespace.until_condition("hsrepo/main", "Ready", PATIENCE);
    let id = namespace.get("hsrepo/main")["status"]["repositoryID"].clone();

    namespace.apply(&deployment("shop", ""));
    until("deployments", "hardstorage.dev/role=wal");
    kill("the stream");
    site.until_ready();
    let stream = site.stream();

    namespace.apply(
        "apiVersion: hardstorage.dev/v1alpha1\nkind: Backup\nmetadata: {name: wish}\nspec:\n  deploymentRef: {name: shop}\n",
    );
    namespace.until("the wish has its run", PATIENCE, |namespace| {
        let wish = namespace.get("hsbk/wish");
        wish["metadata"]["annotations"]["hardstorage.dev/run-id"]
            .as_str()
            .map(drop)
    });
    kill("the promise of a run");
    until("jobs", "hardstorage.dev/role=backup");
    kill("the backup's Job");
    site.until_completed("wish");
    operator.ready();

    step("everything was done once");
    site.until_ready();
    assert_eq!(namespace.get("secret/main-kek")["metadata"]["uid"], key);
    assert_eq!(namespace.get("hsrepo/main")["status"]["repositoryID"], id);
    assert_eq!(site.stream(), stream);
    assert_eq!(site.database.slots(namespace), [site.slot()]);
    let (_forward, outside) = site.outside();
    let list = outside.run(&["list", &site.name(), "-o", "json"]).ok().result();
    assert_eq!(list["backups"].as_array().map(Vec::len), Some(1), "{list:#}");

    step("and killed while it lets go");
    namespace.delete(&["hsdep/shop"]);
    until("jobs", "hardstorage.dev/role=slot-drop");
    kill("the drop of the slot");
    namespace.until_gone("hsdep/shop", PATIENCE);
    assert!(site.database.slots(namespace).is_empty());
    namespace.until_gone("deployment/shop-wal", SOON);
    operator.ready();
}
