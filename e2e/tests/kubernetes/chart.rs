//! The chart: upgraded and removed while a stream runs, which neither touches.

use hardstorage_e2e::kubernetes::Operator;

use crate::site::{PATIENCE, Site, step};

#[test]
fn streams_outlive_the_chart() {
    let operator = Operator::get();
    let site = Site::streaming("e2e-chart", 1);
    let namespace = &site.namespace;
    let stream = site.stream();

    step("an upgrade");
    operator.install_with(&["replicas=1", "logLevel=debug"]);
    operator.ready();
    site.back_up("with-one-replica");
    assert_eq!(site.stream(), stream);

    step("removed: definitions, objects and stream stay, and can be deleted without it");
    operator.uninstall();
    assert!(operator.pods().is_empty());
    let object = namespace.get("hsdep/shop");
    let finalizers = &object["metadata"]["finalizers"];
    assert!(
        finalizers.is_null() || finalizers == &serde_json::json!([]),
        "{object:#}"
    );
    assert_eq!(site.stream(), stream);
    site.database
        .sql(namespace, "CREATE TABLE without_operator AS SELECT 1 AS n");
    site.until_archived();

    step("installed again, it goes on where it was");
    operator.install_with(&[]);
    operator.ready();
    namespace.until("the finalizer is back", PATIENCE, |namespace| {
        let object = namespace.get("hsdep/shop");
        object["metadata"]["finalizers"]
            .to_string()
            .contains("hardstorage.dev")
            .then_some(())
    });
    site.back_up("after");
    assert_eq!(site.stream(), stream);
}
