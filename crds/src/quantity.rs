//! Numbers of bytes as Kubernetes writes them (`20Mi`, `1.3Gi`, `500M`): always text in the schema, so that a definition
//! of one version compares them like any other.

use std::borrow::Cow;
use std::fmt;

use schemars::transform::Transform;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rules::rule;

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
const DECIMAL: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
const MAX_LENGTH: u32 = 24;

/// A number of bytes in a status.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Bytes(String);

/// Bytes per second in a spec; `0` is no limit. The engine takes 32 KiB to 1 GiB, as PostgreSQL's BASE_BACKUP does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rate(String);

/// The size of a volume in a spec.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Size(String);

impl Size {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Size {
        Size(text.into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes; nothing when the text is no size.
    pub fn get(&self) -> Option<u64> {
        read(&self.0)
    }
}

impl Bytes {
    /// For people: one decimal on the 1024 base.
    pub fn of(bytes: u64) -> Bytes {
        let mut value = bytes as f64;
        let mut power = 0;
        // 1023.95 would print as 1024.0 of the smaller unit.
        while value >= 1023.95 && power + 1 < BINARY.len() {
            value /= 1024.0;
            power += 1;
        }
        let text = if power == 0 {
            bytes.to_string()
        } else {
            format!("{value:.1}{}", BINARY[power])
        };
        Bytes(text.replace(".0", ""))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// How many bytes a quantity is; none for what does not read as one.
    pub fn read(quantity: &str) -> Option<u64> {
        read(quantity)
    }
}

impl Rate {
    /// Takes the text as it is.
    pub fn new(text: impl Into<String>) -> Rate {
        Rate(text.into())
    }

    /// No limit.
    pub fn unlimited() -> Rate {
        Rate("0".into())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Bytes per second, or nothing for no limit; an error is the text that does not read as a quantity.
    pub fn get(&self) -> Result<Option<u64>, &str> {
        let bytes = read(&self.0).ok_or(self.0.as_str())?;
        Ok(Some(bytes).filter(|bytes| *bytes > 0))
    }
}

fn read(text: &str) -> Option<u64> {
    let end = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let power = |suffixes: [&str; 7]| suffixes.iter().position(|known| *known == suffix);
    let factor = match (power(DECIMAL), power(BINARY)) {
        (Some(power), _) => 1000f64.powi(power as i32),
        (None, Some(power)) => 1024f64.powi(power as i32),
        (None, None) => return None,
    };
    let bytes = number.parse::<f64>().ok()? * factor;
    (bytes.is_finite() && bytes >= 0.0 && bytes < 2f64.powi(63)).then_some(bytes as u64)
}

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string"})
    }
}

impl JsonSchema for Size {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Size".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "maxLength": MAX_LENGTH,
            "pattern": "^[0-9]+([.][0-9]+)?(k|M|G|T|P|Ki|Mi|Gi|Ti|Pi)?$",
        })
    }
}

impl JsonSchema for Rate {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Rate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut schema = json_schema!({"type": "string", "maxLength": MAX_LENGTH});
        // No exponents, so that what the server takes is what `get` reads.
        rule(
            "self == '0' || (self.matches('^[0-9]+([.][0-9]+)?(k|M|G|Ki|Mi|Gi)?$') && \
             quantity(self).compareTo(quantity('32Ki')) >= 0 && quantity(self).compareTo(quantity('1Gi')) <= 0)",
            "a rate is \"0\" (no limit), or a quantity of bytes per second from 32Ki to 1Gi, for example 50Mi",
        )
        .transform(&mut schema);
        schema
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_for_people() {
        let cases = [
            (0, "0"),
            (1023, "1023"),
            (1024, "1Ki"),
            (1_421_272_834, "1.3Gi"),
            (1 << 40, "1Ti"),
        ];
        for (bytes, text) in cases {
            assert_eq!(Bytes::of(bytes).as_str(), text);
        }
        assert_eq!(Bytes::of(u64::MAX).as_str(), "16Ei");
    }

    #[test]
    fn sizes_of_volumes_are_read() {
        for (text, bytes) in [
            ("10Gi", Some(10 << 30)),
            ("1.5Ki", Some(1536)),
            ("5G", Some(5_000_000_000)),
            ("big", None),
        ] {
            assert_eq!(Size::new(text).get(), bytes, "{text}");
        }
    }

    #[test]
    fn rates_are_read_exactly() {
        let cases = [
            ("0", None),
            ("32Ki", Some(32_768)),
            ("1.5Mi", Some(1_572_864)),
            ("50M", Some(50_000_000)),
        ];
        for (text, bytes) in cases {
            assert_eq!(Rate::new(text).get(), Ok(bytes), "{text}");
        }
        for text in ["", "Mi", "1e3", "-1", "10MB", "fast"] {
            assert_eq!(Rate::new(text).get(), Err(text));
        }
        assert_eq!(Rate::unlimited().get(), Ok(None));
    }
}
