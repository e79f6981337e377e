//! How often a report speaks of a feature though nothing moved, and how often it sees what did: by law of the values, rows of the
//! window and number of features. Run by `cargo xtask bench --false-alarms`; the same laws for peers are in
//! `bench/false_alarms.py`.

use drift_monitor::judge::{Aggregate, Before, Evidence, Limits, judge};
use drift_monitor::measure::{Findings, data};
use drift_monitor::reference::Reference;
use drift_stats::binning::BinSettings;
use drift_stats::profile::{Profile, Values};
use drift_stats::reference::ReferenceBuilder;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution as _, Exp, LogNormal, Normal, weighted::WeightedAliasIndex};

/// Rows of the reference.
const REFERENCE_ROWS: usize = 20_000;
/// Values drawn for a cell of the table, about.
const VALUES: usize = 400_000_000;
/// Windows of a cell.
const WINDOWS: std::ops::RangeInclusive<usize> = 40..=1_000;
/// Windows that are compared with one reference.
const WINDOWS_TOGETHER: usize = 20;
/// Windows in which something moved.
const MOVED_WINDOWS: usize = 400;

/// The law of a feature.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Law {
    Normal,
    LogNormal,
    ZeroInflated,
    Levels500,
    RareFlag,
}

impl Law {
    const ALL: [Self; 5] = [
        Self::Normal,
        Self::LogNormal,
        Self::ZeroInflated,
        Self::Levels500,
        Self::RareFlag,
    ];

    const fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::Normal => ("normal", "mean + 0.1 sd"),
            Self::LogNormal => ("log-normal, sigma 1.2", "sigma 1.3"),
            Self::ZeroInflated => ("60 % zeros", "66 % zeros"),
            Self::Levels500 => ("500 levels", "top level + 20 %"),
            Self::RareFlag => ("a flag, 1 %", "2 %"),
        }
    }
}

/// A feature's values, drawn.
enum Drawn {
    Numbers(Vec<f64>),
    Levels(Vec<u32>),
}

/// What draws a law.
struct Source {
    law: Law,
    levels: Vec<String>,
    weights: [WeightedAliasIndex<f64>; 2],
}

impl Source {
    fn new(law: Law) -> Self {
        // The level number k has a weight of 1/k, as merchants and countries about do.
        let plain: Vec<f64> = (1..=500).map(|rank| 1.0 / f64::from(rank)).collect();
        let total: f64 = plain.iter().sum();
        // A fifth more of all values, taken evenly from the others.
        let share = plain[0] / total;
        let mut moved: Vec<f64> = plain
            .iter()
            .map(|weight| weight * (1.0 - 1.2 * share) / (1.0 - share))
            .collect();
        moved[0] = 1.2 * plain[0];
        Self {
            law,
            levels: (0..500).map(|level| format!("level {level}")).collect(),
            weights: [plain, moved]
                .map(|weights| WeightedAliasIndex::new(weights).expect("weights are positive")),
        }
    }

    fn draw(&self, rows: usize, moved: bool, draw: &mut ChaCha8Rng) -> Drawn {
        let numbers = |values: &mut dyn FnMut(&mut ChaCha8Rng) -> f64, draw: &mut ChaCha8Rng| {
            Drawn::Numbers((0..rows).map(|_| values(draw)).collect())
        };
        let chosen = |share: f64, draw: &mut ChaCha8Rng| rand::Rng::random_bool(draw, share);
        match self.law {
            Law::Normal => {
                let law = Normal::new(if moved { 0.1 } else { 0.0 }, 1.0).expect("a deviation");
                numbers(&mut |draw| law.sample(draw), draw)
            }
            Law::LogNormal => {
                let law = LogNormal::new(3.0, if moved { 1.3 } else { 1.2 }).expect("a deviation");
                numbers(&mut |draw| law.sample(draw), draw)
            }
            Law::ZeroInflated => {
                let (zeros, law) = (if moved { 0.66 } else { 0.6 }, Exp::new(0.2).expect("a rate"));
                numbers(
                    &mut |draw| {
                        if chosen(zeros, draw) {
                            0.0
                        } else {
                            law.sample(draw)
                        }
                    },
                    draw,
                )
            }
            Law::RareFlag => {
                let share = if moved { 0.02 } else { 0.01 };
                numbers(&mut |draw| f64::from(u8::from(chosen(share, draw))), draw)
            }
            Law::Levels500 => {
                let weights = &self.weights[usize::from(moved)];
                Drawn::Levels((0..rows).map(|_| weights.sample(draw) as u32).collect())
            }
        }
    }

    /// A window of so many features, of which the first may have moved.
    fn window(&self, features: usize, rows: usize, moved: bool, draw: &mut ChaCha8Rng) -> Vec<Drawn> {
        (0..features)
            .map(|at| self.draw(rows, moved && at == 0, draw))
            .collect()
    }

