//! The decider against real NATS and PostgreSQL.

mod names;
mod regressions;
mod replay;
mod scene;
mod story;
