//! The decider against real NATS and PostgreSQL.

mod regressions;
mod scene;
mod story;
