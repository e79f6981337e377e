//! A day of payments as columns.

use chrono::{DateTime, Utc};

use super::payments::Scenario;

/// A day of payments, in order of time. All columns have the same length.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct DayBatch {
    /// When each was made, UTC.
    pub times: Vec<DateTime<Utc>>,
    /// Whether it was fraud; none when nobody ever told.
    pub labels: Vec<Option<bool>>,
    /// When that became known, UTC.
    pub label_times: Vec<DateTime<Utc>>,
    /// What a model may learn from.
    pub features: Vec<FeatureColumn>,
    /// What only the simulator knows; none for payments from a file.
    pub origins: Option<Origins>,
}

/// A feature's values.
#[derive(Debug, Clone, PartialEq)]
pub struct FeatureColumn {
    /// Its name.
    pub name: String,
    /// One value per payment.
    pub values: FeatureValues,
}

/// Values of one kind.
#[derive(Debug, Clone, PartialEq)]
pub enum FeatureValues {
    /// Numbers; NaN is missing.
    Number(Vec<f64>),
    /// Words; none is missing.
    Text(Vec<Option<String>>),
}

/// What lies behind simulated payments. Nothing of it is an input: it tells payments apart or reveals the label.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins {
    /// Counts from 0, over all days.
    pub transactions: Vec<i64>,
    /// Who paid, 0 to the number of customers.
    pub customers: Vec<u32>,
    /// Where, 0 to the number of terminals.
    pub terminals: Vec<u32>,
    /// Why it is fraud.
    pub scenarios: Vec<Scenario>,
}

impl DayBatch {
    /// Payments.
    pub fn len(&self) -> usize {
        self.times.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.times.is_empty()
    }

    /// Payments known to be fraud, by whenever.
    pub fn frauds(&self) -> usize {
        self.labels.iter().filter(|label| **label == Some(true)).count()
    }

    /// A feature's numbers; none when there is no such feature or it is text.
    pub fn numbers(&self, name: &str) -> Option<&[f64]> {
        match &self.features.iter().find(|feature| feature.name == name)?.values {
            FeatureValues::Number(values) => Some(values),
            FeatureValues::Text(_) => None,
        }
    }

    /// A feature's words; none when there is no such feature or it is numeric.
    pub fn words(&self, name: &str) -> Option<&[Option<String>]> {
        match &self.features.iter().find(|feature| feature.name == name)?.values {
            FeatureValues::Number(_) => None,
            FeatureValues::Text(values) => Some(values),
        }
    }
}
