//! Card payments, simulated: a stream whose frauds and drifts are known, from a seed.
//!
//! The process is the one published in the *Fraud Detection Handbook* (Le Borgne, Siblini, Lebichot and Bontempi,
//! 2022, chapter "Simulated data set"), written anew here; parameters are in [`population`] and [`process`]. What we
//! added: planted drifts ([`PlantedDrift`]), a merchant category, windowed features in one pass ([`features`]), and
//! a warm-up before the first day, so that the windows are full and the stream is steady until a drift is planted.
//!
//! * [`Simulation`] – one [`Day`] after the other, rows in order of time.
//! * [`write_parquet`] – all days to a file.
//!
//! The same options give the same rows, for ever: a test holds a digest of them.

mod columns;
mod day;
mod drift;
mod features;
mod file;
mod options;
mod population;
mod process;
#[cfg(test)]
mod tests;

pub use columns::{ColumnKind, Values};
pub use day::{Day, Simulation};
pub use drift::PlantedDrift;
pub use file::write_parquet;
pub use options::{SimulateOptions, demo_drifts};

/// Seconds of a day.
const DAY: i64 = 86_400;

/// A generator that no other `(purpose, number)` of the same seed shares: what one part draws moves no other part,
/// so a drift planted on day 40 leaves every earlier row, and every other draw, as it was.
fn generator(seed: u64, purpose: Purpose, number: u32) -> rand_chacha::ChaCha8Rng {
    let mut generator = <rand_chacha::ChaCha8Rng as rand::SeedableRng>::seed_from_u64(seed);
    generator.set_stream((purpose as u64) << 32 | u64::from(number));
    generator
}

/// What a generator is for. The numbers are part of what a seed means: never change one.
#[derive(Debug, Clone, Copy)]
enum Purpose {
    /// Customers and terminals; number 0.
    Population = 0,
    /// The payments of a day; numbered by day, the first of the warm-up being 0.
    Payments = 1,
    /// What a planted drift picks once; numbered by its place in the list.
    DriftChoice = 2,
    /// What a planted drift draws each day; numbered by place × 10,000 + day.
    DriftDay = 3,
}
