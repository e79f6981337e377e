//! What every service stands on; the only crate that knows NATS, SQL pools and the set-up of telemetry.
//!
//! * [`settings`] – compiled-in defaults ← file ← `.env` ← environment; every mistake at once.
//! * [`service`] – start, run, drain: a service is a [`Service`] and a thin `main`.
//! * [`db`] – the pool, the schema, migrations.
//! * [`bus`], [`provision`] – the connection to NATS; streams and consumers, compared with what was asked.
//! * [`outbox`], [`relay`] – a state change and its events are one transaction; the relay publishes.
//! * [`inbox`], [`consume`] – a delivery becomes one transaction of effects, then an ack.
//! * [`epoch`], [`sweep`] – what a broker forgot, and what has no receipt, is offered again; [`redrive`] – what a person does
//!   about dead letters.
//! * [`dead_letter`] – messages that no retry can help are parked with class and reason; `unreadable` finds those
//!   that the client library drops.
//! * [`event_log`], [`seal`], [`audit`] – what happened, for good: appended with the effect, chained afterwards, verified.
//! * [`slots`], [`clock`] – periodic work without a leader; time as an input.
//! * [`tasks`] – rows of `airflow_task_metrics`, under the names people know.
//! * [`transport`] – nothing leaves this machine in plain text unless the settings say so.
//! * [`outgoing`] – calls to other servers go where the settings say, and nowhere else; [`rest`] – what their answers mean.
//! * [`telemetry`], [`metrics`], [`health`] – traces, counters, `/healthz`, `/readyz`, `/metrics`.
//! * [`trial`] – deaths on request at the boundaries of effects, in debug builds only.

pub mod audit;
pub mod backoff;
pub mod bus;
pub mod clock;
pub mod consume;
pub mod db;
pub mod dead_letter;
pub mod epoch;
pub mod event_log;
pub mod health;
pub mod inbox;
pub mod metrics;
pub mod outbox;
pub mod outgoing;
pub mod patience;
pub mod provision;
pub mod redrive;
pub mod relay;
pub mod rest;
pub mod rules;
pub mod seal;
pub mod service;
pub mod settings;
pub mod slots;
pub mod sweep;
pub mod tasks;
pub mod telemetry;
pub mod text;
pub mod transport;
pub mod trial;
pub mod unreadable;

pub use consume::{HandleError, Handler};
pub use db::Tx;
pub use outbox::Cause;
pub use service::{Context, Definition, Service, Tasks, launch, run};
pub use settings::{Alias, Problems, Reader, Secret, Section, Settings, Sources};

/// Installs the one TLS provider (ring). First statement of every `main` and of tests that connect.
pub fn install_crypto() {
    // A second installation is refused and harmless: the first one stays.
    let _already_installed = rustls::crypto::ring::default_provider().install_default();
}
