//! How numbers and bytes stand in JSON: 64-bit numbers as decimal text (half of the readers in the world would round
//! them), bytes as lower-case hex. For `#[serde(with = "...")]`.

/// `u64` as a decimal string.
pub mod decimal {
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer>(number: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    /// Reads it; digits only.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        let text = String::deserialize(deserializer)?;
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits
            .then(|| text.parse().ok())
            .flatten()
            .ok_or_else(|| serde::de::Error::custom("a 64-bit number is written as a string of digits"))
    }
}

/// A byte array as lower-case hex.
pub mod hex_bytes {
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// Writes it.
    pub fn serialize<S: Serializer, const N: usize>(bytes: &[u8; N], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(bytes))
    }

    /// Reads it; exactly `2 N` lower-case digits.
    pub fn deserialize<'de, D: Deserializer<'de>, const N: usize>(deserializer: D) -> Result<[u8; N], D::Error> {
        let text = String::deserialize(deserializer)?;
        super::from_hex(&text)
            .ok_or_else(|| serde::de::Error::custom(format!("expected {} lower-case hex digits", 2 * N)))
    }
}

/// Reads exactly `2 N` lower-case hex digits.
pub(crate) fn from_hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let mut bytes = [0u8; N];
    let lower = text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::{Deserialize, Serialize};

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Pair {
        #[serde(with = "super::decimal")]
        number: u64,
        #[serde(with = "super::hex_bytes")]
        bytes: [u8; 4],
    }

    proptest! {
        #[test]
        fn round_trip(number in any::<u64>(), bytes in any::<[u8; 4]>()) {
            let pair = Pair { number, bytes };
            let text = serde_json::to_string(&pair).unwrap();
            prop_assert_eq!(serde_json::from_str::<Pair>(&text).unwrap(), pair);
        }
    }

    #[test]
    fn one_spelling_only() {
        for bad in [
            r#"{"number": 1, "bytes": "00000000"}"#,
            r#"{"number": "+1", "bytes": "00000000"}"#,
            r#"{"number": "", "bytes": "00000000"}"#,
            r#"{"number": "18446744073709551616", "bytes": "00000000"}"#,
            r#"{"number": "1", "bytes": "0000000"}"#,
            r#"{"number": "1", "bytes": "000000AA"}"#,
        ] {
            assert!(serde_json::from_str::<Pair>(bad).is_err(), "{bad}");
        }
    }
}
