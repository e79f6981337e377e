//! Puts broken inputs through a reader: a committed corpus as it is, and as many mutations of it as are asked for.
//!
//! A target says what it makes of an input: accepted, or refused under a class; it panics when a property does not hold. The
//! mutations follow from one seed. `cargo xtask fuzz` runs millions, the suite a few thousand.

mod mutate;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};

pub use mutate::mutated;

/// Mutations of a target in the suite.
const INPUTS: u64 = 3_000;
/// Accepted mutations that are kept to be mutated further.
const KEPT: usize = 256;
/// How often progress is shown.
const SHOWN_EVERY: Duration = Duration::from_secs(10);

/// What a target makes of an input.
pub type Verdict = Result<(), String>;

/// A reader of what others wrote.
pub struct Target<'a> {
    /// Its name, also its folder's in the corpus.
    pub name: &'a str,
    /// Words that its inputs are made of.
    pub words: &'a [&'a str],
    /// Inputs beside the corpus, e.g. the released samples.
    pub samples: Vec<Vec<u8>>,
    /// Largest input.
    pub bytes_max: usize,
    /// It takes its time: the suite gives it a tenth of the others' inputs.
    pub slow: bool,
    /// Reads an input.
    pub read: &'a dyn Fn(&[u8]) -> Verdict,
}

impl Target<'_> {
    /// Replays the corpus, then the mutations; shows figures on one line of standard output.
    ///
    /// # Panics
    /// When a property does not hold, or a file of the corpus has another verdict than its name says.
    pub fn run(&self) {
        let corpus = corpus(self.name);
        assert!(!corpus.is_empty(), "the corpus of `{}` is empty", self.name);
        for (name, input) in &corpus {
            let class = self.class_of(input, name);
            let expected = name.split('.').next().unwrap_or_default();
            assert_eq!(class, expected, "{}/{name}", self.name);
        }
        let mut pool: Vec<Vec<u8>> = corpus.into_iter().map(|(_, input)| input).collect();
        pool.extend(self.samples.iter().cloned());
        self.run_mutations(pool);
    }

    fn run_mutations(&self, mut pool: Vec<Vec<u8>>) {
        let (seed, count) = (
            asked("VIGIE_FUZZ_SEED", 1),
            asked("VIGIE_FUZZ_INPUTS", if self.slow { INPUTS / 10 } else { INPUTS }),
        );
        let mut rng = StdRng::seed_from_u64(seed);
        let fixed = pool.len();
        let mut classes: BTreeMap<String, u64> = BTreeMap::new();
        let (started, mut shown, mut slowest) = (Instant::now(), Instant::now(), Duration::ZERO);
        for number in 0..count {
            let input = mutated(&pool, self.words, self.bytes_max, &mut rng);
            let begun = Instant::now();
            let class = self.class_of(&input, &format!("seed {seed}, input {number}"));
            slowest = slowest.max(begun.elapsed());
            if class == "accepted" && input.len() < 4_096 {
                if pool.len() < fixed + KEPT {
                    pool.push(input);
                } else {
                    let place = rng.random_range(fixed..pool.len());
                    pool[place] = input;
                }
            }
            *classes.entry(class).or_default() += 1;
            if shown.elapsed() > SHOWN_EVERY {
                shown = Instant::now();
                let rate = (number + 1) as f64 / started.elapsed().as_secs_f64();
                let left = (count - number - 1) as f64 / rate;
                eprintln!(
                    "{}: {} of {count} inputs, {rate:.0}/s, {left:.0} s left",
                    self.name,
                    number + 1
                );
            }
        }
        let accepted = classes.remove("accepted").unwrap_or_default();
        let refused: Vec<String> = classes
            .iter()
            .map(|(class, count)| format!("{class} {count}"))
            .collect();
        println!(
            "bad-input\t{}\t{count}\t{accepted}\t{}\t{:.1}\t{:.0}",
            self.name,
            refused.join(", "),
            slowest.as_secs_f64() * 1_000.0,
            started.elapsed().as_secs_f64()
        );
    }

    /// The class of an input; a panic is told with the input.
    fn class_of(&self, input: &[u8], which: &str) -> String {
        match std::panic::catch_unwind(AssertUnwindSafe(|| (self.read)(input))) {
            Ok(Ok(())) => "accepted".to_owned(),
            Ok(Err(class)) => class,
            Err(panic) => {
                eprintln!("target `{}`, {which}: {}", self.name, input.escape_ascii());
                std::panic::resume_unwind(panic);
            }
        }
    }
}

fn asked(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).map_or(otherwise, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a whole number, not {text:?}"))
    })
}

/// The files of a target's corpus by name, `<verdict>.<what it is>`.
fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target);
    let mut files: Vec<(String, Vec<u8>)> = std::fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry
                .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
                .path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (name, bytes)
        })
        .collect();
    files.sort();
    files
}