    fn values<'a>(&'a self, drawn: &'a [Drawn]) -> Vec<Values<'a>> {
        let values = |drawn: &'a Drawn| match drawn {
            Drawn::Numbers(numbers) => Values::Numbers(numbers),
            Drawn::Levels(codes) => Values::Levels {
                codes,
                levels: &self.levels,
            },
        };
        drawn.iter().map(values).collect()
    }

    fn reference(&self, features: usize, draw: &mut ChaCha8Rng) -> Reference {
        let drawn = self.window(features, REFERENCE_ROWS, false, draw);
        let values = self.values(&drawn);
        let mut builder = ReferenceBuilder::new(BinSettings::default(), REFERENCE_ROWS);
        builder.add(&values).expect("columns of one length");
        let bins = builder.finish();
        let mut profile = Profile::empty(&bins);
        profile.add(&bins, &values).expect("the same columns");
        Reference::of_counts((0..features).map(|at| at.to_string()).collect(), bins, profile)
    }

    /// Whether a report speaks of any feature, and whether it speaks of the first.
    fn told(&self, reference: &Reference, rows: usize, moved: bool, draw: &mut ChaCha8Rng) -> (bool, bool) {
        let drawn = self.window(reference.features.len(), rows, moved, draw);
        let mut profile = Profile::empty(&reference.bins);
        profile
            .add(&reference.bins, &self.values(&drawn))
            .expect("the columns of the reference");
        let mut findings = Findings::default();
        data(&LIMITS, reference, &profile, &mut findings);
        let judged = judge(
            &LIMITS,
            &findings.measured,
            &findings.not_measured,
            &Before::default(),
        );
        let first = judged
            .moved
            .iter()
            .any(|metric| metric.feature.as_deref() == Some("0"));
        (!judged.moved.is_empty(), first)
    }

    /// Share of windows in which a report speaks of any feature though nothing moved.
    fn false_alarms(&self, features: usize, rows: usize, seed: u64) -> f64 {
        let windows = (VALUES / (rows * features)).clamp(*WINDOWS.start(), *WINDOWS.end());
        self.share(features, rows, windows, seed, false)
    }

    fn share(&self, features: usize, rows: usize, windows: usize, seed: u64, moved: bool) -> f64 {
        let mut draw = ChaCha8Rng::seed_from_u64(seed);
        let mut spoke = 0;
        let mut reference = self.reference(features, &mut draw);
        for window in 0..windows {
            // Windows that share a reference share its chance.
            if window % WINDOWS_TOGETHER == WINDOWS_TOGETHER - 1 {
                reference = self.reference(features, &mut draw);
            }
            let (any, first) = self.told(&reference, rows, moved, &mut draw);
            spoke += usize::from(if moved { first } else { any });
        }
        spoke as f64 / windows as f64
    }
}

/// The defaults of a report, but for the smallest window: what smaller ones would say is to be seen.
const LIMITS: Limits = Limits {
    data_tell: 0.003,
    data_threshold: 0.3,
    data_threshold_high: 0.5,
    aggregate: Aggregate::Max,
    share_threshold: 0.5,
    target_threshold: 0.5,
    recall_threshold: 0.05,
    precision_threshold: 0.1,
    rows_min: 1,
    frauds_min: 100,
    clear: 1.0,
    consecutive: 1,
    evidence: Evidence::once(0.01, 0.98),
};

/// Rows of the table, computed on two threads: numbers are independent of the order.
fn table(
    rows: &[(Law, usize)],
    sizes: &[usize],
    cell: &(dyn Fn(Law, usize, usize) -> f64 + Sync),
) -> Vec<Vec<f64>> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let cells: Vec<(usize, usize)> = (0..rows.len())
        .flat_map(|row| (0..sizes.len()).map(move |size| (row, size)))
        .collect();
    let found = std::sync::Mutex::new(vec![vec![0.0; sizes.len()]; rows.len()]);
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    let Some((row, size)) = cells.get(at).copied() else {
                        return;
                    };
                    let (law, features) = rows[row];
                    let share = cell(law, features, sizes[size]);
                    found.lock().expect("no thread panicked")[row][size] = share;
                }
            });
        }
    });
    found.into_inner().expect("no thread panicked")
}

fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

fn main() {
    let sizes = [50, 200, 500, 2_000, 10_000, 100_000];
    let rows: Vec<(Law, usize)> = Law::ALL
        .into_iter()
        .flat_map(|law| [1, 30, 300].map(|features| (law, features)))
        .collect();
    println!(
        "Windows in which any feature is told of, though nothing moved (reference of {REFERENCE_ROWS} rows)\n"
    );
    let header: Vec<String> = sizes.iter().map(|size| format!(" {size} rows |")).collect();
    println!("| values | features |{}", header.concat());
    println!("| --- | ---: |{}", " ---: |".repeat(sizes.len()));
    let shares = table(&rows, &sizes, &|law, features, size| {
        Source::new(law).false_alarms(features, size, (features * 1_000_003 + size) as u64)
    });
    for ((law, features), shares) in rows.iter().zip(shares) {
        let cells: Vec<String> = shares
            .iter()
            .map(|share| format!(" {} |", percent(*share)))
            .collect();
        println!("| {} | {features} |{}", law.words().0, cells.concat());
    }
    let sizes = [500, 2_000, 10_000];
    let rows: Vec<(Law, usize)> = Law::ALL
        .into_iter()
        .flat_map(|law| [1, 30].map(|features| (law, features)))
        .collect();
    println!("\nWindows in which the feature that moved is told of\n");
    println!("| values | what moved | features | 500 rows | 2,000 rows | 10,000 rows |");
    println!("| --- | --- | ---: | ---: | ---: | ---: |");
    let shares = table(&rows, &sizes, &|law, features, size| {
        Source::new(law).share(features, size, MOVED_WINDOWS, (features * 7 + size) as u64, true)
    });
    for ((law, features), shares) in rows.iter().zip(shares) {
        let (values, change) = law.words();
        let cells: Vec<String> = shares
            .iter()
            .map(|share| format!(" {} |", percent(*share)))
            .collect();
        println!("| {values} | {change} | {features} |{}", cells.concat());
    }
}
