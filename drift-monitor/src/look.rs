//! Looks at a model as of an instant: champion, reference, windows, metrics. What cannot be looked at is a finding.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::Tx;
use chassis::db::while_reading;
use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::profile::{Outcome, Profile};
use schemas::{ModelName, ModelVersion, Window};
use sqlx::PgPool;
use transactions::{ModelDefinition, SourceError, TransactionSource};

use crate::config::Config;
use crate::measure::{self, Findings, Realised};
use crate::reference::{self, Reference};
use crate::store::{self, Champion, Span};
use crate::window::{self, hour_of, hours, next_hour, sum_outcomes, to_keep};

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    /// The champion that was compared with; none before the first promotion.
    pub champion: Option<Champion>,
    /// Rows in the window of data drift.
    pub rows: u64,
    /// Rows in it whose label is known.
    pub labelled: u64,
    /// Metrics, and what could not be measured.
    pub findings: Findings,
    /// Why nothing could be looked at, if so.
    pub blind: Option<String>,
}

impl Looked {
    fn blind(champion: Option<Champion>, reason: &str, detail: &str) -> Self {
        let findings = Findings::blind(reason, detail);
        Self {
            champion,
            rows: 0,
            labelled: 0,
            findings,
            blind: Some(format!("{reason}: {detail}")),
        }
    }
}

/// Why a look ended early.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    /// The source cannot be looked at: a finding.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The reference has too few rows to be compared with: a finding.
    #[error("{0}")]
    Reference(String),
    /// Our own memory fails: the check is tried again.
    #[error(transparent)]
    Ours(#[from] anyhow::Error),
}

impl From<sqlx::Error> for Obstacle {
    fn from(error: sqlx::Error) -> Self {
        Self::Ours(error.into())
    }
}

/// Looks at models.
#[derive(Debug)]
pub struct Watch {
    config: Config,
    readers: PgPool,
    /// References that were used lately; they are large and change only with the champion.
    references: Mutex<BTreeMap<ModelName, (ModelVersion, Arc<Reference>)>>,
}

