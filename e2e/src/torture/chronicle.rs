//! What was done to the world, and when: told as it happens, and told how to repeat when it ended badly.

use std::thread;
use std::time::Instant;

/// The story of one round.
#[derive(Debug)]
pub struct Chronicle {
    again: String,
    begun: Instant,
}

impl Chronicle {
    /// Begins one, with its title and how to run it again.
    pub fn new(title: &str, again: String) -> Chronicle {
        let begun = Instant::now();
        let chronicle = Chronicle { again, begun };
        chronicle.note(title);
        chronicle
    }

    /// Adds a line.
    #[allow(clippy::print_stderr, reason = "a test's runner keeps it for the test that fails")]
    pub fn note(&self, text: &str) {
        eprintln!("[{:7.2}] {text}", self.begun.elapsed().as_secs_f64());
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        if thread::panicking() {
            self.note(&format!(
                "FAILED. Again: {} (HARDSTORAGE_KEEP=1 keeps every log and directory)",
                self.again
            ));
        }
    }
}
