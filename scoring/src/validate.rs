//! Every rule a document has to keep before anything is computed with it.
//!
//! After these checks a tree walk ends (children come after their parent), no index leaves its array, and
//! every score is a number from 0 to 1.

use std::collections::HashSet;

use crate::artifact::{Body, Encoding, FORMAT, Feature, LEAF, Logistic, ModelArtifact, Tree};

/// Most features of a model.
pub const FEATURES_MAX: usize = 10_000;
/// Most inputs of a model, one-hot levels counted singly.
pub const INPUTS_MAX: usize = 100_000;
/// Most trees of a forest.
pub const TREES_MAX: usize = 10_000;

/// A rule of the format is broken.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidArtifact {
    /// Another format, or another major version of this one.
    #[error("format is {0:?}, not `{FORMAT}`")]
    Format(String),
    /// The operating threshold is no score.
    #[error("operating_threshold `{0}` is not between 0 and 1")]
    OperatingThreshold(f64),
    /// No feature, or too many.
    #[error("{0} features, not 1 to {FEATURES_MAX}")]
    FeatureCount(usize),
    /// Too many inputs.
    #[error("{0} inputs, more than {INPUTS_MAX}")]
    InputCount(usize),
    /// A feature is unusable.
    #[error("feature `{feature}`: {problem}")]
    Feature {
        /// Its name.
        feature: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The logistic regression does not fit its features.
    #[error("logistic body: {0}")]
    Logistic(&'static str),
    /// No tree, or too many.
    #[error("{0} trees, not 1 to {TREES_MAX}")]
    TreeCount(usize),
    /// A tree is malformed.
    #[error("tree {tree}, node {node}: {problem}")]
    Tree {
        /// Which tree, from 0.
        tree: usize,
        /// Which node, from 0.
        node: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

impl ModelArtifact {
    /// Checks every rule of the format.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn validate(&self) -> Result<(), InvalidArtifact> {
        if self.format != FORMAT {
            return Err(InvalidArtifact::Format(self.format.chars().take(80).collect()));
        }
        if !(0.0..=1.0).contains(&self.operating_threshold) {
            return Err(InvalidArtifact::OperatingThreshold(self.operating_threshold));
        }
        validate_features(&self.features)?;
        let inputs = self.inputs();
        if inputs > INPUTS_MAX {
            return Err(InvalidArtifact::InputCount(inputs));
        }
        match &self.body {
            Body::Logistic(logistic) => validate_logistic(logistic, inputs),
            Body::Forest(forest) => {
                if !(1..=TREES_MAX).contains(&forest.trees.len()) {
                    return Err(InvalidArtifact::TreeCount(forest.trees.len()));
                }
                forest.trees.iter().enumerate().try_for_each(|(index, tree)| {
                    validate_tree(tree, inputs).map_err(|(node, problem)| InvalidArtifact::Tree {
                        tree: index,
                        node,
                        problem,
                    })
                })
            }
        }
    }
}

fn validate_features(features: &[Feature]) -> Result<(), InvalidArtifact> {
    if !(1..=FEATURES_MAX).contains(&features.len()) {
        return Err(InvalidArtifact::FeatureCount(features.len()));
    }
    let mut names = HashSet::new();
    for feature in features {
        let refuse = |problem| {
            Err(InvalidArtifact::Feature {
                feature: feature.name.chars().take(80).collect(),
                problem,
            })
        };
        if feature.name.is_empty() {
            return refuse("its name is empty");
        }
        if !names.insert(feature.name.as_str()) {
            return refuse("it is listed twice");
        }
        match &feature.encoding {
            Encoding::Numeric { impute, .. } if !impute.is_finite() => {
                return refuse("impute is not a finite number");
            }
            Encoding::Numeric {
                standardise: Some(scale),
                ..
            } => {
                if !scale.mean.is_finite() {
                    return refuse("mean is not a finite number");
                }
                if !(scale.sd.is_finite() && scale.sd > 0.0) {
                    return refuse("sd is not a finite number above 0");
                }
            }
            Encoding::Numeric {
                standardise: None, ..
            } => {}
            Encoding::Category { levels } => {
                if levels.is_empty() {
                    return refuse("it lists no level");
                }
                let different: HashSet<_> = levels.iter().collect();
                if different.len() != levels.len() {
                    return refuse("it lists a level twice");
                }
            }
        }
    }
    Ok(())
}

fn validate_logistic(logistic: &Logistic, inputs: usize) -> Result<(), InvalidArtifact> {
    if logistic.coefficients.len() != inputs {
        return Err(InvalidArtifact::Logistic(
            "there is not exactly one coefficient per input",
        ));
    }
    let finite = logistic.intercept.is_finite() && logistic.coefficients.iter().all(|c| c.is_finite());
    if finite {
        Ok(())
    } else {
        Err(InvalidArtifact::Logistic("a coefficient is not a finite number"))
    }
}

fn validate_tree(tree: &Tree, inputs: usize) -> Result<(), (usize, &'static str)> {
    let nodes = tree.feature.len();
    if nodes == 0 {
        return Err((0, "there is no root"));
    }
    let lengths = [
        tree.threshold.len(),
        tree.left.len(),
        tree.right.len(),
        tree.value.len(),
    ];
    if lengths.iter().any(|length| *length != nodes) {
        return Err((0, "the arrays differ in length"));
    }
    for node in 0..nodes {
        let feature = tree.feature[node];
        if feature == LEAF {
            if !(0.0..=1.0).contains(&tree.value[node]) {
                return Err((node, "a leaf's value is not between 0 and 1"));
            }
            continue;
        }
        if usize::try_from(feature).map_or(true, |feature| feature >= inputs) {
            return Err((node, "it tests an input that does not exist"));
        }
        if !tree.threshold[node].is_finite() {
            return Err((node, "its threshold is not a finite number"));
        }
        for child in [tree.left[node], tree.right[node]] {
            let child = child as usize;
            if child <= node || child >= nodes {
                return Err((node, "a child is not a later node of the tree"));
            }
        }
    }
    Ok(())
}
