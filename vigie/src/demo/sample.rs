//! Payments and a model to play with, for `vigie dev --sample`.

use std::path::Path;

use anyhow::Context as _;
use chassis::Sources;
use chrono::{TimeDelta, Utc};
use sqlx::postgres::PgPoolOptions;

use super::settings::{self, merge};
use super::source::Days;
use super::table;
use crate::simulator::SimulateOptions;

/// Days of payments, which end today.
const DAYS: u32 = 28;

/// Loads simulated payments that end now, unless they are there, and returns the settings of a model over them.
///
/// # Errors
/// Database errors.
pub async fn load(database_url: &str) -> anyhow::Result<String> {
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .connect(database_url)
        .await
        .context("connect to PostgreSQL")?;
    let start = (Utc::now() - TimeDelta::days(i64::from(DAYS) - 1)).date_naive();
    let mut days = Days::simulated(&SimulateOptions {
        days: DAYS,
        start,
        ..SimulateOptions::default()
    })?;
    let model = days.model().clone();
    let (there,): (bool,) = sqlx::query_as("select to_regclass('bank.payment') is not null")
        .fetch_one(&pool)
        .await?;
    if !there {
        eprintln!(
            "loading {DAYS} days of simulated payments into {} …",
            table::TABLE
        );
        table::create(&pool, days.features()).await?;
        let now = Utc::now();
        while let Some(day) = days.next_day()? {
            let until_now = day.times.partition_point(|at| *at <= now);
            table::append(&pool, &day, 0..until_now, None).await?;
        }
    }
    pool.close().await;
    Ok(settings::render_model(&model))
}

/// Writes the settings in force as one file, so that other commands find the same servers.
///
/// # Errors
/// A folder that cannot be written.
pub fn write_settings(sources: &Sources, path: &Path) -> anyhow::Result<()> {
    let mut text = match &sources.file {
        Some(file) => std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?,
        None => String::new(),
    };
    for (_, over) in &sources.overrides {
        text = merge(&text, over)?;
    }
    std::fs::write(path, text).with_context(|| format!("write {}", path.display()))
}
