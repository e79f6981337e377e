//! The shell: champion, windows, metrics, verdict, one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use chassis::outbox::{self, Draft};
use chassis::slots::{self, Job};
use chassis::tasks::{DAG_DRIFT, TaskEnd, TaskTimer};
use chassis::{Cause, Context, HandleError, Handler, Tasks, Tx};
use chrono::{DateTime, TimeDelta, Utc};
use drift_stats::profile::{Outcome, Profile};
use schemas::events::{DriftChecked, DriftDetected, DriftKind, FeatureDrift, ModelPromoted, Verdict};
use schemas::{CheckId, Event, Finite, ModelName, Received, Window};
use sqlx::PgPool;
use tracing::Instrument as _;
use transactions::{ModelDefinition, SourceError, TransactionSource};

use crate::config::Config;
use crate::judge::{Judgement, judge, metric_severity, run_of};
use crate::measure::{self, Findings, Ripeness};
use crate::metrics::{CheckLabels, DriftLabels, MonitorMetrics};
use crate::reference::{self, Reference};
use crate::store::{self, Champion, Hours};
use crate::window::{self, Counted, hour_of, hours};

/// Checks every model's source, and spawns the consumer and the slots of every model.
pub async fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
    let monitor = Arc::new(Monitor {
        service: context.service,
        pool: context.pool.clone(),
        models: config.models.iter().map(|model| (model.model.clone(), model.clone())).collect(),
        metrics: MonitorMetrics::register(&context.metrics),
        config,
    });
    for definition in &monitor.config.models {
        // A source that does not fit is said at once and in full; checks go on and say `unknown`, which alerts.
        if let Err(error) = monitor.open(definition).await {
            tracing::error!(model.name = %definition.model, "model `{}`: {error}", definition.model);
        }
    }
    tasks.spawn("consume", chassis::consume::run(context.clone(), crate::SUBSCRIPTION, Arc::clone(&monitor)));
    for definition in monitor.config.models.clone() {
        let job = Job {
            name: format!("drift-check/{}", definition.model),
            schedule: monitor.config.schedule.clone(),
            catch_up: monitor.config.catch_up,
        };
        let monitor = Arc::clone(&monitor);
        tasks.spawn(
            "hourly",
            slots::run(context.clone(), job, move |mut tx, slot| {
                let monitor = Arc::clone(&monitor);
                let definition = definition.clone();
                // Every loop begins here: this span is the root of its trace.
                let span = tracing::info_span!("drift check", model.name = %definition.model, as_of = %slot);
                async move {
                    let key = format!("drift-monitor/hourly/{}/{}", definition.model, slot.to_rfc3339());
                    monitor.check(&mut tx, &definition, slot, Cause::Key(key)).await?;
                    Ok(tx)
                }
                .instrument(span)
            }),
        );
    }
    Ok(())
}

struct Monitor {
    service: &'static str,
    pool: PgPool,
    models: BTreeMap<ModelName, ModelDefinition>,
    metrics: MonitorMetrics,
    config: Config,
}

impl Handler for Monitor {
    async fn handle(&self, tx: &mut Tx, received: &Received) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        let definition = self.models.get(model).ok_or_else(|| HandleError::unknown_model(model))?;
        match &received.event {
            Event::DriftCheckRequested(asked) => {
                Ok(self.check(tx, definition, asked.as_of, Cause::event(received)).await?)
            }
            Event::ModelPromoted(promoted) => self.promoted(tx, definition, promoted).await,
            _ => Err(HandleError::permanent(format!("{} is not for {}", received.attributes.kind, self.service))),
        }
    }
}

/// What a check looked at.
struct Looked {
    champion: Champion,
    rows: u64,
    labelled: u64,
    findings: Findings,
}

impl Monitor {
    async fn open(&self, definition: &ModelDefinition) -> Result<TransactionSource, SourceError> {
        TransactionSource::open(definition, &self.pool, self.config.sources).await
    }

    /// A new champion: its training window becomes the reference. A source that is away is waited for.
    async fn promoted(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        promoted: &ModelPromoted,
    ) -> Result<(), HandleError> {
        store::insert_champion(tx, &definition.model, promoted).await?;
        let built = async {
            let source = self.open(definition).await?;
            reference::build(&source, promoted.training_window, promoted.as_of, &self.config).await
        }
        .await;
        match built {
            Ok(reference) => store::save_reference(tx, &definition.model, &promoted.version, &reference).await?,
            Err(error) if error.is_transient() => return Err(HandleError::Transient(error.into())),
            // Checks try again and say `unknown` until it can be built.
            Err(error) => tracing::error!(model.name = %definition.model, "no reference for {}: {error}", promoted.version),
        }
        Ok(())
    }

