//! A validated artefact made ready to score: columns in, scores out.
//!
//! Rows are encoded block by block into a row-major matrix that stays in the cache while every tree walks it.

use std::collections::HashMap;

use crate::artifact::{Body, Encoding, Feature, LEAF, ModelArtifact, Standardisation, Tree};
use crate::columns::{Column, MISSING, Rows, ScoreError};
use crate::validate::InvalidArtifact;

/// Most rows encoded at a time.
const BLOCK_ROWS_MAX: usize = 512;
/// Most numbers encoded at a time (2 MiB), for models with very many inputs.
const BLOCK_NUMBERS_MAX: usize = 1 << 18;

/// A model that can score.
#[derive(Debug, Clone)]
pub struct Model {
    artifact: ModelArtifact,
    inputs: usize,
    trees: Vec<Vec<Node>>,
}

/// A node of a tree, packed so that one visit touches one cache line.
#[derive(Debug, Clone, Copy)]
struct Node {
    /// Threshold of an inner node, value of a leaf.
    number: f64,
    /// Input tested, or `u32::MAX` for a leaf.
    input: u32,
    left: u32,
    right: u32,
}

const IS_LEAF: u32 = u32::MAX;

/// One feature's column with what it takes to encode it.
enum Source<'a> {
    Numeric {
        values: &'a [f64],
        impute: f64,
        standardise: Option<Standardisation>,
    },
    /// `positions[code]` is the level's place, `None` for a text that is no level.
    Coded {
        codes: &'a [u32],
        positions: Vec<Option<usize>>,
        width: usize,
    },
    Text {
        values: &'a [Option<String>],
        positions: HashMap<&'a str, usize>,
        width: usize,
    },
}

impl Model {
    /// Checks an artefact and makes it ready.
    ///
    /// # Errors
    /// [`InvalidArtifact`], the first rule that is broken.
    pub fn new(artifact: ModelArtifact) -> Result<Self, InvalidArtifact> {
        artifact.validate()?;
        let trees = match &artifact.body {
            Body::Logistic(_) => Vec::new(),
            Body::Forest(forest) => forest.trees.iter().map(pack).collect(),
        };
        Ok(Self {
            inputs: artifact.inputs(),
            artifact,
            trees,
        })
    }

    /// The document.
    pub const fn artifact(&self) -> &ModelArtifact {
        &self.artifact
    }

    /// A row counts as predicted fraud when its score is at least this.
    pub const fn operating_threshold(&self) -> f64 {
        self.artifact.operating_threshold
    }

    /// Scores every row: one number from 0 to 1 per row, larger is more likely fraud.
    ///
    /// # Errors
    /// [`ScoreError`] when a column is not there, of another kind, or inconsistent.
    pub fn score_rows(&self, rows: &Rows<'_>) -> Result<Vec<f64>, ScoreError> {
        let sources = sources(&self.artifact.features, rows)?;
        let block_rows = (BLOCK_NUMBERS_MAX / self.inputs).clamp(1, BLOCK_ROWS_MAX);
        let mut scores = vec![0.0; rows.count()];
        let mut block = vec![0.0; block_rows.min(rows.count()) * self.inputs];
        for (index, part) in scores.chunks_mut(block_rows).enumerate() {
            let matrix = &mut block[..part.len() * self.inputs];
            encode(&sources, index * block_rows, self.inputs, matrix);
            self.score_block(matrix, part);
        }
        Ok(scores)
    }

    fn score_block(&self, matrix: &[f64], scores: &mut [f64]) {
        match &self.artifact.body {
            Body::Logistic(logistic) => {
                for (row, score) in matrix.chunks_exact(self.inputs).zip(scores) {
                    let products = row.iter().zip(&logistic.coefficients).map(|(input, c)| input * c);
                    *score = sigmoid(logistic.intercept + products.sum::<f64>());
                }
            }
            Body::Forest(_) => {
                for tree in &self.trees {
                    for (row, score) in matrix.chunks_exact(self.inputs).zip(scores.iter_mut()) {
                        *score += leaf_value(tree, row);
                    }
                }
                let count = self.trees.len() as f64;
                for score in scores {
                    // A mean of values within 0 and 1; rounding of the sum must not carry it outside.
                    *score = (*score / count).clamp(0.0, 1.0);
                }
            }
        }
    }
}

/// Encodes every row as the model's inputs: a row-major matrix, one column per input. The trainer fits on this
/// very encoding, so that training and scoring cannot differ.
///
/// # Errors
/// [`ScoreError`] when a column is not there, of another kind, or inconsistent.
pub fn encode_rows(features: &[Feature], rows: &Rows<'_>) -> Result<Vec<f64>, ScoreError> {
    let inputs: usize = features.iter().map(|feature| feature.encoding.width()).sum();
    let mut matrix = vec![0.0; inputs * rows.count()];
    if !matrix.is_empty() {
        encode(&sources(features, rows)?, 0, inputs, &mut matrix);
    }
    Ok(matrix)
}

