//! Into a claim: a data directory for any PostgreSQL, which needs nothing of ours.

use hardstorage_e2e::kubernetes::Database;

use super::{ASK, ROWS, at, before_a_mistake, into_claim, object, until_completed, until_over};
use crate::site::{PATIENCE, Site, step};

/// A pod of PostgreSQL's image on a claim, and nothing else.
fn server(claim: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: {claim}-server}}\nspec:\n  \
         automountServiceAccountToken: false\n  \
         securityContext: {{runAsNonRoot: true, runAsUser: 26, runAsGroup: 26, fsGroup: 26, \
         fsGroupChangePolicy: OnRootMismatch, seccompProfile: {{type: RuntimeDefault}}}}\n  \
         volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}, {{name: run, emptyDir: {{}}}}]\n  \
         containers:\n  - name: postgres\n    image: {}\n    \
         securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n    \
         command: [postgres, -D, /data/pgdata, -c, unix_socket_directories=/run/pg, -c, listen_addresses=, \
         -c, ssl=off, -c, archive_mode=off, -c, logging_collector=off, -c, log_destination=stderr, \
         -c, hba_file=/run/pg/hba, -c, ident_file=/run/pg/ident]\n    \
         volumeMounts: [{{name: data, mountPath: /data}}, {{name: run, mountPath: /run/pg}}]\n  \
         initContainers:\n  - name: hba\n    image: {}\n    \
         securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}\n    \
         command: [sh, -c, 'echo local all all trust > /run/pg/hba; : > /run/pg/ident']\n    \
         volumeMounts: [{{name: run, mountPath: /run/pg}}]\n",
        Database::image(),
        Database::image()
    )
}

#[track_caller]
fn rows(site: &Site, claim: &str) -> String {
    let pod = format!("{claim}-server");
    site.namespace.apply(&server(claim));
    site.namespace
        .until("the restored server is a primary", PATIENCE, |namespace| {
            let ask = |sql: &str| {
                let words = ["psql", "-XAtq", "-h", "/run/pg", "-U", "postgres", "-c", sql];
                let answer = namespace.exec(&pod, "postgres", &words);
                (answer.code == Some(0)).then(|| answer.text().to_owned())
            };
            (ask("SELECT pg_is_in_recovery()")? == "f").then_some(())?;
            ask(ASK)
        })
}

#[test]
fn a_claim_becomes_a_data_directory_for_any_postgresql() {
    let site = Site::streaming("e2e-claim-back", 1);
    let namespace = &site.namespace;
    let moment = before_a_mistake(&site);

    step("a claim that is made; the first server that is started on it recovers, without us");
    namespace.apply(&object("into-claim", &(at(&moment) + &into_claim("back"))));
    let done = until_completed(namespace, "into-claim");
    assert_eq!(done["status"]["created"][0]["name"], "back", "{done:#}");
    assert_eq!(rows(&site, "back"), ROWS);

    step("recovered and promoted by an image that was named");
    let image = format!("  postgresImage: {}\n", Database::image());
    namespace.apply(&object("recovered", &(at(&moment) + &into_claim("whole") + &image)));
    let done = until_completed(namespace, "recovered");
    assert!(done["status"]["recovered"]["timeline"].as_i64() > Some(1), "{done:#}");
    assert_eq!(rows(&site, "whole"), ROWS);

    step("two onto one claim: one of them, and the other touches nothing");
    for name in ["one", "two"] {
        namespace.apply(&object(name, &into_claim("contested")));
    }
    let phases = ["one", "two"].map(|name| until_over(namespace, name)["status"]["phase"].clone());
    let wins = phases.iter().filter(|phase| *phase == "Completed").count();
    let refused = phases.iter().filter(|phase| *phase == "Refused").count();
    assert_eq!((wins, refused), (1, 1), "{phases:?}");

    step("a claim that is used, and one that is too small");
    let used = "  destination: {persistentVolumeClaim: {name: back}}\n";
    namespace.apply(&object("over-a-server", used));
    let refused = until_over(namespace, "over-a-server");
    assert_eq!(refused["status"]["phase"], "Refused", "{refused:#}");
    assert_eq!(rows(&site, "back"), ROWS);
    let small = "  destination: {persistentVolumeClaim: {name: small, create: {size: 1Mi}}}\n";
    namespace.apply(&object("small", small));
    let refused = until_over(namespace, "small");
    assert_eq!(refused["status"]["failure"]["code"], "ClaimTooSmall", "{refused:#}");
    assert!(namespace.find("pvc/small").is_none());
}
