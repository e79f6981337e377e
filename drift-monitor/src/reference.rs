//! The champion's training window becomes bins and counts: what every check against it is compared with.

use drift_stats::between::{Blocks, Whole};
use drift_stats::binning::FeatureBins;
use drift_stats::profile::{Profile, Values};
use drift_stats::proportion::Rate;
use drift_stats::reference::ReferenceBuilder;
use schemas::Window;
use serde::{Deserialize, Serialize};
use transactions::{Column, Order, Request, SourceError, TransactionSource};

use chrono::{DateTime, Utc};

use crate::config::Config;
use crate::in_place;
use crate::segments::Profiles;

/// Bins of the monitored features, their counts in the reference, and the reference's fraud rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Reference {
    /// Names of the features, in the order of `bins`.
    pub features: Vec<String>,
    /// Bins per feature.
    pub bins: Vec<FeatureBins>,
    /// The reference in these bins.
    pub profile: Profile,
    /// The rows it was taken from; of references from before this was noted, nothing: the champion's training window.
    #[serde(default)]
    pub window: Option<Window>,
    /// How far windows of the reference differ by more than chance, per feature, in units of the index, 0 or more
    /// ([`drift_stats::between`]); of references from before this was measured, nothing.
    #[serde(default)]
    pub between: Vec<f64>,
    /// The reference by the levels of columns of segments, once that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub segments: Vec<SegmentsOf>,
    /// Rows of the reference whose label was known.
    pub labelled: u64,
    /// Frauds among them.
    pub frauds: u64,
}

/// The reference by the levels of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SegmentsOf {
    /// The column.
    pub column: String,
    /// Profiles by level; none when the column has too many levels.
    pub profiles: Profiles,
}

impl Reference {
    /// Of rows in no order and without labels.
    pub const fn of_counts(features: Vec<String>, bins: Vec<FeatureBins>, profile: Profile) -> Self {
        Self {
            features,
            bins,
            profile,
            window: None,
            between: Vec::new(),
            segments: Vec::new(),
            labelled: 0,
            frauds: 0,
        }
    }

    /// The same of some of its features, by their positions, and not by segment.
    #[must_use]
    pub fn of_features(&self, positions: &[usize]) -> Self {
        fn pick<T: Clone>(all: &[T], positions: &[usize]) -> Vec<T> {
            positions.iter().filter_map(|at| all.get(*at).cloned()).collect()
        }
        Self {
            features: pick(&self.features, positions),
            bins: pick(&self.bins, positions),
            profile: self.profile.of_features(positions),
            between: pick(&self.between, positions),
            segments: Vec::new(),
            ..*self
        }
    }

    /// The reference by these columns, when it was counted by them and no others.
    pub fn by_segment(&self, columns: &[String]) -> Option<&[SegmentsOf]> {
        let counted = self.segments.iter().map(|segments| &segments.column);
        counted.eq(columns).then_some(&self.segments)
    }

    /// The fraud rate of the reference.
    pub fn fraud_rate(&self) -> Rate {
        Rate {
            hits: self.frauds,
            of: self.labelled,
        }
    }
}

/// Reads the training window twice, in bounded memory: once for the edges of bins, once to count.
pub async fn build(
    source: &TransactionSource,
    window: Window,
    as_of: DateTime<Utc>,
    config: &Config,
) -> Result<Reference, SourceError> {
    if let Some(asked) = source.in_place() {
        return in_place::reference(source, asked, window, as_of, config).await;
    }
    // Edges and blocks are made of rows in their order.
    let request = Request {
        order: Order::Stored,
        ..Request::monitored(window, as_of)
    };
    let mut builder = ReferenceBuilder::new(config.bins.clone(), config.sample_rows_max);
    let mut misfit = None;
    source
        .scan(&request, |batch| {
            if let Err(error) = builder.add(&values_of(&batch.features)) {
                misfit = Some(error);
            }
        })
        .await?;
    let bins = builder.finish();
    let mut blocks = Blocks::new();
    let (mut labelled, mut frauds) = (0, 0);
    source
        .scan(
            &Request {
                labels: true,
                ..request
            },
            |batch| {
                let (known, fraud) = batch.label_counts();
                labelled += known;
                frauds += fraud;
                if let Err(error) = blocks.add(&bins, &values_of(&batch.features)) {
                    misfit = Some(error);
                }
            },
        )
        .await?;
    let misfits = |error| {
        corrupt(
            source,
            &format!("batches of the reference do not fit together: {error}"),
        )
    };
    if let Some(error) = misfit {
        return Err(misfits(error));
    }
    let Whole { profile, between } = blocks.finish(&bins).map_err(misfits)?;
    Ok(Reference {
        features: source.monitored().map(|feature| feature.name.clone()).collect(),
        bins,
        profile,
        window: Some(window),
        between,
        segments: Vec::new(),
        labelled,
        frauds,
    })
}

/// Columns as the statistics want them.
pub fn values_of(columns: &[Column]) -> Vec<Values<'_>> {
    columns
        .iter()
        .map(|column| match column {
            Column::Numeric(numbers) => Values::Numbers(numbers),
            Column::Category { codes, levels } => Values::Levels { codes, levels },
        })
        .collect()
}

/// What was counted does not fit together: the source changed underneath.
pub fn corrupt(source: &TransactionSource, cause: &str) -> SourceError {
    SourceError::Corrupt {
        source_name: source.definition().source.to_string(),
        cause: cause.to_owned(),
    }
}
