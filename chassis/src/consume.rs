//! A delivery becomes one transaction of effects, then an ack.
//!
//! The inbox row, the handler's writes and the events it appends commit together; the ack follows. A crash
//! before the commit is redone, a crash after it comes back as a duplicate. The handler is dull on
//! purpose: load, decide, save, append.

mod failure;
mod fate;
mod lane;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures_util::StreamExt as _;
use schemas::{EventKind, Received};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::db::Tx;
use crate::metrics::BEAT;
use crate::patience::{ROUND_MAX, within};
use crate::rules::{self, Answer, Became};
use crate::service::Context;
use crate::trial;
use crate::unreadable::{self, Readable};

pub use failure::HandleError;
use failure::is_outage;
use fate::{Verdict, decide_fate};
use lane::Lane;

/// Turns one event into effects, inside the transaction that also records its receipt.
pub trait Handler: Send + Sync + 'static {
    /// What is found out before the transaction begins; `()` for most.
    type Prepared: Default + Send + Sync;

    /// Finds out what takes long, such as what a source or another server says: no transaction is open meanwhile. Changes
    /// nothing; runs again with each delivery.
    fn prepare(
        &self,
        received: &Received,
    ) -> impl Future<Output = Result<Self::Prepared, HandleError>> + Send {
        let _ = received;
        std::future::ready(Ok(Self::Prepared::default()))
    }

    /// Whether there is anything to write, after what was prepared. Where not, the receipt is all that is committed, in one
    /// statement, and [`handle`](Handler::handle) is not called.
    fn writes(prepared: &Self::Prepared) -> bool {
        let _ = prepared;
        true
    }

    /// Handles an event that this consumer sees for the first time.
    ///
    /// No HTTP inside. May run again after a crash or a lost commit: ids must be derived from the event.
    fn handle(
        &self,
        tx: &mut Tx,
        received: &Received,
        prepared: &Self::Prepared,
    ) -> impl Future<Output = Result<(), HandleError>> + Send;

    /// Longest single reading of a source, by either of the two; nothing for most. A delivery may take ten times as much more
    /// before it is broken off and offered again. Whoever reads while a transaction is open says so to it
    /// ([`while_reading`](crate::db::while_reading)).
    fn reading_max(&self) -> Duration {
        Duration::ZERO
    }

    /// Says how the work that this event asked for ended, because it is parked now and nobody will do it: whoever waits for
    /// the outcome must hear of it. Runs in the transaction that parks the event.
    fn given_up(
        &self,
        tx: &mut Tx,
        received: &Received,
        reason: &str,
    ) -> impl Future<Output = anyhow::Result<()>> + Send {
        let _ = (tx, received, reason);
        std::future::ready(Ok(()))
    }
}

/// Most deliveries a service works on at once, per replica.
const WORKERS_MAX: u32 = 4;
const FETCH_EXPIRES: Duration = Duration::from_secs(5);
/// Longest wait of a message whose handler met a server that was away.
const OUTAGE_DELAY_MAX: Duration = Duration::from_secs(30);
/// Deliveries of which that holds; later ones wait as long as any other.
const OUTAGE_DELIVERIES: i64 = 5;
/// How long a database that did its work is trusted to be there still.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// Consumes the events of `kinds` until told to stop.
///
/// # Errors
/// Never for a broker or database that is away: it waits and goes on.
pub async fn run<H: Handler>(
    context: Context,
    kinds: &'static [EventKind],
    handler: Arc<H>,
) -> anyhow::Result<()> {
    let mut workers = tokio::task::JoinSet::new();
    let readable = Readable::default();
    // A handler holds a transaction and may read with a second connection; with more workers than half of the pool,
    // each could hold one and wait for another.
    let count = (context.pool.options().get_max_connections() / 2).clamp(1, WORKERS_MAX);
    for _ in 0..count {
        workers.spawn(work(
            context.clone(),
            kinds,
            Arc::clone(&handler),
            readable.clone(),
        ));
    }
    while let Some(finished) = workers.join_next().await {
        finished.context("a consumer worker panicked")??;
    }
    Ok(())
}

