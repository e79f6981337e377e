//! The only folder with SQL.
//!
//! * [`job`] – the table `training_job`: accepted once per decision, claimed by lease, moved under guard.
//! * [`version`] – the table `model_version`, shown as `public.model_versions`.
//! * [`promotion`] – the tables `promotion` and `model`: who is champion, fenced.
//! * [`call`] – the table `registry_call`: calls that may have moved an alias.
//! * [`champion`] – who was champion when.
//!
//! Whoever works on a row holds its lease and knows its revision. Every update names both the state it comes from
//! and the revision; one that changes no row came too late, and what it would have announced is dropped.

pub mod call;
pub mod champion;
pub mod job;
pub mod promotion;
pub mod version;

use chassis::Tx;
use chassis::tasks::{DAG_TRAINING, process_memory_mb};
use schemas::TraceContext;

use crate::job::Order;

/// A finished task, for `airflow_task_metrics`.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRow {
    /// E.g. `train_local`.
    pub task_id: &'static str,
    /// How long it took, seconds.
    pub seconds: f64,
    /// Records processed, where counted.
    pub records: Option<u64>,
    /// Why it failed; none when it succeeded.
    pub error: Option<String>,
}

/// Writes a finished task of a job; a second run of it replaces the first.
///
/// # Errors
/// Database errors.
pub async fn record_task(tx: &mut Tx, order: &Order, task: &TaskRow) -> sqlx::Result<()> {
    sqlx::query(
        "insert into task_run (dag_id, task_id, execution_date, run_id, duration_seconds, records_processed, \
         memory_mb, status, error_message, started_at, completed_at) \
         values ($1, $2, $3, $4, $5, $6, $7, $8, $9, \
         clock_timestamp() - make_interval(secs => $5), clock_timestamp()) \
         on conflict (dag_id, task_id, run_id) do update set duration_seconds = excluded.duration_seconds, \
         records_processed = excluded.records_processed, memory_mb = excluded.memory_mb, \
         status = excluded.status, error_message = excluded.error_message, \
         started_at = excluded.started_at, completed_at = excluded.completed_at",
    )
    .bind(DAG_TRAINING)
    .bind(task.task_id)
    .bind(order.as_of)
    .bind(order.job_id.to_string())
    .bind(task.seconds.max(0.0))
    .bind(task.records.map(u64::cast_signed))
    .bind(process_memory_mb())
    .bind(if task.error.is_none() { "success" } else { "failed" })
    .bind(&task.error)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

fn trace_of(parent: Option<String>, state: Option<String>) -> TraceContext {
    TraceContext { parent, state }
}

/// A row holds what this release did not write.
fn unreadable(what: &str, why: impl std::fmt::Display) -> sqlx::Error {
    sqlx::Error::Decode(format!("{what}: {why}").into())
}
