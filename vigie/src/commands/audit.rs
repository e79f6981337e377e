//! `vigie audit`: is the record as it was written, and what does it say about a loop?

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::bail;
use chassis::Sources;
use chassis::audit::{self, Anchor, Log, Verdict};
use chassis::settings::nearest;
use serde::Serialize;
use sqlx::PgPool;

use crate::account::Account;
use crate::cli::{AuditCommand, AuditShowArgs, AuditVerifyArgs, Output};
use crate::operator;
use crate::output::{self, Usage};

/// Runs a command about the record.
pub async fn run(output: Output, command: AuditCommand, sources: &Sources) -> anyhow::Result<ExitCode> {
    match command {
        AuditCommand::Verify(args) => verify(output, &args, sources).await,
        AuditCommand::Show(args) => show(output, &args, sources).await,
    }
}

#[derive(Debug, Serialize)]
struct Report {
    /// Whether every chain holds.
    intact: bool,
    logs: Vec<Verified>,
}

#[derive(Debug, Serialize)]
struct Verified {
    service: String,
    schema: String,
    #[serde(flatten)]
    verdict: Verdict,
    /// The head, as `--anchor` takes it; none for a chain that is broken or empty.
    anchor: Option<String>,
}

async fn verify(output: Output, args: &AuditVerifyArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let pool = operator::database(sources).await?;
    let lost = audit::lost_logs(&pool).await?;
    let logs = match audit::logs(&pool).await? {
        logs if logs.is_empty() && lost.is_empty() => bail!(NO_RECORD),
        logs => logs,
    };
    let anchored = args.anchors.iter().map(|anchor| ("--anchor", &anchor.service));
    let known: Vec<Log> = logs.iter().chain(&lost).cloned().collect();
    for (option, name) in args
        .service
        .iter()
        .map(|name| ("--service", name))
        .chain(anchored)
    {
        check_service(option, name, &known)?;
    }
    if let Some(only) = &args.service
        && let Some(other) = args.anchors.iter().find(|anchor| anchor.service != *only)
    {
        return Err(Usage(format!(
            "`--anchor` is of `{}`, and `--service` leaves only `{only}` to be verified",
            other.service
        ))
        .into());
    }
    let mut report = Report {
        intact: true,
        logs: Vec::new(),
    };
    for log in logs {
        if args
            .service
            .as_ref()
            .is_some_and(|service| *service != log.service)
        {
            continue;
        }
        let anchors: Vec<Anchor> = args
            .anchors
            .iter()
            .filter(|anchor| anchor.service == log.service)
            .map(|anchor| anchor.anchor.clone())
            .collect();
        let verdict = audit::verify(&pool, &log.schema, &anchors).await?;
        let anchor = match &verdict {
            Verdict::Intact { links, head, .. } => {
                (*links > 0).then(|| format!("{}:{links}:{head}", log.service))
            }
            Verdict::Broken { .. } => {
                report.intact = false;
                None
            }
        };
        report.logs.push(Verified {
            service: log.service,
            schema: log.schema,
            verdict,
            anchor,
        });
    }
    for log in lost {
        if args
            .service
            .as_ref()
            .is_none_or(|service| *service == log.service)
        {
            report.intact = false;
            report.logs.push(Verified {
                service: log.service,
                schema: log.schema,
                verdict: audit::lost(),
                anchor: None,
            });
        }
    }
    output::print(output, &report, describe)?;
    Ok(if report.intact {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

const NO_RECORD: &str =
    "there is no event log in this database (setting `database.url`): no service has run here yet";

/// The event logs that are there.
async fn logs(pool: &PgPool) -> anyhow::Result<Vec<Log>> {
    let logs = audit::logs(pool).await?;
    if logs.is_empty() {
        bail!(NO_RECORD);
    }
    Ok(logs)
}

fn check_service(option: &str, name: &str, logs: &[Log]) -> Result<(), Usage> {
    if logs.iter().any(|log| log.service == name) {
        return Ok(());
    }
    let known: Vec<String> = logs.iter().map(|log| log.service.clone()).collect();
    let hint = match nearest(name, &known) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("known are {}", known.join(", ")),
    };
    Err(Usage(format!(
        "`{option}` names `{name}`, which has no event log in this database; {hint}"
    )))
}

fn describe(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for log in &report.logs {
        let _ = match &log.verdict {
            Verdict::Intact { links, unsealed, .. } => {
                let waiting = match unsealed {
                    0 => String::new(),
                    rows => format!(", {rows} not sealed yet"),
                };
                writeln!(text, "{:<16} intact, links: {links}{waiting}", log.service)
            }
            Verdict::Broken {
                link,
                seq,
                event_id,
                why,
            } => {
                let row = match (seq, event_id) {
                    (Some(seq), Some(event)) => format!(" (row {seq}, event {event})"),
                    _ => String::new(),
                };
                writeln!(text, "{:<16} BROKEN: link {link}{row} {why}", log.service)
            }
        };
    }
    let anchors: Vec<&str> = report
        .logs
        .iter()
        .filter_map(|log| log.anchor.as_deref())
        .collect();
    if !anchors.is_empty() {
        text.push_str("\nTo note outside of this database, and to give to --anchor later:\n");
        for anchor in anchors {
            let _ = writeln!(text, "  {anchor}");
        }
    }
    text
}

async fn show(output: Output, args: &AuditShowArgs, sources: &Sources) -> anyhow::Result<ExitCode> {
    let pool = operator::database(sources).await?;
    logs(&pool).await?;
    let correlation = match (args.correlation, args.event) {
        (Some(correlation), _) => correlation,
        (None, Some(event)) => match audit::loop_of(&pool, event).await? {
            Some(correlation) => correlation,
            None => bail!("event {event} is in no event log of this database"),
        },
        (None, None) => return Err(Usage("`--correlation` or `--event` is needed".to_owned()).into()),
    };
    let entries = audit::of_loop(&pool, correlation).await?;
    if entries.is_empty() {
        let hint = match audit::loop_of(&pool, correlation).await? {
            Some(_) => format!("it is an event inside of a loop: `vigie audit show --event {correlation}`"),
            None => "no event of this id is on record either".to_owned(),
        };
        bail!("no loop {correlation} is on record; {hint}");
    }
    let account = Account::new(correlation, args.event, entries);
    output::print(output, &account, Account::describe)?;
    Ok(ExitCode::SUCCESS)
}
