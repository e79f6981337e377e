//! `cargo xtask faults`: the trial of faults, for anyone to run.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use e2e::faults::controls::{CONTROLS, word};
use e2e::faults::report::Report;
use e2e::faults::world::WorldOptions;
use e2e::faults::{controls, crash_points, disk_full, load, outage, random};
use serde_json::json;

/// Breaks real servers and services on purpose, and audits what came of it.
///
/// Without a command: faults at random for the time that is given. Everything runs on loopback, in a folder of its own.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask faults", bin_name = "cargo xtask faults", version)]
struct Arguments {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    random: RandomArguments,
    /// Print the result as JSON.
    #[arg(long, global = true)]
    json: bool,
    /// Folder with the programs of the services; where this program lies if not given.
    #[arg(long, global = true)]
    binaries: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct RandomArguments {
    /// How long faults go on, minutes. [default: 4]
    #[arg(long)]
    minutes: Option<f64>,
    /// The seed: the same one draws the same faults. Without one it is drawn, and printed.
    #[arg(long)]
    seed: Option<u64>,
    /// Longest pause between two faults, seconds. [default: 0.3]
    #[arg(long)]
    pause: Option<f64>,
    /// Pause between two events, seconds. [default: 0.2]
    #[arg(long)]
    pace: Option<f64>,
    /// Tell each fault.
    #[arg(long)]
    tell: bool,
}

impl RandomArguments {
    /// An argument that was given, and would say nothing beside a command.
    fn given(&self) -> Option<&'static str> {
        [
            ("--minutes", self.minutes.is_some()),
            ("--seed", self.seed.is_some()),
            ("--pause", self.pause.is_some()),
            ("--pace", self.pace.is_some()),
            ("--tell", self.tell),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    /// A death at every boundary between two steps of an effect.
    CrashPoints {
        /// Deaths at the first, second, … boundary of a life, up to this one.
        #[arg(long, default_value_t = 25)]
        deepest: u32,
        /// Die also at every pair of places of a promotion, one after the other.
        #[arg(long)]
        pairs: bool,
        /// How long to wait for the last death, minutes.
        #[arg(long, default_value_t = 15.0)]
        minutes: f64,
    },
    /// Each guard is left out once: a named invariant must fail. With it, the same story must hold.
    Controls {
        /// Only this one: inbox, sweep, epoch, guard or token.
        #[arg(long)]
        only: Option<String>,
    },
    /// NATS is away, with or without its disk.
    Outage {
        /// How long, minutes.
        #[arg(long, default_value_t = 10.0)]
        minutes: f64,
        /// It comes back without its disk.
        #[arg(long)]
        wiped: bool,
        /// Pause between two events, seconds.
        #[arg(long, default_value_t = 0.5)]
        pace: f64,
        /// How long after its return the first effect may come, seconds; 10, or 360 if it is wiped.
        #[arg(long)]
        within: Option<f64>,
    },
    /// The disk of NATS and PostgreSQL is full, again and again; needs the right to mount a file system in memory.
    DiskFull {
        /// How often.
        #[arg(long, default_value_t = 10)]
        times: u32,
        /// For how long, seconds.
        #[arg(long, default_value_t = 3.0)]
        seconds: f64,
    },
    /// A backlog of events, each offered several times in any order.
    Load {
        /// Events.
        #[arg(long, default_value_t = 10_000)]
        events: u64,
        /// How often each is offered.
        #[arg(long, default_value_t = 3)]
        copies: u64,
        /// Fewest decisions a second, else it fails.
        #[arg(long, default_value_t = 0.0)]
        rate_min: f64,
    },
}

fn minutes(minutes: f64) -> Duration {
    Duration::from_secs_f64(minutes.clamp(0.0, 100_000.0) * 60.0)
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(2),
        Err(error) => {
            eprintln!("faults: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn tell(report: &Report, as_json: bool) -> bool {
    if as_json {
        println!("{}", report.to_json());
    } else {
        println!("{report}");
    }
    report.holds()
}

async fn run(arguments: Arguments) -> anyhow::Result<bool> {
    let world = WorldOptions {
        binaries: arguments.binaries.clone(),
        ..WorldOptions::default()
    };
    let seconds = |seconds: f64| Duration::from_secs_f64(seconds.clamp(0.001, 3_600.0));
    if let (Some(_), Some(name)) = (&arguments.command, arguments.random.given()) {
        anyhow::bail!(
            "`{name}` before a command is for faults at random; write it behind the command, if that has one"
        );
    }
    match arguments.command {
        None => {
            let world = WorldOptions {
                wrong_clocks: true,
                ..world
            };
            let given = arguments.random;
            let seed = given.seed.unwrap_or_else(|| rand::random::<u64>() >> 32);
            eprintln!("faults: seed {seed}; `--seed {seed}` draws the same faults again");
            let options = random::RandomOptions {
                seed,
                time: minutes(given.minutes.unwrap_or(4.0)),
                pause: seconds(given.pause.unwrap_or(0.3)),
                pace: seconds(given.pace.unwrap_or(0.2)),
                tell: given.tell,
                faults_min: 0,
                world,
            };
            Ok(tell(&Box::pin(random::run(options)).await?, arguments.json))
        }
        Some(Command::CrashPoints {
            deepest,
            pairs,
            minutes: patience,
        }) => {
            let options = crash_points::CrashOptions {
                deepest,
                pairs,
                patience: minutes(patience),
                world,
            };
            Ok(tell(&Box::pin(crash_points::run(options)).await?, arguments.json))
        }
        Some(Command::Controls { only }) => run_controls(only.as_deref(), &world, arguments.json).await,
        Some(Command::Outage {
            minutes: away,
            wiped,
            pace,
            within,
        }) => {
            let options = outage::OutageOptions {
                away: minutes(away),
                wiped,
                pace: seconds(pace),
                within: seconds(within.unwrap_or(if wiped { 360.0 } else { 10.0 })),
                world,
            };
            let outage = Box::pin(outage::run(options)).await?;
            let shown = |time: Option<Duration>| {
                time.map_or_else(
                    || "never".to_owned(),
                    |time| format!("{:.1} s", time.as_secs_f64()),
                )
            };
            eprintln!(
                "faults: after NATS was back, the first effect came after {}, that of a new event after {}",
                shown(outage.flow_resumed),
                shown(outage.new_event)
            );
            Ok(tell(&outage.report, arguments.json))
        }
        Some(Command::DiskFull { times, seconds: full }) => {
            let options = disk_full::DiskFullOptions {
                times,
                full: seconds(full),
                world,
            };
            if let Some(report) = Box::pin(disk_full::run(options)).await? {
                return Ok(tell(&report, arguments.json));
            }
            anyhow::bail!("this machine does not permit to mount a file system in memory; run it as root")
        }
        Some(Command::Load {
            events,
            copies,
            rate_min,
        }) => {
            let options = load::LoadOptions {
                events,
                copies,
                seed: 1,
                world,
            };
            let load = Box::pin(load::run(options)).await?;
            if arguments.json {
                println!("{}", load.to_json());
            } else {
                println!("{load}");
            }
            if load.rate() < rate_min {
                eprintln!(
                    "faults: {:.0} decisions a second are less than `--rate-min {rate_min}`",
                    load.rate()
                );
            }
            Ok(load.holds() && load.rate() >= rate_min)
        }
    }
}

async fn run_controls(only: Option<&str>, world: &WorldOptions, as_json: bool) -> anyhow::Result<bool> {
    if let Some(only) = only
        && !CONTROLS.iter().any(|(guard, _)| word(*guard) == only)
    {
        anyhow::bail!("`--only {only}`: inbox, sweep, epoch, guard or token");
    }
    let mut good = true;
    for (guard, invariant) in CONTROLS {
        let name = word(guard);
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let with = Box::pin(controls::run(guard, false, world)).await?;
        let without = Box::pin(controls::run(guard, true, world)).await?;
        let (holds, fails) = (with.violations.is_empty(), without.violates(invariant));
        good &= holds && fails;
        let list = |findings: &e2e::faults::auditor::Findings| -> Vec<String> {
            findings.violations.iter().map(ToString::to_string).collect()
        };
        if as_json {
            println!(
                "{}",
                json!({ "guard": name, "invariant": invariant, "with": list(&with), "without": list(&without) })
            );
            continue;
        }
        let verdict = if holds && fails {
            "as it must be"
        } else {
            "NOT AS IT MUST BE"
        };
        println!(
            "{name}: {verdict}; with it {} violations, without it:",
            with.violations.len()
        );
        for violation in list(&with)
            .iter()
            .map(|v| format!("WITH IT {v}"))
            .chain(list(&without))
        {
            println!("  {violation}");
        }
    }
    Ok(good)
}
