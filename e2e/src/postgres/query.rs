//! SQL over the local socket. Each call is a connection of its own, so that it works across restarts, and a thread of
//! its own, so that it works from any test, asynchronous or not.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tokio_postgres::{Config, NoTls, SimpleQueryMessage};

/// Runs statements as the superuser; every row of every result, as text. The error is the server's text.
pub(crate) fn rows(sockets: &Path, database: &str, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let mut config = Config::new();
    config
        .host_path(sockets)
        .port(5432)
        .user("postgres")
        .dbname(database)
        .application_name("e2e");
    thread::scope(|scope| {
        let ask = || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|e| e.to_string())?;
            let limit = Duration::from_mins(2);
            runtime
                .block_on(async { tokio::time::timeout(limit, ask(&config, sql)).await })
                .map_err(|_| "no answer in 2 minutes")?
        };
        scope
            .spawn(ask)
            .join()
            .unwrap_or_else(|_| Err("the query's thread panicked".to_owned()))
    })
}

async fn ask(config: &Config, sql: &str) -> Result<Vec<Vec<Option<String>>>, String> {
    let told = |error: tokio_postgres::Error| match error.as_db_error() {
        Some(server) => format!("{} ({})", server.message(), server.code().code()),
        None => error.to_string(),
    };
    let (client, connection) = config.connect(NoTls).await.map_err(told)?;
    let driver = tokio::spawn(connection);
    let messages = client.simple_query(sql).await.map_err(told)?;
    drop(client);
    // The backend has gone when this returns: a test that counts connections sees only those that it made.
    driver.await.map_err(|error| error.to_string())?.map_err(told)?;
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
        _ => None,
    };
    Ok(messages.into_iter().filter_map(row).collect())
}
