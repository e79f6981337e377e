//! Starts a private nats-server and PostgreSQL, and test peers, for the demo, for development and for tests.
//!
//! - [`tools`] finds the servers on this machine, or fetches pinned ones.
//! - [`Stack`] starts both in a folder of their own, on free loopback ports, and stops them without a trace.
//! - [`TestEnv`] gives each test its own empty database on one PostgreSQL per test process, and its own broker.
//! - [`proxy`] is a line that can be made bad while connections are open.
//! - [`peers`] are the other ends that tests need: MLflow, a mail server, Slack, Databricks.
//!
//! Nothing outlives its starter: [`Stack::stop`] and `Drop` stop both servers, and a watchdog does it
//! when the process ends without either (`kill -9`, or the end of a test binary, which drops no statics).
//! Linux only.

mod account;
pub mod hostile;
mod nats;
pub mod peers;
mod postgres;
mod process;
mod progress;
pub mod proxy;
mod stack;
mod test_env;
pub mod tools;
mod watchdog;

pub use nats::NatsServer;
pub use postgres::PostgresServer;
pub use progress::Progress;
pub use stack::{Durability, Stack, StackOptions};
pub use test_env::{TestEnv, shared_stack};
