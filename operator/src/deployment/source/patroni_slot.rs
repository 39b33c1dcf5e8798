//! Makes our slot one that Patroni knows, and makes Patroni forget it again.
//!
//! Through its REST API first; through the annotation in which Patroni keeps its configuration only when the operator was
//! started so, with the resourceVersion as precondition and one key merged. Objects of Zalando's and Crunchy's operators
//! are never changed: they would change it back, so the user writes it into theirs, and a condition shows what.

use hardstorage_crds::{Flavor, Patroni, SlotManagement};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints};
use kube::api::{Api, Patch, PatchParams};
use kube::core::NamespaceResourceScope;
use kube::{Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::patroni_config::{Standing, addition, instruction, merge, removal, standing};
use super::patroni_rest::{Rest, Unasked};
use crate::apply;
use crate::condition::Is;
use crate::context::Context;
use crate::error::{Error, Result};

/// What there is to say about the slot's outliving a failover.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotWord {
    /// Whether it does.
    pub is: Is,
    /// A word.
    pub reason: &'static str,
    /// A sentence, and what to write where.
    pub message: String,
}

/// The annotation with Patroni's configuration.
const CONFIG: &str = "config";

/// Looks whether the slot is permanent, and makes it so where we may.
pub async fn tend(
    context: &Context,
    namespace: &str,
    patroni: &Patroni,
    leader: Option<&str>,
    slot: &str,
) -> Result<SlotWord> {
    let rest = Rest::connect(context, namespace, patroni.rest.as_ref(), leader).await;
    let (config, how) = match read(context, namespace, patroni, rest.as_ref()).await? {
        Ok(found) => found,
        Err(Unasked(why)) => {
            return Ok(SlotWord {
                is: Is::Unknown,
                reason: "PatroniUnreachable",
                message: format!("Patroni's configuration could not be read: {why}"),
            });
        }
    };
    let scope = &patroni.scope;
    let ask_the_user = |why: String| SlotWord {
        is: Is::False,
        reason: "SlotNotPermanent",
        message: format!("{why}; {}", instruction(&patroni.flavor, scope, slot)),
    };
    let permanent = || SlotWord {
        is: Is::True,
        reason: "Permanent",
        message: "Patroni keeps the slot on every member".to_owned(),
    };
    match standing(&config, slot) {
        Standing::Permanent => return Ok(permanent()),
        Standing::SlotsOff => {
            return Ok(ask_the_user(
                "Patroni keeps no slots, because use_slots is off".to_owned(),
            ));
        }
        Standing::OtherType => {
            return Ok(SlotWord {
                is: Is::False,
                reason: "SlotNameTaken",
                message: format!(
                    "Patroni's slot {slot} is no physical one: use another stream.slotName in a new object"
                ),
            });
        }
        Standing::Absent => {}
    }
    if patroni.flavor != Flavor::Plain || patroni.slot_management != SlotManagement::Auto {
        return Ok(ask_the_user("the slot does not outlive a failover".to_owned()));
    }
    match change(context, namespace, patroni, rest.as_ref(), how, &addition(slot)).await? {
        Ok(()) => Ok(permanent()),
        Err(Unasked(why)) => Ok(ask_the_user(format!("Patroni's configuration was not changed: {why}"))),
    }
}

/// Makes Patroni forget the slot, so that it does not make it again once it is dropped; what the user has to do, when we
/// may not.
pub async fn forget(
    context: &Context,
    namespace: &str,
    patroni: &Patroni,
    leader: Option<&str>,
    slot: &str,
) -> Result<Option<String>> {
    let rest = Rest::connect(context, namespace, patroni.rest.as_ref(), leader).await;
    let (config, how) = match read(context, namespace, patroni, rest.as_ref()).await? {
        Ok(found) => found,
        Err(Unasked(why)) => {
            return Ok(Some(format!(
                "Patroni's configuration could not be read ({why}): if the slot {slot} stands in it, take it out"
            )));
        }
    };
    if standing(&config, slot) != Standing::Permanent {
        return Ok(None);
    }
    let by_hand = format!("take the slot {slot} out of Patroni's configuration, or Patroni makes it again");
    if patroni.flavor != Flavor::Plain || patroni.slot_management != SlotManagement::Auto {
        return Ok(Some(by_hand));
    }
    let changed = change(context, namespace, patroni, rest.as_ref(), how, &removal(slot)).await?;
    Ok(changed.err().map(|Unasked(why)| format!("{by_hand}: {why}")))
}

