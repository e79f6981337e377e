//! The delivery loop: claim a row, send outside any transaction, record what became of it.
//!
//! A process that dies between the two leaves a row whose lease ends; whoever claims it then sends the same
//! message under the same id. So a person sees an alert at most once more than once, and can tell.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::patience::within;
use chassis::service::Context;
use chassis::{Cause, outbox, telemetry, trial};
use rand::Rng as _;
use schemas::events::{AlertFailed, AlertSent, Channel};
use tracing::Instrument as _;

use crate::alert::Alert;
use crate::breaker::{Breaker, Change, FAILURES_MAX, Seen};
use crate::metrics::{AlertMetrics, ChannelLabels};
use crate::outlet::{Letter, Outlets, SendError};
use crate::recipient::Recipient;
use crate::retry::{Next, RetryPolicy, next};
use crate::store::{self, Claimed, Outcome};
use crate::text::line;

/// Pause when nothing is due, and when the database is away.
const LOOK_AGAIN: Duration = Duration::from_millis(500);
/// How often waiting alerts are counted.
const COUNT_EVERY: Duration = Duration::from_secs(10);
/// Immediate tries to record an outcome, so that a hiccup of the database makes no duplicate.
const SETTLE_TRIES: u32 = 5;
/// Longest time to record it, in waits for one answer of the database.
const SETTLE_TIMES: u32 = 2;
/// Longest reason in events and rows, characters.
const REASON_CHARS_MAX: usize = 400;

/// What the loop needs.
pub struct Delivery {
    /// The ways out.
    pub outlets: Outlets,
    /// How patient it is.
    pub retry: RetryPolicy,
    /// Bound of one send; the lease is longer.
    pub send_timeout: Duration,
    /// Pause between two attempts while a way out is away.
    pub probe_every: Duration,
    /// What it counts.
    pub metrics: AlertMetrics,
}

impl Delivery {
    fn lease(&self, answer_timeout: Duration) -> Duration {
        self.send_timeout * 2 + answer_timeout * SETTLE_TIMES + Duration::from_secs(30)
    }
}

