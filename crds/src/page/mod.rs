//! The page of the book for a kind, made from its definition: what the API server holds an object to is what a person reads.
//!
//! Fields are dotted paths in tables, one table for each field of the first level, so that a page is read from the top and
//! searched by a path as it stands in an error. What is Kubernetes' own (affinity, tolerations) is one line that names the
//! command which explains it.

mod field;

use std::fmt::Write as _;

use serde_json::Value;

use crate::condition::{Said, with_common};
use field::Field;

/// The name of the file of the page for a kind: `BackupSchedule` is `kubernetes-backup-schedule.md`.
pub(crate) fn file(kind: &str) -> String {
    let mut name = "kubernetes".to_owned();
    for letter in kind.chars() {
        if letter.is_ascii_uppercase() {
            name.push('-');
        }
        name.push(letter.to_ascii_lowercase());
    }
    name + ".md"
}

/// The page for the kind of this definition, which has these conditions of its own.
pub(crate) fn page(definition: &Value, own: &[Said]) -> String {
    let spec = &definition["spec"];
    let names = &spec["names"];
    let version = &spec["versions"][0];
    let schema = &version["schema"]["openAPIV3Schema"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut page = format!(
        "# {kind}\n\n<!-- Made from the types in crds/src by crdgen: change those. -->\n\n{says}\n\n\
         `apiVersion: {group}/{version}`, `kind: {kind}`; on the command line `{plural}`, in short `{short}`. \
         What the words of the tables mean, and the annotations that are obeyed: [Objects](kubernetes.md).\n\n",
        kind = word(&names["kind"]),
        says = prose(schema["description"].as_str().unwrap_or_default()),
        group = word(&spec["group"]),
        version = word(&version["name"]),
        plural = word(&names["plural"]),
        short = word(&names["shortNames"][0]),
    );
    page.push_str("## What kubectl get shows\n\n| column | from | what |\n|---|---|---|\n");
    for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
        let wide = if column["priority"] == 1 { " (`-o wide`)" } else { "" };
        row(
            &mut page,
            &[
                format!("{}{wide}", word(&column["name"])),
                format!("`{}`", word(&column["jsonPath"])),
                prose(&word(&column["description"])),
            ],
        );
    }
    part(&mut page, "spec", &schema["properties"]["spec"]);
    part(&mut page, "status", &schema["properties"]["status"]);
    page.push_str("\n### status.conditions\n\n| type | True says |\n|---|---|\n");
    for (type_, says) in with_common(own) {
        row(&mut page, &[format!("`{type_}`"), prose(says)]);
    }
    page.push_str("\n## What is refused\n\nThe API server answers with these sentences.\n\n");
    let mut rules = field::rules("metadata", schema);
    rules.extend(field::rules("spec", &schema["properties"]["spec"]));
    for (path, message) in rules {
        let _ = writeln!(page, "- `{path}`: {}", prose(&message));
    }
    page
}

/// The tables of spec or status: the first level, then one for each of its fields that has more below it.
fn part(page: &mut String, name: &str, schema: &Value) {
    let fields = field::fields(name, schema);
    let top: Vec<&Field> = fields
        .iter()
        .filter(|field| field.path.matches('.').count() == 1)
        .collect();
    let _ = write!(
        page,
        "\n## {name}\n\n{}\n\n",
        prose(schema["description"].as_str().unwrap_or_default())
    );
    table(page, false, &top);
    for above in top {
        let within = |field: &&Field| {
            let rest = field.path.strip_prefix(&above.path);
            rest.is_some_and(|rest| rest.starts_with(['.', '[']))
        };
        let below: Vec<&Field> = fields.iter().filter(within).collect();
        if !below.is_empty() {
            let _ = write!(page, "\n### {}\n\n", above.path);
            if above.immutable {
                page.push_str("Nothing of it can be changed.\n\n");
            }
            table(page, above.immutable, &below);
        }
    }
}

/// `fixed`: it has been said that all of them are immutable.
fn table(page: &mut String, fixed: bool, fields: &[&Field]) {
    let status = fields.iter().all(|field| field.path.starts_with("status"));
    page.push_str(if status {
        "| field | type | what |\n|---|---|---|\n"
    } else {
        "| field | type | default | what |\n|---|---|---|---|\n"
    });
    for field in fields {
        let mut cells = vec![format!("`{}`", field.path), field.type_.clone()];
        if !status {
            let marks = [(field.required, "required"), (field.immutable && !fixed, "immutable")];
            for (_, mark) in marks.into_iter().filter(|(holds, _)| *holds) {
                let _ = write!(cells[1], ", **{mark}**");
            }
            cells.push(field.default.as_deref().map_or_else(String::new, prose));
        }
        cells.push(prose(&field.says));
        row(page, &cells);
    }
}

fn row(page: &mut String, cells: &[String]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _ = writeln!(page, "| {} |", cells.join(" | "));
}

/// A description as text of a page: what would be markup is not.
fn prose(text: &str) -> String {
    let mut made = String::new();
    let mut code = false;
    for letter in text.split_whitespace().collect::<Vec<_>>().join(" ").chars() {
        code ^= letter == '`';
        if !code && matches!(letter, '_' | '*' | '<' | '[') {
            made.push('\\');
        }
        made.push(letter);
    }
    made
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn files_are_named_after_kinds() {
        assert_eq!(file("Backup"), "kubernetes-backup.md");
        assert_eq!(file("BackupSchedule"), "kubernetes-backup-schedule.md");
    }

    #[test]
    fn a_description_is_no_markup() {
        assert_eq!(prose("a_b `c_d` [e](f)\n  g"), "a\\_b `c_d` \\[e](f) g");
        let mut page = String::new();
        row(&mut page, &["a|b".to_owned(), "c".to_owned()]);
        assert_eq!(page, "| a\\|b | c |\n");
    }

    #[test]
    fn every_level_is_a_dotted_path_under_its_field() {
        let schema = json!({"description": "Where.", "required": ["url"], "properties": {
            "limits": {"type": "object", "description": "Limits.", "properties": {
                "runs": {"type": "integer", "minimum": 0, "maximum": 9, "default": 0, "description": "Runs; default 0: no limit."},
            }},
            "url": {"type": "string", "description": "The place. Cannot be changed.",
                "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "url cannot be changed"}]},
        }});
        let mut page = String::new();
        part(&mut page, "spec", &schema);
        assert_eq!(
            page,
            "\n## spec\n\nWhere.\n\n\
             | field | type | default | what |\n|---|---|---|---|\n\
             | `spec.limits` | object |  | Limits. |\n\
             | `spec.url` | text, **required**, **immutable** |  | The place. Cannot be changed. |\n\
             \n### spec.limits\n\n\
             | field | type | default | what |\n|---|---|---|---|\n\
             | `spec.limits.runs` | number, 0 to 9 | `0`: no limit | Runs. |\n"
        );
    }
}