async fn work<H: Handler>(
    context: Context,
    kinds: &'static [EventKind],
    handler: Arc<H>,
    readable: Readable,
) -> anyhow::Result<()> {
    let durable = context.service;
    let mut consumer: Option<Consumer<pull::Config>> = None;
    let mut connects = context.bus.connects();
    let mut connection = 0;
    let mut committed_at: Option<Instant> = None;
    let mut lane = Lane::new(context.pool.clone());
    while !context.stop.is_cancelled() {
        context.metrics.beat("consume");
        // A broker that came back may have lost the consumer, or its stream's tail: both are looked at again.
        let now = *connects.borrow_and_update();
        if now != connection {
            (consumer, connection) = (None, now);
        }
        let result = async {
            if consumer.is_none() {
                let preparing = prepare(&context, kinds, &readable);
                consumer = Some(within(ROUND_MAX, preparing).await?);
            }
            // No database, no work: messages stay with the broker and their deliveries are not counted.
            if committed_at.is_none_or(|at| at.elapsed() > TRUSTED_FOR) {
                lane.give_back();
                let asked = sqlx::query("select 1").execute(&context.pool);
                within(context.answer_timeout, asked)
                    .await
                    .context("reach PostgreSQL")?;
            }
            let Some(active) = &consumer else { return Ok(false) };
            let fetched = fetch(&context, active, connects.clone(), &readable, &mut lane).await?;
            let Some(message) = fetched else { return Ok(false) };
            anyhow::Ok(process(&context, &message, kinds, &*handler, &mut lane).await)
        }
        .await;
        committed_at = matches!(result, Ok(true)).then(Instant::now);
        if let Err(error) = result {
            tracing::warn!("consumer {durable} waits: {error:#}");
            consumer = None;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_secs(1)) => {}
                () = context.stop.cancelled() => {}
            }
        }
    }
    Ok(())
}

/// The consumer as it should be. Re-provisions what somebody deleted; the inbox absorbs the flood of old events.
async fn prepare(
    context: &Context,
    kinds: &'static [EventKind],
    readable: &Readable,
) -> anyhow::Result<Consumer<pull::Config>> {
    crate::provision::streams(&context.bus, &context.nats).await?;
    readable.forget().await;
    let consumer = crate::provision::consumer(&context.bus, &context.nats, context.service, kinds).await?;
    // What ended the last connection is not fetched once more.
    unreadable::park(context, &consumer, readable).await?;
    Ok(consumer)
}

/// Waits for a message; none when there is none, or the connection changed. The lane is given back where there is nothing to do.
async fn fetch(
    context: &Context,
    consumer: &Consumer<pull::Config>,
    mut connection: watch::Receiver<u64>,
    known: &Readable,
    lane: &mut Lane,
) -> anyhow::Result<Option<Message>> {
    if connection.has_changed()? {
        return Ok(None);
    }
    let mut batch = consumer
        .batch()
        .max_messages(1)
        .expires(FETCH_EXPIRES)
        .messages()
        .await
        .map_err(|error| anyhow::anyhow!("fetch: {error}"))?;
    let next = tokio::select! {
        next = next_message(&mut batch, lane) => next,
        // A message that arrives after this is offered again; nothing is lost by not waiting.
        () = context.stop.cancelled() => return Ok(None),
        // The answer went with the connection; what it would have brought is offered again.
        _ = connection.changed() => return Ok(None),
    };
    match next {
        Some(Ok(message)) => {
            context.metrics.fetch_answered();
            return Ok(Some(message));
        }
        Some(Err(error)) => tracing::debug!("fetch: {error}"),
        None => {}
    }
    if connection.has_changed()? {
        return Ok(None);
    }
    // Nobody to fetch for, or a message that the client cannot read: the broker itself tells which.
    within(ROUND_MAX, unreadable::park(context, consumer, known)).await?;
    context.metrics.fetch_answered();
    Ok(None)
}

/// The next message of a batch. A worker without work needs no connection.
async fn next_message(
    batch: &mut pull::Batch,
    lane: &mut Lane,
) -> Option<Result<Message, async_nats::Error>> {
    tokio::select! {
        next = batch.next() => next,
        () = tokio::time::sleep(TRUSTED_FOR) => {
            lane.give_back();
            batch.next().await
        }
    }
}

