//! The document `vigie.model.v1` as Rust types; `README.md` describes it for other writers.
//!
//! Unknown fields are refused: a part of a model that this release does not understand could change what
//! the scores mean. Notes belong into [`ModelArtifact::notes`].

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use schemas::{ModelName, Window};
use serde::{Deserialize, Serialize};

/// Name and major version of the format, first field of every document.
pub const FORMAT: &str = "vigie.model.v1";

/// In [`Tree::feature`]: this node is a leaf.
pub const LEAF: i32 = -1;

/// A trained model with all that is needed to score raw columns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelArtifact {
    /// Always [`FORMAT`].
    pub format: String,
    /// The model's name, as in the settings.
    pub model: ModelName,
    /// E.g. `logistic_regression`, `random_forest`; a label for people, the body decides what is computed.
    pub algorithm: String,
    /// When it was made, UTC. The local trainer writes the instant it trained as of, so that training again
    /// gives the same bytes.
    pub created: DateTime<Utc>,
    /// Seed of everything random in the training.
    pub seed: u64,
    /// Rows the model was fitted on, by transaction time.
    pub training_window: Window,
    /// A row counts as predicted fraud when its score is at least this; 0 to 1.
    pub operating_threshold: f64,
    /// The columns it reads, in the order in which they are encoded.
    pub features: Vec<Feature>,
    /// The model.
    pub body: Body,
    /// Free notes of the writer (versions, hyper-parameters); never read when scoring.
    #[serde(default)]
    pub notes: BTreeMap<String, String>,
}

/// A column and how it becomes numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feature {
    /// The column's name.
    pub name: String,
    /// How it is encoded.
    pub encoding: Encoding,
}

/// How a column becomes one or more input numbers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Encoding {
    /// One input: the value, or `impute` when it is missing; then standardised, if asked for.
    Numeric {
        /// Stands in for a missing (or not finite) value, in the column's own unit.
        impute: f64,
        /// Shift and scale applied after imputation; none for trees.
        #[serde(default)]
        standardise: Option<Standardisation>,
    },
    /// One input per level: 1 when the value equals the level, else 0. A missing or unlisted value is all zeros.
    Category {
        /// The levels, each different.
        levels: Vec<String>,
    },
}

impl Encoding {
    /// How many inputs the column becomes.
    pub fn width(&self) -> usize {
        match self {
            Self::Numeric { .. } => 1,
            Self::Category { levels } => levels.len(),
        }
    }
}

/// `(value − mean) / sd`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Standardisation {
    /// Mean over the training rows.
    pub mean: f64,
    /// Standard deviation over the training rows, above 0.
    pub sd: f64,
}

/// The model proper.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Body {
    /// Score = `1 / (1 + exp(−(intercept + Σ coefficient · input)))`.
    Logistic(Logistic),
    /// Score = mean of the trees' leaf values.
    Forest(Forest),
}

/// A logistic regression.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Logistic {
    /// Log-odds when every input is 0.
    pub intercept: f64,
    /// One per input, in the order of the features.
    pub coefficients: Vec<f64>,
}

/// A forest of regression trees on the 0/1 label.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Forest {
    /// The trees, at least one.
    pub trees: Vec<Tree>,
}

/// A binary tree as flat arrays of equal length; node 0 is the root and children come after their parent.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// The input that node tests, or [`LEAF`].
    pub feature: Vec<i32>,
    /// Go left when the input is at most this; 0 at leaves.
    pub threshold: Vec<f64>,
    /// Index of the left child; 0 at leaves.
    pub left: Vec<u32>,
    /// Index of the right child; 0 at leaves.
    pub right: Vec<u32>,
    /// A leaf's share of fraud, 0 to 1; 0 at inner nodes.
    pub value: Vec<f64>,
}

impl ModelArtifact {
    /// How many input numbers the features become.
    pub fn inputs(&self) -> usize {
        self.features.iter().map(|feature| feature.encoding.width()).sum()
    }

    /// The document's bytes: compact JSON, fields in the order of this type, shortest round-trip numbers.
    /// The same artefact always gives the same bytes.
    ///
    /// # Errors
    /// Only if a number is not finite, which [`ModelArtifact::validate`] refuses first.
    pub fn to_bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(self)
    }
}
