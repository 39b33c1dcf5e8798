//! The clock and the randomness that everything here is given, so that tests can turn them.

use std::fmt::Debug;
use std::sync::Arc;

use hardstorage_report::{Error, Result, code};
use jiff::Timestamp;
use rand::TryRng as _;
use rand::rngs::SysRng;

/// Tells the time. It dates what is written; it never decides what is safe.
pub trait Clock: Send + Sync + Debug {
    /// Now.
    fn now(&self) -> Timestamp;
}

/// The clock of the machine.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        Timestamp::now()
    }
}

/// Gives bytes for keys, salts and names that nobody can guess or repeat.
pub trait Entropy: Send + Sync + Debug {
    /// Fills the whole buffer.
    fn fill(&self, buffer: &mut [u8]) -> Result<()>;
}

/// The randomness of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, buffer: &mut [u8]) -> Result<()> {
        SysRng.try_fill_bytes(buffer).map_err(|error| {
            Error::new(
                code::repository::NO_RANDOMNESS,
                "the operating system gives no randomness",
            )
            .source(error)
        })
    }
}

/// Clock and randomness together; cheap to clone.
#[derive(Debug, Clone)]
pub struct Surroundings {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
}

impl Default for Surroundings {
    /// The machine's own.
    fn default() -> Self {
        Surroundings {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl Surroundings {
    /// Others than the machine's.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Surroundings {
        Surroundings { clock, entropy }
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Random bytes.
    pub fn random<const N: usize>(&self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes)?;
        Ok(bytes)
    }
}
