//! The chassis against real servers: nothing lost, nothing done twice, whatever arrives.

mod support;

#[path = "../simulated/mirror.rs"]
mod mirror;

mod ahead;
mod audit;
mod child;
mod cluster;
mod consumer;
mod database;
mod epoch;
mod event_log;
mod health;
mod hostile;
mod outbox;
mod parking;
mod patience;
mod provisioning;
mod redrive;
mod relay;
mod rest;
mod service;
mod settings_checks;
mod settings_layers;
mod settings_secrets;
mod slots;
mod sql_rules;
mod storm;
mod sweep;
mod task_metrics;
mod tracing_context;
mod transport;
