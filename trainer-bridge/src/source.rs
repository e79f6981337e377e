//! Rows for the local trainer, read through `transactions` as they were known at the order's `as_of`.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use schemas::events::TrainingFailure;
use schemas::{ModelName, Window};
use transactions::{
    Batch, Column, Label, ModelDefinition, Readers, Request, SourceError, SourceSettings, TransactionSource,
};

use crate::backend::local::{Asking, LoadError, Loaded, Loader, Loading};
use crate::job::Order;
use crate::training::{NamedColumn, Slice, Values};

/// The sources of the settings.
#[derive(Debug)]
pub struct Sources {
    definitions: HashMap<ModelName, ModelDefinition>,
    readers: Readers,
    settings: SourceSettings,
    /// Most rows kept of a slice; more are thinned while they are read.
    rows_max: usize,
}

impl Sources {
    /// Sources that keep at most about `rows_max` rows of a slice.
    pub fn new(
        definitions: Vec<ModelDefinition>,
        readers: Readers,
        settings: SourceSettings,
        rows_max: usize,
    ) -> Self {
        let definitions = definitions
            .into_iter()
            .map(|definition| (definition.model.clone(), definition))
            .collect();
        Self {
            definitions,
            readers,
            settings,
            rows_max,
        }
    }

    async fn open(&self, model: &ModelName) -> Result<TransactionSource, LoadError> {
        let definition = self.definitions.get(model).ok_or_else(|| LoadError::Permanent {
            kind: TrainingFailure::Refused,
            detail: format!("model `{model}` is not in the settings any more"),
        })?;
        // Opened anew each time: a training begins rarely, and the table may have changed since.
        TransactionSource::open(definition, &self.readers, self.settings)
            .await
            .map_err(refusal)
    }

    async fn read(&self, order: &Order) -> Result<Loaded, LoadError> {
        let source = self.open(&order.model).await?;
        let training = self.slice(&source, order.plan.training, order).await?;
        let threshold = self.slice(&source, order.plan.threshold, order).await?;
        Ok(Loaded { training, threshold })
    }

    async fn slice(
        &self,
        source: &TransactionSource,
        window: Window,
        order: &Order,
    ) -> Result<Slice, LoadError> {
        let count = source.count(window, order.as_of).await.map_err(refusal)?;
        // A little more than needed: the core thins to the exact number. Rows come in a definite order, so the same
        // ones are kept every time.
        let keep = 1.1 * self.rows_max as f64 / count.max(1) as f64;
        let request = Request {
            scores: false,
            ..Request::all(window, order.as_of)
        };
        let (mut whole, mut row) = (Batch::default(), 0_u64);
        source
            .scan(&request, |batch| {
                if keep >= 1.0 {
                    whole.append(batch);
                    return;
                }
                let picked: Vec<usize> = (0..batch.rows())
                    .filter(|_| {
                        row += 1;
                        chance(order.plan.seed, row) < keep
                    })
                    .collect();
                whole.append(&pick(batch, &picked));
            })
            .await
            .map_err(refusal)?;
        let names = source.features().map(|feature| feature.name.clone());
        Ok(labelled(whole, names))
    }
}

impl Loader for Sources {
    fn oldest<'a>(&'a self, model: &'a ModelName) -> Asking<'a> {
        Box::pin(async move {
            let extent: Option<(DateTime<Utc>, DateTime<Utc>)> =
                self.open(model).await?.extent().await.map_err(refusal)?;
            Ok(extent.map(|(oldest, _)| oldest))
        })
    }

    fn reading_max(&self) -> Duration {
        self.settings.reading_max()
    }

    fn load<'a>(&'a self, order: &'a Order) -> Loading<'a> {
        Box::pin(self.read(order))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that `map_err` takes")]
fn refusal(error: SourceError) -> LoadError {
    if error.is_transient() {
        LoadError::Transient(error.to_string())
    } else {
        LoadError::Permanent {
            kind: TrainingFailure::DataInsufficient,
            detail: error.to_string(),
        }
    }
}

/// A number from 0 to 1 that depends on seed and row alone (`SplitMix64`'s finaliser).
fn chance(seed: u64, row: u64) -> f64 {
    let mut mixed = seed ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((mixed ^ (mixed >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

fn pick(batch: &Batch, rows: &[usize]) -> Batch {
    let features = batch.features.iter().map(|column| match column {
        Column::Numeric(numbers) => Column::Numeric(rows.iter().map(|row| numbers[*row]).collect()),
        Column::Category { codes, levels } => Column::Category {
            codes: rows.iter().map(|row| codes[*row]).collect(),
            levels: levels.clone(),
        },
    });
    Batch {
        features: features.collect(),
        times: rows.iter().map(|row| batch.times[*row]).collect(),
        labels: rows.iter().map(|row| batch.labels[*row]).collect(),
        scores: rows.iter().map(|row| batch.scores[*row]).collect(),
    }
}

/// The rows whose label was known, as the training core takes them.
fn labelled(batch: Batch, names: impl Iterator<Item = String>) -> Slice {
    let known: Vec<usize> = (0..batch.rows())
        .filter(|row| batch.labels[*row] != Label::Unknown)
        .collect();
    let batch = if known.len() == batch.rows() {
        batch
    } else {
        pick(&batch, &known)
    };
    let labels = batch.labels.iter().map(|label| *label == Label::Fraud).collect();
    let columns = names.zip(batch.features).map(|(name, column)| NamedColumn {
        name,
        values: match column {
            Column::Numeric(numbers) => Values::Numeric(numbers),
            // Both crates write a missing category as the largest code.
            Column::Category { codes, levels } => Values::Category {
                codes,
                dictionary: levels,
            },
        },
    });
    Slice {
        columns: columns.collect(),
        labels,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_labels_are_left_out_with_their_rows() {
        let batch = Batch {
            times: vec![1, 2, 3],
            features: vec![
                Column::Numeric(vec![1.0, 2.0, 3.0]),
                Column::Category {
                    codes: vec![0, 1, Column::MISSING],
                    levels: vec!["a".to_owned(), "b".to_owned()],
                },
            ],
            labels: vec![Label::Fraud, Label::Unknown, Label::Genuine],
            scores: vec![f64::NAN; 3],
        };
        let slice = labelled(batch, ["x".to_owned(), "c".to_owned()].into_iter());
        assert_eq!(slice.labels, [true, false]);
        assert_eq!(slice.columns[0].values, Values::Numeric(vec![1.0, 3.0]));
        let Values::Category { codes, .. } = &slice.columns[1].values else {
            panic!("not a category")
        };
        assert_eq!(codes, &[0, scoring::MISSING]);
    }

    #[test]
    fn thinning_while_reading_depends_on_seed_and_row_alone_and_keeps_its_share() {
        let kept = |seed| {
            (0..10_000)
                .filter(|row| chance(seed, *row) < 0.3)
                .collect::<Vec<_>>()
        };
        assert_eq!(kept(1), kept(1));
        assert_ne!(kept(1), kept(2));
        assert!((2_800..3_200).contains(&kept(1).len()));
    }
}
