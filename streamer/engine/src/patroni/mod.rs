//! Makes our slot one that Patroni knows: it is then on every member, and moves along, so that the one that is promoted has
//! what the archive lacks. Patroni drops a slot that it does not know.
//!
//! One key is added to Patroni's dynamic configuration when it is missing, and nothing else is ever changed there. Any member
//! can be asked, because all of them keep one configuration: so all are asked at once, and the first that answers will do.
//! After a failover one of them is most likely dead, and may be silent.

mod access;
mod rest;
#[cfg(test)]
pub(crate) mod stand_in;
mod standing;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use hardstorage_report::{Error, Kind, Result, SystemId, code};
use serde_json::Value;
use url::Url;

pub use self::access::Login;
use self::rest::Rest;
use self::standing::{Standing, addition, members, slot_of_member, standing, system_of};

const CONFIG: &str = "/config";
const CLUSTER: &str = "/cluster";
const MEMBER: &str = "/patroni";

/// Patroni, by its REST API.
#[derive(Debug, Clone)]
pub struct Patroni {
    members: Vec<Url>,
    login: Option<Login>,
    authority: Option<PathBuf>,
}

/// What had to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// Nothing: it was there.
    Already,
    /// It was added.
    Now,
}

impl Patroni {
    /// The members' URLs, at least one.
    pub fn new(urls: &[String], login: Option<Login>, authority: Option<PathBuf>) -> Result<Patroni> {
        if urls.is_empty() {
            return Err(wrong("no URL of Patroni is given"));
        }
        Ok(Patroni {
            members: urls.iter().map(|url| member(url)).collect::<Result<_>>()?,
            login,
            authority,
        })
    }

    /// Makes sure that Patroni keeps the slot. It has to be the Patroni of this cluster: a slot that nobody streams from keeps
    /// WAL for ever.
    pub async fn keep(&self, slot: &str, system: SystemId) -> Result<Kept> {
        let (rest, config) = self.config().await?;
        if kept(&config, slot)? {
            return Ok(Kept::Already);
        }
        // Also the proof that it is Patroni which is about to be changed.
        let cluster = rest.get(CLUSTER).await?;
        let members = members(&cluster).ok_or_else(|| rest.foreign("it names no members"))?;
        if let Some(name) = members.into_iter().find(|name| slot_of_member(name) == slot) {
            return Err(Error::new(
                code::engine::PATRONI_SLOT,
                format!("{slot} is the slot of Patroni's member {name}"),
            )
            .hint("choose another name with --slot"));
        }
        match system_of(&rest.get(MEMBER).await?) {
            Some(other) if other == system.to_string() => {}
            Some(other) => {
                return Err(rest.foreign(&format!(
                    "it looks after the cluster {other}, and the stream is of {system}"
                )));
            }
            None => {
                let said = format!("{}: it does not say which cluster it looks after", rest.url);
                return Err(Error::new(code::engine::PATRONI_UNREACHABLE, said));
            }
        }
        let after = rest.patch(CONFIG, &addition(slot)).await?;
        if kept(&after, slot)? {
            Ok(Kept::Now)
        } else {
            Err(rest.foreign("it has taken the slot, and does not have it"))
        }
    }

    /// Whether Patroni keeps the slot; changes nothing.
    pub async fn keeps(&self, slot: &str) -> Result<bool> {
        kept(&self.config().await?.1, slot)
    }

    /// The configuration from whoever tells it first.
    async fn config(&self) -> Result<(Rest, Value)> {
        let login = match &self.login {
            Some(login) => Some(login.header().await?),
            None => None,
        };
        let secure = self.members.iter().any(|url| url.scheme() == "https");
        let tls = if secure {
            Some(access::tls(self.authority.as_deref()).await?)
        } else {
            None
        };
        let mut answers: FuturesUnordered<_> = self
            .members
            .iter()
            .map(|url| Rest {
                url: url.clone(),
                login: login.clone(),
                tls: tls.clone().filter(|_| url.scheme() == "https"),
            })
            .map(async |rest| rest.get(CONFIG).await.map(|config| (rest, config)))
            .collect();
        let mut failed: Option<Error> = None;
        while let Some(answer) = answers.next().await {
            match answer {
                Ok(found) => return Ok(found),
                // Where one is away and another refuses, the refusal tells more.
                Err(error) => {
                    if failed.as_ref().is_none_or(|other| other.kind() == Kind::Unreachable) {
                        failed = Some(error);
                    }
                }
            }
        }
        Err(failed.unwrap_or_else(|| wrong("no URL of Patroni is given")))
    }
}

fn kept(config: &Value, slot: &str) -> Result<bool> {
    match standing(config, slot) {
        Standing::Kept => Ok(true),
        Standing::Absent => Ok(false),
        Standing::Other(entry) => Err(Error::new(
            code::engine::PATRONI_SLOT,
            format!("Patroni's slot {slot} is {entry}"),
        )),
        Standing::SlotsOff => Err(Error::new(
            code::engine::PATRONI_SLOTS_OFF,
            format!("Patroni keeps no slots, and so not {slot}: use_slots is false"),
        )),
    }
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(code::usage::INVALID, what).hint("name Patroni's REST API, for example http://192.0.2.10:8008")
}

fn member(text: &str) -> Result<Url> {
    // The text may hold a password, so that no message repeats it.
    let url = Url::parse(text.trim()).map_err(|error| wrong("a URL of Patroni cannot be read").source(error))?;
    if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
        return Err(wrong(
            "a URL of Patroni begins with http:// or https://, and names a host",
        ));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("a URL of Patroni holds no user and no password")
            .hint("give --patroni-user and --patroni-password-file"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(wrong("a URL of Patroni ends with the port or a path"));
    }
    Ok(url)
}
