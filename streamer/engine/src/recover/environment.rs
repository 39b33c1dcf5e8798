//! What the server's `restore_command` finds in its environment: it needs our credentials, and PostgreSQL none of the
//! settings that a person has for its clients.

use std::ffi::{OsStr, OsString};

/// Whether a variable would tell PostgreSQL something, or its programs another language or library.
fn is_withheld(name: &OsStr) -> bool {
    let Some(name) = name.to_str() else { return true };
    let own = name.starts_with("PG_HARDSTORAGE");
    let postgres = name.starts_with("PG") && !own;
    postgres || name.starts_with("LC_") || ["LANG", "LANGUAGE", "LD_LIBRARY_PATH", "PATH"].contains(&name)
}

/// Our own environment without those.
pub(super) fn handed_down() -> Vec<(OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| !is_withheld(name)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_pass_and_settings_of_clients_do_not() {
        for (name, withheld) in [
            ("AWS_WEB_IDENTITY_TOKEN_FILE", false),
            ("PG_HARDSTORAGE_CONFIG", false),
            ("HOME", false),
            ("PGPORT", true),
            ("PGOPTIONS", true),
            ("LC_MESSAGES", true),
            ("LD_LIBRARY_PATH", true),
        ] {
            assert_eq!(is_withheld(OsStr::new(name)), withheld, "{name}");
        }
    }
}
