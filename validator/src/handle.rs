//! The shell: load, score, judge, save, append to the outbox, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use chassis::outbox::{self, Draft};
use chassis::tasks::{self, DAG_TRAINING, TaskEnd, TaskRow, TaskTimer};
use chassis::{Cause, Context, HandleError, Handler, Tasks, Tx};
use schemas::events::{Confusion, ModelTrained, ModelValidated, ValidationVerdict};
use schemas::{Event, ModelName, Received};
use transactions::{FeatureChoice, ModelDefinition, Readers, Request, SourceError, TransactionSource};

use crate::artifact::{ArtifactError, Artifacts};
use crate::config::Config;
use crate::judge::{self, Identity, Judgement, Spans};
use crate::measure::{self, Measurement};
use crate::metrics::{ValidationLabels, ValidatorMetrics};
use crate::store;

/// Spawns the consumer.
pub fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
    let judge = Arc::new(Judge {
        service: context.service,
        readers: config.access.readers(&context.pool)?,
        models: config
            .models
            .iter()
            .map(|model| (model.model.clone(), model.clone()))
            .collect(),
        artifacts: Artifacts::new(&config.artifacts, config.mlflow.as_ref())?,
        metrics: ValidatorMetrics::register(&context.metrics),
        config,
    });
    tasks.spawn(
        "consume",
        chassis::consume::run(context, crate::SUBSCRIPTION, judge),
    );
    Ok(())
}

struct Judge {
    service: &'static str,
    readers: Readers,
    models: BTreeMap<ModelName, ModelDefinition>,
    artifacts: Artifacts,
    metrics: ValidatorMetrics,
    config: Config,
}

/// What was found of a candidate.
pub struct Judged {
    validated: ModelValidated,
    task: TaskRow,
}

impl Handler for Judge {
    fn reading_max(&self) -> Duration {
        self.config.sources.reading_max()
    }

    type Prepared = Option<Judged>;

    /// Reads the artefact and the holdout, and judges.
    async fn prepare(&self, received: &Received) -> Result<Option<Judged>, HandleError> {
        let Event::ModelTrained(trained) = &received.event else {
            return Err(HandleError::permanent(format!(
                "{} is not for {}",
                received.attributes.kind, self.service
            )));
        };
        let model = &received.attributes.model;
        let definition = self
            .models
            .get(model)
            .ok_or_else(|| HandleError::unknown_model(model))?;
        let timer = TaskTimer::start(
            DAG_TRAINING,
            "validate",
            trained.as_of,
            trained.decision_id.to_string(),
        );
        let validated = self.validate(definition, trained).await?;
        let end = match validated.verdict {
            ValidationVerdict::Passed => TaskEnd::Success,
            ValidationVerdict::Failed => TaskEnd::Failed(validated.failures.join("; ")),
        };
        let task = timer.stop(end, validated.rows, 0);
        Ok(Some(Judged { validated, task }))
    }

    async fn handle(
        &self,
        tx: &mut Tx,
        received: &Received,
        judged: &Option<Judged>,
    ) -> Result<(), HandleError> {
        let Some(Judged { validated, task }) = judged else {
            return Err(HandleError::permanent("it was not judged"));
        };
        let model = &received.attributes.model;
        if !store::insert(tx, model, validated).await? {
            tracing::warn!(
                "version {} was validated before; this report is dropped",
                validated.version
            );
            return Ok(());
        }
        tasks::record(&mut **tx, vec![task.clone()]).await?;
        let verdict = if validated.verdict == ValidationVerdict::Passed {
            "passed"
        } else {
            "failed"
        };
        tracing::info!(model.name = %model, "candidate {} {verdict} validation", validated.version);
        let labels = ValidationLabels {
            model: model.to_string(),
            verdict: verdict.to_owned(),
        };
        outbox::append(
            tx,
            self.service,
            Draft::new(model, Cause::event(received), validated.clone()),
        )
        .await?;
        self.metrics.validations.get_or_create(&labels).inc();
        Ok(())
    }

    /// A candidate that nobody will judge has failed: the trainer retires it and the decider's trigger ends.
    async fn given_up(&self, tx: &mut Tx, received: &Received, reason: &str) -> anyhow::Result<()> {
        let Event::ModelTrained(trained) = &received.event else {
            return Ok(());
        };
        let model = &received.attributes.model;
        let judgement = Judgement {
            verdict: ValidationVerdict::Failed,
            failures: vec![format!("could not be judged: {reason}")],
            gates: Vec::new(),
        };
        let failed = report(trained, judgement, None);
        // Said and not recorded: an event about a model that is unknown here must not take the place of a validation.
        let mut draft = Draft::new(model, Cause::event(received), failed);
        // A person may have the event offered again, and what then comes of it is another event.
        "given up".clone_into(&mut draft.discriminator);
        outbox::append(tx, self.service, draft).await?;
        Ok(())
    }
}

