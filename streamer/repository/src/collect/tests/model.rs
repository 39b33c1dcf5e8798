//! A model of everybody at once: writers that compare with earlier backups and take over what dead ones have left, readers, people who delete, undelete and
//! hold, and collectors, each a process of its own that may pause for days or die at any call of the store.
//!
//! What must hold at every moment: a committed backup that is not purged has all of its packs, and a reader that was told
//! that its pin counts finds everything. And when all is quiet, nothing is left that nobody needs.
//!
//! `COLLECT_MODEL_STEPS` and `COLLECT_MODEL_SEED` ask for more, or for the same again.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hardstorage_codec::{Secret, SigningKey};
use hardstorage_report::{BackupId, Error, Result, code};
use hardstorage_storage::{DynStore, ListRequest, MemoryStore, Store};
use jiff::{SignedDuration, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::model_store::{Dice, ModelStore};
use super::world::{DATA, commit, open, write_packs};
use crate::collect::{CollectOptions, collect};
use crate::manifest::Manifest;
use crate::pack::fetch_root;
use crate::table::PackList;
use crate::{
    Action, BackupState, Catalog, Clock, DataKey, Deployment, Entropy, PackId, ProcessFacts, ProgressRecord, Purpose,
    RepoConfig, Root, Session, SessionTiming, Sessions, StoredManifest, Surroundings, WriterId, abandoned, layout,
};

const EPOCH: i64 = 1_780_100_000;

/// The clock of a machine: wrong by a day at most, in either direction.
#[derive(Debug)]
struct Skewed {
    start: Instant,
    skew: i64,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        now_since(self.start)
            .checked_add(SignedDuration::from_secs(self.skew))
            .unwrap()
    }
}

/// Randomness out of the dice; the KEK, which is asked for first, is the same for all.
#[derive(Debug)]
struct DiceEntropy {
    dice: Arc<Dice>,
    has_key: AtomicBool,
}

impl Entropy for DiceEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        let is_key = !self.has_key.swap(true, Ordering::Relaxed);
        buffer.fill_with(|| if is_key { 7 } else { self.dice.below(256) as u8 });
        Ok(())
    }
}

fn now_since(start: Instant) -> Timestamp {
    let at = Timestamp::from_second(EPOCH).unwrap();
    at.checked_add(SignedDuration::try_from(start.elapsed()).unwrap())
        .unwrap()
}

#[derive(Clone)]
struct Model {
    start: Instant,
    memory: Arc<MemoryStore>,
    dice: Arc<Dice>,
    signer: Arc<SigningKey>,
    /// Packs of dead writers that were taken over.
    adopted: Arc<AtomicU64>,
}

impl Model {
    fn deployment(&self, store: DynStore) -> Deployment {
        let skew = self.dice.below(2 * 86_400) as i64 - 86_400;
        let clock = Skewed {
            start: self.start,
            skew,
        };
        let entropy = DiceEntropy {
            dice: self.dice.clone(),
            has_key: AtomicBool::new(false),
        };
        let surroundings = Surroundings::new(Arc::new(clock), Arc::new(entropy));
        let key = DataKey::new(Secret::new([3; 32]), [4; 16], 1, true);
        Deployment::for_tests_with(store, "db1", surroundings, key, RepoConfig::default())
    }

    /// A process: what it does ends with it, also when it dies.
    fn process(&self) -> (Deployment, Arc<ModelStore>) {
        let store = Arc::new(ModelStore::new(self.memory.clone(), self.dice.clone()));
        (self.deployment(store.clone()), store)
    }

    /// Time that a backup or a restore takes, while its session is renewed.
    async fn work(&self) {
        let hours = Duration::from_mins(self.dice.below(8 * 60));
        self.dice.wait_until(Instant::now() + hours).await;
    }

    /// What nobody disturbs.
    fn truth(&self) -> Deployment {
        self.deployment(self.memory.clone())
    }

    fn seconds(&self) -> i64 {
        self.start.elapsed().as_secs() as i64
    }
}

