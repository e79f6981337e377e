//! `/healthz`, `/readyz` and `/metrics`.
//!
//! Liveness asks only whether this process' own loops move; a dependency that is away must not get a service
//! restarted. Readiness asks whether work can be done now.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use chrono::{DateTime, Utc};

use crate::metrics::Metrics;
use crate::patience::within;
use crate::service::Context;

/// A loop that has been silent for longer is stuck: whatever takes long says that it is at work.
const SILENCE_MAX: Duration = Duration::from_secs(120);
/// A broker that has not answered a fetch for longer is away.
const FETCH_AGE_MAX: Duration = Duration::from_secs(30);
/// Whoever asks for health does not wait for long.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// Serves until told to stop. Returns when the listener is closed.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve(context: Context, address: SocketAddr) -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind(address)
        .await
        .with_context(|| format!("listen on {address} (setting `http.{}`)", context.schema))?;
    let bound = listener.local_addr()?;
    tracing::info!(
        "{} answers on http://{bound}/healthz, /readyz and /metrics",
        context.service
    );
    let stop = context.stop.clone();
    let router = Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(context);
    axum::serve(listener, router)
        .with_graceful_shutdown(stop.cancelled_owned())
        .await
        .context("serve health")
}

async fn healthz(State(context): State<Context>) -> impl IntoResponse {
    liveness(&context.metrics, SILENCE_MAX)
}

/// Not alive once a loop has been silent for longer.
fn liveness(metrics: &Metrics, silence_max: Duration) -> (StatusCode, String) {
    let silent = metrics.silent(silence_max);
    if silent.is_empty() {
        (StatusCode::OK, "ok\n".to_owned())
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("loops that do not move: {}\n", silent.join(", ")),
        )
    }
}

async fn readyz(State(context): State<Context>) -> impl IntoResponse {
    let mut obstacles = Vec::new();
    if context.stop.is_cancelled() {
        obstacles.push("shutting down".to_owned());
    }
    let asked = sqlx::query_scalar("select current_setting('transaction_read_only') = 'on'");
    match within(ANSWER_MAX, asked.fetch_one(&context.pool)).await {
        Ok(false) => {}
        Ok(true) => obstacles
            .push("PostgreSQL: takes no writes (a standby, or default_transaction_read_only)".to_owned()),
        Err(error) => obstacles.push(format!("PostgreSQL: {error}")),
    }
    if !context.bus.is_connected() {
        obstacles.push("NATS: not connected".to_owned());
    }
    match context.metrics.fetch_age() {
        Some(age) if age > FETCH_AGE_MAX => {
            obstacles.push(format!("NATS: no answer to a fetch for {} s", age.as_secs()));
        }
        Some(_) => {}
        None => obstacles.push("NATS: no fetch answered yet".to_owned()),
    }
    if obstacles.is_empty() {
        (StatusCode::OK, "ready\n".to_owned())
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, obstacles.join("\n") + "\n")
    }
}

async fn metrics(State(context): State<Context>) -> impl IntoResponse {
    if let Err(error) = within(ANSWER_MAX, measure(&context)).await {
        tracing::debug!("outbox could not be measured: {error}");
    }
    match context.metrics.render() {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            (StatusCode::OK, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn measure(context: &Context) -> sqlx::Result<()> {
    // A connection first: a wait for one would look like a clock that is wrong.
    let mut connection = context.pool.acquire().await?;
    let asked = Utc::now();
    let (there,): (DateTime<Utc>,) = sqlx::query_as("select clock_timestamp()")
        .fetch_one(&mut *connection)
        .await?;
    // As if the database had looked at its clock in the middle of the answer.
    let here = asked + (Utc::now() - asked) / 2;
    context.metrics.clock_offset.set((here - there).as_seconds_f64());
    drop(connection);
    let (unpublished, age): (i64, Option<f64>) = sqlx::query_as(
        "select count(*), extract(epoch from clock_timestamp() - min(created_at))::float8 from outbox \
         where published_at is null and failed_reason is null",
    )
    .fetch_one(&context.pool)
    .await?;
    let (never,): (i64,) = sqlx::query_as(
        "select count(*) from outbox where failed_reason is not null and published_at is null",
    )
    .fetch_one(&context.pool)
    .await?;
    context.metrics.outbox_failed.set(never);
    let (parked,): (i64,) = sqlx::query_as("select count(*) from dead_letter where state = 'parked'")
        .fetch_one(&context.pool)
        .await?;
    let (unsealed,): (i64,) = sqlx::query_as("select count(*) from event_log where link is null")
        .fetch_one(&context.pool)
        .await?;
    context.metrics.event_log_unsealed.set(unsealed);
    context.metrics.outbox_unpublished.set(unpublished);
    context.metrics.outbox_oldest_age.set(age.unwrap_or(0.0));
    context.metrics.dead_letters.set(parked);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_whose_loop_does_not_move_is_not_alive_and_says_which() {
        let metrics = Metrics::new("toy");
        metrics.beat("relay");
        assert_eq!(
            liveness(&metrics, SILENCE_MAX),
            (StatusCode::OK, "ok\n".to_owned())
        );
        while metrics.silent(Duration::ZERO).is_empty() {
            std::hint::spin_loop();
        }
        let told = "loops that do not move: relay\n".to_owned();
        assert_eq!(
            liveness(&metrics, Duration::ZERO),
            (StatusCode::SERVICE_UNAVAILABLE, told)
        );
    }
}
