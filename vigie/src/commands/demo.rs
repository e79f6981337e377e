//! `vigie demo`.

use std::process::ExitCode;

use chassis::Sources;
use tokio_util::sync::CancellationToken;

use crate::cli::{DemoArgs, Output};
use crate::demo::{self, Options, Source, Story, Undisturbed};
use crate::output;

/// Replays and tells the story.
pub async fn run(output: Output, args: DemoArgs, sources: Sources) -> anyhow::Result<ExitCode> {
    let telemetry = super::init_telemetry(&quiet(&sources))?;
    let source = match &args.data {
        Some(path) => Source::File(path.clone()),
        None => Source::Simulator(demo::simulated(args.seed, args.days)?),
    };
    let options = Options {
        source,
        days: args.days,
        seed: args.seed,
        folder: args.folder.clone(),
        processes: args.processes,
        overrides: None,
    };
    let mut story = if output == Output::Json {
        Story::silent()
    } else {
        Story::aloud()
    };
    story.say(&opening(&args));
    let stay = args.stay.then(|| {
        let stop = CancellationToken::new();
        tokio::spawn(chassis::service::cancel_on_signal(stop.clone()));
        stop
    });
    let stayed = stay.is_some();
    let report = demo::run(options, &mut story, &mut Undisturbed, stay).await?;
    if !(stayed && output == Output::Text) {
        output::print(output, &report, |report| {
            format!(
                "{}\nServers are stopped. To look around, run the same with --stay: it prints the addresses for psql and nats\n\
                 and waits for Ctrl-C.",
                report.describe()
            )
        })?;
    }
    telemetry.flush().await;
    Ok(ExitCode::SUCCESS)
}

/// The story is on standard output; only warnings belong beside it.
fn quiet(sources: &Sources) -> Sources {
    let mut sources = Sources {
        file: None,
        ..sources.clone()
    };
    sources.overrides.push((
        "vigie demo".to_owned(),
        "[telemetry]\nlog = \"warn\"\n".to_owned(),
    ));
    sources
}

fn opening(args: &DemoArgs) -> String {
    let what = match &args.data {
        Some(path) => format!("the payments of {}", path.display()),
        None => format!("simulated card payments (seed {})", args.seed),
    };
    format!(
        "Vigie demo: {what}, replayed through the five services on a private NATS and PostgreSQL.\n\
         Two weeks of history come first; then the first model is trained while the population is still warming up.\n\
         Each line: time in the data, service, event, what and why.\n"
    )
}
