//! A delivery becomes one transaction of effects, then an ack.
//!
//! The inbox row, the handler's writes and the events it appends commit together; the ack follows. A crash
//! before the commit is redone, a crash after it comes back as a duplicate. The handler is dull on
//! purpose: load, decide, save, append.

mod failure;

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_nats::jetstream::consumer::{Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures_util::{FutureExt as _, StreamExt as _};
use schemas::{EventId, EventKind, Received};
use tokio::sync::watch;
use tracing::Instrument as _;

use crate::db::{Tx, is_collision};
use crate::dead_letter::{self, Class, Original, Parked};
use crate::inbox;
use crate::metrics::BEAT;
use crate::patience::{self, NoAnswer, ROUND_MAX, within};
use crate::rules::{self, Answer, Became};
use crate::service::Context;
use crate::trial;
use crate::unreadable::{self, Readable};

pub use failure::HandleError;
use failure::{Failure, classify, is_outage, is_unstorable, panicked};

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
    /// ([`allow_standstill`](crate::db::allow_standstill)).
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
/// How long a database that did its work is trusted to be there still.
const TRUSTED_FOR: Duration = Duration::from_secs(1);
/// Immediate repetitions when transactions of ours collide.
const COLLISION_RETRIES: u32 = 3;

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
                let asked = sqlx::query("select 1").execute(&context.pool);
                within(context.answer_timeout, asked)
                    .await
                    .context("reach PostgreSQL")?;
            }
            let Some(active) = &consumer else { return Ok(false) };
            fetch_and_process(&context, active, connects.clone(), &*handler, &readable).await
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

/// Waits for a message and deals with it; whether that was committed.
async fn fetch_and_process<H: Handler>(
    context: &Context,
    consumer: &Consumer<pull::Config>,
    mut connection: watch::Receiver<u64>,
    handler: &H,
    known: &Readable,
) -> anyhow::Result<bool> {
    if connection.has_changed()? {
        return Ok(false);
    }
    let mut batch = consumer
        .batch()
        .max_messages(1)
        .expires(FETCH_EXPIRES)
        .messages()
        .await
        .map_err(|error| anyhow::anyhow!("fetch: {error}"))?;
    let next = tokio::select! {
        next = batch.next() => next,
        // A message that arrives after this is offered again; nothing is lost by not waiting.
        () = context.stop.cancelled() => return Ok(false),
        // The answer went with the connection; what it would have brought is offered again.
        _ = connection.changed() => return Ok(false),
    };
    match next {
        Some(Ok(message)) => {
            context.metrics.fetch_answered();
            return Ok(process(context, &message, handler).await);
        }
        Some(Err(error)) => tracing::debug!("fetch: {error}"),
        None => {}
    }
    if connection.has_changed()? {
        return Ok(false);
    }
    // Nobody to fetch for, or a message that the client cannot read: the broker itself tells which.
    within(ROUND_MAX, unreadable::park(context, consumer, known)).await?;
    context.metrics.fetch_answered();
    Ok(false)
}

/// What became of a delivery.
enum Verdict {
    Done,
    Duplicate,
    Parked,
    Again(anyhow::Error),
    /// The connection died during the commit: nobody knows. Let the redelivery find out.
    CommitUnknown(anyhow::Error),
}

/// Deals with a message; whether that was committed.
async fn process<H: Handler>(context: &Context, message: &Message, handler: &H) -> bool {
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
            verdict = decide_fate(context, message, decoded, deliveries, handler) => verdict,
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
            // Not the message's fault: it need not wait for hours because a server was away for a minute.
            let delay = if outage {
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

async fn decide_fate<H: Handler>(
    context: &Context,
    message: &Message,
    decoded: Result<Received, schemas::Refusal>,
    deliveries: i64,
    handler: &H,
) -> Verdict {
    let consumer = context.service;
    let received = match decoded {
        Ok(received) => received,
        Err(refusal) => {
            let class = Class::of_refusal(&refusal);
            let reason = refusal.to_string();
            let parked = Parked {
                consumer,
                event_id: None,
                model: None,
                class,
                reason: &reason,
                deliveries,
            };
            return park(context, message, &parked, None::<(&H, &Received)>).await;
        }
    };
    // Most of what comes after an outage has been here before: that costs one statement.
    let asked = inbox::is_duplicate(&context.pool, consumer, received.attributes.id);
    match within(context.answer_timeout, asked).await {
        Ok(true) => return Verdict::Duplicate,
        Ok(false) => {}
        Err(error) => return Verdict::Again(error),
    }
    // Counted before the handler runs, so that a message that kills the process is parked too. What is done and lost
    // only its acks was a duplicate above.
    if rules::is_exhausted(deliveries) {
        let reason = format!("delivered {deliveries} times without success");
        let parked = parked_of(
            context,
            &received,
            Class::DeliveriesExhausted,
            &reason,
            deliveries,
        );
        return park(context, message, &parked, Some((handler, &received))).await;
    }
    let longest = patience::longest(context.answer_timeout, handler.reading_max());
    let prepared = match bounded(longest, guarded(handler.prepare(&received))).await {
        Ok(prepared) => prepared,
        Err(HandleError::Transient(error)) => return Verdict::Again(error),
        Err(HandleError::Permanent { class, reason }) => {
            let parked = parked_of(context, &received, class, &reason, deliveries);
            return park(context, message, &parked, Some((handler, &received))).await;
        }
    };
    let mut collisions = 0;
    loop {
        // Broken off, it is rolled back.
        let attempt = attempt(context, &received, &message.payload, handler, &prepared);
        match bounded(longest, attempt).await {
            Err(Failure::Collision(_)) if collisions < COLLISION_RETRIES => collisions += 1,
            Err(Failure::Collision(error) | Failure::Handle(HandleError::Transient(error))) => {
                return Verdict::Again(error);
            }
            Err(Failure::CommitUnknown(error)) => return Verdict::CommitUnknown(error),
            Err(Failure::Handle(HandleError::Permanent { class, reason })) => {
                let parked = parked_of(context, &received, class, &reason, deliveries);
                return park(context, message, &parked, Some((handler, &received))).await;
            }
            Ok(true) => return Verdict::Done,
            Ok(false) => return Verdict::Duplicate,
        }
    }
}

/// A panic is a defect of the handler, and still no reason to stop the other events.
async fn guarded<T>(work: impl Future<Output = Result<T, HandleError>>) -> Result<T, HandleError> {
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .unwrap_or_else(|panic| Err(HandleError::Transient(panicked(&*panic))))
}

fn parked_of<'a>(
    context: &Context,
    received: &'a Received,
    class: Class,
    reason: &'a str,
    deliveries: i64,
) -> Parked<'a> {
    Parked {
        consumer: context.service,
        event_id: Some(received.attributes.id),
        model: Some(&received.attributes.model),
        class,
        reason,
        deliveries,
    }
}

