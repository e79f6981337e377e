//! A random forest of regression trees on the 0/1 label, so that leaf means are probabilities.
//!
//! smartcore's forest *classifier* only votes; its *regressor* on 0/1 gives shares (measured: average precision
//! 0.53 against 0.07). It has no threads, so the forest is grown as groups of trees, each from its own seed, on
//! as many threads as there are cores. Groups are joined in order: the number of threads changes nothing.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use scoring::{Body, Forest, LEAF, Tree};
use serde::Deserialize;
use smartcore::ensemble::random_forest_regressor::{RandomForestRegressor, RandomForestRegressorParameters};
use smartcore::linalg::basic::matrix::DenseMatrix;

use super::run::TrainingError;
use super::watch::{Stage, Watch};

/// Trees grown from one seed. Part of the algorithm: another number gives another forest. Larger groups share
/// the sorting of columns, smaller ones can be cancelled sooner.
const GROUP_TREES: usize = 10;

/// What a forest is grown with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForestParameters {
    /// Trees, 1 or more.
    pub trees: usize,
    /// Deepest leaf, 1 or more.
    pub depth_max: u16,
    /// Inputs tried at a split; `None` is the square root of their number.
    pub inputs_per_split: Option<usize>,
    /// Fewest rows of a leaf, 1 or more.
    pub leaf_rows_min: usize,
}

type Regressor = RandomForestRegressor<f64, f64, DenseMatrix<f64>, Vec<f64>>;

/// Grows the forest; `inputs` is the row-major matrix, not standardised. `threads` at least 1.
///
/// # Errors
/// [`TrainingError::Cancelled`] between groups of trees, [`TrainingError::Library`] when smartcore refuses.
pub fn fit(
    inputs: &[f64],
    width: usize,
    labels: &[bool],
    parameters: ForestParameters,
    seed: u64,
    threads: usize,
    watch: &dyn Watch,
) -> Result<Body, TrainingError> {
    let x = column_major(inputs, width, labels.len())?;
    let y: Vec<f64> = labels.iter().map(|label| f64::from(u8::from(*label))).collect();
    let groups = parameters.trees.div_ceil(GROUP_TREES);
    let next = AtomicUsize::new(0);
    let grown: Mutex<Vec<Option<Vec<Tree>>>> = Mutex::new(vec![None; groups]);
    let work = || -> Result<(), TrainingError> {
        loop {
            let group = next.fetch_add(1, Ordering::Relaxed);
            if group >= groups {
                return Ok(());
            }
            if watch.cancelled() {
                return Err(TrainingError::Cancelled);
            }
            let trees = grow(&x, &y, parameters, group, seed)?;
            let mut grown = grown
                .lock()
                .map_err(|_| TrainingError::Library("a training thread panicked".to_owned()))?;
            grown[group] = Some(trees);
            let finished = grown.iter().flatten().count();
            watch.progress(Stage::Forest, finished as f64 / groups as f64);
        }
    };
    std::thread::scope(|scope| {
        let helpers: Vec<_> = (1..threads.min(groups)).map(|_| scope.spawn(work)).collect();
        let own = work();
        helpers
            .into_iter()
            .map(|helper| {
                helper
                    .join()
                    .unwrap_or_else(|_| Err(TrainingError::Library("a training thread panicked".to_owned())))
            })
            .fold(own, Result::and)
    })?;
    let grown = grown
        .into_inner()
        .map_err(|_| TrainingError::Library("a training thread panicked".to_owned()))?;
    Ok(Body::Forest(Forest {
        trees: grown.into_iter().flatten().flatten().collect(),
    }))
}

/// The trees of one group.
fn grow(
    x: &DenseMatrix<f64>,
    y: &Vec<f64>,
    parameters: ForestParameters,
    group: usize,
    seed: u64,
) -> Result<Vec<Tree>, TrainingError> {
    let settings = settings_of(parameters, group, seed);
    let fitted = Regressor::fit(x, y, settings)
        .map_err(|error| TrainingError::Library(format!("random forest: {error}")))?;
    flatten(&fitted)
}

pub(super) fn settings_of(
    parameters: ForestParameters,
    group: usize,
    seed: u64,
) -> RandomForestRegressorParameters {
    // Trees of a group use seeds that follow each other; groups lie far enough apart.
    let group_seed = seed.wrapping_add((group as u64).wrapping_mul(1_000_003));
    let mut settings = RandomForestRegressorParameters::default()
        .with_n_trees(GROUP_TREES.min(parameters.trees - group * GROUP_TREES))
        .with_max_depth(parameters.depth_max)
        .with_min_samples_leaf(parameters.leaf_rows_min)
        .with_seed(group_seed);
    settings.m = parameters.inputs_per_split;
    settings
}

/// smartcore sorts and splits column by column.
pub(super) fn column_major(
    inputs: &[f64],
    width: usize,
    rows: usize,
) -> Result<DenseMatrix<f64>, TrainingError> {
    let mut columns = vec![0.0; inputs.len()];
    for (row, values) in inputs.chunks_exact(width).enumerate() {
        for (column, value) in values.iter().enumerate() {
            columns[column * rows + row] = *value;
        }
    }
    DenseMatrix::new(rows, width, columns, true)
        .map_err(|error| TrainingError::Library(format!("random forest: {error}")))
}

/// Our own representation of smartcore's trees, read from their serialised form: the artefact does not depend on
/// a private format that may change between versions. A test compares the scores bit by bit.
pub(super) fn flatten(fitted: &Regressor) -> Result<Vec<Tree>, TrainingError> {
    #[derive(Deserialize)]
    struct Document {
        forest_regressor: Grown,
    }
    #[derive(Deserialize)]
    struct Grown {
        trees: Vec<GrownTree>,
    }
    #[derive(Deserialize)]
    struct GrownTree {
        nodes: Vec<Node>,
    }
    #[derive(Deserialize)]
    struct Node {
        output: f64,
        split_feature: usize,
        split_value: Option<f64>,
        true_child: Option<u32>,
        false_child: Option<u32>,
    }
    let unreadable =
        |error: serde_json::Error| TrainingError::Library(format!("random forest: cannot be read: {error}"));
    let text = serde_json::to_vec(fitted).map_err(unreadable)?;
    let document: Document = serde_json::from_slice(&text).map_err(unreadable)?;
    let trees = document.forest_regressor.trees.into_iter();
    trees
        .map(|grown| {
            let mut tree = Tree::default();
            for node in grown.nodes {
                let split = node.split_value.zip(node.true_child).zip(node.false_child);
                let ((threshold, left), right) = split.unwrap_or(((0.0, 0), 0));
                let feature = if split.is_some() {
                    i32::try_from(node.split_feature)
                } else {
                    Ok(LEAF)
                };
                let feature = feature
                    .map_err(|_| TrainingError::Library("random forest: too many inputs".to_owned()))?;
                tree.feature.push(feature);
                tree.threshold.push(threshold);
                tree.left.push(left);
                tree.right.push(right);
                tree.value.push(if split.is_some() { 0.0 } else { node.output });
            }
            Ok(tree)
        })
        .collect()
}
