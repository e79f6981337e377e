//! What becomes of a delivery: receipt, effects and events commit together, or it is parked, or it is offered again.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use async_nats::jetstream::Message;
use futures_util::FutureExt as _;
use schemas::{EventId, EventKind, Received};

use super::Handler;
use super::failure::{Failure, HandleError, classify, is_outage, is_unstorable, panicked};
use super::lane::Lane;
use crate::db::is_collision;
use crate::dead_letter::{self, Class, Original, Parked};
use crate::inbox;
use crate::patience::{self, NoAnswer, within};
use crate::rules;
use crate::service::Context;
use crate::trial;

/// Immediate repetitions when transactions of ours collide.
const COLLISION_RETRIES: u32 = 3;

/// What became of a delivery.
pub(super) enum Verdict {
    Done,
    Duplicate,
    Parked,
    /// The broker delivered what this service does not read.
    Foreign,
    Again(anyhow::Error),
    /// The connection died during the commit: nobody knows. Let the redelivery find out.
    CommitUnknown(anyhow::Error),
}

/// Prepares, handles and commits it; what cannot be handled is parked.
pub(super) async fn decide_fate<H: Handler>(
    context: &Context,
    message: &Message,
    decoded: Result<Received, schemas::Refusal>,
    deliveries: i64,
    kinds: &[EventKind],
    handler: &H,
    lane: &mut Lane,
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
    let attributes = &received.attributes;
    let kind = attributes.kind;
    // The broker's rights are by subject: what came on another one was not allowed by them.
    let forged = if kind.subject() != message.subject.as_str() {
        Some(format!("{kind} came on the subject `{}`", message.subject))
    } else if !kind.is_said_by(&attributes.source) {
        Some(format!(
            "`{}` may not say {kind}; {} does",
            crate::text::visible(&attributes.source),
            kind.publishers().join(", ")
        ))
    } else {
        None
    };
    if let Some(reason) = forged {
        let parked = Parked {
            consumer,
            // Its id may be another event's, which must not be kept from taking effect.
            event_id: None,
            model: Some(&attributes.model),
            class: Class::UnauthorizedSource,
            reason: &reason,
            deliveries,
        };
        return park(context, message, &parked, None::<(&H, &Received)>).await;
    }
    if !kinds.contains(&kind) {
        // A broker that lost the end of its stream gives its numbers to other messages, and delivers again by number whatever the
        // filter says. What had the number before is offered again by its publisher.
        tracing::error!(
            "the broker delivered {kind}, which {consumer} does not read: it lost acknowledged data and uses its numbers again"
        );
        return Verdict::Foreign;
    }
    // Most of what comes after an outage has been here before: that costs one statement.
    let asked = is_duplicate(lane, consumer, received.attributes.id);
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
        let outcome = if H::writes(&prepared) {
            let attempt = attempt(context, lane, &received, &message.payload, handler, &prepared);
            bounded(longest, attempt).await
        } else {
            bounded(longest, acknowledge(context, lane, &received, &message.payload)).await
        };
        match outcome {
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

async fn is_duplicate(lane: &mut Lane, consumer: &str, event: EventId) -> sqlx::Result<bool> {
    let mut connection = lane.take().await?;
    let known = inbox::is_duplicate(&mut connection, consumer, event).await?;
    lane.keep(connection);
    Ok(known)
}

/// The receipt of an event that has no effects: one statement, which is its own transaction.
async fn acknowledge(
    context: &Context,
    lane: &mut Lane,
    received: &Received,
    body: &[u8],
) -> Result<bool, Failure> {
    trial::boundary("consume.handled");
    let answered = async {
        let mut connection = lane.take().await?;
        let first = inbox::receive(&mut connection, context.service, received, body).await?;
        lane.keep(connection);
        Ok(first)
    };
    let first = answered.await.map_err(classify)?;
    trial::boundary("consume.committed");
    Ok(first)
}

async fn attempt<H: Handler>(
    context: &Context,
    lane: &mut Lane,
    received: &Received,
    body: &[u8],
    handler: &H,
    prepared: &H::Prepared,
) -> Result<bool, Failure> {
    let mut tx = lane
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
    // What only had no luck is parked with the next delivery, and whoever waits is told.
    if let (Err(error), Some(_)) = (&result, waited_for)
        && !is_outage(error)
        && !is_collision(error)
    {
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