impl Judge {
    /// Judges; whatever a wait may cure is an error, everything else is a verdict with its reason.
    async fn validate(
        &self,
        definition: &ModelDefinition,
        trained: &ModelTrained,
    ) -> Result<ModelValidated, HandleError> {
        let spans = Spans {
            training: trained.training_window,
            threshold: trained.threshold_window,
            holdout: trained.holdout_window,
            as_of: trained.as_of,
        };
        match self.measure(definition, trained, &spans).await {
            Ok(measurement) => {
                let judgement = judge::judge(
                    &self.config.gates,
                    &spans,
                    &measurement.measured,
                    &trained.reported,
                );
                Ok(report(trained, judgement, Some(measurement)))
            }
            Err(Obstacle::Wait(error)) => Err(HandleError::Transient(error)),
            Err(Obstacle::Final(mut failures)) => {
                failures.extend(judge::leakage(&spans));
                let judgement = Judgement {
                    verdict: ValidationVerdict::Failed,
                    failures,
                    gates: Vec::new(),
                };
                Ok(report(trained, judgement, None))
            }
        }
    }

    async fn measure(
        &self,
        definition: &ModelDefinition,
        trained: &ModelTrained,
        spans: &Spans,
    ) -> Result<Measurement, Obstacle> {
        let candidate = self.artifacts.load(&trained.artifact).await?;
        let announced = Identity {
            model: definition.model.clone(),
            training: trained.training_window,
            operating_threshold: trained.operating_threshold.get(),
        };
        let artefact = candidate.artifact();
        let own = Identity {
            model: artefact.model.clone(),
            training: artefact.training_window,
            operating_threshold: artefact.operating_threshold,
        };
        let mismatch = judge::mismatch(&announced, spans, &own);
        if !mismatch.is_empty() {
            return Err(Obstacle::Final(mismatch));
        }
        let names: Vec<String> = artefact
            .features
            .iter()
            .map(|feature| feature.name.clone())
            .collect();
        let source = TransactionSource::open(definition, &self.readers, self.config.sources).await?;
        let request = Request {
            features: FeatureChoice::Named(names.clone()),
            scores: false,
            ..Request::all(trained.holdout_window, trained.as_of)
        };
        let batch = source.read(&request).await?;
        let (threshold, confidence) = (trained.operating_threshold.get(), self.config.confidence);
        let measured = tokio::task::spawn_blocking(move || {
            let (scores, frauds) =
                measure::score(&candidate, &batch, &names).map_err(|error| error.to_string())?;
            measure::measure(&scores, &frauds, threshold, confidence).map_err(|error| error.to_string())
        })
        .await
        .context("scoring panicked")
        .map_err(Obstacle::Wait)?;
        measured.map_err(|reason| Obstacle::judgeless(&reason))
    }
}

/// Why nothing could be measured.
enum Obstacle {
    /// Waiting may help.
    Wait(anyhow::Error),
    /// It cannot; one sentence each.
    Final(Vec<String>),
}

impl Obstacle {
    fn judgeless(reason: &impl std::fmt::Display) -> Self {
        Self::Final(vec![format!("could not be judged: {reason}")])
    }
}

impl From<ArtifactError> for Obstacle {
    fn from(error: ArtifactError) -> Self {
        match error {
            ArtifactError::Unreachable { .. } => Self::Wait(error.into()),
            ArtifactError::Missing { .. } | ArtifactError::Refused(_) => Self::judgeless(&error),
        }
    }
}

impl From<SourceError> for Obstacle {
    fn from(error: SourceError) -> Self {
        if error.is_transient() {
            Self::Wait(error.into())
        } else {
            Self::judgeless(&error)
        }
    }
}

fn report(trained: &ModelTrained, judgement: Judgement, measurement: Option<Measurement>) -> ModelValidated {
    let nothing = Confusion {
        true_positives: 0,
        false_positives: 0,
        false_negatives: 0,
        true_negatives: 0,
    };
    let (rows, frauds, confusion, metrics, score_counts) =
        measurement.map_or((0, 0, nothing, Vec::new(), None), |measurement| {
            (
                measurement.measured.rows,
                measurement.measured.frauds,
                measurement.confusion,
                measurement.metrics,
                Some(measurement.score_counts),
            )
        });
    ModelValidated {
        version: trained.version.clone(),
        decision_id: trained.decision_id,
        as_of: trained.as_of,
        verdict: judgement.verdict,
        failures: judgement.failures,
        artifact: trained.artifact.clone(),
        training_window: trained.training_window,
        holdout_window: trained.holdout_window,
        rows,
        frauds,
        operating_threshold: trained.operating_threshold,
        confusion,
        metrics,
        gates: judgement.gates,
        score_counts,
    }
}
