//! The shell: look, judge, record, announce, in one transaction.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chassis::clock::Clock;
use chassis::outbox::{self, Draft};
use chassis::slots::{self, Job};
use chassis::tasks::{DAG_DRIFT, TaskEnd, TaskTimer};
use chassis::{Cause, Context, HandleError, Handler, Tasks, Tx};
use chrono::{DateTime, DurationRound as _, TimeDelta, Utc};
use schemas::events::{DriftChecked, ModelPromoted, Verdict};
use schemas::{CheckId, Event, ModelName, Received};
use tracing::Instrument as _;
use transactions::ModelDefinition;

use crate::config::Config;
use crate::judge::{Before, Judgement, judge, metric_severity, run_of};
use crate::look::{Looked, Watch};
use crate::metrics::{CheckLabels, DriftLabels, ModelLabels, MonitorMetrics};
use crate::report::{self, Run};
use crate::store;

/// How far the asker's clock may be ahead of ours.
const CLOCK_SKEW: TimeDelta = TimeDelta::minutes(5);

/// Checks every model's source, and spawns the consumer and the slots of every model.
pub async fn start(config: Config, context: Context, tasks: &mut Tasks) -> anyhow::Result<()> {
    let models: Vec<ModelDefinition> = config.models.clone();
    let (schedule, catch_up) = (config.schedule.clone(), config.catch_up);
    let reading_max = config.sources.reading_max();
    let monitor = Arc::new(Monitor {
        service: context.service,
        clock: context.clock,
        models: models
            .iter()
            .map(|model| (model.model.clone(), model.clone()))
            .collect(),
        metrics: MonitorMetrics::register(&context.metrics),
        watch: Watch::new(config, &context.pool)?,
    });
    for definition in &models {
        // A source that does not fit is said at once and in full; checks go on and say `unknown`, which alerts.
        match monitor.watch.open(definition).await {
            Ok(source) => {
                tracing::info!(
                    model.name = %definition.model,
                    "model `{}` is read from {}, {} features watched",
                    definition.model,
                    definition.source,
                    source.monitored().count()
                );
                for problem in source.segment_problems() {
                    tracing::error!(
                        model.name = %definition.model,
                        "model `{}`: it will not be told in which segments features move: {problem}",
                        definition.model
                    );
                }
            }
            Err(error) => {
                tracing::error!(model.name = %definition.model, "model `{}`: {error}", definition.model);
            }
        }
    }
    tasks.spawn(
        "consume",
        chassis::consume::run(context.clone(), crate::SUBSCRIPTION, Arc::clone(&monitor)),
    );
    for definition in models {
        let job = Job {
            name: format!("drift-check/{}", definition.model),
            schedule: schedule.clone(),
            catch_up,
            reading_max,
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
    clock: Clock,
    models: BTreeMap<ModelName, ModelDefinition>,
    metrics: MonitorMetrics,
    watch: Watch,
}

impl Handler for Monitor {
    type Prepared = ();

    fn reading_max(&self) -> Duration {
        self.watch.reading_max()
    }

    async fn handle(&self, tx: &mut Tx, received: &Received, (): &()) -> Result<(), HandleError> {
        let model = &received.attributes.model;
        let definition = self
            .models
            .get(model)
            .ok_or_else(|| HandleError::unknown_model(model))?;
        match &received.event {
            Event::DriftCheckRequested(asked) => {
                if let Some(now) = self
                    .clock
                    .now(&mut **tx)
                    .await?
                    .filter(|now| asked.as_of > *now + CLOCK_SKEW)
                {
                    // Hours that have not happened would be counted as empty, and kept.
                    let reason = format!("the instant {} lies in the future; it is {now}", asked.as_of);
                    return Err(HandleError::permanent(reason));
                }
                Ok(self
                    .check(tx, definition, asked.as_of, Cause::event(received))
                    .await?)
            }
            Event::ModelPromoted(promoted) => self.promoted(tx, definition, promoted).await,
            Event::DriftChecked(_)
            | Event::DriftDetected(_)
            | Event::RetrainAsked(_)
            | Event::RetrainRequested(_)
            | Event::RetrainDeclined(_)
            | Event::TrainingStarted(_)
            | Event::TrainingFailed(_)
            | Event::ModelTrained(_)
            | Event::ModelValidated(_)
            | Event::PromotionRefused(_)
            | Event::AlertSent(_)
            | Event::AlertFailed(_) => Err(HandleError::permanent(format!(
                "{} is not for {}",
                received.attributes.kind, self.service
            ))),
        }
    }
}

impl Monitor {
    /// A new champion: its training window becomes the reference. Who is champion is recorded whatever the source says;
    /// a reference that cannot be built now is built by the first check that can.
    async fn promoted(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        promoted: &ModelPromoted,
    ) -> Result<(), HandleError> {
        let model = &definition.model;
        store::lock(tx, model).await?;
        store::insert_champion(tx, model, promoted).await?;
        let Some(champion) = store::champion_of_fence(tx, model, promoted.fence).await? else {
            return Err(HandleError::permanent(format!(
                "promotion {} of `{model}` is not recorded",
                promoted.fence
            )));
        };
        if let Err(error) = self.watch.build_reference(tx, definition, &champion).await? {
            tracing::error!(model.name = %model, "no reference for {} yet: {error}", promoted.version);
        }
        Ok(())
    }

    /// Checks a model as of an instant, and records and announces what was found. A check that was made before
    /// is announced again, not made again, unless it could not look.
    async fn check(
        &self,
        tx: &mut Tx,
        definition: &ModelDefinition,
        as_of: DateTime<Utc>,
        cause: Cause,
    ) -> anyhow::Result<()> {
        let begun = Instant::now();
        let model = &definition.model;
        // PostgreSQL's resolution: one instant, one check.
        let as_of = as_of.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(as_of);
        let check_id = CheckId::of_key(&format!("check/{model}/{}", as_of.to_rfc3339()));
        store::lock(tx, model).await?;
        if let Some(report) = store::report(tx, check_id).await? {
            if report.verdict != Verdict::Unknown {
                outbox::append(tx, self.service, Draft::new(model, cause, report)).await?;
                return Ok(());
            }
            store::delete_check(tx, check_id).await?;
        }
        let timer = |task| TaskTimer::start(DAG_DRIFT, task, as_of, check_id.to_string());

        let task = timer("run_drift_monitoring");
        let now = self.clock.now(&mut **tx).await?.unwrap_or(as_of);
        let window = self.watch.data_window(as_of)?;
        let mut looked = self.watch.look(tx, definition, as_of, now).await?;
        let end = looked.blind.clone().map_or(TaskEnd::Success, TaskEnd::Failed);
        task.finish(&mut **tx, &end, looked.rows, 0).await?;

        let task = timer("parse_drift_results");
        let limits = &self.watch.config().limits;
        let before = match &looked.champion {
            Some(champion) => store::before(tx, model, &champion.version, as_of).await?,
            None => Before::default(),
        };
        let findings = &looked.findings;
        let judgement = judge(limits, &findings.measured, &findings.not_measured, &before);
        if judgement.verdict == Verdict::Drifted && !judgement.moved.is_empty() {
            self.watch.look_back(tx, definition, &mut looked).await?;
            let features = judgement
                .moved
                .iter()
                .filter_map(|metric| metric.feature.as_deref());
            self.watch
                .look_by_segment(tx, definition, as_of, &features.collect(), &mut looked)
                .await?;
        }
        let previous = store::previous(tx, model, as_of).await?;
        let checked = report::checked(check_id, as_of, window, &looked, &judgement, previous.as_ref());
        let (measured, missed) = (checked.metrics.len() as u64, checked.not_measured.len() as u64);
        task.finish(&mut **tx, &TaskEnd::Success, measured, missed)
            .await?;

        let task = timer("save_drift_metrics");
        let run = looked
            .champion
            .as_ref()
            .filter(|_| judgement.verdict == Verdict::Drifted)
            .map(|champion| {
                let (since, consecutive) = run_of(previous.as_ref(), champion.version.as_str(), as_of);
                Run { since, consecutive }
            });
        store::insert_check(tx, model, &checked, judgement.severity, run, |metric| {
            metric_severity(limits, metric)
        })
        .await?;
        task.finish(&mut **tx, &TaskEnd::Success, measured, 0).await?;

        let task = timer("decide_next_step");
        let next = timer(report::next_task(judgement.verdict, judgement.severity));
        tracing::info!(model.name = %model, "model `{model}` as of {as_of}: {}", report::summary(&checked));
        self.show(model, &checked);
        self.announce(tx, model, cause, checked, &judgement, &looked, run)
            .await?;
        task.finish(&mut **tx, &TaskEnd::Success, 1, 0).await?;
        next.finish(&mut **tx, &TaskEnd::Success, 1, 0).await?;
        self.metrics.seconds.observe(begun.elapsed().as_secs_f64());
        Ok(())
    }

    #[expect(
        clippy::too_many_arguments,
        reason = "the parts of one check, each already at hand"
    )]
    async fn announce(
        &self,
        tx: &mut Tx,
        model: &ModelName,
        cause: Cause,
        checked: DriftChecked,
        judgement: &Judgement,
        looked: &Looked,
        run: Option<Run>,
    ) -> anyhow::Result<()> {
        let detected = run.and_then(|run| report::detected(&checked, judgement, looked, run));
        let appended = outbox::append(tx, self.service, Draft::new(model, cause, checked)).await?;
        if let Some(detected) = detected {
            let cause = Cause::Event {
                id: appended.id,
                correlation_id: appended.correlation_id,
            };
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
        let labels = CheckLabels {
            model: model.to_string(),
            verdict: verdict.to_owned(),
        };
        self.metrics.checks.get_or_create(&labels).inc();
        let labels = ModelLabels {
            model: model.to_string(),
        };
        self.metrics
            .rows
            .get_or_create(&labels)
            .set(checked.rows.cast_signed());
        self.metrics
            .as_of
            .get_or_create(&labels)
            .set(checked.as_of.timestamp());
        self.metrics.show_scores(model.as_str(), checked);
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
