//! One training: fit the candidates, keep the better one, choose its threshold, write its artefact.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use drift_stats::Unusable;
use drift_stats::performance::{Confusion, Ranking};
use schemas::{ModelName, Window};
use scoring::{Body, FORMAT, Feature, InvalidArtifact, Model, ModelArtifact, ScoreError, encode_rows};

use super::choose::{ThresholdRule, operating_point};
use super::data::{Slice, TooLittle};
use super::encode::learn;
use super::forest::{self, ForestParameters};
use super::logistic::{self, LogisticParameters};
use super::watch::{Stage, Watch};

/// Everything that shapes a training besides its rows.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    /// Fit a logistic regression as a candidate.
    pub logistic: Option<LogisticParameters>,
    /// Grow a forest as a candidate.
    pub forest: Option<ForestParameters>,
    /// How the operating threshold is chosen.
    pub threshold_rule: ThresholdRule,
    /// Fewest labelled rows to train on.
    pub rows_min: usize,
    /// Most rows to train on; more are thinned evenly.
    pub rows_max: usize,
    /// Fewest frauds to train on.
    pub frauds_min: usize,
    /// Fewest frauds to choose candidate and threshold on.
    pub threshold_frauds_min: usize,
    /// Most one-hot levels of a category.
    pub levels_max: usize,
    /// Threads that grow the forest, at least 1; changes how long it takes, never what comes out.
    pub threads: usize,
    /// Seed of everything random.
    pub seed: u64,
}

/// Whose artefact it becomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Identity {
    /// The model.
    pub model: ModelName,
    /// Written as `created`: the instant trained as of, so that training again gives the same bytes.
    pub created: DateTime<Utc>,
    /// The span the training slice was taken from.
    pub training_window: Window,
}

/// What a training gives.
#[derive(Debug, Clone, PartialEq)]
pub struct Trained {
    /// The chosen candidate, complete and valid.
    pub artifact: ModelArtifact,
    /// Every candidate, in the order fitted.
    pub candidates: Vec<CandidateReport>,
    /// Rows fitted on, after thinning.
    pub training_rows: usize,
    /// Frauds among them.
    pub training_frauds: usize,
    /// Rows candidate and threshold were chosen on.
    pub threshold_rows: usize,
    /// The chosen candidate's predictions on the threshold slice, at the operating threshold.
    pub confusion: Confusion,
}

/// How a candidate did on the threshold slice.
#[derive(Debug, Clone, PartialEq)]
pub struct CandidateReport {
    /// `logistic_regression` or `random_forest`.
    pub algorithm: &'static str,
    /// Average precision, 0 to 1.
    pub average_precision: f64,
    /// Area under the ROC curve, 0 to 1.
    pub roc_auc: f64,
}

