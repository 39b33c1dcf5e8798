//! What is looked at without being asked to: that every database answers, that its catalogue agrees with itself, and what
//! there is of indexes.

use std::time::Instant;

use hardstorage_report::{CollationChange, DrillCheck, Error, Result, code};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::{Drill, check};
use crate::recover::COLLATIONS;

/// A database without connections has to be told of; `template0` never has any.
const DATABASES: &str = "SELECT coalesce(json_agg(json_build_object('name', datname, \
     'open', datallowconn AND datconnlimit <> -2) ORDER BY datname), '[]') FROM pg_catalog.pg_database \
     WHERE datname <> 'template0'";

/// What contradicts itself in a catalogue; the first ten. An index whose creation failed may have an empty file.
const CONTRADICTIONS: &str = "SELECT coalesce(json_agg(found.what), '[]') FROM (\
     SELECT format('%I lies in no schema', c.relname) FROM pg_class c \
     WHERE NOT EXISTS (SELECT FROM pg_namespace n WHERE n.oid = c.relnamespace) \
     UNION ALL SELECT format('%I has %s columns, of which %s are described', c.relname, c.relnatts, a.described) \
     FROM pg_class c CROSS JOIN LATERAL (SELECT count(*) AS described FROM pg_attribute a \
     WHERE a.attrelid = c.oid AND a.attnum > 0) a WHERE c.relnatts <> a.described \
     UNION ALL SELECT format('the file of %I is missing or empty', c.relname) FROM pg_class c \
     LEFT JOIN pg_index i ON i.indexrelid = c.oid LEFT JOIN pg_am m ON m.oid = c.relam \
     WHERE c.relpersistence = 'p' AND pg_relation_size(c.oid) = 0 AND (c.relkind = 'S' OR c.relkind = 'i' \
     AND i.indisvalid AND m.amname IN ('btree', 'hash', 'gist', 'gin', 'spgist', 'brin')) \
     LIMIT 10) AS found (what)";

/// Where amcheck's functions are.
const AMCHECK: &str = "SELECT coalesce(json_agg(quote_ident(n.nspname)), '[]') FROM pg_extension e \
     JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'";

/// Every index that amcheck can read, small ones first, so that many are read when time is short. Nothing holds a lock on
/// one: a standby that begins where its primary was stopped takes none for transactions that were prepared.
const INDEXES: &str = "SELECT coalesce(json_agg(json_build_object('oid', i.indexrelid::int8, \
     'name', format('%I.%I', n.nspname, c.relname)) ORDER BY c.relpages, i.indexrelid), '[]') \
     FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace \
     JOIN pg_am m ON m.oid = c.relam \
     WHERE m.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid";

#[derive(Debug, Deserialize)]
struct Listed {
    name: String,
    open: bool,
}

/// A B-tree index.
#[derive(Debug, Deserialize)]
pub(super) struct Index {
    pub(super) oid: u32,
    pub(super) name: String,
}

/// A database that answers.
#[derive(Debug)]
pub(super) struct Database {
    pub(super) name: String,
    /// The schema of amcheck, as a statement writes it.
    pub(super) amcheck: Option<String>,
    pub(super) indexes: Vec<Index>,
}

fn read<T: DeserializeOwned>(answer: &str) -> Result<Vec<T>> {
    serde_json::from_str(answer)
        .map_err(|error| Error::new(code::engine::RESTORE_TEST, format!("read {answer:?}")).source(error))
}

impl Drill<'_> {
    /// Looks at every database; what answers is what has indexes to read.
    pub(super) async fn look_at_databases(&mut self) -> Result<Vec<Database>> {
        let changes: Vec<CollationChange> = read(&self.standby.ask_home(COLLATIONS).await?)?;
        self.report.notes.extend(changes.iter().map(|change| {
            let version = |text: &Option<String>| text.clone().unwrap_or_else(|| "none".to_owned());
            let (recorded, actual) = (version(&change.recorded), version(&change.actual));
            let database = &change.database;
            format!("the collation of {database} was of version {recorded}, here it is {actual}: its indexes on text may differ")
        }));
        let listed: Vec<Listed> = read(&self.standby.ask_home(DATABASES).await?)?;
        self.told.expect(listed.len());
        let mut answering = Vec::new();
        for Listed { name, open } in listed {
            if open {
                self.report.databases.push(name.clone());
                answering.extend(self.look_at(name).await?);
            } else {
                let note = format!("database {name} allows no connections, and was not looked at");
                self.report.notes.push(note);
            }
            self.told.done(1);
        }
        Ok(answering)
    }

    async fn look_at(&mut self, name: String) -> Result<Option<Database>> {
        let began = Instant::now();
        let answers = self.standby.ask(&name, "SELECT 1").await?;
        let refused = answers.err();
        let is_refused = refused.is_some();
        self.report.checks.push(DrillCheck {
            error: refused,
            ..check("answers", &name, !is_refused, began)
        });
        if is_refused {
            return Ok(None);
        }
        let began = Instant::now();
        let found = self.catalogue(&name).await?;
        let (amcheck, indexes, error) = match found {
            Ok((amcheck, indexes, contradictions)) => {
                let error = (!contradictions.is_empty()).then(|| contradictions.join("; "));
                (amcheck, indexes, error)
            }
            // What can be read of it is not what it should be.
            Err(words) => (None, Vec::new(), Some(words)),
        };
        self.report.checks.push(DrillCheck {
            passed: error.is_none(),
            error,
            ..check("catalog", &name, true, began)
        });
        Ok(Some(Database { name, amcheck, indexes }))
    }

    async fn catalogue(&mut self, name: &str) -> Result<Result<(Option<String>, Vec<Index>, Vec<String>), String>> {
        let mut answers = Vec::new();
        for query in [AMCHECK, INDEXES, CONTRADICTIONS] {
            match self.standby.ask(name, query).await? {
                Ok(answer) => answers.push(answer),
                Err(words) => return Ok(Err(words)),
            }
        }
        let schemas: Vec<String> = read(&answers[0])?;
        Ok(Ok((schemas.into_iter().next(), read(&answers[1])?, read(&answers[2])?)))
    }
}
