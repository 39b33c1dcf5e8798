//! Reads `synchronous_standby_names`: whom a commit waits for.

/// What PostgreSQL compares of a name: it cuts an application name there, and not the names in the setting.
const NAME_LEN: usize = 63;

/// The setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StandbyNames {
    /// How many must have a commit.
    wanted: usize,
    names: Vec<String>,
}

impl StandbyNames {
    /// Reads `a, b`, `2 (a, b)`, `FIRST 2 (a, b)` and `ANY 2 (a, b)`; `None` when nobody is named. PostgreSQL has accepted
    /// the text, so that what is not understood is of a later version and counts as names.
    pub(super) fn parse(text: &str) -> Option<StandbyNames> {
        let words = words(text);
        let inside = words.iter().position(|word| word == "(").map_or(0, |at| at + 1);
        let head = words.get(..inside).unwrap_or_default();
        let wanted = head.iter().find_map(|word| word.parse().ok()).unwrap_or(1);
        let names: Vec<String> = words
            .into_iter()
            .skip(inside)
            .filter(|word| word != ")" && word != ",")
            .map(|word| word.strip_prefix('"').map_or(word.clone(), str::to_owned))
            .collect();
        (!names.is_empty()).then_some(StandbyNames { wanted, names })
    }

    /// Whether a standby of this application name is among them, without a difference between upper and lower case.
    pub(super) fn has(&self, application_name: &str) -> bool {
        let shown = shown(application_name);
        let is_it = |name: &String| name == "*" || name.eq_ignore_ascii_case(&shown);
        !shown.is_empty() && self.names.iter().any(is_it)
    }

    /// Whether no commit can do without each of them.
    pub(super) fn wants_all(&self) -> bool {
        self.wanted >= self.names.len() && self.names.iter().all(|name| name != "*")
    }
}

/// An application name as the server shows it.
pub(super) fn shown(name: &str) -> String {
    let mut shown: String = name.chars().take(NAME_LEN).collect();
    while shown.len() > NAME_LEN {
        shown.pop();
    }
    shown
}

/// Names, numbers and signs; a quoted name keeps its first quote, so that it is never taken for a sign.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        let mut word = String::from(next);
        match next {
            '"' => {
                while let Some(next) = rest.next() {
                    if next == '"' && rest.next_if_eq(&'"').is_none() {
                        break;
                    }
                    word.push(next);
                }
            }
            '(' | ')' | ',' => {}
            _ if next.is_whitespace() => continue,
            _ => {
                let is_word = |next: &char| !next.is_whitespace() && !"(),\"".contains(*next);
                while let Some(next) = rest.next_if(is_word) {
                    word.push(next);
                }
            }
        }
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_of_the_setting() {
        // text, whether db1 is named, whether no commit can do without it
        for (text, named, all) in [
            ("pg_hardstorage_db1", true, true),
            ("PG_Hardstorage_DB1", true, true),
            ("a, pg_hardstorage_db1", true, false),
            ("2 (a, pg_hardstorage_db1)", true, true),
            ("FIRST 1 (pg_hardstorage_db1,a)", true, false),
            ("any 2(\"pg_hardstorage_db1\" , \"a b\")", true, true),
            ("ANY 1 (a, \"pg_hardstorage_db1\")", true, false),
            ("*", true, false),
            ("pg_hardstorage_db10", false, true),
            ("\"say \"\"pg_hardstorage_db1\"\"\"", false, true),
            ("\"(\"", false, true),
        ] {
            let names = StandbyNames::parse(text);
            let names = names.unwrap_or_else(|| unreachable!("{text} names nobody"));
            assert_eq!(
                (names.has("pg_hardstorage_db1"), names.wants_all()),
                (named, all),
                "{text}"
            );
            assert!(!names.has(""), "{text}");
        }
        assert_eq!(StandbyNames::parse(""), None);
        assert_eq!(StandbyNames::parse(" \t"), None);
    }

    #[test]
    fn a_long_name_is_compared_as_the_server_shows_it() {
        let long = "n".repeat(70);
        let names = StandbyNames::parse(&"n".repeat(63));
        assert!(names.is_some_and(|names| names.has(&long)));
        assert_eq!(shown(&"ä".repeat(40)).len(), 62);
    }
}
