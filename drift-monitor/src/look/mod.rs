//! Looks at a model as of an instant: champion, reference, windows, metrics. What cannot be looked at is a finding.

mod after;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chassis::Tx;
use chassis::db::while_reading;
use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::Unusable;
use drift_stats::outcome::Outcome;
use drift_stats::profile::Profile;
use schemas::events::DriftKind;
use schemas::{ModelName, ModelVersion, Window};
use sqlx::PgPool;
use transactions::{ModelDefinition, Readers, SourceError, TransactionSource};

use crate::config::{Config, ReferenceKind};
use crate::explain;
use crate::measure::{self, Findings, Realised, Volume};
use crate::reference::{self, Reference};
use crate::segments::SegmentShift;
use crate::store::{self, Champion, Span};
use crate::window::{
    self, Counted, hour_of, hours, is_recounted, next_hour, same_hours_of_week, sum_outcomes, sum_profiles,
    to_keep,
};

/// What a look found.
#[derive(Debug)]
pub struct Looked {
    /// The champion that was compared with; none before the first promotion.
    pub champion: Option<Champion>,
    /// The rows that data drift was compared with, or would have been.
    pub reference_window: Option<Window>,
    /// Rows in the window of data drift.
    pub rows: u64,
    /// Rows in it whose label is known.
    pub labelled: u64,
    /// What data drift stands on, to explain it.
    pub counts: Option<explain::Counts>,
    /// In which segments features moved, by feature; once that was looked for.
    pub segments: BTreeMap<String, Vec<SegmentShift>>,
    /// The rows that data drift was compared with, where the reference is not kept by segment.
    compared: Vec<Window>,
    /// Metrics, and what could not be measured.
    pub findings: Findings,
    /// Why nothing could be looked at, if so.
    pub blind: Option<String>,
}

