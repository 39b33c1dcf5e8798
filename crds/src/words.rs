//! Fields that hold one word of a few. In Rust they are enums with a last variant for every other word, so that an object
//! that a later version wrote, or that lay in the store before its schema was tightened, is read like any other.
//!
//! A word of a `spec` is *closed*: the schema lists what the API server accepts. A word of a `status` is *open*: an
//! operator that is newer than the installed definitions must still be able to say what it sees.

/// Makes such an enum; the first word is the default.
macro_rules! words {
    ($(#[$doc:meta])* $kind:ident $name:ident { $(#[$first_doc:meta])* $first:ident $(, $(#[$other_doc:meta])* $other:ident)* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
        #[serde(from = "String", into = "String")]
        pub enum $name {
            $(#[$first_doc])*
            #[default]
            $first,
            $($(#[$other_doc])* $other,)*
            /// A word that this version does not know.
            Other(String),
        }

        impl $name {
            /// The words that are known.
            pub const WORDS: &'static [&'static str] = &[stringify!($first), $(stringify!($other)),*];

            /// The word.
            pub fn as_str(&self) -> &str {
                match self {
                    Self::$first => stringify!($first),
                    $(Self::$other => stringify!($other),)*
                    Self::Other(word) => word,
                }
            }
        }

        impl From<String> for $name {
            fn from(word: String) -> Self {
                match word.as_str() {
                    stringify!($first) => Self::$first,
                    $(stringify!($other) => Self::$other,)*
                    _ => Self::Other(word),
                }
            }
        }

        impl From<$name> for String {
            fn from(word: $name) -> String {
                match word {
                    $name::Other(word) => word,
                    known => known.as_str().to_owned(),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl schemars::JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                words!(@schema $kind)
            }
        }
    };
    (@schema closed) => { schemars::json_schema!({"type": "string", "enum": Self::WORDS}) };
    (@schema open) => { schemars::json_schema!({"type": "string"}) };
}
pub(crate) use words;

#[cfg(test)]
mod tests {
    use schemars::{JsonSchema, SchemaGenerator};
    use serde_json::json;

    words! {
        /// For tests.
        closed Weather {
            /// No cloud.
            Clear,
            /// Water.
            Rain,
        }
    }
    words! {
        /// For tests.
        open Mood {
            /// The only one.
            Good,
        }
    }

    #[test]
    fn known_and_unknown_words_come_back_as_they_were() {
        for (word, read) in [
            ("Clear", Weather::Clear),
            ("Rain", Weather::Rain),
            ("Hail", Weather::Other("Hail".into())),
        ] {
            let value: Weather = serde_json::from_value(json!(word)).unwrap();
            assert_eq!(value, read);
            assert_eq!(serde_json::to_value(value).unwrap(), json!(word));
            assert_eq!(read.to_string(), word);
        }
        assert_eq!(Weather::default(), Weather::Clear);
    }

    #[test]
    fn only_closed_words_are_listed_in_the_schema() {
        let mut generator = SchemaGenerator::default();
        assert_eq!(
            Weather::json_schema(&mut generator).to_value(),
            json!({"type": "string", "enum": ["Clear", "Rain"]})
        );
        assert_eq!(Mood::json_schema(&mut generator).to_value(), json!({"type": "string"}));
    }
}
