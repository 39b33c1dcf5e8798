//! The image: the Dockerfile, the script that makes it from local files, and the pods that run it agree on where things are,
//! as whom they run, and what it is called. The Dockerfile is read here and not built: that takes a builder and registries.

use std::collections::BTreeMap;
use std::process::Command;

use hardstorage_e2e::{Answer, run};

use crate::{PATIENCE, text, tree};

const ENGINE: &str = "/usr/local/bin/pg_hardstorage";

/// The instructions of a Dockerfile: word and argument, continued lines joined.
fn instructions(recipe: &str) -> Vec<(String, String)> {
    let joined = recipe.replace("\\\n", " ");
    let lines = joined.lines().map(str::trim);
    let told = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    told.map(|line| {
        let (word, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{line}"));
        (word.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" "))
    })
    .collect()
}

/// What the script says of the image: `user=`, `entry=`, `env=`, `label=`.
fn made_by_the_script() -> BTreeMap<String, Vec<String>> {
    let script = text("e2e/kubernetes/engine-image").replace("\\\n", " ");
    let line = script
        .lines()
        .find(|line| line.contains("\"$layout\" make "))
        .unwrap()
        .to_owned();
    let mut said: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for word in line.split_whitespace() {
        if let Some((key, value)) = word.trim_matches('\'').split_once('=') {
            said.entry(key.to_owned()).or_default().push(value.to_owned());
        }
    }
    said
}

#[test]
fn both_recipes_make_the_same_image() {
    let said = made_by_the_script();
    let all = instructions(&text("Dockerfile"));
    // Only what stands in the last stage is in the image.
    let last = all.iter().rposition(|(word, _)| word == "FROM").unwrap();
    let of = |word: &str| -> Vec<String> {
        let told = all[last..].iter().filter(|(one, _)| one == word);
        told.map(|(_, rest)| rest.clone()).collect()
    };
    assert_eq!(of("USER"), said["user"]);
    assert_eq!(of("ENTRYPOINT"), said["entry"]);
    assert_eq!(of("ENTRYPOINT"), [format!("[\"{ENGINE}\"]")]);
    assert_eq!(of("ENV"), said["env"]);
    assert_eq!(of("LABEL").join(" ").split(' ').collect::<Vec<_>>(), said["label"]);
    assert!(text("operator/src/access.rs").contains(&format!("pub const ENGINE: &str = \"{ENGINE}\";")));
    let started = text("charts/pg-hardstorage/templates/deployment.yaml");
    assert!(started.contains(&format!("command: [{ENGINE}_operator]")));
}

#[test]
fn the_dockerfile_names_only_what_is_there() {
    let recipe = text("Dockerfile");
    let all = instructions(&recipe);
    let known = ["FROM", "RUN", "WORKDIR", "COPY", "ENV", "USER", "ENTRYPOINT", "LABEL"];
    let stages: Vec<&str> = all
        .iter()
        .filter_map(|(word, rest)| (word == "FROM").then(|| rest.split_once(" AS ").map(|(_, name)| name))?)
        .collect();
    let mut copied = Vec::new();
    for (word, rest) in &all {
        assert!(known.contains(&word.as_str()), "{word} {rest}");
        if word != "COPY" {
            continue;
        }
        let (from, paths) = match rest.strip_prefix("--from=") {
            Some(rest) => rest.split_once(' ').map(|(stage, paths)| (Some(stage), paths)).unwrap(),
            None => (None, rest.as_str()),
        };
        let (sources, target) = paths.rsplit_once(' ').unwrap();
        copied.push(format!("{sources} {target}"));
        match from {
            Some(stage) => assert!(stages.contains(&stage), "there is no stage {stage}"),
            None => {
                for source in sources.split(' ') {
                    assert!(tree(source).exists(), "{source} is not in the tree");
                }
            }
        }
    }
    // What is built is what is copied, and lies where pods look for it.
    assert!(copied.contains(&"/out/ /usr/local/bin/".to_owned()), "{copied:?}");
    for program in ["pg_hardstorage", "pg_hardstorage_operator"] {
        assert!(recipe.contains(&format!("--package {program} ")), "{program}");
        let built = all.iter().any(|(word, rest)| {
            word == "RUN" && rest.contains(&format!("target/release/{program} ")) && rest.ends_with(" /out/")
        });
        assert!(built, "{program} is not put into /out/");
    }
    // Both recipes know a program by the name of its package.
    for (folder, program) in [
        ("streamer/cli", "pg_hardstorage"),
        ("operator", "pg_hardstorage_operator"),
    ] {
        assert!(
            text(&format!("{folder}/Cargo.toml")).contains(&format!("\nname = \"{program}\"\n")),
            "{program}"
        );
    }
    let pinned = text("rust-toolchain.toml");
    assert!(
        pinned.contains("channel"),
        "the build takes its compiler from there: {pinned}"
    );
}

fn check_portable(glibc: &str, binary: &str) -> Answer {
    let mut command = Command::new(tree("scripts/check-portable"));
    command.args([glibc, binary]);
    run(command, PATIENCE)
}

/// The programs of `make image` are held against it when they are built; here it is shown that it can say no.
#[test]
fn a_program_for_a_newer_glibc_is_found_out() {
    let built = text("scripts/build-portable");
    assert!(built.contains("\"$here/check-portable\" \"$glibc\""), "{built}");
    // This test was linked by the system's own linker. By this path it is found even when it was built anew meanwhile.
    let own = format!("/proc/{}/exe", std::process::id());
    check_portable("99.9", &own).ok();
    let refused = check_portable("2.4", &own);
    assert!(
        refused.code == Some(1) && refused.stderr.contains("asks for GLIBC_2."),
        "{refused}"
    );
    // What has no symbols at all proves nothing.
    let nothing = check_portable("2.28", &tree("Dockerfile").display().to_string());
    assert_eq!(nothing.code, Some(1), "{nothing}");
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
