//! How Patroni is reached, from the configuration and the command line.
//!
//! The password is in a file of its own, as everywhere.

use std::path::PathBuf;

use hardstorage_engine::patroni::{Login, Patroni};
use hardstorage_report::{Error, Result, code};
use serde::{Deserialize, Serialize};

use crate::args::PatroniArgs;

/// How to reach Patroni.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatroniConfig {
    /// The REST APIs of its members.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) urls: Vec<String>,
    /// Who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) user: Option<String>,
    /// The file with the password.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) password_file: Option<PathBuf>,
    /// The authority that is trusted; those of the system when not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
}

impl PatroniConfig {
    /// With what the command line says instead.
    pub(crate) fn under(self, given: &PatroniArgs) -> PatroniConfig {
        PatroniConfig {
            urls: if given.url.is_empty() {
                self.urls
            } else {
                given.url.clone()
            },
            user: given.user.clone().or(self.user),
            password_file: given.password_file.clone().or(self.password_file),
            ca: given.ca.clone().or(self.ca),
        }
    }

    /// Patroni, when there is one.
    pub(crate) fn patroni(self) -> Result<Option<Patroni>> {
        let wrong = |what: &str, hint: &str| Err(Error::new(code::usage::INVALID, what).hint(hint));
        if self == PatroniConfig::default() {
            return Ok(None);
        }
        if self.urls.is_empty() {
            return wrong("it is not known how to reach Patroni", "give --patroni-url");
        }
        let login = match (self.user, self.password_file) {
            (Some(user), Some(password_file)) => Some(Login { user, password_file }),
            (None, None) => None,
            _ => {
                return wrong(
                    "Patroni's user and password go together",
                    "give --patroni-user and --patroni-password-file",
                );
            }
        };
        Patroni::new(&self.urls, login, self.ca).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_one_by_one_and_what_makes_no_sense_is_refused() {
        let config = |text: &str| serde_saphyr::from_str::<PatroniConfig>(text).unwrap();
        let whole = "{urls: ['http://a:8008', 'https://b:8008/x'], user: u, password_file: /p, ca: /c}";
        assert!(config(whole).patroni().unwrap().is_some());
        assert!(config("{}").patroni().unwrap().is_none());
        let given = PatroniArgs {
            url: vec!["http://c:8008".to_owned()],
            ca: Some("/other".into()),
            ..PatroniArgs::default()
        };
        let wanted = config("{urls: ['http://c:8008'], user: u, password_file: /p, ca: /other}");
        assert_eq!(config(whole).under(&given), wanted);
        for bad in [
            "{user: u, password_file: /p}",
            "{ca: /c}",
            "{urls: ['http://a:8008'], user: u}",
            "{urls: ['http://a:8008'], password_file: /p}",
            "{urls: ['http://u:hidden@a:8008']}",
            "{urls: ['http://a:8008/?x=hidden']}",
            "{urls: ['a:8008']}",
            "{urls: ['ftp://a']}",
            "{urls: ['']}",
        ] {
            let error = config(bad).patroni().expect_err(bad);
            assert!(error.is(code::usage::INVALID), "{bad}: {error}");
            assert!(!error.to_string().contains("hidden"), "{error}");
        }
    }
}