/// Where a configuration was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum How {
    Rest,
    Object,
}

/// The configuration. Crunchy's API wants a client certificate, so its object is read at once.
async fn read(
    context: &Context,
    namespace: &str,
    patroni: &Patroni,
    rest: Result<&Rest, &Unasked>,
) -> Result<Result<(Value, How), Unasked>> {
    let given = patroni.rest.as_ref().is_some_and(|rest| rest.url.is_some());
    let by_rest = match rest {
        Ok(rest) if given || patroni.flavor != Flavor::Crunchy => rest.config().await,
        Ok(_) => Err(Unasked(
            "Crunchy's REST API lets only its own certificates in".to_owned(),
        )),
        Err(why) => Err(why.clone()),
    };
    let why = match by_rest {
        Ok(config) => return Ok(Ok((config, How::Rest))),
        Err(why) => why,
    };
    Ok(match object(context, namespace, patroni).await? {
        Some(object) => Ok((object.config, How::Object)),
        None => Err(why),
    })
}

async fn change(
    context: &Context,
    namespace: &str,
    patroni: &Patroni,
    rest: Result<&Rest, &Unasked>,
    how: How,
    wanted: &Value,
) -> Result<Result<(), Unasked>> {
    let refused = match (how, rest) {
        (How::Rest, Ok(rest)) => match rest.change(wanted).await {
            Ok(_) => return Ok(Ok(())),
            Err(why) => why,
        },
        (_, Err(why)) => why.clone(),
        (How::Object, Ok(_)) => Unasked("Patroni's REST API does not answer".to_owned()),
    };
    if !context.settings.patroni_patch_config {
        return Ok(Err(refused));
    }
    match object(context, namespace, patroni).await? {
        Some(object) => match object.merge(context, namespace, wanted).await {
            Ok(()) => Ok(Ok(())),
            Err(error) => match error.refusal() {
                Some(said) => Ok(Err(Unasked(format!("the API server does not let us: {said}")))),
                None => Err(error),
            },
        },
        None => Ok(Err(refused)),
    }
}

/// The object in which Patroni keeps its configuration.
struct ConfigObject {
    endpoints: bool,
    name: String,
    version: Option<String>,
    config: Value,
}

async fn object(context: &Context, namespace: &str, patroni: &Patroni) -> Result<Option<ConfigObject>> {
    // Crunchy's operator runs Patroni under a scope of its own.
    let name = match patroni.flavor {
        Flavor::Crunchy => format!("{}-ha-config", patroni.scope),
        _ => format!("{}-config", patroni.scope),
    };
    if let Some(found) = annotated::<Endpoints>(context, namespace, &name, true).await? {
        return Ok(Some(found));
    }
    annotated::<ConfigMap>(context, namespace, &name, false).await
}

/// What may not be read is not there for us.
async fn annotated<K>(context: &Context, namespace: &str, name: &str, endpoints: bool) -> Result<Option<ConfigObject>>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()> + DeserializeOwned + Clone + std::fmt::Debug,
{
    let found = match apply::get::<K>(context, namespace, name).await {
        Ok(found) => found,
        Err(error) if error.is_forbidden() => None,
        Err(error) => return Err(error),
    };
    Ok(found.and_then(|found| {
        let config = serde_json::from_str(found.annotations().get(CONFIG)?).ok()?;
        Some(ConfigObject {
            endpoints,
            name: name.to_owned(),
            version: found.resource_version(),
            config,
        })
    }))
}

impl ConfigObject {
    async fn merge(mut self, context: &Context, namespace: &str, wanted: &Value) -> Result<()> {
        merge(&mut self.config, wanted);
        let body = json!({"metadata": {
            "resourceVersion": self.version,
            "annotations": {CONFIG: serde_json::to_string(&self.config)?},
        }});
        let (params, patch) = (PatchParams::default(), Patch::Merge(&body));
        let outcome = if self.endpoints {
            let api: Api<Endpoints> = Api::namespaced(context.client.clone(), namespace);
            api.patch(&self.name, &params, &patch).await.map(|_| ())
        } else {
            let api: Api<ConfigMap> = Api::namespaced(context.client.clone(), namespace);
            api.patch(&self.name, &params, &patch).await.map(|_| ())
        };
        outcome.map_err(Error::from)
    }
}

#[cfg(test)]
#[path = "patroni_slot_tests.rs"]
mod tests;
