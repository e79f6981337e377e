//! Test peers: what Vigie talks to besides NATS and PostgreSQL, on loopback.
//!
//! Two are real programs that are installed on first use ([`mlflow`], [`smtp`]); two play a service that cannot be had on
//! a test machine ([`slack`], [`databricks`]), and one an MLflow that fails on demand ([`tracking`]), with answers scripted by the test and a ledger of what really happened.

pub mod databricks;
mod http;
pub mod mlflow;
mod program;
pub mod slack;
pub mod smtp;
pub mod tracking;