async fn attempt<H: Handler>(
    context: &Context,
    received: &Received,
    body: &[u8],
    handler: &H,
    prepared: &H::Prepared,
) -> Result<bool, Failure> {
    let mut tx = context
        .pool
        .begin()
        .await
        .map_err(|error| Failure::Handle(error.into()))?;
    let first = inbox::receive(&mut tx, context.service, received, body)
        .await
        .map_err(classify)?;
    if first && let Err(error) = guarded(handler.handle(&mut tx, received, prepared)).await {
        return Err(match error {
            HandleError::Transient(error) if is_collision(&error) => Failure::Collision(error),
            HandleError::Transient(error) if is_unstorable(&error) => {
                let reason = format!("PostgreSQL cannot store what it says: {error:#}");
                Failure::Handle(HandleError::permanent(reason))
            }
            other => Failure::Handle(other),
        });
    }
    trial::boundary("consume.handled");
    match tokio::time::timeout(context.answer_timeout, tx.commit()).await {
        Ok(Ok(())) => {
            trial::boundary("consume.committed");
            Ok(first)
        }
        // The server answered: it rolled back.
        Ok(Err(error @ sqlx::Error::Database(_))) => Err(classify(error)),
        Ok(Err(error)) => Err(Failure::CommitUnknown(error.into())),
        Err(_) => Err(Failure::CommitUnknown(NoAnswer(context.answer_timeout).into())),
    }
}

/// What takes longer has lost its answer, and is broken off.
async fn bounded<T, E: From<HandleError>>(
    longest: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    tokio::time::timeout(longest, Box::pin(work))
        .await
        .unwrap_or_else(|_| Err(HandleError::Transient(NoAnswer(longest).into()).into()))
}

async fn park<H: Handler>(
    context: &Context,
    message: &Message,
    parked: &Parked<'_>,
    waited_for: Option<(&H, &Received)>,
) -> Verdict {
    let longest = patience::longest(context.answer_timeout, Duration::ZERO);
    let mut result = within(longest, park_once(context, message, parked, waited_for)).await;
    if let (Err(error), Some(_)) = (&result, waited_for) {
        tracing::error!("what waits for a parked message cannot be told: {error:#}");
        let alone = park_once(context, message, parked, None::<(&H, &Received)>);
        result = within(longest, alone).await;
    }
    match result {
        // A replica that was slow or stopped has done it after all.
        Ok(None) => Verdict::Duplicate,
        Ok(Some(_)) => {
            context.metrics.parked(parked.class.as_str());
            tracing::error!(
                class = parked.class.as_str(),
                "parked a message on {}: {}",
                message.subject,
                parked.reason
            );
            Verdict::Parked
        }
        Err(error) => Verdict::Again(error),
    }
}

async fn park_once<H: Handler>(
    context: &Context,
    message: &Message,
    parked: &Parked<'_>,
    waited_for: Option<(&H, &Received)>,
) -> anyhow::Result<Option<EventId>> {
    let mut tx = context.pool.begin().await?;
    let original = Original {
        subject: message.subject.as_str(),
        headers: message.headers.as_ref(),
        data: &message.payload,
    };
    let letter = dead_letter::park(&mut tx, context.service, &original, parked).await?;
    if letter.is_none() {
        return Ok(None);
    }
    if let Some((handler, received)) = waited_for {
        let told = AssertUnwindSafe(handler.given_up(&mut tx, received, parked.reason))
            .catch_unwind()
            .await;
        told.unwrap_or_else(|panic| Err(panicked(&*panic)))?;
    }
    trial::boundary("park.written");
    tx.commit().await?;
    trial::boundary("park.committed");
    Ok(letter)
}
