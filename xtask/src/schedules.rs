//! Many schedules of the simulated broker, more than the suite has time for.

use crate::process::{cargo, run};

/// Runs `count` schedules from `seed` on; shows progress and figures.
///
/// # Errors
/// When a schedule breaks a property; its story is shown.
pub(crate) fn run_schedules(count: u64, seed: u64) -> anyhow::Result<()> {
    eprintln!("xtask: {count} schedules from seed {seed}; building them takes some minutes the first time");
    let mut command = cargo();
    command
        .args([
            "test",
            "--profile",
            "trial",
            "--package",
            "chassis",
            "--test",
            "simulated",
        ])
        .args(["--quiet", "every_schedule", "--", "--nocapture"])
        .env("VIGIE_SCHEDULES", count.to_string())
        .env("VIGIE_SCHEDULES_SEED", seed.to_string());
    run(&mut command)
}