async fn list(deployment: &Deployment, id: &BackupId) -> Result<Option<Vec<PackId>>> {
    let StoredManifest::Committed(stored) = Manifest::load(deployment, id).await? else {
        return Ok(None);
    };
    let raw = fetch_root(deployment, &stored.manifest.pack_list, "pack list").await?;
    Ok(Some(PackList::decode(&raw)?.packs.iter().map(|pack| pack.id).collect()))
}

/// A backup that takes over some of the packs of the newest one.
async fn writer(model: &Model) -> Result<()> {
    let (deployment, store) = model.process();
    let number = model.dice.below(1 << 16) as u16;
    let second = model.seconds();
    let stamp = now_since(model.start).strftime("%Y%m%dT%H%M%SZ").to_string();
    let id = BackupId::compose(deployment.name(), "full", &stamp, number).unwrap();
    // Some choose what they pin before they have a session, as a backup does, and some when they have one.
    let chosen = if model.dice.once_in(2) {
        ancestor(&deployment).await?
    } else {
        None
    };
    let pins: Vec<BackupId> = chosen.into_iter().collect();
    let session = open(&deployment, Purpose::Backup { backup_id: id.clone() }, &pins).await?;
    let done = write(model, &deployment, &session, &id, second).await;
    // Its pin counted, and its session was renewed in time: nobody may take what it relies on.
    let lost = done
        .as_ref()
        .is_err_and(|error| error.is(code::repository::PACK_MISSING));
    assert!(!lost || store.slept(), "a pinned pack is gone: {done:?}");
    // One in a few says nothing at its end.
    if !model.dice.once_in(4) {
        session.close().await?;
    }
    done
}

/// The newest backup.
async fn ancestor(deployment: &Deployment) -> Result<Option<BackupId>> {
    let catalog = deployment.backups().await?;
    Ok(catalog.latest().map(|entry| entry.backup_id.clone()))
}

async fn write(model: &Model, deployment: &Deployment, session: &Session, id: &BackupId, second: i64) -> Result<()> {
    let sessions = Sessions::look(deployment).await?;
    let (timing, here) = (SessionTiming::default(), ProcessFacts::default());
    let dead = abandoned(deployment, &sessions, &timing, &here).await?;
    let adopted = session.adopt(dead).await?;
    let adopts: Vec<WriterId> = adopted.iter().map(|one| one.writer).collect();
    let taken = adopts.iter().map(|writer| early(*writer));
    let taken: Vec<PackId> = taken.filter(|_| !model.dice.once_in(3)).collect();
    model.adopted.fetch_add(taken.len() as u64, Ordering::Relaxed);
    let mut shared = Vec::new();
    let mut chosen = session.record().await.pins.pop();
    if chosen.is_none() {
        chosen = ancestor(deployment).await?;
        session.pin(chosen.iter().cloned().collect()).await?;
    }
    if let Some(ancestor) = chosen
        && session.usable_pins().await?.contains(&ancestor)
    {
        shared = list(deployment, &ancestor).await?.unwrap_or_default();
        shared.retain(|pack| pack.sequence != 2 && !model.dice.once_in(3));
    }
    shared.retain(|pack| !taken.contains(pack));
    shared.extend(taken);
    write_early(deployment, session.writer()).await?;
    shared.push(early(session.writer()));
    model.work().await;
    let written = write_packs(deployment, session.writer(), &shared).await?;
    session.check()?;
    commit(deployment, &model.signer, (id, second), session.writer(), written).await
}

/// The pack that a writer has stored long before it commits.
fn early(writer: WriterId) -> PackId {
    PackId { writer, sequence: 3 }
}

/// Stores it, and tells that it is there.
async fn write_early(deployment: &Deployment, writer: WriterId) -> Result<()> {
    let key = layout::pack(deployment.name(), &writer, early(writer).sequence);
    deployment.store().put_new(&key, Bytes::from_static(DATA)).await?;
    let nothing = Root {
        frames: Vec::new(),
        length: 0,
        hash: [0; 32],
    };
    let progress = ProgressRecord::new(deployment, writer, 0, nothing.clone(), nothing);
    progress.write(deployment).await
}

