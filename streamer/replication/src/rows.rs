//! Result sets of the simple query protocol, and typed access to their values.
//!
//! A walsender answers in text format whatever the column's type says, except that the content of a history file is
//! raw bytes. Columns are taken by position: positions are what `protocol.sgml` documents.

use std::str::FromStr;

use bytes::Bytes;
use hardstorage_report::{Error, Result};

use crate::message::{Column, protocol};

/// The most that one result set may hold. The largest real one is a history file.
const MAX_BYTES: usize = 64 << 20;

/// One result set: `RowDescription` to `CommandComplete`.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct ResultSet {
    columns: Vec<Column>,
    rows: Vec<Row>,
    bytes: usize,
}

/// One row; `None` is NULL.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Row(Vec<Option<Bytes>>);

impl ResultSet {
    pub(crate) fn new(columns: Vec<Column>) -> ResultSet {
        ResultSet {
            columns,
            ..ResultSet::default()
        }
    }

    pub(crate) fn push(&mut self, values: Vec<Option<Bytes>>) -> Result<()> {
        if values.len() != self.columns.len() {
            let (got, want) = (values.len(), self.columns.len());
            return Err(protocol(format!("a row of {got} values for {want} columns")));
        }
        // A value of no bytes still costs its place.
        self.bytes += values
            .iter()
            .map(|v| 32 + v.as_ref().map_or(0, Bytes::len))
            .sum::<usize>();
        if self.bytes > MAX_BYTES {
            return Err(protocol("a result of more than 64 MiB"));
        }
        self.rows.push(Row(values));
        Ok(())
    }

    pub(crate) fn into_rows(self) -> Vec<Row> {
        self.rows
    }

    /// The only row of an answer that always has one.
    pub(crate) fn into_single(self, what: &str) -> Result<Row> {
        let count = self.rows.len();
        let mut rows = self.rows.into_iter();
        match (rows.next(), rows.next()) {
            (Some(row), None) => Ok(row),
            _ => Err(protocol(format!("{what} answered with {count} rows"))),
        }
    }
}

impl Row {
    #[cfg(test)]
    pub(crate) fn from_text(values: &[Option<&str>]) -> Row {
        let owned = |text: &str| Bytes::copy_from_slice(text.as_bytes());
        Row(values.iter().map(|value| value.map(owned)).collect())
    }

    pub(crate) fn new(values: Vec<Option<Bytes>>) -> Row {
        Row(values)
    }

    pub(crate) fn into_values(self) -> Vec<Option<Bytes>> {
        self.0
    }

    /// The bytes at `index`; `None` when NULL.
    pub(crate) fn bytes(&self, index: usize) -> Result<Option<&Bytes>> {
        match self.0.get(index) {
            Some(value) => Ok(value.as_ref()),
            None => Err(protocol(format!("a row without column {}", index + 1))),
        }
    }

    /// The value at `index`, read from its text; `None` when NULL.
    pub(crate) fn get<T: FromStr>(&self, index: usize, what: &str) -> Result<Option<T>> {
        let Some(bytes) = self.bytes(index)? else {
            return Ok(None);
        };
        let parsed = std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok());
        match parsed {
            Some(value) => Ok(Some(value)),
            None => Err(protocol(format!("{what} as \"{}\"", bytes.escape_ascii()))),
        }
    }

    /// The value at `index`, which is never NULL.
    pub(crate) fn require<T: FromStr>(&self, index: usize, what: &str) -> Result<T> {
        self.get(index, what)?.ok_or_else(|| missing(what))
    }
}

pub(crate) fn missing(what: &str) -> Error {
    protocol(format!("no value for {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use hardstorage_report::Lsn;

    fn columns(count: usize) -> Vec<Column> {
        let column = |n: usize| Column {
            name: n.to_string(),
            type_oid: 25,
        };
        (0..count).map(column).collect()
    }

    #[test]
    fn values_are_typed_and_null_is_none() {
        let row = Row::from_text(&[Some("0/3000028"), None, Some("x")]);
        assert_eq!(row.get::<Lsn>(0, "position").unwrap(), Some(Lsn(0x300_0028)));
        assert_eq!(row.get::<u32>(1, "timeline").unwrap(), None);
        assert!(row.require::<u32>(1, "timeline").is_err());
        assert!(row.get::<u32>(2, "timeline").is_err());
        assert!(row.get::<u32>(3, "timeline").is_err());
    }

    #[test]
    fn a_row_must_fit_its_columns_and_the_limit() {
        let mut set = ResultSet::new(columns(1));
        assert!(set.push(vec![None, None]).is_err());
        let big = Bytes::from(vec![0; 16 << 20]);
        for _ in 0..3 {
            set.push(vec![Some(big.clone())]).unwrap();
        }
        assert!(set.clone().into_single("x").is_err());
        assert!(set.push(vec![Some(big)]).is_err());
    }
}
