//! Servers that do not answer or do not let us in, and a stream that may not take what it needs: told with a way out, and
//! nothing is lost by it.

use std::process::Command;

use hardstorage_e2e::run;
use serde_json::Value;

use crate::faults::{over, until_told};
use crate::site::{PATIENCE, SOON, Site, repository, step};

#[test]
fn a_server_that_does_not_let_us_in_is_told_with_a_way_out() {
    let site = Site::streaming("e2e-faults-server", 1);
    let namespace = &site.namespace;
    let stream = site.stream();
    namespace
        .apply(&repository(&site.bucket.url("second")).replace("metadata: {name: main}", "metadata: {name: second}"));
    namespace.until_condition("hsrepo/second", "Ready", PATIENCE);

    step("a host that does not answer, and that nobody waits for longer than asked for");
    let deletion = "  deletion: {slotTimeout: 10s}\n";
    namespace.apply(&over("far", "nobody", "{mode: Disable}", "{name: second}", deletion));
    until_told(
        namespace,
        "hsdep/far",
        "UnreachablePostgres",
        &["nobody", "check host, port"],
    );
    namespace.delete(&["hsdep/far"]);
    namespace.until_gone("hsdep/far", SOON);
    namespace.until("the SQL that drops its slot is told", SOON, |namespace| {
        let events = namespace.list("events", "").into_iter();
        let mut notes = events.filter_map(|event| event["message"].as_str().map(str::to_owned));
        notes.find(|note| note.contains("SELECT pg_drop_replication_slot("))
    });

    step("a client certificate that has expired");
    expired_certificate(&site);
    let tls = "{caRef: {kind: Secret, name: shop-ca}, certificateSecretRef: {name: mine}}";
    namespace.apply(&over("late", "shop-rw", tls, "{name: second}", ""));
    until_told(namespace, "hsdep/late", "AuthTls", &["CertificateExpired", "sslcert"]);
    assert!(site.database.slots(namespace).len() == 1, "it has a slot");

    step("one that is valid in its place");
    let valid = namespace.get("secret/shop-replication")["data"].clone();
    namespace.apply(&certificate(&valid));
    namespace.until_condition("hsdep/late", "Ready", 2 * PATIENCE);

    assert_eq!(site.stream(), stream, "the other stream was touched");
    site.nothing_is_lost();

    step("the smallest limit that is taken: what was written meanwhile is there, too");
    namespace.patch(
        "hsdep/shop",
        r#"{"spec":{"stream":{"resources":{"limits":{"memory":"64Mi"}}}}}"#,
    );
    namespace.until("its stream is another one", PATIENCE, |namespace| {
        let pods = namespace.list("pods", "hardstorage.dev/role=wal,hardstorage.dev/deployment=shop");
        let limits = &pods.first()?["spec"]["containers"][0]["resources"]["limits"];
        (pods.len() == 1 && limits["memory"] == "64Mi").then_some(())
    });
    site.database.sql(
        namespace,
        "CREATE TABLE within_little AS SELECT g, md5(g::text) FROM generate_series(1, 300000) g",
    );
    site.until_ready();
    site.nothing_is_lost();
}

/// The Secret `mine` with a certificate.
fn certificate(data: &Value) -> String {
    let (certificate, key) = (&data["tls.crt"], &data["tls.key"]);
    serde_json::json!({"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": {"name": "mine"},
        "data": {"tls.crt": certificate, "tls.key": key}})
    .to_string()
}

/// Makes the Secret `mine` with a certificate that the cluster's own authority has signed, and that ended yesterday.
#[track_caller]
fn expired_certificate(site: &Site) {
    let place = site.namespace.scratch().dir("certificate");
    let authority = site.namespace.get("secret/shop-ca")["data"].clone();
    for name in ["ca.crt", "ca.key"] {
        std::fs::write(place.join(name), authority[name].as_str().unwrap()).unwrap();
    }
    let script = r#"cd "$0"
        base64 -d ca.crt >authority.crt
        base64 -d ca.key >authority.key
        openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -noenc -subj /CN=streaming_replica -keyout key -out request
        printf "basicConstraints=CA:FALSE\n" >extensions
        openssl x509 -req -in request -extfile extensions -CA authority.crt -CAkey authority.key -days -1 -out certificate
        base64 -w0 certificate >tls.crt
        base64 -w0 key >tls.key"#;
    let mut command = Command::new("sh");
    command.args(["-e", "-c", script]).arg(&place);
    run(command, SOON).ok();
    let read = |name: &str| std::fs::read_to_string(place.join(name)).unwrap();
    let data = serde_json::json!({"tls.crt": read("tls.crt"), "tls.key": read("tls.key")});
    site.namespace.apply(&certificate(&data));
}