/// Why no model came out.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum TrainingError {
    /// The rows do not suffice; more rows or other settings are needed.
    #[error(transparent)]
    TooLittle(#[from] TooLittle),
    /// The settings switch every algorithm off.
    #[error("no algorithm is switched on")]
    NoCandidate,
    /// Someone asked to stop.
    #[error("the training was cancelled")]
    Cancelled,
    /// The columns of the slices do not fit together.
    #[error("the rows cannot be encoded: {0}")]
    Rows(#[from] ScoreError),
    /// Scores that cannot be ranked.
    #[error("the candidate cannot be judged: {0}")]
    Ranking(Unusable),
    /// The learning library failed.
    #[error("{0}")]
    Library(String),
    /// What was trained breaks the format.
    #[error("the trained model breaks the artefact format: {0}")]
    Invalid(#[from] InvalidArtifact),
}

struct Candidate {
    report: CandidateReport,
    model: Model,
    ranking: Ranking,
}

/// Trains; see the module's head.
///
/// # Errors
/// [`TrainingError`], of which [`TrainingError::TooLittle`] speaks of the rows.
pub fn train(
    parameters: &Parameters,
    identity: &Identity,
    training: Slice,
    threshold: &Slice,
    watch: &dyn Watch,
) -> Result<Trained, TrainingError> {
    training.require("training", parameters.rows_min, parameters.frauds_min)?;
    threshold.require("threshold", 1, parameters.threshold_frauds_min)?;
    let training = training.thinned(parameters.rows_max, parameters.seed);
    let mut candidates = Vec::new();

    if let Some(settings) = parameters.logistic {
        let (features, inputs, width) = encoded(&training, true, parameters.levels_max, watch)?;
        watch.progress(Stage::Logistic, 0.0);
        let body = logistic::fit(inputs, width, &training.labels, settings)?;
        watch.progress(Stage::Logistic, 1.0);
        let notes = [("l2", settings.l2.to_string())];
        let artifact = artifact(
            "logistic_regression",
            identity,
            parameters.seed,
            features,
            body,
            notes,
        );
        candidates.push(judged("logistic_regression", artifact, threshold)?);
    }
    if let Some(settings) = parameters.forest {
        let (features, inputs, width) = encoded(&training, false, parameters.levels_max, watch)?;
        watch.progress(Stage::Forest, 0.0);
        let body = forest::fit(
            &inputs,
            width,
            &training.labels,
            settings,
            parameters.seed,
            parameters.threads,
            watch,
        )?;
        let per_split = settings
            .inputs_per_split
            .map_or("sqrt".to_owned(), |inputs| inputs.to_string());
        let notes = [
            ("trees", settings.trees.to_string()),
            ("depth_max", settings.depth_max.to_string()),
            ("inputs_per_split", per_split),
            ("leaf_rows_min", settings.leaf_rows_min.to_string()),
        ];
        let artifact = artifact("random_forest", identity, parameters.seed, features, body, notes);
        candidates.push(judged("random_forest", artifact, threshold)?);
    }
    if watch.cancelled() {
        return Err(TrainingError::Cancelled);
    }
    watch.progress(Stage::Choose, 0.0);
    let reports = candidates
        .iter()
        .map(|candidate| candidate.report.clone())
        .collect();
    // Of equal ones the first: the simpler model.
    let best = candidates
        .into_iter()
        .reduce(|best, next| {
            if next.report.average_precision > best.report.average_precision {
                next
            } else {
                best
            }
        })
        .ok_or(TrainingError::NoCandidate)?;
    // There is fraud on the slice, so there is a point.
    let (point, rule) = operating_point(&best.ranking, parameters.threshold_rule).ok_or_else(|| {
        let (rows, frauds) = (best.ranking.rows(), best.ranking.frauds());
        TrainingError::Ranking(Unusable::OneClassOnly {
            frauds,
            genuine: rows - frauds,
        })
    })?;
    let mut artifact = best.model.artifact().clone();
    artifact.operating_threshold = point.threshold.clamp(0.0, 1.0);
    artifact
        .notes
        .insert("threshold_rule".to_owned(), rule.as_str().to_owned());
    artifact.validate()?;
    watch.progress(Stage::Choose, 1.0);
    Ok(Trained {
        artifact,
        candidates: reports,
        training_rows: training.len(),
        training_frauds: training.frauds(),
        threshold_rows: threshold.len(),
        confusion: point.confusion,
    })
}

fn encoded(
    training: &Slice,
    standardise: bool,
    levels_max: usize,
    watch: &dyn Watch,
) -> Result<(Vec<Feature>, Vec<f64>, usize), TrainingError> {
    if watch.cancelled() {
        return Err(TrainingError::Cancelled);
    }
    watch.progress(Stage::Encode, 0.0);
    let features = learn(training, standardise, levels_max)?;
    let inputs = encode_rows(&features, &training.rows()?)?;
    let width = features.iter().map(|feature| feature.encoding.width()).sum();
    watch.progress(Stage::Encode, 1.0);
    Ok((features, inputs, width))
}

fn artifact<const N: usize>(
    algorithm: &'static str,
    identity: &Identity,
    seed: u64,
    features: Vec<Feature>,
    body: Body,
    notes: [(&str, String); N],
) -> ModelArtifact {
    let library = ("library".to_owned(), "smartcore 0.7".to_owned());
    let notes: BTreeMap<String, String> = notes
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value))
        .chain([library])
        .collect();
    ModelArtifact {
        format: FORMAT.to_owned(),
        model: identity.model.clone(),
        algorithm: algorithm.to_owned(),
        created: identity.created,
        seed,
        training_window: identity.training_window,
        // Chosen last, on the threshold slice.
        operating_threshold: 1.0,
        features,
        body,
        notes,
    }
}

/// Scores the threshold slice exactly as the model will be served.
fn judged(
    algorithm: &'static str,
    artifact: ModelArtifact,
    threshold: &Slice,
) -> Result<Candidate, TrainingError> {
    let model = Model::new(artifact)?;
    let scores = model.score_rows(&threshold.rows()?)?;
    let ranking = Ranking::new(&scores, &threshold.labels).map_err(TrainingError::Ranking)?;
    let average_precision = ranking.average_precision().map_err(TrainingError::Ranking)?;
    let roc_auc = ranking.roc_auc().map_err(TrainingError::Ranking)?;
    Ok(Candidate {
        report: CandidateReport {
            algorithm,
            average_precision,
            roc_auc,
        },
        model,
        ranking,
    })
}
