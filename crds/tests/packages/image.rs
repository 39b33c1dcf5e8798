//! The image: the Dockerfile, the script that makes it from local files, and the pods that run it agree on where things are.

use crate::text;

#[test]
fn both_recipes_put_the_programs_where_pods_look_for_them() {
    let (recipe, script) = (text("Dockerfile"), text("e2e/kubernetes/engine-image"));
    let engine = "/usr/local/bin/pg_hardstorage";
    assert!(text("operator/src/access.rs").contains(&format!("pub const ENGINE: &str = \"{engine}\";")));
    for made in [&recipe, &script] {
        assert!(made.contains(&format!("[\"{engine}\"]")), "{made}");
        assert!(made.contains("65532:65532"), "{made}");
        assert!(made.contains("PATH=/usr/local/bin"), "{made}");
    }
    assert!(recipe.contains("COPY --from=build /out/ /usr/local/bin/"));
    for program in ["pg_hardstorage", "pg_hardstorage_operator"] {
        assert!(recipe.contains(&format!("--package {program}")), "{program}");
        assert!(recipe.contains(&format!("target/release/{program}")), "{program}");
    }
    let started = text("charts/pg-hardstorage/templates/deployment.yaml");
    assert!(started.contains("command: [/usr/local/bin/pg_hardstorage_operator]"));
}

#[test]
fn one_version_everywhere() {
    let version = env!("CARGO_PKG_VERSION");
    for chart in ["pg-hardstorage", "pg-hardstorage-protect"] {
        let chart = text(&format!("charts/{chart}/Chart.yaml"));
        assert!(chart.contains(&format!("\nversion: {version}\n")), "{chart}");
        assert!(chart.contains(&format!("\nappVersion: {version}\n")), "{chart}");
    }
}