/// Deals with a message; whether that was committed.
async fn process<H: Handler>(
    context: &Context,
    message: &Message,
    kinds: &[EventKind],
    handler: &H,
    lane: &mut Lane,
) -> bool {
    let started = Instant::now();
    let deliveries = message.info().map_or(1, |info| info.delivered);
    let headers: Vec<(&str, &str)> = message
        .headers
        .iter()
        .flat_map(async_nats::HeaderMap::iter)
        .filter_map(|(name, values)| Some((name.as_ref(), values.first()?.as_str())))
        .collect();
    let decoded = schemas::decode(headers, &message.payload);
    let span =
        crate::telemetry::process_span(context.service, message.subject.as_str(), decoded.as_ref().ok());
    let verdict = async {
        let alive = keep_alive(context, message);
        tokio::select! {
            verdict = decide_fate(context, message, decoded, deliveries, kinds, handler, lane) => verdict,
            never = alive => match never {},
        }
    }
    .instrument(span.clone())
    .await;
    let entered = span.enter();
    let word = match &verdict {
        Verdict::Done => "done",
        Verdict::Duplicate => "duplicate",
        Verdict::Parked => "parked",
        Verdict::Foreign => "foreign",
        Verdict::Again(_) => "again",
        Verdict::CommitUnknown(_) => "unknown",
    };
    context
        .metrics
        .processed(message.subject.as_str(), word, started.elapsed());
    drop(entered);
    let committed = matches!(verdict, Verdict::Done | Verdict::Duplicate | Verdict::Parked);
    answer(context, message, verdict, deliveries).await;
    committed
}

/// Tells broker and supervisor that the handler is still at work, for ever.
async fn keep_alive(context: &Context, message: &Message) -> std::convert::Infallible {
    loop {
        tokio::time::sleep((context.nats.ack_wait / 3).min(BEAT)).await;
        context.metrics.beat("consume");
        if let Err(error) = message.ack_with(AckKind::Progress).await {
            tracing::debug!("progress was not reported: {error}");
        }
    }
}

async fn answer(context: &Context, message: &Message, verdict: Verdict, deliveries: i64) {
    let (became, error) = match verdict {
        Verdict::Done => (Became::Done, None),
        Verdict::Duplicate => (Became::Duplicate, None),
        Verdict::Parked => (Became::Parked, None),
        Verdict::Foreign => (Became::Foreign, None),
        Verdict::Again(error) => (Became::Again, Some(error)),
        Verdict::CommitUnknown(error) => (Became::CommitUnknown, Some(error)),
    };
    let outage = error.as_ref().is_some_and(is_outage);
    let error = error.map_or_else(String::new, |error| format!("{error:#}"));
    let outcome = match rules::answer(became, deliveries) {
        Answer::Ack => {
            let mut connection = context.bus.connects();
            connection.mark_unchanged();
            // A duplicate whose ack is lost is one more duplicate: nobody waits for the broker's word on it.
            let ack = async {
                match became {
                    Became::Duplicate => message.ack().await,
                    _ => message.double_ack().await,
                }
            };
            let acked = tokio::select! {
                acked = ack => acked,
                // The broker's word went with the connection; a redelivery meets the inbox.
                _ = connection.changed() => Ok(()),
            };
            trial::boundary("consume.acked");
            acked
        }
        Answer::Again(delay) => {
            // Not the message's fault: it need not wait for hours because a server was away for a minute. The last deliveries are
            // not used up by an outage that lets us ask and not write.
            let delay = if outage && deliveries <= OUTAGE_DELIVERIES {
                delay.min(OUTAGE_DELAY_MAX)
            } else {
                delay
            };
            tracing::warn!(
                "{} is offered again in {} s: {error}",
                message.subject,
                delay.as_secs()
            );
            message.ack_with(AckKind::Nak(Some(delay))).await
        }
        Answer::Silence => {
            tracing::warn!("outcome of a commit is unknown, waiting for redelivery: {error}");
            Ok(())
        }
    };
    if let Err(error) = outcome {
        // The effects are committed; a redelivery meets the inbox.
        tracing::debug!("ack was lost: {error}");
    }
}
