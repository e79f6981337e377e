//! A short demo: a small town of cardholders whose payments are replayed through all five services.

use std::path::Path;
use std::sync::OnceLock;

use chassis::telemetry::{self, Telemetry, TelemetrySettings};
use vigie::demo::{Disturbance, Options, Report, Source, Story};
use vigie::simulator::SimulateOptions;

/// Days of the short story: two weeks of history, the first training, its decay, and what follows.
pub const DAYS: u32 = 27;

/// A demo in `folder`.
pub fn options(folder: &Path, processes: bool) -> Options {
    Options {
        source: Source::Simulator(SimulateOptions {
            days: DAYS,
            customers: 1_200,
            terminals: 1_200,
            ..SimulateOptions::default()
        }),
        days: None,
        seed: 7,
        folder: folder.join("demo"),
        processes,
        // Small forests train in a second or two; the rules are the defaults' otherwise.
        overrides: Some(
            "[training]\nlease = \"2s\"\nthreshold_precision_min = 0.80\n[training.random_forest]\ntrees = 16\ndepth_max = 10\n\
             [policy]\ncooldown = \"4d\"\n[nats]\nack_wait = \"5s\"\n"
                .to_owned(),
        ),
    }
}

/// Traces exist only where telemetry was set up, as every program of Vigie does; once per process.
fn trace() {
    static TELEMETRY: OnceLock<Telemetry> = OnceLock::new();
    TELEMETRY.get_or_init(|| {
        let settings = TelemetrySettings {
            otlp_endpoint: None,
            sample: 1.0,
            log: "warn".to_owned(),
            json: false,
        };
        telemetry::init(&settings, "e2e").expect("telemetry")
    });
}

/// Replays it.
pub async fn replay<D: Disturbance>(options: Options, disturbance: &mut D) -> Report {
    chassis::install_crypto();
    trace();
    match vigie::demo::run(options, &mut Story::silent(), disturbance, None).await {
        Ok(report) => report,
        Err(error) => panic!("the story broke off: {error:#}"),
    }
}
