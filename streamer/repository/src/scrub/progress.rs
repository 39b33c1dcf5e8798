//! Where a scrub remembers how far it has come: `scrub/<deployment>/<number>.json` in the repository, each record removed
//! by the next; or, for those who hold no key or may not write, one local file for all deployments.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use hardstorage_report::{DeploymentName, Error, Kind, Result, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::round::Round;
use crate::document::{self, Made};
use crate::listing::Objects;
use crate::{Deployment, EnvelopeKind, layout};

const SCHEMA: &str = "hardstorage.scrub.v1";
const FILE_SCHEMA: &str = "hardstorage.scrub_state.v1";
/// Two scrubs at once compete for names; whoever is refused so often leaves the word to the others.
const TRIES: u32 = 8;

#[derive(Debug, Serialize, Deserialize)]
struct Record {
    schema: String,
    deployment: DeploymentName,
    sequence: u32,
    at: Timestamp,
    #[serde(flatten)]
    round: Round,
}

#[derive(Debug, Serialize, Deserialize)]
struct StateFile {
    schema: String,
    #[serde(with = "crate::hex_bytes")]
    repository_id: [u8; 16],
    deployments: BTreeMap<DeploymentName, Round>,
}

/// Where the record lies.
#[derive(Debug, Clone)]
pub enum ScrubProgress {
    /// In the repository.
    Repository,
    /// In a local file, which is of one repository.
    File {
        /// The file.
        path: PathBuf,
        /// The repository.
        repository_id: [u8; 16],
    },
    /// Nowhere: everything is read, and nothing is remembered.
    Nowhere,
}

/// What was remembered.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    pub(super) round: Option<Round>,
    /// The highest number of a record, 0 when there is none.
    sequence: u32,
    /// A record that cannot be read.
    pub(super) broken: Option<Error>,
}

/// The newest record of the repository. One that is damaged costs a round that begins anew.
async fn stored(deployment: &Deployment) -> Result<Remembered> {
    let folder = layout::scrub_folder(deployment.name());
    let mac = deployment.key().mac(EnvelopeKind::Scrub);
    let mut found = Remembered::default();
    for object in Objects::under(deployment.store(), folder.clone()).all().await? {
        if let Some(sequence) = layout::numbered(&folder, &object.key) {
            found.sequence = found.sequence.max(sequence);
        }
    }
    if found.sequence == 0 {
        return Ok(found);
    }
    let key = layout::scrub(deployment.name(), found.sequence);
    match document::read::<Record>(deployment.store(), EnvelopeKind::Scrub, &mac, &key).await {
        Ok(Some(record)) => {
            let is_itself =
                record.schema == SCHEMA && record.deployment == *deployment.name() && record.sequence == found.sequence;
            match document::must_be_itself(&key, is_itself) {
                Ok(()) => found.round = Some(record.round),
                Err(error) => found.broken = Some(error),
            }
        }
        // Another scrub has gone on; its record is read by the next one.
        Ok(None) => {}
        Err(error) if error.kind() == Kind::Verify => found.broken = Some(error),
        Err(error) => return Err(error),
    }
    Ok(found)
}

async fn store(deployment: &Deployment, round: &Round, sequence: &mut u32) -> Result<()> {
    deployment.descriptor().check_write()?;
    let mac = deployment.key().mac(EnvelopeKind::Scrub);
    for _ in 0..TRIES {
        *sequence = sequence.saturating_add(1);
        let record = Record {
            schema: SCHEMA.to_owned(),
            deployment: deployment.name().clone(),
            sequence: *sequence,
            at: deployment.surroundings().now(),
            round: round.clone(),
        };
        let key = layout::scrub(deployment.name(), *sequence);
        let bytes = document::encode(EnvelopeKind::Scrub, &mac, &key, &record)?;
        if document::create(deployment.store(), &key, &bytes).await? == Made::Ours {
            deployment.store().sync().await?;
            return remove_before(deployment, *sequence).await;
        }
    }
    let message = format!("other scrubs of {} run, and each is faster", deployment.name());
    Err(Error::new(code::repository::SCRUB_RACE, message))
}

async fn remove_before(deployment: &Deployment, sequence: u32) -> Result<()> {
    let folder = layout::scrub_folder(deployment.name());
    for object in Objects::under(deployment.store(), folder.clone()).all().await? {
        if layout::numbered(&folder, &object.key).is_some_and(|number| number < sequence) {
            deployment.store().delete(&object.key).await?;
        }
    }
    Ok(())
}

fn io(path: &Path, doing: &str, error: std::io::Error) -> Error {
    Error::new(code::repository::SCRUB_STATE, format!("{doing} {}", path.display())).source(error)
}

/// The file, or an empty one when there is none. One of another repository is refused: it would be overwritten.
fn file(path: &Path, repository_id: [u8; 16]) -> Result<StateFile> {
    let refused = |what: &str| {
        let message = format!("{} {what}", path.display());
        Error::new(code::repository::SCRUB_STATE, message)
    };
    let text = match std::fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Ok(StateFile {
                schema: FILE_SCHEMA.to_owned(),
                repository_id,
                deployments: BTreeMap::new(),
            });
        }
        Err(error) => return Err(io(path, "read", error)),
    };
    let state: StateFile =
        serde_json::from_slice(&text).map_err(|error| refused("is not the state of a scrub").source(error))?;
    if state.schema != FILE_SCHEMA {
        return Err(refused("is not the state of a scrub"));
    }
    if state.repository_id != repository_id {
        return Err(refused("is the state of another repository"));
    }
    Ok(state)
}

fn write(path: &Path, state: &StateFile) -> Result<()> {
    let text = serde_json::to_vec_pretty(state)
        .map_err(|error| Error::new(code::repository::SCRUB_STATE, "write the state of a scrub").source(error))?;
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    let mut out = std::fs::File::create(&new).map_err(|error| io(&new, "create", error))?;
    out.write_all(&text)
        .and_then(|()| out.sync_all())
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| io(path, "write", error))
}

impl ScrubProgress {
    /// A repository's own needs its key.
    pub(super) async fn load(&self, name: &DeploymentName, deployment: Option<&Deployment>) -> Result<Remembered> {
        match (self, deployment) {
            (ScrubProgress::Repository, Some(deployment)) => stored(deployment).await,
            (ScrubProgress::File { path, repository_id }, _) => Ok(Remembered {
                round: file(path, *repository_id)?.deployments.remove(name),
                ..Remembered::default()
            }),
            (ScrubProgress::Repository, None) | (ScrubProgress::Nowhere, _) => Ok(Remembered::default()),
        }
    }

    pub(super) async fn save(
        &self,
        name: &DeploymentName,
        deployment: Option<&Deployment>,
        round: &Round,
        remembered: &mut Remembered,
    ) -> Result<()> {
        match (self, deployment) {
            (ScrubProgress::Repository, Some(deployment)) => store(deployment, round, &mut remembered.sequence).await,
            (ScrubProgress::File { path, repository_id }, _) => {
                let mut state = file(path, *repository_id)?;
                state.deployments.insert(name.clone(), round.clone());
                write(path, &state)
            }
            (ScrubProgress::Repository, None) | (ScrubProgress::Nowhere, _) => Ok(()),
        }
    }
}
