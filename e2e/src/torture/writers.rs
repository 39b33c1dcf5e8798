//! Those who write into the ledger: several connections that commit one row after the other and note what was acknowledged,
//! and a notary who looks at all of it from time to time.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use tokio_postgres::{Client, Config, NoTls, SimpleQueryMessage};

use super::dice::Dice;
use super::ledger::{Ledger, Moment, Row, State, held};
use crate::postgres::lsn;

/// So many connections write.
const WRITERS: u32 = 4;
/// For so long an answer is waited for: a server that is stopped gives none, and a synchronous commit waits for the stream.
const PATIENCE: Duration = Duration::from_secs(15);
/// And for so long when there are other servers to ask.
const IMPATIENCE: Duration = Duration::from_secs(2);

/// The table.
pub(super) const TABLE: &str =
    "CREATE TABLE ledger (writer int, number bigint, filler text NOT NULL, PRIMARY KEY (writer, number))";
/// Its state.
pub(super) const STATE: &str = "SELECT count(*), \
     md5(coalesce(string_agg(writer || ':' || number, ',' ORDER BY writer, number), '')) FROM ledger";
const TIMELINE: &str = "substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8)";
const CLOCK: &str = r#"to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"#;

/// The threads that write.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them; `primary` holds the directories of the sockets of all servers that may be the primary now.
    pub fn start(primary: &Arc<Mutex<Vec<PathBuf>>>, ledger: &Arc<Ledger>, dice: &mut Dice) -> Writers {
        let stop = Arc::new(AtomicBool::new(false));
        let desk = |dice: Dice| Desk {
            primary: primary.clone(),
            ledger: ledger.clone(),
            stop: stop.clone(),
            dice,
        };
        let mut threads: Vec<_> = (1..=WRITERS)
            .map(|writer| {
                let desk = desk(dice.split());
                thread::spawn(move || block_on(desk.write(writer)))
            })
            .collect();
        let notary = desk(dice.split());
        threads.push(thread::spawn(move || block_on(notary.look())));
        Writers { stop, threads }
    }

    /// Ends them when each has the answer to what it sent.
    pub fn stop(mut self) {
        self.stop.store(true, Ordering::Release);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().unwrap_or_else(|_| panic!("a writer failed"));
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(work);
}

/// What each of them has.
struct Desk {
    primary: Arc<Mutex<Vec<PathBuf>>>,
    ledger: Arc<Ledger>,
    stop: Arc<AtomicBool>,
    dice: Dice,
}

impl Desk {
    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    async fn pause(&mut self, millis: std::ops::RangeInclusive<u64>) {
        tokio::time::sleep(self.dice.millis(millis)).await;
    }

    /// To a primary, when there is one; of two that both believe to be it, to either.
    async fn connect(&mut self) -> Option<Client> {
        let mut servers = held(&self.primary).clone();
        if let [server] = &servers[..] {
            return connect(server.clone(), PATIENCE).await;
        }
        self.dice.shuffle(&mut servers);
        for server in servers {
            if let Some(client) = connect(server, IMPATIENCE).await {
                let recovers = tokio::time::timeout(IMPATIENCE, ask(&client, "SELECT pg_is_in_recovery()")).await;
                if recovers.ok().flatten().is_some_and(|told| told[0] == "f") {
                    return Some(client);
                }
            }
        }
        None
    }

    /// Commits row after row. A number that was sent is never sent again, whatever became of it.
    async fn write(mut self, writer: u32) {
        let mut number = 0;
        while !self.stopped() {
            let Some(client) = self.connect().await else {
                self.pause(20..=100).await;
                continue;
            };
            while !self.stopped() {
                number += 1;
                self.ledger.sends(writer, number);
                let length = self.dice.number(1..=60);
                let insert = format!(
                    "INSERT INTO ledger VALUES ({writer}, {number}, repeat(md5(random()::text), {length})) \
                     RETURNING pg_current_wal_insert_lsn(), {TIMELINE}"
                );
                let Some(told) = ask(&client, &insert).await else { break };
                // A commit that returned is flushed, so this is behind it.
                let after = ask(&client, "SELECT pg_current_wal_flush_lsn()").await;
                let known = after.is_some();
                self.ledger.acknowledged(Row {
                    writer,
                    number,
                    timeline: timeline(&told[1]),
                    before: lsn(&told[0]),
                    after: after.map(|after| lsn(&after[0])),
                });
                if !known {
                    break;
                }
                self.pause(0..=15).await;
            }
        }
    }

    /// Looks at everything while nobody writes.
    async fn look(mut self) {
        let state = STATE.strip_prefix("SELECT ").unwrap_or(STATE);
        let look = format!(
            "BEGIN; LOCK TABLE ledger IN SHARE MODE; \
             SELECT {CLOCK}, pg_current_wal_flush_lsn(), {TIMELINE}, {state}; COMMIT"
        );
        while !self.stopped() {
            let Some(client) = self.connect().await else {
                self.pause(20..=100).await;
                continue;
            };
            while !self.stopped() {
                self.pause(200..=1000).await;
                let Some(told) = ask(&client, &look).await else { break };
                self.ledger.saw(Moment {
                    time: told[0].clone(),
                    lsn: lsn(&told[1]),
                    timeline: timeline(&told[2]),
                    state: State {
                        rows: told[3].parse().unwrap(),
                        hash: told[4].clone(),
                    },
                });
            }
        }
    }
}

#[track_caller]
fn timeline(text: &str) -> u32 {
    u32::from_str_radix(text, 16).unwrap_or_else(|error| panic!("{text}: {error}"))
}

async fn connect(sockets: PathBuf, patience: Duration) -> Option<Client> {
    let mut config = Config::new();
    config.host_path(sockets).user("postgres").dbname("postgres");
    let connected = tokio::time::timeout(patience, config.connect(NoTls)).await;
    let (client, connection) = connected.ok()?.ok()?;
    tokio::spawn(connection);
    Some(client)
}

/// The last row of the answer, or nothing when there was no answer: then nothing is known.
async fn ask(client: &Client, sql: &str) -> Option<Vec<String>> {
    let answer = tokio::time::timeout(PATIENCE, client.simple_query(sql)).await;
    let rows = answer.ok()?.ok()?.into_iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let row = rows.last()?;
    (0..row.len()).map(|field| row.get(field).map(str::to_owned)).collect()
}