impl Looked {
    fn blind(champion: Option<Champion>, reason: &str, detail: &str) -> Self {
        let findings = Findings::blind(reason, detail);
        Self {
            reference_window: champion.as_ref().map(|champion| champion.training_window),
            champion,
            rows: 0,
            labelled: 0,
            counts: None,
            segments: BTreeMap::new(),
            compared: Vec::new(),
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
    readers: Readers,
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
            Ok(counts) => {
                let findings = self.measure(definition, &champion, as_of, &counts);
                Ok(Looked {
                    reference_window: Some(counts.reference_window),
                    rows: counts.data.window.rows(),
                    labelled: counts.labelled,
                    counts: Some(counts.data),
                    segments: BTreeMap::new(),
                    compared: counts.compared,
                    champion: Some(champion),
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

    /// Counts become metrics.
    fn measure(
        &self,
        definition: &ModelDefinition,
        champion: &Champion,
        as_of: DateTime<Utc>,
        counts: &Counts,
    ) -> Findings {
        let limits = &self.config.limits;
        let (reference, window) = (&counts.data.reference, &counts.data.window);
        let mut findings = Findings::default();
        if reference.profile.rows() < limits.rows_min {
            // Nothing but a rolling reference can be so short.
            let detail = format!(
                "{} rows in {}, {} are needed to compare with",
                reference.profile.rows(),
                counts.reference_window,
                limits.rows_min
            );
            findings.miss(DriftKind::Data, "reference_too_small", detail, true);
        } else {
            measure::data(limits, reference, window, &mut findings);
            measure::broken(limits, reference, window, &mut findings);
            let volume = Volume {
                reference: reference.profile.rows(),
                reference_span: counts.reference_span,
                window: window.rows(),
                window_span: as_of - counts.start,
            };
            measure::volume(limits, self.config.volume_min, volume, &mut findings);
        }
        let weights = definition
            .features
            .iter()
            .map(|feature| (feature.column.clone(), feature.weight));
        measure::weigh(&weights.collect(), &mut findings);
        measure::target(limits, &counts.base, &counts.target, &mut findings);
        let realised = Realised {
            as_of,
            label_delay: label_delay(definition),
            has_scores: definition.score.is_some(),
            latest: &counts.latest,
            rows: counts.concept.as_ref().map(|(span, outcome)| (*span, outcome)),
        };
        measure::concept(limits, champion, &realised, &mut findings);
        findings
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
    ) -> Result<Counts, Obstacle> {
        let source = while_reading(tx, self.reading_max(), self.open(definition)).await??;
        let base = self.reference(tx, definition, champion, &source).await?;
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
        let profiles_start = match self.config.reference.span() {
            Some(before) => window.start() - before,
            None => window.start(),
        };
        let touched = hours(profiles_start, as_of);
        let mut stored = store::profiles(tx, span(profiles_start, under_way)).await?;
        stored.retain(|hour, _| !is_recounted(*hour, settled));
        let counting = window::count_profiles(&source, &base, &touched, &stored, as_of);
        let fresh = while_reading(tx, self.reading_max(), counting).await??;
        let kept = to_keep(&fresh, settled);
        store::keep_profiles(tx, &definition.model, &champion.version, &kept).await?;
        let mut profiles = stored;
        profiles.extend(fresh);
        let misfits = |error| reference::corrupt(&source, &format!("stored hours do not fit: {error}"));
        let inside = profiles.range(window.start()..).map(|(_, part)| part);
        let profile = sum_profiles(&base.bins, inside).map_err(misfits)?;
        let compared = self
            .compared_with(&base, champion, &profiles, window)
            .map_err(misfits)?;

        // Labels of rows before this instant can be expected; later ones are young, not missing.
        let ripe = hour_of(as_of - label_delay(definition));
        let target_start = ripe - self.config.windows.target;
        // Rows before it came into force were scored by someone else.
        let concept_start = (ripe - self.config.windows.concept).max(next_hour(champion.promoted_as_of));
        let start = target_start.min(concept_start).min(window.start());
        let threshold = champion.operating_threshold;
        let mut stored = store::outcomes(tx, span(start, under_way), as_of).await?;
        // Once more when all rows have come, and when labels are expected; and what an older program counted in other cells.
        stored.retain(|hour, stored| {
            let again = is_recounted(*hour, settled) || is_recounted(*hour, ripe);
            !again && stored.outcome.fits(threshold)
        });
        let finals: BTreeSet<DateTime<Utc>> = stored
            .iter()
            .filter(|(_, stored)| stored.is_final)
            .map(|(hour, _)| *hour)
            .collect();
        let touched = hours(start, as_of);
        let counting = window::count_outcomes(&source, threshold, &touched, stored, as_of);
        let outcomes = while_reading(tx, self.reading_max(), counting).await??;
        let mut kept = to_keep(&outcomes, settled);
        kept.retain(|(hour, _)| !finals.contains(hour));
        store::keep_outcomes(tx, &definition.model, &champion.version, as_of, &kept).await?;
        let sum = |from, to| {
            sum_outcomes(threshold, &outcomes, from, to)
                .map_err(|error| reference::corrupt(&source, &format!("stored outcomes do not fit: {error}")))
        };
        let concept = match Window::new(concept_start, ripe) {
            Ok(span) => Some((span, sum(concept_start, ripe)?)),
            Err(_) => None,
        };
        let counts = Counts {
            data: explain::Counts {
                reference: compared.reference,
                window: profile,
                hours: profiles,
            },
            base,
            compared: compared.spans,
            reference_window: compared.window,
            reference_span: compared.span,
            start: window.start(),
            latest: sum(window.start().max(next_hour(champion.promoted_as_of)), as_of)?,
            target: sum(target_start, ripe)?,
            labelled: sum(window.start(), as_of)?.labelled(),
            concept,
        };
        // A margin, so that a check of a recent instant still finds its hours.
        let needed = start.min(profiles_start);
        store::forget_hours(tx, &definition.model, needed - TimeDelta::days(2)).await?;
        Ok(counts)
    }

    /// What a window is compared with, of the hours that were counted.
    fn compared_with(
        &self,
        base: &Arc<Reference>,
        champion: &Champion,
        profiles: &Counted<Profile>,
        window: Window,
    ) -> Result<Compared, Unusable> {
        let before = || profiles.range(..window.start());
        let (profile, hours, span) = match self.config.reference {
            ReferenceKind::ChampionTraining | ReferenceKind::Fixed(_) => {
                let window = base.window.unwrap_or(champion.training_window);
                return Ok(Compared {
                    reference: Arc::clone(base),
                    window,
                    spans: Vec::new(),
                    span: window.end() - window.start(),
                });
            }
            ReferenceKind::Rolling(span) => {
                let profile = sum_profiles(&base.bins, before().map(|(_, part)| part))?;
                (profile, before().map(|(hour, _)| *hour).collect(), span)
            }
            ReferenceKind::SameHourOfWeek(weeks) => {
                let touched = hours(window.start(), window.end());
                let alike: BTreeSet<_> = same_hours_of_week(&touched, weeks).into_iter().collect();
                let parts = alike.iter().filter_map(|hour| profiles.get(hour));
                let profile = sum_profiles(&base.bins, parts)?;
                let span = TimeDelta::hours(alike.len() as i64);
                (profile, alike, span)
            }
        };
        let first = before().next().map_or(window.start(), |(hour, _)| *hour);
        Ok(Compared {
            reference: Arc::new(Reference {
                profile,
                ..Reference::clone(base)
            }),
            window: Window::new(first, window.start()).unwrap_or(champion.training_window),
            spans: window::spans_of(&hours, window.start()),
            span,
        })
    }

    /// The champion's reference; built when it could not be built before, or when the watched features of the
    /// settings, or the fixed window, are no longer those of the reference.
    async fn reference(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &Champion,
        source: &TransactionSource,
    ) -> Result<Arc<Reference>, Obstacle> {
        let watched: Vec<&str> = source.monitored().map(|feature| feature.name.as_str()).collect();
        let window = match self.config.reference {
            ReferenceKind::Fixed(window) => window,
            _ => champion.training_window,
        };
        let fits = |reference: &Reference| {
            let of = reference.window.unwrap_or(champion.training_window);
            reference.features == watched && of == window
        };
        if let Some(reference) = self.remembered(&definition.model, &champion.version)
            && fits(&reference)
        {
            return Ok(reference);
        }
        let stored = store::reference(tx, &definition.model, &champion.version).await?;
        let Some(reference) = stored.filter(fits) else {
            let building = reference::build(source, window, champion.promoted_as_of, &self.config);
            // It reads twice; where rows are counted in place, it asks five times.
            let readings = if source.in_place().is_some() { 5 } else { 2 };
            let built = while_reading(tx, self.reading_max() * readings, building).await??;
            let rows = built.profile.rows();
            if rows < self.config.limits.rows_min {
                return Err(Obstacle::Reference(format!(
                    "the reference of {}, {window}, has {rows} rows, {} are needed to compare with",
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

/// What a window is compared with.
struct Compared {
    reference: Arc<Reference>,
    /// From the first to the last of its rows.
    window: Window,
    /// Where its rows are; nothing where the reference itself knows them by segment.
    spans: Vec<Window>,
    /// How long its hours are together.
    span: TimeDelta,
}

/// The windows as counts.
struct Counts {
    /// Of data drift.
    data: explain::Counts,
    /// The reference of the fraud rate.
    base: Arc<Reference>,
    /// Where the rows that data drift is compared with are, unless they are the reference's own.
    compared: Vec<Window>,
    /// From the first to the last of them.
    reference_window: Window,
    /// How long these are together.
    reference_span: TimeDelta,
    /// Where the window of data drift begins.
    start: DateTime<Utc>,
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
