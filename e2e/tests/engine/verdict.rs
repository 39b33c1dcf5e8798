//! How a refusal has to look: one line with its code, one hint, the exit code of the table, and no password.

use hardstorage_e2e::Answer;

use crate::site::step;

/// A word in every connection string here that nothing may repeat.
pub const PASSWORD: &str = "secret-word";

/// Fails the test unless the answer is this refusal.
#[track_caller]
pub fn refused(what: &str, answer: &Answer, exit: i32, code: &str) {
    assert_eq!(answer.code, Some(exit), "{what}\n{answer}");
    let lines: Vec<&str> = answer.stderr.lines().collect();
    let starts = |prefix: &str| lines.iter().filter(|line| line.starts_with(prefix)).count();
    assert_eq!(starts("ERROR "), 1, "{what}: not one line with the error\n{answer}");
    assert_eq!(starts("  hint: "), 1, "{what}: not one hint\n{answer}");
    // The last two lines, so that the message has no second one.
    let [.., error, hint] = lines[..] else {
        panic!("{what}\n{answer}")
    };
    assert!(error.starts_with(&format!("ERROR {code}: ")), "{what}\n{answer}");
    assert!(hint.starts_with("  hint: "), "{what}\n{answer}");
    assert_eq!(answer.stdout, "", "{what}: a refusal has no result\n{answer}");
    silent(what, answer);
    step(&format!("{what} -> {exit} | {error} | {}", hint.trim_start()));
}

/// Fails the test when the answer repeats the password.
#[track_caller]
pub fn silent(what: &str, answer: &Answer) {
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert!(!said.contains(PASSWORD), "{what}: a password is shown\n{answer}");
}
