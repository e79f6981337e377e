//! The trainer-bridge against real NATS and PostgreSQL, with Databricks played by a stub that keeps a ledger.

mod alias;
mod databricks;
mod local;
mod mlflow;
mod promotion;
mod scene;
mod settings;
mod tracking_stub;
