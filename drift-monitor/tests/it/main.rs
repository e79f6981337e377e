//! The monitor against real NATS and PostgreSQL.

mod champions;
mod drifts;
mod scene;
mod unknown;
