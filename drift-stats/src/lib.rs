//! The statistics: pure functions and values, no I/O, no async, no clock, no randomness.
//!
//! * [`binning`] – bins of a feature, fixed once from the reference.
//! * [`binned`] – Kolmogorov–Smirnov and Wasserstein from counts, with the range that the true value lies in.
//! * [`reference`] – bins of all features from a stream of reference rows, in bounded memory.
//! * [`profile`] – the features of a window reduced to counts in those bins; [`outcome`] – its scores and labels. Both merge by addition.
//! * [`psi`], [`jensen_shannon`], [`hellinger`], [`kullback_leibler`], [`l_infinity`], [`total_variation`] – detectors on
//!   histograms; a new one is one new file and one line in [`DETECTORS`].
//! * [`contingency`] – chi-squared and Cramér's V of two samples in the same levels.
//! * [`samples`] – distances and tests on raw values; [`stream`] – detectors that read one value at a time.
//! * [`multiple`] – many tests at once.
//! * [`pca`], [`domain_classifier`] – whether features still move together.
//! * [`maturity`] – how long labels take, and how much of them is still to come.
//! * [`cbpe`] – performance before labels are there; [`isotonic`] – scores made probabilities.
//! * [`null`] – what the sample size alone explains, so that thresholds know the number of rows; [`between`] – what windows of
//!   the reference differ by besides.
//! * [`budget`] – how small a level must be so that repeated checks raise few false alarms; [`onset`] – since when values moved.
//! * [`proportion`] – tests and intervals for rates; [`performance`] – recall, precision, AUC and their
//!   intervals, and the choice of an operating threshold.
//! * [`compat`] – the literal conventions of other tools, to reproduce their numbers.
//!
//! A detector measures and never judges: it gives a score or a typed reason why there is none. No function
//! returns NaN or an infinite score.

pub mod between;
pub mod binned;
pub mod binning;
pub mod budget;
pub mod cbpe;
pub mod compat;
pub mod contingency;
pub mod domain_classifier;
pub mod hellinger;
pub mod histogram;
pub mod isotonic;
pub mod jensen_shannon;
pub mod kullback_leibler;
pub mod l_infinity;
pub mod maturity;
pub mod multiple;
pub mod null;
pub mod null_law;
pub mod onset;
pub mod outcome;
pub mod pca;
pub mod performance;
mod predictive;
pub mod profile;
pub mod proportion;
pub mod psi;
pub mod reference;
pub mod samples;
mod shares;
pub mod special;
pub mod stream;
pub mod total_variation;

pub use histogram::Histogram;

/// Measures how far a window lies from the reference, in bins that both share.
pub trait Detector: Sync {
    /// Name used in events, metrics and settings, e.g. `psi`. Never changes.
    fn name(&self) -> &'static str;

    /// Measures how far `current` lies from `reference`; larger is farther.
    ///
    /// # Errors
    /// [`Unusable`] when no honest score exists: too few values, bins that differ.
    fn score(&self, reference: &Histogram, current: &Histogram) -> Result<Score, Unusable>;
}

/// Every detector on histograms, in the order in which they are reported.
pub const DETECTORS: &[&dyn Detector] = &[
    &psi::Psi,
    &jensen_shannon::JensenShannon,
    &hellinger::Hellinger,
    &kullback_leibler::KullbackLeibler,
    &l_infinity::LInfinity,
    &total_variation::TotalVariation,
];

/// The detector of a name.
pub fn detector(name: &str) -> Option<&'static dyn Detector> {
    DETECTORS.iter().copied().find(|detector| detector.name() == name)
}

/// What a detector measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Score {
    /// On the detector's own scale; finite, 0 when the samples look alike.
    pub value: f64,
    /// Bins in which at least one of the samples has a value, 1 or more.
    pub bins: u32,
}

/// Which of the two samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// What is compared with.
    Reference,
    /// What is looked at.
    Current,
}

impl std::fmt::Display for Sample {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Reference => "reference",
            Self::Current => "current",
        })
    }
}

/// Why there is no honest number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Unusable {
    /// A sample has fewer values than the statistic needs.
    TooFewValues {
        /// Which sample.
        sample: Sample,
        /// Values found.
        values: u64,
        /// Values needed.
        min: u64,
    },
    /// The two histograms were not counted in the same bins.
    BinsDiffer,
    /// A change relative to a rate of zero has no value.
    ReferenceRateZero,
    /// All rows are of one class, so ranking or the rate of the other class is not defined.
    OneClassOnly {
        /// Frauds found.
        frauds: u64,
        /// Genuine rows found.
        genuine: u64,
    },
    /// Scores and labels differ in number.
    LengthsDiffer {
        /// Scores given.
        scores: usize,
        /// Labels given.
        labels: usize,
    },
    /// A value is infinite or not a number, or the result is beyond the largest one.
    NotFinite,
    /// A value lies outside of what is read.
    OutsideRange {
        /// Smallest value that is read.
        low: f64,
        /// Largest value that is read.
        high: f64,
    },
    /// A test of counts needs samples of one size.
    TotalsDiffer,
    /// Nothing varies, so there is nothing to compare.
    Constant,
    /// A score is missing or not a number.
    ScoreNotANumber {
        /// Position of the first one.
        at: usize,
    },
}

impl Unusable {
    /// Stable word for tables and events.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::TooFewValues { .. } => "too_few_values",
            Self::BinsDiffer => "bins_differ",
            Self::ReferenceRateZero => "reference_rate_zero",
            Self::OneClassOnly { .. } => "one_class_only",
            Self::LengthsDiffer { .. } => "lengths_differ",
            Self::NotFinite => "not_finite",
            Self::OutsideRange { .. } => "outside_range",
            Self::TotalsDiffer => "totals_differ",
            Self::Constant => "constant",
            Self::ScoreNotANumber { .. } => "score_not_a_number",
        }
    }
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::TooFewValues { sample, values, min } => {
                write!(f, "the {sample} has {values} values, {min} are needed")
            }
            Self::BinsDiffer => f.write_str("reference and current were not counted in the same bins"),
            Self::ReferenceRateZero => {
                f.write_str("the reference rate is zero, so a relative change has no value")
            }
            Self::OneClassOnly { frauds, genuine } => {
                write!(
                    f,
                    "both classes are needed, but there are {frauds} frauds and {genuine} genuine rows"
                )
            }
            Self::LengthsDiffer { scores, labels } => {
                write!(f, "there are {scores} scores but {labels} labels")
            }
            Self::NotFinite => f.write_str("a value is infinite or not a number"),
            Self::OutsideRange { low, high } => write!(f, "a value lies outside of {low} to {high}"),
            Self::TotalsDiffer => f.write_str("the samples differ in size"),
            Self::Constant => f.write_str("nothing varies, so there is nothing to compare"),
            Self::ScoreNotANumber { at } => write!(f, "score number {at} is not a number"),
        }
    }
}

impl std::error::Error for Unusable {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detectors_have_distinct_names_and_are_found_by_them() {
        for found in DETECTORS {
            assert_eq!(
                DETECTORS
                    .iter()
                    .filter(|other| other.name() == found.name())
                    .count(),
                1
            );
            assert_eq!(detector(found.name()).map(Detector::name), Some(found.name()));
        }
        assert!(detector("no such").is_none());
    }
}