/// Reads a backup: what it pinned must be there to the end, while its session lives.
async fn reader(model: &Model) -> Result<()> {
    let (deployment, store) = model.process();
    let catalog = deployment.backups().await?;
    let usable: Vec<_> = catalog.entries.iter().filter(|entry| entry.is_usable()).collect();
    let Some(entry) = usable.get(model.dice.below(1 + usable.len() as u64) as usize) else {
        return Ok(());
    };
    let id = entry.backup_id.clone();
    let session = open(&deployment, Purpose::Restore, std::slice::from_ref(&id)).await?;
    if session.usable_pins().await?.contains(&id) {
        let name = deployment.name();
        for pack in list(&deployment, &id).await?.unwrap_or_default() {
            let key = layout::pack(name, &pack.writer, pack.sequence);
            let there = deployment.store().head(&key).await?.is_some();
            // A reader that was silent for too long has lost its claim.
            assert!(there || store.slept(), "a pinned backup lacks pack {pack:?}");
            model.work().await;
        }
    }
    session.close().await
}

/// Somebody who looks after the backups: keeps the newest few, sometimes changes their mind.
async fn person(model: &Model) -> Result<()> {
    let (deployment, _) = model.process();
    let catalog = deployment.backups().await?;
    let usable: Vec<_> = catalog.entries.iter().filter(|entry| entry.is_usable()).collect();
    for entry in usable.iter().rev().skip(1 + model.dice.below(3) as usize) {
        let action = Action::Delete { reason: "old".into() };
        ignore_refusals(BackupState::change(&deployment, &entry.backup_id, action).await)?;
    }
    let any = catalog
        .entries
        .get(model.dice.below(1 + catalog.entries.len() as u64) as usize);
    if let Some(entry) = any.filter(|entry| entry.manifest().is_some()) {
        let action = match model.dice.below(4) {
            0 => Action::Undelete,
            1 => Action::Hold { reason: "look".into() },
            _ => Action::Release,
        };
        ignore_refusals(BackupState::change(&deployment, &entry.backup_id, action).await)?;
    }
    Ok(())
}

fn ignore_refusals<T>(done: Result<T>) -> Result<()> {
    let fine = [
        code::repository::HELD,
        code::repository::STATE_RACE,
        code::repository::BACKUP_MISSING,
    ];
    match done {
        Err(error) if !fine.iter().any(|code| error.is(*code)) => Err(error),
        _ => Ok(()),
    }
}

async fn collector(model: &Model) -> Result<()> {
    let options = CollectOptions {
        apply: true,
        grace: Duration::from_hours(model.dice.below(3)),
        // Readers here have sessions, so that the time since the purge protects nobody.
        reader_grace: Duration::ZERO,
        ..CollectOptions::default()
    };
    let done = collect(&model.process().0, &options).await?;
    assert!(done.problems.is_empty(), "{:?}", done.problems);
    Ok(())
}

/// What a process may end with: somebody was faster, or it was silent for too long.
fn expected(error: &Error) -> bool {
    [
        code::repository::SESSION_LOST,
        code::repository::BACKUP_VOID,
        code::repository::PACK_MISSING,
        code::repository::BACKUP_MISSING,
        code::storage::OBJECT,
    ]
    .iter()
    .any(|code| error.is(*code))
        // A name that existed and is gone, an object that was listed and is gone: the collector's work.
        || error.to_string().contains("listed, but not there")
        || error.to_string().contains("was gone a moment later")
}

/// Every committed backup that is not purged has its packs. What was created is never taken away by a wrong hand.
async fn check(model: &Model) -> usize {
    let truth = model.truth();
    let catalog = Catalog::load(&truth).await.unwrap();
    let packs = stored(model).await;
    let mut whole = 0;
    for entry in &catalog.entries {
        let purged = entry.state.as_ref().unwrap().purged.is_some();
        if let (Some(_), false) = (entry.manifest(), purged) {
            let needed = list(&truth, &entry.backup_id).await.unwrap().unwrap();
            let lost: Vec<_> = needed.iter().filter(|pack| !packs.contains(pack)).collect();
            assert!(lost.is_empty(), "backup {} lost {lost:?}", entry.backup_id);
            whole += 1;
        }
    }
    whole
}

async fn stored(model: &Model) -> BTreeSet<PackId> {
    let folder = "packs/db1/";
    let listing = model.memory.list(&ListRequest::under(folder)).await.unwrap();
    assert!(listing.next.is_none());
    let objects = listing.objects.iter();
    objects
        .filter_map(|object| layout::pack_id(folder, &object.key))
        .collect()
}

