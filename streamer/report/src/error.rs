//! The one error type of the engine: a code from the table, a message, a hint, and whether trying again may help.
//!
//! Modules may keep enums of their own while an error is still a decision; what leaves a crate is this type, so
//! that every failure has a code, an exit code and a next step, and no layer has to translate another's enum.

use std::fmt;

use crate::{Code, Reachable};

/// The result of everything fallible in the engine.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Whether trying the same thing again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again until a person or another process changes something.
    Never,
    /// A transient fault: again at once, with backoff.
    Now,
    /// Busy or not yet: again after a while.
    Later,
}

/// The class of an error: the first word of its code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The call itself was wrong.
    Usage,
    /// Authentication or permission.
    Auth,
    /// A condition checked before anything was changed.
    Preflight,
    /// Stopped by a signal, a void or a limit.
    Aborted,
    /// It is not there.
    NotFound,
    /// It is there, and should not be, or is another one.
    Conflict,
    /// The other side does not answer.
    Unreachable,
    /// Bytes are not what they should be.
    Verify,
    /// Anything else.
    Other,
}

/// A failure with a code, a message, a hint and a source.
pub struct Error(Box<Inner>);

struct Inner {
    code: Code,
    message: String,
    hint: Option<String>,
    retry: Retry,
    reachable: Option<Reachable>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error that a retry does not cure.
    pub fn new(code: Code, message: impl Into<String>) -> Error {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            hint: None,
            retry: Retry::Never,
            reachable: None,
            source: None,
        }))
    }

    /// Replaces the hint of the table by one that knows the case.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Error {
        self.0.hint = Some(hint.into());
        self
    }

    /// Says that a retry may help.
    #[must_use]
    pub fn retry(mut self, retry: Retry) -> Error {
        self.0.retry = retry;
        self
    }

    /// Says what can be reached instead of what was asked for.
    #[must_use]
    pub fn reachable(mut self, reachable: Reachable) -> Error {
        self.0.reachable = Some(reachable);
        self
    }

    /// Adds the error underneath.
    #[must_use]
    pub fn source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
        self.0.source = Some(source.into());
        self
    }

    /// Puts what was being done in front of the message; code, hint and retry stay.
    #[must_use]
    pub fn context(mut self, doing: impl fmt::Display) -> Error {
        self.0.message = format!("{doing}: {}", self.0.message);
        self
    }

    /// The code.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// Whether the code is this one.
    pub fn is(&self, code: Code) -> bool {
        self.0.code == code
    }

    /// The class.
    pub fn kind(&self) -> Kind {
        self.0.code.kind()
    }

    /// The message without the chain below it.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// What the person can do: the case's own hint, else the table's.
    pub fn hint_text(&self) -> &str {
        self.0.hint.as_deref().unwrap_or(self.0.code.info().hint)
    }

    /// Whether a retry may help.
    pub fn retry_advice(&self) -> Retry {
        self.0.retry
    }

    /// What can be reached instead, when it was a moment to restore to.
    pub fn reach(&self) -> Option<&Reachable> {
        self.0.reachable.as_ref()
    }

    /// The process's exit code.
    pub fn exit_code(&self) -> u8 {
        self.0.code.info().exit
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            // An Error prints its own chain.
            source = if cause.is::<Error>() { None } else { cause.source() };
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {self}", self.0.code)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0
            .source
            .as_deref()
            .map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code;

    #[test]
    fn one_line_with_the_whole_chain() {
        let io = std::io::Error::other("disk on fire");
        let error = Error::new(code::storage::IO, "write object a/b")
            .source(io)
            .context("store pack 3");
        assert_eq!(error.to_string(), "store pack 3: write object a/b: disk on fire");
        assert_eq!(error.exit_code(), 1);
        assert!(!error.hint_text().is_empty());
    }
}
