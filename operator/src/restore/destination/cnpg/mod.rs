//! A restored database as a new Cluster of CloudNativePG. Pure.
//!
//! CloudNativePG adopts claims that bear its labels when a Cluster of their name is made: it then runs no bootstrap and
//! starts on what lies in them. That happens once, so every claim is there and filled before the Cluster is. Nothing of
//! this is owned by our object: a Restore that is deleted takes no database with it.

mod adoption;
mod claims;
mod cluster;
mod settings;

use hardstorage_crds::Bytes;
use serde_json::Value;

use crate::repository::Refusal;

pub use adoption::{Adoption, adoption};
pub use claims::{Mount, claims, mounts};
pub use cluster::cluster;

/// The user and group of CloudNativePG's own images.
const POSTGRES: i64 = 26;

/// A Cluster that is to be made from a backup.
#[derive(Debug, Clone, Copy)]
pub struct NewCluster<'a> {
    /// Its namespace.
    pub namespace: &'a str,
    /// Its name.
    pub name: &'a str,
    /// The UID of the Restore that makes it.
    pub uid: &'a str,
    /// The name of that Restore.
    pub restore: &'a str,
    /// A Cluster as the user wants it; its `spec` is read.
    pub template: Option<&'a Value>,
    /// What was recorded of the source with the backup.
    pub snapshot: Option<&'a Value>,
    /// The image that recovers and runs it, when the user names one.
    pub postgres_image: Option<&'a str>,
    /// The least room that data and WAL take.
    pub needed_bytes: u64,
}

/// One of the volumes of an instance.
#[derive(Debug, Clone, PartialEq)]
struct Volume<'a> {
    role: Role<'a>,
    /// What the spec says of it.
    storage: &'a Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role<'a> {
    Data,
    Wal,
    Tablespace(&'a str),
}

impl<'a> NewCluster<'a> {
    /// The spec that it is made from, before anything is taken out.
    fn origin(&self) -> Result<&'a Value, Refusal> {
        if let Some(template) = self.template {
            return template.get("spec").filter(|spec| spec.is_object()).ok_or_else(|| {
                refusal(
                    "TemplateInvalid",
                    "template has no spec".to_owned(),
                    "write the Cluster's spec under template.spec, or leave template out",
                )
            });
        }
        let recorded = self.snapshot.and_then(|snapshot| snapshot.pointer("/cluster/spec"));
        recorded.filter(|spec| spec.is_object()).ok_or_else(|| {
            refusal(
                "SnapshotMissing",
                "the backup holds no description of a Cluster that it was taken from".to_owned(),
                "describe the new Cluster in destination.cloudNativePG.template",
            )
        })
    }

    /// The image that recovers the data, and then runs it: CloudNativePG has to find a data directory of its own major.
    pub fn image(&self) -> Result<String, Refusal> {
        let template = self.template.and_then(|template| template.pointer("/spec/imageName"));
        let recorded = self.snapshot.and_then(|snapshot| snapshot.get("image"));
        let text = |value: Option<&'a Value>| value.and_then(Value::as_str).filter(|text| !text.is_empty());
        self.postgres_image
            .filter(|image| !image.is_empty())
            .or_else(|| text(template))
            .or_else(|| text(recorded))
            .map(str::to_owned)
            .ok_or_else(unknown_image)
    }

    /// User and group that own the data directory.
    pub fn user(&self) -> Result<(i64, i64), Refusal> {
        let spec = self.origin()?;
        let id = |name: &str| spec.get(name).and_then(Value::as_i64).unwrap_or(POSTGRES);
        Ok((id("postgresUID"), id("postgresGID")))
    }

    /// The volumes of one instance.
    fn volumes(&self) -> Result<Vec<Volume<'a>>, Refusal> {
        let spec = self.origin()?;
        let storage = spec
            .get("storage")
            .filter(|storage| storage.is_object())
            .ok_or_else(|| {
                refusal(
                    "TemplateInvalid",
                    "the spec of the new Cluster has no storage".to_owned(),
                    "give template.spec.storage a size",
                )
            })?;
        let mut all = vec![Volume {
            role: Role::Data,
            storage,
        }];
        if let Some(storage) = spec.get("walStorage").filter(|storage| storage.is_object()) {
            all.push(Volume {
                role: Role::Wal,
                storage,
            });
        }
        for tablespace in spec.get("tablespaces").and_then(Value::as_array).into_iter().flatten() {
            let name = tablespace.get("name").and_then(Value::as_str);
            let (Some(name), Some(storage)) = (name, tablespace.get("storage")) else {
                return Err(refusal(
                    "TemplateInvalid",
                    "a tablespace of the new Cluster has no name or no storage".to_owned(),
                    "correct template.spec.tablespaces",
                ));
            };
            all.push(Volume {
                role: Role::Tablespace(name),
                storage,
            });
        }
        Ok(all)
    }

    /// What a claim asks for: what was recorded, and more where the data would not fit. How much of it lies in which
    /// tablespace is not known before it is read, so a Cluster with tablespaces keeps the sizes that it had.
    fn size(&self, volume: &Volume<'_>, all: &[Volume<'_>]) -> Result<String, Refusal> {
        let recorded = recorded_size(volume.storage);
        let asked = match recorded {
            Some(text) => Bytes::read(text).ok_or_else(|| {
                refusal(
                    "TemplateInvalid",
                    format!("the storage of the new Cluster has a size that is no quantity: {text}"),
                    "write it like 20Gi",
                )
            })?,
            None => 0,
        };
        let spreads = all.iter().any(|volume| matches!(volume.role, Role::Tablespace(_)));
        let needed = if volume.role == Role::Data && !spreads {
            self.needed_bytes
        } else {
            0
        };
        match recorded {
            Some(text) if asked >= needed => Ok(text.to_owned()),
            None if needed == 0 => Err(refusal(
                "TemplateInvalid",
                "a volume of the new Cluster has no size".to_owned(),
                "give each storage in template.spec a size",
            )),
            _ => Ok(format!("{}Mi", needed.div_ceil(1 << 20).max(1))),
        }
    }
}

/// A size by itself, or the one in the template of a claim.
fn recorded_size(storage: &Value) -> Option<&str> {
    storage
        .get("size")
        .or_else(|| storage.pointer("/pvcTemplate/resources/requests/storage"))
        .and_then(Value::as_str)
        .filter(|size| !size.is_empty())
}

/// Nobody has said what is to run the data.
pub fn unknown_image() -> Refusal {
    refusal(
        "ImageUnknown",
        "it is not known which image of PostgreSQL ran the source".to_owned(),
        "set postgresImage to an image of the same major version",
    )
}

fn refusal(reason: &str, message: String, hint: &str) -> Refusal {
    Refusal {
        reason: reason.to_owned(),
        message,
        hint: hint.to_owned(),
        waits: false,
    }
}

#[cfg(test)]
mod tests;