async fn run(seed: u64, steps: u64) {
    let start = Instant::now();
    let memory = Arc::new(
        MemoryStore::new()
            .with_page(1 << 20)
            .with_clock(move || now_since(start)),
    );
    let dice = Arc::new(Dice::new(seed));
    let signer = Arc::new(SigningKey::new(&Secret::new([6; 32])));
    let model = Model {
        start,
        memory,
        dice,
        signer,
        adopted: Arc::default(),
    };
    model.truth().register_signer(&model.signer.public()).await.unwrap();
    let mut processes = JoinSet::new();
    let (mut ended, mut committed, mut checked) = (0, 0, 0);
    while model.dice.calls() < steps {
        let one = model.clone();
        match model.dice.below(10) {
            0..3 => processes.spawn(async move { writer(&one).await }),
            3..5 => processes.spawn(async move { reader(&one).await }),
            5..7 => processes.spawn(async move { person(&one).await }),
            _ => processes.spawn(async move { collector(&one).await }),
        };
        let pause = Duration::from_mins(1 + model.dice.below(100));
        model.dice.wait_until(Instant::now() + pause).await;
        while let Some(done) = processes.try_join_next() {
            ended += 1;
            if let Err(error) = done.unwrap() {
                assert!(expected(&error), "seed {seed}: {error:?}");
            } else {
                committed += 1;
            }
        }
        checked += check(&model).await;
    }
    println!(
        "seed {seed}: {} calls, {} days, {ended} processes ended ({committed} well), {} died or sleep, {} packs adopted, \
         {checked} looks at backups",
        model.dice.calls(),
        start.elapsed().as_secs() / 86_400,
        processes.len(),
        model.adopted.load(Ordering::Relaxed),
    );
    assert!(
        committed > 10 && checked > 10,
        "a model in which nothing happens proves nothing"
    );
    quiet(&model, seed).await;
}

/// Everybody who still sleeps wakes up, and then two collections a day apart leave nothing that nobody needs.
async fn quiet(model: &Model, seed: u64) {
    model.dice.calm.store(true, Ordering::Relaxed);
    sleep(Duration::from_hours(100)).await;
    for _ in 0..4 {
        let options = CollectOptions {
            apply: true,
            grace: Duration::ZERO,
            ..CollectOptions::default()
        };
        collect(&model.truth(), &options).await.unwrap();
        sleep(Duration::from_hours(50)).await;
    }
    check(model).await;
    let truth = model.truth();
    let catalog = truth.backups().await.unwrap();
    let mut needed = BTreeSet::new();
    let mut waiting = 0;
    for entry in &catalog.entries {
        assert!(entry.manifest().is_some(), "seed {seed}: {entry:?} is left");
        let state = entry.state.as_ref().unwrap();
        waiting += usize::from(state.deleted.is_some() && state.held.is_none());
        needed.extend(list(&truth, &entry.backup_id).await.unwrap().unwrap());
    }
    let only = catalog.entries.iter().filter(|entry| entry.is_usable()).count();
    assert!(
        waiting == 0 || only == 0,
        "seed {seed}: {waiting} deleted backups are left"
    );
    assert_eq!(stored(model).await, needed, "seed {seed}");
    let writers: BTreeSet<_> = needed.iter().map(|pack| pack.writer).collect();
    let sessions = crate::list_sessions(&truth).await.unwrap();
    assert!(
        sessions.iter().all(|session| writers.contains(&session.writer)),
        "seed {seed}: a session is left"
    );
}

#[test]
fn nothing_that_is_needed_goes_and_nothing_else_stays() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let steps = number("COLLECT_MODEL_STEPS").unwrap_or(100_000);
    let seeds = match number("COLLECT_MODEL_SEED") {
        Some(seed) => vec![seed],
        None => vec![1, 2, rand::random_range(1000..1_000_000)],
    };
    for seed in &seeds {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .start_paused(true)
            .build()
            .unwrap();
        println!("seed {seed}");
        runtime.block_on(run(*seed, steps / seeds.len() as u64));
    }
}
