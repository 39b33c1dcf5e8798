//! The one list of codes. A row is a constant, its dotted code, its exit code, a hint and one line of docs;
//! the table in the book is generated from it. One file for each part of the engine.

use std::fmt;

use crate::error::Kind;

/// A row of the table.
#[derive(Debug)]
pub struct CodeInfo {
    /// The dotted code, for example `conflict.repo_exists`.
    pub code: &'static str,
    /// The exit code of a process that ends with it.
    pub exit: u8,
    /// What a person can do, when the error itself knows no better.
    pub hint: &'static str,
    /// One line for the book: when it happens.
    pub meaning: &'static str,
}

/// A code from the table. Two are equal when their dotted names are.
#[derive(Clone, Copy)]
pub struct Code(&'static CodeInfo);

impl Code {
    /// The row.
    pub fn info(self) -> &'static CodeInfo {
        self.0
    }

    /// The dotted name.
    pub fn as_str(self) -> &'static str {
        self.0.code
    }

    /// The class: the first word.
    pub fn kind(self) -> Kind {
        match self.0.code.split('.').next().unwrap_or_default() {
            "usage" => Kind::Usage,
            "auth" => Kind::Auth,
            "preflight" => Kind::Preflight,
            "aborted" => Kind::Aborted,
            "notfound" => Kind::NotFound,
            "conflict" => Kind::Conflict,
            "unreachable" => Kind::Unreachable,
            "verify" => Kind::Verify,
            _ => Kind::Other,
        }
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Code) -> bool {
        self.0.code == other.0.code
    }
}

impl Eq for Code {}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code)
    }
}

impl fmt::Debug for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code)
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal, $exit:literal, $meaning:literal, $hint:literal;)*) => {
        $(
            #[doc = $meaning]
            pub const $name: $crate::Code = $crate::codes::code(&$crate::CodeInfo {
                code: $code, exit: $exit, hint: $hint, meaning: $meaning,
            });
        )*
        /// Every code of this part.
        pub const ALL: &[$crate::Code] = &[$($name),*];
    };
}
pub(crate) use codes;

const fn code(info: &'static CodeInfo) -> Code {
    Code(info)
}

pub mod cli;
pub mod engine;
pub mod replication;
pub mod repository;
pub mod storage;
pub mod usage;

/// Every code of every part, in the order of the book.
pub const ALL: &[&[Code]] = &[
    usage::ALL,
    cli::ALL,
    storage::ALL,
    repository::ALL,
    replication::ALL,
    engine::ALL,
];

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    #[test]
    fn every_code_is_unique_and_its_exit_code_follows_its_class() {
        let mut seen = HashSet::new();
        for code in super::ALL.iter().copied().flatten() {
            let info = code.info();
            assert!(seen.insert(info.code), "{} is there twice", info.code);
            let class = info.code.split('.').next().unwrap();
            let expected = match class {
                "usage" => 2,
                "auth" => 3,
                "preflight" => 4,
                "aborted" => 5,
                "notfound" => 6,
                "conflict" => 7,
                "unreachable" => 8,
                "verify" => 9,
                "doctor" => 10,
                _ => 1,
            };
            assert_eq!(info.exit, expected, "{}", info.code);
            assert!(!info.hint.is_empty() && info.meaning.ends_with('.'), "{}", info.code);
        }
    }
}
