//! The monitor against real NATS and PostgreSQL.

mod champions;
mod drifts;
mod estimates;
mod references;
mod scene;
mod segments;
mod unknown;
mod warehouse;