/// Delivers one channel's alerts until told to stop.
///
/// # Errors
/// Never for a database or an outlet that is away: it waits and goes on.
pub async fn run(context: Context, delivery: Arc<Delivery>, channel: Channel) -> anyhow::Result<()> {
    let beat = match channel {
        Channel::Slack => "deliver-slack",
        Channel::Email | Channel::Other => "deliver-email",
    };
    let mut breaker = Breaker::new(delivery.probe_every);
    let labels = ChannelLabels {
        channel: channel.as_str(),
    };
    delivery.metrics.away.get_or_create(&labels).set(0);
    while !context.stop.is_cancelled() {
        context.metrics.beat(beat);
        match round(&context, &delivery, channel, &mut breaker).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!("delivery by {} waits: {error:#}", channel.as_str()),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Counts waiting alerts until told to stop.
///
/// # Errors
/// Never.
pub async fn count(context: Context, metrics: AlertMetrics) -> anyhow::Result<()> {
    while !context.stop.is_cancelled() {
        match within(context.answer_timeout, store::waiting(&context.pool)).await {
            Ok(rows) => {
                for channel in [Channel::Email, Channel::Slack].map(Channel::as_str) {
                    let found = rows.iter().find(|(name, ..)| name == channel);
                    let (waiting, age) = found.map_or((0, 0.0), |(_, waiting, age)| (*waiting, *age));
                    metrics
                        .waiting
                        .get_or_create(&ChannelLabels { channel })
                        .set(waiting);
                    metrics
                        .oldest_age
                        .get_or_create(&ChannelLabels { channel })
                        .set(age);
                }
            }
            Err(error) => tracing::debug!("waiting alerts were not counted: {error}"),
        }
        tokio::select! {
            () = tokio::time::sleep(COUNT_EVERY) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Sends at most one alert; says whether there was one.
async fn round(
    context: &Context,
    delivery: &Delivery,
    channel: Channel,
    breaker: &mut Breaker,
) -> anyhow::Result<bool> {
    if !breaker.admits(Instant::now()) {
        return Ok(false);
    }
    let claiming = store::claim(
        &context.pool,
        channel.as_str(),
        delivery.lease(context.answer_timeout),
    );
    let claimed = within(context.answer_timeout, claiming)
        .await
        .context("claim an alert")?;
    let Some(claimed) = claimed else { return Ok(false) };
    let span = tracing::info_span!("send alert", otel.kind = "client", alert.id = %claimed.alert_id, alert.channel = channel.as_str());
    telemetry::continue_trace(&span, &claimed.trace);
    deliver(context, delivery, &claimed, breaker)
        .instrument(span)
        .await?;
    Ok(true)
}

async fn deliver(
    context: &Context,
    delivery: &Delivery,
    claimed: &Claimed,
    breaker: &mut Breaker,
) -> anyhow::Result<()> {
    let (Some(alert), Some(recipient)) = (&claimed.alert, &claimed.recipient) else {
        let reason = "written by a release that this one cannot read".to_owned();
        tracing::error!("alert {} is given up: {reason}", claimed.alert_id);
        return record(context, claimed, None, &Outcome::Failed { reason })
            .await
            .map(drop);
    };
    trial::boundary("alert.claimed");
    let (outcome, seen) = attempt(delivery, claimed, alert, recipient).await;
    trial::boundary("alert.sent");
    if let Some(seen) = seen {
        note(delivery, recipient.channel(), breaker, seen);
    }
    let recording = record(context, claimed, Some((alert, recipient)), &outcome);
    if !within(context.answer_timeout * SETTLE_TIMES, recording).await? {
        tracing::warn!("alert {} was taken over by another process", claimed.alert_id);
        return Ok(());
    }
    let labels = ChannelLabels {
        channel: recipient.channel().as_str(),
    };
    let (to, subject) = (recipient.masked(), alert.subject());
    match &outcome {
        Outcome::Sent => {
            delivery.metrics.sent.get_or_create(&labels).inc();
            tracing::info!("told {to}: {subject}");
        }
        Outcome::Again { after, error } => {
            delivery.metrics.repeated.get_or_create(&labels).inc();
            tracing::warn!(
                "{to} is told in {:.0} s, because {error}: {subject}",
                after.as_secs_f64()
            );
        }
        Outcome::Failed { reason } => {
            delivery.metrics.failed.get_or_create(&labels).inc();
            tracing::error!("{to} could not be told, {reason}: {subject}");
        }
    }
    Ok(())
}

/// Notes what an attempt says of its way out, and tells people when that changes.
fn note(delivery: &Delivery, channel: Channel, breaker: &mut Breaker, seen: Seen) {
    let channel = channel.as_str();
    match breaker.note(seen, Instant::now()) {
        Some(Change::Away) => tracing::warn!(
            "{channel} is away: {FAILURES_MAX} attempts in a row failed; one every {:.0} s finds out whether it is back",
            delivery.probe_every.as_secs_f64()
        ),
        Some(Change::Back) => tracing::info!("{channel} is back"),
        None => {}
    }
    let labels = ChannelLabels { channel };
    let away = i64::from(breaker.is_away());
    delivery.metrics.away.get_or_create(&labels).set(away);
}

/// How the attempt ended, and what it says of the way out; nothing if none was made.
async fn attempt(
    delivery: &Delivery,
    claimed: &Claimed,
    alert: &Alert,
    recipient: &Recipient,
) -> (Outcome, Option<Seen>) {
    // A row whose senders die again and again must end too.
    if claimed.attempt > delivery.retry.attempts_max {
        let reason = format!(
            "gave up after {} attempts; the last ended without an answer",
            claimed.attempt - 1
        );
        return (Outcome::Failed { reason }, None);
    }
    let letter = Letter {
        alert_id: claimed.alert_id,
        alert,
        recipient,
        thread: claimed.thread,
        written_at: claimed.written_at,
    };
    let sent = tokio::time::timeout(delivery.send_timeout, delivery.outlets.send(&letter))
        .await
        .unwrap_or_else(|_| {
            Err(SendError::Transient(format!(
                "no answer within {} s",
                delivery.send_timeout.as_secs()
            )))
        });
    let Err(error) = sent else {
        return (Outcome::Sent, Some(Seen::Answered));
    };
    let outcome = match next(&delivery.retry, claimed.attempt, &error, rand::rng().random()) {
        Next::Again { after } => Outcome::Again {
            after,
            error: without_address(&error.to_string(), recipient),
        },
        Next::GiveUp { reason } => Outcome::Failed {
            reason: without_address(&reason, recipient),
        },
    };
    (outcome, error.seen())
}

/// Servers like to repeat the address; events must not hold it.
fn without_address(reason: &str, recipient: &Recipient) -> String {
    line(
        &reason.replace(&recipient.stored(), &recipient.masked()),
        REASON_CHARS_MAX,
    )
}

/// Ends the attempt and announces its end in one transaction; `false` when the row is no longer ours.
async fn record(
    context: &Context,
    claimed: &Claimed,
    told: Option<(&Alert, &Recipient)>,
    outcome: &Outcome,
) -> anyhow::Result<bool> {
    let mut tried = 0;
    loop {
        tried += 1;
        let recording = record_once(context, claimed, told, outcome);
        match within(context.answer_timeout, recording).await {
            Err(error) if tried < SETTLE_TRIES => {
                tracing::warn!(
                    "the outcome of alert {} is recorded again: {error:#}",
                    claimed.alert_id
                );
                tokio::time::sleep(LOOK_AGAIN).await;
            }
            result => {
                return result.with_context(|| format!("record the outcome of alert {}", claimed.alert_id));
            }
        }
    }
}

async fn record_once(
    context: &Context,
    claimed: &Claimed,
    told: Option<(&Alert, &Recipient)>,
    outcome: &Outcome,
) -> sqlx::Result<bool> {
    let mut tx = context.pool.begin().await?;
    if !store::settle(&mut tx, claimed, outcome).await? {
        return Ok(false);
    }
    if let Some((alert, recipient)) = told
        && let Some(mut draft) = announcement(claimed, alert, recipient, outcome)
    {
        draft.discriminator = claimed.alert_id.to_string();
        outbox::append(&mut tx, context.service, draft).await?;
    }
    trial::boundary("alert.recording");
    tx.commit().await?;
    trial::boundary("alert.recorded");
    Ok(true)
}

fn announcement(
    claimed: &Claimed,
    alert: &Alert,
    recipient: &Recipient,
    outcome: &Outcome,
) -> Option<outbox::Draft> {
    let cause = Cause::Event {
        id: alert.about.event_id,
        correlation_id: alert.about.correlation_id,
    };
    match outcome {
        Outcome::Again { .. } => None,
        Outcome::Sent => Some(outbox::Draft::new(
            &alert.model,
            cause,
            AlertSent {
                alert_id: claimed.alert_id,
                about_event: alert.about.event_id,
                about_type: alert.about.event_type.clone(),
                channel: recipient.channel(),
                recipient: recipient.masked(),
                severity: alert.severity.word().to_owned(),
                subject: alert.subject(),
                attempts: claimed.attempt,
            },
        )),
        Outcome::Failed { reason } => Some(outbox::Draft::new(
            &alert.model,
            cause,
            AlertFailed {
                alert_id: claimed.alert_id,
                about_event: alert.about.event_id,
                about_type: alert.about.event_type.clone(),
                channel: recipient.channel(),
                recipient: recipient.masked(),
                severity: alert.severity.word().to_owned(),
                subject: alert.subject(),
                attempts: claimed.attempt,
                reason: reason.clone(),
            },
        )),
    }
}
