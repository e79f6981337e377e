//! Settings: compiled-in defaults ← file ← `.env` ← environment, and all mistakes at once.
//!
//! A service states its settings in a `default.toml` that is documentation and default in one. Keys that
//! no `default.toml` names are mistakes; an empty string means "not set". [`Reader`] turns values into
//! checked types and collects [`Problem`]s; nothing stops at the first.

mod layers;
mod print;
mod problem;
mod reader;
mod secret;

pub use layers::{Alias, SECTIONS, Settings, Sources, nearest};
pub(crate) use print::mask_userinfo;
pub use print::{render, render_json};
pub use problem::{Problem, Problems};
pub use reader::{Reader, Section};
pub use secret::Secret;

/// The document's names for settings that every service has.
pub const COMMON_ALIASES: &[Alias] = &[
    Alias {
        name: "FRAUD_DATABASE_URL",
        key: "database.url",
    },
    Alias {
        name: "NATS_URL",
        key: "nats.url",
    },
    Alias {
        name: "NATS_CREDENTIALS",
        key: "nats.credentials",
    },
    Alias {
        name: "NATS_NKEY",
        key: "nats.nkey",
    },
    Alias {
        name: "OTEL_EXPORTER_OTLP_ENDPOINT",
        key: "telemetry.otlp_endpoint",
    },
    Alias {
        name: "RUST_LOG",
        key: "telemetry.log",
    },
];

/// Defaults of the sections that every service has.
pub const COMMON_DEFAULTS: &str = include_str!("../../config/default.toml");