impl Watch {
    /// A watch that reads from the database of `pool`, or wherever the settings say.
    ///
    /// # Errors
    /// When the address of the source cannot be used.
    pub fn new(config: Config, pool: &PgPool) -> anyhow::Result<Self> {
        let readers = config.access.readers(pool)?;
        Ok(Self {
            config,
            readers,
            references: Mutex::default(),
        })
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Longest single reading of a source.
    pub fn reading_max(&self) -> Duration {
        self.config.sources.reading_max()
    }

    /// Opens a model's source against its catalogue.
    pub async fn open(&self, definition: &ModelDefinition) -> Result<TransactionSource, SourceError> {
        TransactionSource::open(definition, &self.readers, self.config.sources).await
    }

    /// The window of data drift: the full hours of its span, and the hour under way.
    pub fn data_window(&self, as_of: DateTime<Utc>) -> anyhow::Result<Window> {
        Ok(Window::new(hour_of(as_of) - self.config.windows.data, as_of)?)
    }

    /// Looks as of an instant. Hours are kept only when they had ended by `now` as well.
    pub async fn look(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        as_of: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> anyhow::Result<Looked> {
        let Some(champion) = store::champion(tx, &definition.model, as_of).await? else {
            let detail = format!("model `{}` has no champion to compare with yet", definition.model);
            return Ok(Looked::blind(None, "no_champion", &detail));
        };
        match self.count(tx, definition, &champion, as_of, now).await {
            Ok((reference, counts)) => {
                let limits = &self.config.limits;
                let mut findings = Findings::default();
                measure::data(limits, &reference, &counts.profile, &mut findings);
                measure::target(limits, &reference, &counts.target, &mut findings);
                let realised = Realised {
                    as_of,
                    label_delay: label_delay(definition),
                    has_scores: definition.score.is_some(),
                    latest_rows: counts.latest.rows(),
                    latest_scored: counts.latest.scored(),
                    rows: counts.concept.as_ref().map(|(span, outcome)| (*span, outcome)),
                };
                measure::concept(limits, &champion, &realised, &mut findings);
                let (rows, labelled) = (counts.profile.rows(), counts.labelled);
                Ok(Looked {
                    champion: Some(champion),
                    rows,
                    labelled,
                    findings,
                    blind: None,
                })
            }
            Err(Obstacle::Source(error)) => {
                Ok(Looked::blind(Some(champion), error.word(), &error.to_string()))
            }
            Err(Obstacle::Reference(detail)) => {
                Ok(Looked::blind(Some(champion), "reference_too_small", &detail))
            }
            Err(Obstacle::Ours(error)) => Err(error),
        }
    }

    /// Makes the reference of a new champion.
    pub async fn build_reference(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &Champion,
    ) -> anyhow::Result<Result<(), SourceError>> {
        let opened = while_reading(tx, self.reading_max(), self.open(definition)).await?;
        let built = match opened {
            Ok(source) => self.reference(tx, definition, champion, &source).await,
            Err(error) => return Ok(Err(error)),
        };
        match built {
            Ok(_) => Ok(Ok(())),
            Err(Obstacle::Source(error)) => Ok(Err(error)),
            Err(Obstacle::Reference(detail)) => {
                tracing::error!(model.name = %definition.model, "model `{}`: {detail}", definition.model);
                Ok(Ok(()))
            }
            Err(Obstacle::Ours(error)) => Err(error),
        }
    }

    async fn count(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &Champion,
        as_of: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<(Arc<Reference>, Counts), Obstacle> {
        let source = while_reading(tx, self.reading_max(), self.open(definition)).await??;
        let reference = self.reference(tx, definition, champion, &source).await?;
        let span = |start, end| Span {
            model: &definition.model,
            version: &champion.version,
            start,
            end,
        };
        let settled = as_of.min(now) - self.config.windows.lateness;
        let window = self.data_window(as_of)?;

        // The hour under way is counted as far as it has come, even when a later check has stored the whole of it.
        let under_way = hour_of(as_of);
        let touched = hours(window.start(), as_of);
        let stored = store::profiles(tx, span(window.start(), under_way)).await?;
        let counting = window::count_profiles(&source, &reference, &touched, &stored, as_of);
        let fresh = while_reading(tx, self.reading_max(), counting).await??;
        let kept = to_keep(&fresh, settled, |_| true);
        store::keep_profiles(tx, &definition.model, &champion.version, &kept).await?;
        let mut profile = Profile::empty(&reference.bins);
        for part in stored.values().chain(fresh.values()) {
            profile
                .merge(part)
                .map_err(|error| reference::corrupt(&source, &format!("stored hours do not fit: {error}")))?;
        }

        // Labels of rows before this instant can be expected; later ones are young, not missing.
        let ripe = hour_of(as_of - label_delay(definition));
        let target_start = ripe - self.config.windows.target;
        // Rows before it came into force were scored by someone else.
        let concept_start = (ripe - self.config.windows.concept).max(next_hour(champion.promoted_as_of));
        let start = target_start.min(concept_start).min(window.start());
        let threshold = champion.operating_threshold;
        let stored = store::outcomes(tx, span(start, under_way), as_of).await?;
        let touched = hours(start, as_of);
        let counting = window::count_outcomes(&source, threshold, &touched, &stored, as_of);
        let fresh = while_reading(tx, self.reading_max(), counting).await??;
        let kept = to_keep(&fresh, settled, |outcome| outcome.labelled() == outcome.rows());
        store::keep_outcomes(tx, &definition.model, &champion.version, as_of, &kept).await?;
        let sum = |from, to| {
            sum_outcomes(threshold, &[&stored, &fresh], from, to)
                .map_err(|error| reference::corrupt(&source, &format!("stored outcomes do not fit: {error}")))
        };
        let concept = match Window::new(concept_start, ripe) {
            Ok(span) => Some((span, sum(concept_start, ripe)?)),
            Err(_) => None,
        };
        let counts = Counts {
            profile,
            latest: sum(window.start().max(next_hour(champion.promoted_as_of)), as_of)?,
            target: sum(target_start, ripe)?,
            labelled: sum(window.start(), as_of)?.labelled(),
            concept,
        };
        // A margin, so that a check of a recent instant still finds its hours.
        store::forget_hours(tx, &definition.model, start - TimeDelta::days(2)).await?;
        Ok((reference, counts))
    }

    /// The champion's reference; built when it could not be built before, or when the watched features of the
    /// settings are no longer those of the reference.
    async fn reference(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &Champion,
        source: &TransactionSource,
    ) -> Result<Arc<Reference>, Obstacle> {
        let watched: Vec<&str> = source.monitored().map(|feature| feature.name.as_str()).collect();
        if let Some(reference) = self.remembered(&definition.model, &champion.version)
            && reference.features == watched
        {
            return Ok(reference);
        }
        let stored = store::reference(tx, &definition.model, &champion.version).await?;
        let Some(reference) = stored.filter(|reference| reference.features == watched) else {
            let window = champion.training_window;
            let building = reference::build(source, window, champion.promoted_as_of, &self.config);
            // It reads twice.
            let built = while_reading(tx, self.reading_max() * 2, building).await??;
            let rows = built.profile.rows();
            if rows < self.config.limits.rows_min {
                return Err(Obstacle::Reference(format!(
                    "the training window {window} of {} has {rows} rows, {} are needed to compare with",
                    champion.version, self.config.limits.rows_min
                )));
            }
            store::save_reference(tx, &definition.model, &champion.version, &built).await?;
            // Remembered by the next check only, in case this transaction is rolled back.
            return Ok(Arc::new(built));
        };
        let reference = Arc::new(reference);
        let mut references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        references.insert(
            definition.model.clone(),
            (champion.version.clone(), Arc::clone(&reference)),
        );
        Ok(reference)
    }

    fn remembered(&self, model: &ModelName, version: &ModelVersion) -> Option<Arc<Reference>> {
        let references = self.references.lock().unwrap_or_else(PoisonError::into_inner);
        references
            .get(model)
            .filter(|(of, _)| of == version)
            .map(|(_, reference)| Arc::clone(reference))
    }
}

/// The windows as counts.
struct Counts {
    profile: Profile,
    /// Rows in the window of data drift that the champion scored.
    latest: Outcome,
    target: Outcome,
    /// Rows in the window of data drift whose label is known.
    labelled: u64,
    concept: Option<(Window, Outcome)>,
}

fn label_delay(definition: &ModelDefinition) -> TimeDelta {
    // Bounded by the settings at a year.
    TimeDelta::from_std(definition.label_delay).unwrap_or(TimeDelta::zero())
}