    /// Checks a model as of an instant, and records and announces what was found. A check that was made
    /// before is announced again, not made again.
    async fn check(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        as_of: DateTime<Utc>,
        cause: Cause,
    ) -> anyhow::Result<()> {
        let model = &definition.model;
        let check_id = CheckId::of_key(&format!("check/{model}/{}", as_of.to_rfc3339()));
        store::lock(tx, model).await?;
        if let Some(report) = store::report(tx, check_id).await? {
            outbox::append(tx, self.service, Draft::new(model, cause, report)).await?;
            return Ok(());
        }
        let begun = Instant::now();
        let timer = TaskTimer::start(DAG_DRIFT, "run_drift_monitoring", as_of, check_id.to_string());
        let window = self.data_window(as_of)?;
        let champion = store::champion(tx, model, as_of).await?;
        let looked = match champion {
            Some(champion) => Some(self.look(tx, definition, champion, window, as_of).await?),
            None => None,
        };
        let rows = looked.as_ref().map_or(0, |looked| looked.rows);
        timer.finish(&mut **tx, &TaskEnd::Success, rows, 0).await?;

        let parse = TaskTimer::start(DAG_DRIFT, "parse_drift_results", as_of, check_id.to_string());
        let findings = match &looked {
            Some(looked) => &looked.findings,
            None => &no_champion(model),
        };
        let judgement = judge(&self.config.limits, &findings.measured, &findings.not_measured);
        let previous = store::previous(tx, model, as_of).await?;
        let champion = looked.as_ref().map(|looked| &looked.champion);
        let checked = DriftChecked {
            check_id,
            as_of,
            champion: champion.map(|champion| champion.version.clone()),
            reference_window: champion.map(|champion| champion.training_window),
            window,
            rows,
            labelled_rows: looked.as_ref().map_or(0, |looked| looked.labelled),
            verdict: judgement.verdict,
            previous_verdict: previous.as_ref().map(|previous| previous.verdict),
            drifted: judgement.drifted.clone(),
            not_measured: findings.not_measured.clone(),
            metrics: judgement.metrics.clone(),
        };
        parse.finish(&mut **tx, &TaskEnd::Success, checked.metrics.len() as u64, findings.not_measured.len() as u64).await?;

        let save = TaskTimer::start(DAG_DRIFT, "save_drift_metrics", as_of, check_id.to_string());
        let run = (judgement.verdict == Verdict::Drifted)
            .then(|| champion.map(|champion| run_of(previous.as_ref(), champion.version.as_str(), as_of)))
            .flatten();
        let word_of = |metric: &_| metric_severity(&self.config.limits, metric);
        store::insert_check(tx, model, &checked, judgement.severity, run, word_of).await?;
        save.finish(&mut **tx, &TaskEnd::Success, checked.metrics.len() as u64, 0).await?;

        let next = TaskTimer::start(DAG_DRIFT, "decide_next_step", as_of, check_id.to_string());
        self.announce(tx, model, cause, checked, &judgement, looked.as_ref(), run).await?;
        next.finish(&mut **tx, &TaskEnd::Success, 1, 0).await?;
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    fn data_window(&self, as_of: DateTime<Utc>) -> anyhow::Result<Window> {
        let start = hour_of(as_of) - self.config.windows.data;
        Ok(Window::new(start, as_of.max(start + TimeDelta::microseconds(1)))?)
    }

    /// Looks; a source that cannot be looked at is a finding, not an error.
    async fn look(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: Champion,
        window: Window,
        as_of: DateTime<Utc>,
    ) -> anyhow::Result<Looked> {
        let mut looked = Looked { champion, rows: 0, labelled: 0, findings: Findings::default() };
        match self.count(tx, definition, &mut looked.champion, window, as_of).await? {
            Ok((reference, counts)) => {
                looked.rows = counts.profile.rows();
                looked.labelled = counts.target.labelled();
                let limits = &self.config.limits;
                measure::data(limits, &reference, &counts.profile, &mut looked.findings);
                measure::target(limits, &reference, &counts.target, &mut looked.findings);
                let ripeness = Ripeness {
                    as_of,
                    label_delay: label_delay(definition),
                    window: self.config.windows.concept,
                };
                let concept = counts.concept.as_ref().map(|(span, outcome)| (*span, outcome));
                measure::concept(limits, &looked.champion, concept, ripeness, &mut looked.findings);
            }
            Err(error) => {
                for kind in [DriftKind::Data, DriftKind::Target, DriftKind::Concept] {
                    looked.findings.miss(kind, error.word(), error.to_string(), true);
                }
            }
        }
        Ok(looked)
    }

    /// Counts the windows; the inner error is the source's, the outer one our own database's.
    async fn count(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &mut Champion,
        window: Window,
        as_of: DateTime<Utc>,
    ) -> anyhow::Result<Result<(Reference, Counts), SourceError>> {
        let source = match self.open(definition).await {
            Ok(source) => source,
            Err(error) => {
                // Sources in our own database go down with it: then there is nobody to record a verdict.
                anyhow::ensure!(store::answers(&self.pool).await, "PostgreSQL does not answer");
                return Ok(Err(error));
            }
        };
        let reference = match self.reference(tx, definition, champion, &source).await? {
            Ok(reference) => reference,
            Err(error) => return Ok(Err(error)),
        };
        let (model, version) = (&definition.model, &champion.version);

        let span = hours(window.start(), window.end());
        let stored = store::profiles(tx, model, version, window.start(), window.end()).await?;
        let fresh = match window::count_profiles(&source, &reference, &span, &stored, window.end()).await {
            Ok(fresh) => fresh,
            Err(error) => return Ok(Err(error)),
        };
        let settled = as_of - self.config.windows.lateness;
        store::keep_hours(tx, Hours::Profiles, model, version, &complete(&fresh, settled)).await?;
        let mut profile = Profile::empty(&reference.bins);
        for part in stored.values().chain(fresh.values()) {
            if let Err(error) = profile.merge(part) {
                return Ok(Err(reference::corrupt(&source, format!("stored hours do not fit the reference: {}", error.word()))));
            }
        }

        // Labels of these hours have ripened: what is not known now is late, not young.
        let ripe_until = hour_of(as_of - label_delay(definition));
        let target_start = ripe_until - self.config.windows.target;
        let concept_start =
            (ripe_until - self.config.windows.concept).max(ceil_hour(champion.promoted_as_of));
        let start = target_start.min(concept_start);
        let span = hours(start, ripe_until);
        let stored = store::outcomes(tx, model, version, start, ripe_until).await?;
        let threshold = champion.operating_threshold;
        let fresh = match window::count_outcomes(&source, threshold, &span, &stored, ripe_until, as_of).await {
            Ok(fresh) => fresh,
            Err(error) => return Ok(Err(error)),
        };
        store::keep_hours(tx, Hours::Outcomes, model, version, &complete(&fresh, ripe_until)).await?;
        let sum = |from: DateTime<Utc>| {
            let mut outcome = Outcome::empty(threshold);
            let parts = stored.iter().chain(fresh.iter()).filter(|(hour, _)| **hour >= from);
            for (_, part) in parts {
                outcome.merge(part)?;
            }
            Ok::<_, drift_stats::Unusable>(outcome)
        };
        let (target, concept) = match (sum(target_start), sum(concept_start)) {
            (Ok(target), Ok(concept)) => (target, concept),
            (Err(error), _) | (_, Err(error)) => {
                return Ok(Err(reference::corrupt(&source, format!("stored outcomes do not fit together: {}", error.word()))));
            }
        };
        let concept = Window::new(concept_start, ripe_until).ok().map(|span| (span, concept));
        Ok(Ok((reference, Counts { profile, target, concept })))
    }

    /// The champion's reference; built now when it could not be built at its promotion, or when the monitored
    /// features of the settings are no longer those of the reference.
    async fn reference(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        champion: &mut Champion,
        source: &TransactionSource,
    ) -> anyhow::Result<Result<Reference, SourceError>> {
        let monitored: Vec<String> = source.monitored().map(|feature| feature.name.clone()).collect();
        if let Some(reference) = champion.reference.take().filter(|reference| reference.features == monitored) {
            return Ok(Ok(reference));
        }
        let built =
            reference::build(source, champion.training_window, champion.promoted_as_of, &self.config).await;
        if let Ok(reference) = &built {
            store::save_reference(tx, &definition.model, &champion.version, reference).await?;
        }
        Ok(built)
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one check, each already at hand")]
    async fn announce(
        &self,
        tx: &mut Tx,
        model: &ModelName,
        cause: Cause,
        checked: DriftChecked,
        judgement: &Judgement,
        looked: Option<&Looked>,
        run: Option<(DateTime<Utc>, u32)>,
    ) -> anyhow::Result<()> {
        self.show(model, &checked);
        let detected = match (looked, run) {
            (Some(looked), Some(run)) => detected(&checked, judgement, looked, run),
            _ => None,
        };
        let appended = outbox::append(tx, self.service, Draft::new(model, cause, checked)).await?;
        if let Some(detected) = detected {
            let cause = Cause::Event { id: appended.id, correlation_id: appended.correlation_id };
            outbox::append(tx, self.service, Draft::new(model, cause, detected)).await?;
        }
        Ok(())
    }

    fn show(&self, model: &ModelName, checked: &DriftChecked) {
        let verdict = match checked.verdict {
            Verdict::Stable => "stable",
            Verdict::Drifted => "drifted",
            Verdict::Unknown => "unknown",
        };
        let labels = CheckLabels { model: model.to_string(), verdict: verdict.to_owned() };
        self.metrics.checks.get_or_create(&labels).inc();
        for metric in &checked.metrics {
            let labels = DriftLabels {
                model: model.to_string(),
                metric: metric.name.clone(),
                feature: metric.feature.clone().unwrap_or_default(),
            };
            self.metrics.drift.get_or_create(&labels).set(metric.value.get());
        }
    }
}

/// The windows as counts.
struct Counts {
    profile: Profile,
    target: Outcome,
    concept: Option<(Window, Outcome)>,
}

/// Hours that ended at or before `settled`.
fn complete<T>(counted: &Counted<T>, settled: DateTime<Utc>) -> Vec<(DateTime<Utc>, &T)> {
    counted
        .iter()
        .filter(|(hour, _)| **hour + TimeDelta::hours(1) <= settled)
        .map(|(hour, counts)| (*hour, counts))
        .collect()
}

/// The first full hour at or after an instant: rows before a promotion were scored by someone else.
fn ceil_hour(at: DateTime<Utc>) -> DateTime<Utc> {
    let hour = hour_of(at);
    if hour == at { at } else { hour + TimeDelta::hours(1) }
}

fn label_delay(definition: &ModelDefinition) -> TimeDelta {
    // Bounded by the settings at a year.
    TimeDelta::from_std(definition.label_delay).unwrap_or(TimeDelta::zero())
}

fn no_champion(model: &ModelName) -> Findings {
    let mut findings = Findings::default();
    for kind in [DriftKind::Data, DriftKind::Target, DriftKind::Concept] {
        findings.miss(kind, "no_champion", format!("model `{model}` has no champion to compare with yet"), true);
    }
    findings
}

fn detected(
    checked: &DriftChecked,
    judgement: &Judgement,
    looked: &Looked,
    (since, consecutive): (DateTime<Utc>, u32),
) -> Option<DriftDetected> {
    let mut features: Vec<FeatureDrift> = judgement
        .metrics
        .iter()
        .filter(|metric| metric.kind == DriftKind::Data && metric.exceeded)
        .filter_map(|metric| {
            Some(FeatureDrift {
                feature: metric.feature.clone()?,
                psi: metric.value,
                threshold: metric.threshold,
                noise: metric.noise?,
            })
        })
        .collect();
    features.sort_by(|a, b| b.psi.get().total_cmp(&a.psi.get()));
    let moved = |kind| judgement.drifted.contains(&kind);
    Some(DriftDetected {
        check_id: checked.check_id,
        as_of: checked.as_of,
        champion: looked.champion.version.clone(),
        window: checked.window,
        rows: checked.rows,
        kinds: judgement.drifted.clone(),
        severity: judgement.severity?,
        since,
        consecutive,
        data_drift: judgement.data_drift.and_then(|value| Finite::new(value).ok()),
        features,
        target: looked.findings.target.clone().filter(|_| moved(DriftKind::Target)),
        concept: looked.findings.concept.clone().filter(|_| moved(DriftKind::Concept)),
    })
}
