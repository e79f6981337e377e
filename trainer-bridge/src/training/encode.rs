//! How columns become inputs, learnt from the training slice alone.

use std::collections::HashMap;

use scoring::{Encoding, Feature, Standardisation};

use super::data::{Slice, TooLittle, Values};

/// Learns the encoding of every feature.
///
/// A number's missing values become its median, which no outlier moves; with `standardise` it is then shifted and
/// scaled to mean 0 and standard deviation 1 (a constant column keeps its scale). A category becomes its `levels_max`
/// most frequent levels.
///
/// # Errors
/// [`TooLittle::NoValue`] when a feature has no value at all.
pub fn learn(training: &Slice, standardise: bool, levels_max: usize) -> Result<Vec<Feature>, TooLittle> {
    let columns = training.columns.iter();
    columns
        .map(|column| {
            let encoding = match &column.values {
                Values::Numeric(values) => numeric(values, standardise),
                Values::Category { codes, dictionary } => category(codes, dictionary, levels_max),
            };
            let encoding = encoding.ok_or_else(|| TooLittle::NoValue {
                feature: column.name.clone(),
            })?;
            Ok(Feature {
                name: column.name.clone(),
                encoding,
            })
        })
        .collect()
}

fn numeric(values: &[f64], standardise: bool) -> Option<Encoding> {
    let mut known: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
    let middle = known.len() / 2;
    if known.is_empty() {
        return None;
    }
    // The upper median of an even number of values: always a value that occurs.
    let (_, impute, _) = known.select_nth_unstable_by(middle, f64::total_cmp);
    let impute = *impute;
    let standardise = standardise.then(|| {
        let count = values.len() as f64;
        let filled = || {
            values
                .iter()
                .map(|value| if value.is_finite() { *value } else { impute })
        };
        let mean = filled().sum::<f64>() / count;
        let sd = (filled().map(|value| (value - mean).powi(2)).sum::<f64>() / count).sqrt();
        // Rounding leaves a constant column a tiny spread; dividing by it would make noise of it.
        let spread = sd.is_finite() && sd > 1e-12 * mean.abs().max(f64::MIN_POSITIVE);
        Standardisation {
            mean,
            sd: if spread { sd } else { 1.0 },
        }
    });
    let usable = standardise.is_none_or(|scale| scale.mean.is_finite());
    usable.then_some(Encoding::Numeric { impute, standardise })
}

fn category(codes: &[u32], dictionary: &[String], levels_max: usize) -> Option<Encoding> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    for code in codes {
        if (*code as usize) < dictionary.len() {
            *counts.entry(*code).or_default() += 1;
        }
    }
    let mut levels: Vec<(usize, &String)> = counts
        .into_iter()
        .map(|(code, count)| (count, &dictionary[code as usize]))
        .collect();
    // Most frequent first, then by name: the order of rows or of the dictionary changes nothing.
    levels.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    levels.dedup_by(|a, b| a.1 == b.1);
    levels.truncate(levels_max);
    let levels: Vec<String> = levels.into_iter().map(|(_, level)| level.clone()).collect();
    (!levels.is_empty()).then_some(Encoding::Category { levels })
}
