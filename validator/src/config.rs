//! The gates, as settings.

use chassis::{Reader, Secret};
use transactions::{ModelDefinition, SourceSettings};
use url::Url;

use crate::judge::Gates;

/// Checked settings of the validator.
#[derive(Debug, Clone)]
pub struct Config {
    /// What a candidate must reach.
    pub gates: Gates,
    /// Confidence of the intervals, 0.5 to 0.999.
    pub confidence: f64,
    /// A tracking server that may hold candidates.
    pub mlflow: Option<Mlflow>,
    /// The models it validates.
    pub models: Vec<ModelDefinition>,
    /// How their sources are read.
    pub sources: SourceSettings,
}

/// A tracking server.
#[derive(Debug, Clone)]
pub struct Mlflow {
    /// Its base address.
    pub uri: Url,
    /// Bearer token.
    pub token: Option<Secret>,
}

impl Config {
    /// Reads `[validation]`, `[mlflow]`, `[models.*]` and `[transactions]`.
    pub fn read(reader: &Reader<'_>) -> Self {
        let section = reader.section("validation");
        let tracking = reader.section("mlflow");
        let token = tracking.optional_secret("token");
        Self {
            gates: Gates {
                recall_min: section.number("recall_min", 0.0..=1.0),
                precision_min: section.number("precision_min", 0.0..=1.0),
                rows_min: section.integer("rows_min", 1..=1_000_000_000),
                frauds_min: section.integer("frauds_min", 1..=1_000_000_000),
                reported_tolerance: section.number("reported_tolerance", 0.0..=1.0),
            },
            confidence: section.number("confidence", 0.5..=0.999),
            mlflow: tracking.optional_url("tracking_uri", &["http", "https"]).map(|uri| Mlflow { uri, token }),
            models: ModelDefinition::read_all(reader),
            sources: SourceSettings::read(reader),
        }
    }
}
