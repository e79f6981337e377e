//! The decider against real NATS and PostgreSQL.

mod scene;
mod story;
