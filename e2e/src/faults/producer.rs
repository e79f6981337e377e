//! Commits drift events as the monitor would – a row of its outbox in a transaction – and writes down which commits were
//! acknowledged. What was acknowledged must take effect; what was not, may.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use chassis::Cause;
use chassis::outbox::{self, Draft};
use chrono::{DateTime, TimeDelta, Utc};
use schemas::events::{DriftDetected, DriftKind, DriftSeverity, FeatureDrift};
use schemas::{CheckId, EventId, Finite, ModelName, ModelVersion, Window};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A commit that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Commit {
    /// The event.
    pub id: EventId,
    /// When the acknowledgement arrived, by this machine's clock.
    pub at: DateTime<Utc>,
}

/// Acknowledged commits.
#[derive(Debug, Clone, Default)]
pub struct Ledger(Arc<Mutex<Vec<Commit>>>);

impl Ledger {
    /// All of them, in order.
    pub fn commits(&self) -> Vec<Commit> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Writes one down.
    pub fn note(&self, id: EventId) {
        let commit = Commit { id, at: Utc::now() };
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(commit);
    }
}

/// Connections as the monitor has them, past all lines.
///
/// # Errors
/// When PostgreSQL cannot be reached.
pub async fn monitors_pool(url: &str) -> anyhow::Result<PgPool> {
    PgPoolOptions::new()
        .max_connections(4)
        .acquire_timeout(Duration::from_secs(5))
        .after_connect(|connection, _| {
            Box::pin(async move {
                sqlx::query("set search_path to drift_monitor, public")
                    .execute(connection)
                    .await?;
                Ok(())
            })
        })
        .connect(url)
        .await
        .context("connect to PostgreSQL as the monitor")
}

fn day_30() -> DateTime<Utc> {
    DateTime::from_timestamp(1_774_915_200, 0).unwrap_or_default()
}

fn model_of(models: &[String], number: u64) -> &str {
    let index = number % models.len() as u64;
    &models[usize::try_from(index).unwrap_or_default()]
}

/// The event number `number` of a trial, about one of the models and measured against this champion.
pub fn drift(models: &[String], number: u64, champion: Option<&str>) -> anyhow::Result<Draft> {
    let model = ModelName::new(model_of(models, number))?;
    // Later and later, and always within the history of payments.
    let as_of = day_30() + TimeDelta::seconds(i64::try_from(number % 600_000)?);
    let body = DriftDetected {
        check_id: CheckId::of_key(&format!("trial/{model}/{number}")),
        as_of,
        champion: ModelVersion::new(champion.map_or_else(|| format!("{model}-first"), str::to_owned))?,
        window: Window::new(as_of - TimeDelta::days(1), as_of)?,
        rows: 5_000,
        kinds: vec![DriftKind::Data],
        severity: DriftSeverity::High,
        // Its own beginning: every event is told to people.
        since: as_of,
        consecutive: 1,
        data_drift: Some(Finite::new(0.7)?),
        features: vec![FeatureDrift {
            feature: "tx_amount".to_owned(),
            psi: Finite::new(0.7)?,
            threshold: Finite::new(0.3)?,
            noise: Finite::new(0.01)?,
            moved: Vec::new(),
            began: None,
            segments: Vec::new(),
        }],
        target: None,
        concept: None,
        estimated: None,
        prediction: None,
    };
    Ok(Draft::new(&model, Cause::Key(format!("trial/{number}")), body))
}

/// Commits one event; the id when the commit was acknowledged.
///
/// # Errors
/// Database errors: then nobody knows.
pub async fn commit(pool: &PgPool, models: &[String], number: u64) -> anyhow::Result<EventId> {
    let mut tx = pool.begin().await?;
    // The monitor hears of it; here the trainer's own table is the shorter way.
    let champion: Option<(Option<String>,)> =
        sqlx::query_as("select champion from trainer_bridge.model where model = $1")
            .bind(model_of(models, number))
            .fetch_optional(&mut *tx)
            .await?;
    let champion = champion.and_then(|(champion,)| champion);
    let draft = drift(models, number, champion.as_deref())?;
    let appended = outbox::append(&mut tx, schemas::flow::DRIFT_MONITOR, draft).await?;
    tx.commit().await?;
    Ok(appended.id)
}

/// A producer that goes on until it is stopped.
#[derive(Debug)]
pub struct Producer {
    /// What it was promised.
    pub ledger: Ledger,
    stop: CancellationToken,
    task: JoinHandle<u64>,
}

impl Producer {
    /// Commits an event every `pace`; after an error the same event again, as a service would.
    pub fn start(pool: PgPool, models: Vec<String>, pace: Duration) -> Self {
        let (ledger, stop) = (Ledger::default(), CancellationToken::new());
        let (noted, stopped) = (ledger.clone(), stop.clone());
        let task = tokio::spawn(async move {
            let mut number = 0;
            while !stopped.is_cancelled() {
                if let Ok(id) = commit(&pool, &models, number).await {
                    noted.note(id);
                    number += 1;
                }
                tokio::select! {
                    () = tokio::time::sleep(pace) => {}
                    () = stopped.cancelled() => {}
                }
            }
            number
        });
        Self { ledger, stop, task }
    }

    /// Ends it; the number of events.
    ///
    /// # Errors
    /// When it panicked.
    pub async fn stop(self) -> anyhow::Result<Ledger> {
        self.stop.cancel();
        self.task.await.context("the producer panicked")?;
        Ok(self.ledger)
    }
}
