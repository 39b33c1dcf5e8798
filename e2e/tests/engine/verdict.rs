//! How a refusal has to look: one line with its code, one hint, the exit code of the table, and no password.

use std::panic::{AssertUnwindSafe, catch_unwind};

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

/// A table of refusals: what was tried, the answer, the exit code, the code.
pub type Cases = Vec<(String, Answer, i32, &'static str)>;

/// Fails the test unless each case is refused as it should; it goes through the whole table before.
#[track_caller]
pub fn all_refused(cases: &Cases) {
    let wrong = cases.iter().filter(|(what, answer, exit, code)| {
        // The panic has told what is wrong with it.
        catch_unwind(AssertUnwindSafe(|| refused(what, answer, *exit, code))).is_err()
    });
    let wrong: Vec<&str> = wrong.map(|(what, ..)| what.as_str()).collect();
    assert!(wrong.is_empty(), "of {} cases are wrong: {wrong:?}", cases.len());
}

/// Fails the test when the answer repeats the password.
#[track_caller]
pub fn silent(what: &str, answer: &Answer) {
    let said = format!("{}{}", answer.stdout, answer.stderr);
    assert!(!said.contains(PASSWORD), "{what}: a password is shown\n{answer}");
}
