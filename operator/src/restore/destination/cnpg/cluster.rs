//! The Cluster itself: the origin's spec without what would bring it back to its origin, or write into its archive.

use serde_json::{Map, Value, json};

use super::settings::FOREIGN;
use super::{NewCluster, Role, refusal};
use crate::names::{annotation, label};
use crate::repository::Refusal;

/// The Cluster, made once all of its claims are filled.
pub fn cluster(of: &NewCluster<'_>) -> Result<Value, Refusal> {
    let origin = of.origin()?;
    let mut spec = origin.clone();
    let Some(fields) = spec.as_object_mut() else {
        return Err(refusal(
            "TemplateInvalid",
            "the spec of the new Cluster is no object".to_owned(),
            "correct it",
        ));
    };
    for field in FOREIGN {
        fields.remove(*field);
    }
    if let Some(services) = fields
        .get_mut("managed")
        .and_then(|managed| managed.get_mut("services"))
    {
        // Their names are the origin's, which may live on beside.
        services.as_object_mut().map(|services| services.remove("additional"));
    }
    if let Some(initdb) = owner_of_the_application(origin) {
        fields.insert("bootstrap".to_owned(), json!({"initdb": initdb}));
    }
    fields.insert("imageName".to_owned(), json!(of.image()?));
    fields.remove("imageCatalogRef");
    fields.entry("instances").or_insert(json!(1));
    grow(of, fields)?;
    let wanted = of.template.and_then(|template| template.get("metadata"));
    let text_map = |name: &str| -> Map<String, Value> {
        let found = wanted.and_then(|wanted| wanted.get(name)).and_then(Value::as_object);
        found.cloned().unwrap_or_default()
    };
    let (mut labels, mut annotations) = (text_map("labels"), text_map("annotations"));
    labels.insert(label::RESTORE.to_owned(), json!(of.restore));
    annotations.insert(annotation::RESTORE_UID.to_owned(), json!(of.uid));
    Ok(json!({
        "apiVersion": "postgresql.cnpg.io/v1",
        "kind": "Cluster",
        "metadata": {"name": of.name, "namespace": of.namespace, "labels": labels, "annotations": annotations},
        "spec": spec,
    }))
}

/// Database and owner of the application, whichever way the origin was made: CloudNativePG makes a Secret for this owner,
/// and gives the role its password when the instance starts. The origin's own Secret may be gone.
fn owner_of_the_application(origin: &Value) -> Option<Value> {
    let bootstrap = origin.get("bootstrap")?;
    ["initdb", "recovery", "pg_basebackup"].iter().find_map(|way| {
        let found = bootstrap.get(*way)?;
        let (database, owner) = (found.get("database")?.as_str()?, found.get("owner")?.as_str()?);
        Some(json!({"database": database, "owner": owner}))
    })
}

/// The replicas are copies of the first instance: their claims have to be as large as its own.
fn grow(of: &NewCluster<'_>, fields: &mut Map<String, Value>) -> Result<(), Refusal> {
    let volumes = of.volumes()?;
    for volume in &volumes {
        let size = json!(of.size(volume, &volumes)?);
        let storage = match volume.role {
            Role::Data => fields.get_mut("storage"),
            Role::Wal => fields.get_mut("walStorage"),
            Role::Tablespace(name) => {
                let all = fields.get_mut("tablespaces").and_then(Value::as_array_mut);
                all.and_then(|all| {
                    all.iter_mut()
                        .find(|one| one.get("name").and_then(Value::as_str) == Some(name))
                })
                .and_then(|tablespace| tablespace.get_mut("storage"))
            }
        };
        if let Some(storage) = storage.and_then(Value::as_object_mut) {
            storage.insert("size".to_owned(), size);
        }
    }
    Ok(())
}