fn pack(tree: &Tree) -> Vec<Node> {
    (0..tree.feature.len())
        .map(|node| {
            let leaf = tree.feature[node] == LEAF;
            Node {
                number: if leaf {
                    tree.value[node]
                } else {
                    tree.threshold[node]
                },
                input: if leaf {
                    IS_LEAF
                } else {
                    tree.feature[node].unsigned_abs()
                },
                left: tree.left[node],
                right: tree.right[node],
            }
        })
        .collect()
}

/// Ends because validation made every child a later node than its parent.
fn leaf_value(tree: &[Node], row: &[f64]) -> f64 {
    let mut node = tree[0];
    while node.input != IS_LEAF {
        let next = if row[node.input as usize] <= node.number {
            node.left
        } else {
            node.right
        };
        node = tree[next as usize];
    }
    node.number
}

/// The logistic function; saturates at 0 and 1 and is 0.5 where extreme inputs cancel to no number.
fn sigmoid(log_odds: f64) -> f64 {
    if log_odds.is_nan() {
        0.5
    } else {
        1.0 / (1.0 + (-log_odds).exp())
    }
}

fn sources<'a>(features: &'a [Feature], rows: &Rows<'a>) -> Result<Vec<Source<'a>>, ScoreError> {
    features
        .iter()
        .map(|feature| source(&feature.name, &feature.encoding, rows.column(&feature.name)?))
        .collect()
}

fn source<'a>(name: &str, encoding: &'a Encoding, column: Column<'a>) -> Result<Source<'a>, ScoreError> {
    let wrong = |found, expected| {
        Err(ScoreError::Kind {
            column: name.to_owned(),
            found,
            expected,
        })
    };
    match (encoding, column) {
        (Encoding::Numeric { impute, standardise }, Column::Numeric(values)) => Ok(Source::Numeric {
            values,
            impute: *impute,
            standardise: *standardise,
        }),
        (Encoding::Numeric { .. }, Column::Category { .. } | Column::Text(_)) => {
            wrong("a category", "numbers")
        }
        (Encoding::Category { .. }, Column::Numeric(_)) => wrong("numbers", "a category"),
        (Encoding::Category { levels }, Column::Category { codes, dictionary }) => {
            let outside = codes
                .iter()
                .find(|code| **code != MISSING && **code as usize >= dictionary.len());
            if let Some(code) = outside {
                return Err(ScoreError::Code {
                    column: name.to_owned(),
                    code: *code,
                    entries: dictionary.len(),
                });
            }
            let known = positions_of(levels);
            let positions = dictionary
                .iter()
                .map(|text| known.get(text.as_str()).copied())
                .collect();
            Ok(Source::Coded {
                codes,
                positions,
                width: levels.len(),
            })
        }
        (Encoding::Category { levels }, Column::Text(values)) => Ok(Source::Text {
            values,
            positions: positions_of(levels),
            width: levels.len(),
        }),
    }
}

fn positions_of(levels: &[String]) -> HashMap<&str, usize> {
    levels
        .iter()
        .enumerate()
        .map(|(position, level)| (level.as_str(), position))
        .collect()
}

/// Fills a row-major block with the rows from `first` on.
fn encode(sources: &[Source<'_>], first: usize, inputs: usize, matrix: &mut [f64]) {
    let mut offset = 0;
    for source in sources {
        let rows = matrix.chunks_exact_mut(inputs).enumerate();
        match source {
            Source::Numeric {
                values,
                impute,
                standardise,
            } => {
                for (index, row) in rows {
                    let raw = values[first + index];
                    let value = if raw.is_finite() { raw } else { *impute };
                    row[offset] = standardise.map_or(value, |scale| (value - scale.mean) / scale.sd);
                }
                offset += 1;
            }
            Source::Coded {
                codes,
                positions,
                width,
            } => {
                for (index, row) in rows {
                    let position = positions.get(codes[first + index] as usize).copied().flatten();
                    one_hot(&mut row[offset..offset + width], position);
                }
                offset += width;
            }
            Source::Text {
                values,
                positions,
                width,
            } => {
                for (index, row) in rows {
                    let text = values[first + index].as_deref();
                    let position = text.and_then(|text| positions.get(text).copied());
                    one_hot(&mut row[offset..offset + width], position);
                }
                offset += width;
            }
        }
    }
}

fn one_hot(inputs: &mut [f64], position: Option<usize>) {
    inputs.fill(0.0);
    if let Some(position) = position {
        inputs[position] = 1.0;
    }
}
