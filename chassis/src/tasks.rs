//! Rows of `airflow_task_metrics`, under the DAG and task names that people know.

use std::time::Instant;

use chrono::{DateTime, Utc};
use sqlx::{PgExecutor, Postgres, QueryBuilder};

/// The DAG of drift checks.
pub const DAG_DRIFT: &str = "02_drift_monitoring";
/// The DAG of training.
pub const DAG_TRAINING: &str = "01_training_pipeline";

/// A task that is being timed.
#[derive(Debug, Clone)]
pub struct TaskTimer {
    dag_id: &'static str,
    task_id: &'static str,
    execution_date: DateTime<Utc>,
    run_id: String,
    started_at: DateTime<Utc>,
    started: Instant,
    cpu_seconds: f64,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TaskEnd {
    /// It did its work.
    Success,
    /// It did not, for this reason.
    Failed(String),
}

impl TaskTimer {
    /// Starts timing. `execution_date` is the slot or `as_of`; `run_id` tells runs of one instant apart.
    pub fn start(
        dag_id: &'static str,
        task_id: &'static str,
        execution_date: DateTime<Utc>,
        run_id: impl Into<String>,
    ) -> Self {
        Self {
            dag_id,
            task_id,
            execution_date,
            run_id: run_id.into(),
            started_at: Utc::now(),
            started: Instant::now(),
            cpu_seconds: process_cpu_seconds(),
        }
    }

    /// Ends the timing: `processed` and `failed` count records.
    pub fn stop(self, end: TaskEnd, processed: u64, failed: u64) -> TaskRow {
        let seconds = self.started.elapsed().as_secs_f64();
        let cpu_percent =
            (seconds > 0.0).then(|| (process_cpu_seconds() - self.cpu_seconds).max(0.0) / seconds * 100.0);
        TaskRow {
            seconds,
            cpu_percent,
            memory_mb: process_memory_mb(),
            completed_at: Utc::now(),
            end,
            processed,
            failed,
            timer: self,
        }
    }

    /// Ends the timing and writes the row, as [`TaskTimer::stop`] and [`record`].
    ///
    /// # Errors
    /// Database errors.
    pub async fn finish(
        self,
        executor: impl PgExecutor<'_>,
        end: &TaskEnd,
        processed: u64,
        failed: u64,
    ) -> sqlx::Result<()> {
        record(executor, vec![self.stop(end.clone(), processed, failed)]).await
    }
}

/// A task that has ended and is not yet written down.
#[derive(Debug, Clone)]
pub struct TaskRow {
    timer: TaskTimer,
    seconds: f64,
    cpu_percent: Option<f64>,
    memory_mb: Option<i64>,
    completed_at: DateTime<Utc>,
    end: TaskEnd,
    processed: u64,
    failed: u64,
}

/// Writes rows of different tasks in one statement. A second run of the same task replaces its row.
///
/// # Errors
/// Database errors.
pub async fn record(executor: impl PgExecutor<'_>, rows: Vec<TaskRow>) -> sqlx::Result<()> {
    let mut insert = QueryBuilder::<Postgres>::new(
        "insert into task_run (dag_id, task_id, execution_date, run_id, duration_seconds, records_processed, \
         records_failed, cpu_percent, memory_mb, status, error_message, started_at, completed_at) ",
    );
    insert.push_values(rows, |mut values, row| {
        let (status, error) = match row.end {
            TaskEnd::Success => ("success", None),
            TaskEnd::Failed(reason) => ("failed", Some(reason)),
        };
        values
            .push_bind(row.timer.dag_id)
            .push_bind(row.timer.task_id)
            .push_bind(row.timer.execution_date)
            .push_bind(row.timer.run_id)
            .push_bind(row.seconds)
            .push_bind(row.processed.cast_signed())
            .push_bind(row.failed.cast_signed())
            .push_bind(row.cpu_percent)
            .push_bind(row.memory_mb)
            .push_bind(status)
            .push_bind(error)
            .push_bind(row.timer.started_at)
            .push_bind(row.completed_at);
    });
    insert.push(
        " on conflict (dag_id, task_id, run_id) do update set duration_seconds = excluded.duration_seconds, \
         records_processed = excluded.records_processed, records_failed = excluded.records_failed, \
         cpu_percent = excluded.cpu_percent, memory_mb = excluded.memory_mb, status = excluded.status, \
         error_message = excluded.error_message, started_at = excluded.started_at, completed_at = excluded.completed_at",
    );
    insert.build().execute(executor).await?;
    Ok(())
}

/// Resident memory of this process in MiB, where `/proc` tells.
pub fn process_memory_mb() -> Option<i64> {
    let sizes = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: i64 = sizes.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * i64::try_from(rustix::param::page_size()).ok()? / (1 << 20))
}

/// CPU seconds of this process so far.
fn process_cpu_seconds() -> f64 {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}
