//! The promoter: a validated candidate becomes champion, once, and never over a newer one.
//!
//! The intent is a row. Whoever claims it – now or after a crash – locks the model and judges, hashes the bytes anew,
//! has the registry look, set and read back, and then locks the model again to make it so. A promotion whose fence is
//! not larger than the champion's is stale and refused; so are bytes that are not the validated ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::service::Context;
use chassis::{Tx, outbox, telemetry};
use schemas::events::{ModelPromoted, PromotionKind};
use schemas::{ModelVersion, Share};
use tracing::Instrument as _;

use crate::decide::retry_delay;
use crate::job::Order;
use crate::registry::{Promoting, RegistryError};
use crate::store::promotion::{Champion, Intent};
use crate::store::version::StoredVersion;
use crate::store::{self, TaskRow};
use crate::work::{Bridge, announcement};

/// Pause when nothing is due.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Promotes until told to stop.
///
/// # Errors
/// Never for a database or a registry that is away: it waits and goes on.
pub async fn run(context: Context, bridge: Arc<Bridge>) -> anyhow::Result<()> {
    while !context.stop.is_cancelled() {
        context.metrics.beat("promote");
        match round(&context, &bridge).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!("promotions wait: {error:#}"),
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

/// Resolves at most one intent; says whether there was one.
async fn round(context: &Context, bridge: &Bridge) -> anyhow::Result<bool> {
    let claimed = store::promotion::claim(&context.pool, bridge.owner, bridge.lease).await;
    let Some(intent) = claimed.context("claim a promotion")? else {
        return Ok(false);
    };
    let span = tracing::info_span!(
        "promote",
        model.name = %intent.model,
        model.version = %intent.validated.version,
    );
    telemetry::continue_trace(&span, &intent.origin.trace);
    let renewing = async {
        loop {
            tokio::time::sleep(bridge.lease / 3).await;
            match store::promotion::renew(&context.pool, &intent, bridge.lease).await {
                Ok(true) => {}
                Ok(false) => return,
                Err(error) => tracing::debug!("lease was not renewed: {error}"),
            }
        }
    };
    async {
        tokio::select! {
            result = resolve(context, bridge, &intent) => result,
            // Lost: somebody else resolves it.
            () = renewing => Ok(()),
        }
    }
    .instrument(span)
    .await?;
    Ok(true)
}

/// What stands against a promotion, if anything does; pure.
pub fn obstacle(intent: &Intent, version: &StoredVersion, champion: Option<&Champion>) -> Option<String> {
    let validated = &intent.validated;
    if validated.artifact.sha256 != version.artifact.sha256 {
        return Some(format!(
            "validated were bytes with sha256 `{}`, trained were `{}`",
            validated.artifact.sha256, version.artifact.sha256
        ));
    }
    if version.status == "retired" {
        return Some("the version was retired".to_owned());
    }
    if let Some(missing) = ["recall", "precision"]
        .into_iter()
        .find(|name| metric(intent, name).is_none())
    {
        return Some(format!(
            "the validation passed without a {missing}, and drift is measured against it"
        ));
    }
    match champion {
        Some(champion) if champion.fence >= intent.fence => Some(format!(
            "stale: the champion `{}` has fence {}, this promotion has {}",
            champion.version, champion.fence, intent.fence
        )),
        _ => None,
    }
}

/// A metric of the validation.
fn metric(intent: &Intent, name: &str) -> Option<Share> {
    let found = intent.validated.metrics.iter().find(|metric| metric.name == name);
    found.and_then(|metric| metric.value)
}

async fn resolve(context: &Context, bridge: &Bridge, intent: &Intent) -> anyhow::Result<()> {
    let begun = Instant::now();
    let mut tx = context.pool.begin().await?;
    let champion = store::promotion::lock_champion(&mut tx, &intent.model).await?;
    let Some(version) = store::version::lock(&mut tx, intent.validated.version.as_str()).await? else {
        anyhow::bail!("version `{}` is not in the table", intent.validated.version);
    };
    if let Some(reason) = obstacle(intent, &version, champion.as_ref()) {
        return refuse(tx, intent, &version, &reason, begun).await;
    }
    // The registry is asked outside any transaction.
    tx.commit().await?;
    let replaces = champion.and_then(|champion| champion.registry_version);
    let promoting = promoting(intent, &version, replaces);
    match carry_out(bridge, &promoting).await {
        Ok(()) => finish(context, bridge, intent, &version, begun).await,
        Err(RegistryError::Transient { detail, .. }) if intent.now >= intent.deadline => {
            let reason = format!("it could not be carried out in time: {detail}");
            refuse(context.pool.begin().await?, intent, &version, &reason, begun).await
        }
        Err(RegistryError::Transient { detail, retry_after }) => {
            let after = retry_delay(intent.retries, retry_after);
            let model = &intent.model;
            tracing::warn!(model.name = %model, "promotion of model `{model}` waits {:.1} s: {detail}", after.as_secs_f64());
            store::promotion::pause(&context.pool, intent, after, &detail).await?;
            Ok(())
        }
        Err(RegistryError::Permanent(reason)) => {
            refuse(context.pool.begin().await?, intent, &version, &reason, begun).await
        }
    }
}

fn promoting(intent: &Intent, version: &StoredVersion, replaces: Option<String>) -> Promoting {
    Promoting {
        model: intent.model.clone(),
        version: version.version.clone(),
        registration: version.registration.clone(),
        decision_id: version.decision_id.into(),
        fence: intent.fence,
        artifact: intent.validated.artifact.clone(),
        correlation_id: intent.origin.correlation_id,
        trace_id: intent.origin.trace.trace_id().map(str::to_owned),
        replaces,
    }
}

/// What was validated is what is promoted: the bytes are read and hashed now, then the registry is told.
async fn carry_out(bridge: &Bridge, promoting: &Promoting) -> Result<(), RegistryError> {
    let (artifacts, artifact) = (bridge.artifacts.clone(), promoting.artifact.clone());
    let read = tokio::task::spawn_blocking(move || artifacts.get(&artifact).map(|_| ())).await;
    match read {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_transient() => return Err(RegistryError::transient(error.to_string())),
        Ok(Err(error)) => return Err(RegistryError::Permanent(error.to_string())),
        Err(error) => {
            return Err(RegistryError::transient(format!(
                "hashing was broken off: {error}"
            )));
        }
    }
    bridge.registry.promote(promoting).await
}

async fn finish(
    context: &Context,
    bridge: &Bridge,
    intent: &Intent,
    version: &StoredVersion,
    begun: Instant,
) -> anyhow::Result<()> {
    let mut tx = context.pool.begin().await?;
    let champion = store::promotion::lock_champion(&mut tx, &intent.model).await?;
    if let Some(newer) = champion
        .as_ref()
        .filter(|champion| champion.fence >= intent.fence)
    {
        let newer = newer.version.clone();
        let reason = format!("a newer decision promoted `{newer}` meanwhile");
        refuse(tx, intent, version, &reason, begun).await?;
        return put_back(context, bridge, &newer).await;
    }
    if !store::promotion::promoted(&mut tx, intent).await? {
        // Dropping the transaction undoes both updates.
        tracing::warn!(model.name = %intent.model, "promotion of model `{}` was taken over by another process", intent.model);
        return Ok(());
    }
    store::version::enthrone(&mut tx, version).await?;
    let validated = &intent.validated;
    let (Some(validated_recall), Some(validated_precision)) =
        (metric(intent, "recall"), metric(intent, "precision"))
    else {
        unreachable!("an obstacle, which was looked for before");
    };
    let body = ModelPromoted {
        version: version.version.clone(),
        previous: champion.map(|champion| champion.version),
        decision_id: version.decision_id.into(),
        as_of: version.as_of,
        kind: PromotionKind::Promotion,
        fence: intent.fence.unsigned_abs(),
        artifact: validated.artifact.clone(),
        training_window: version.plan.training,
        operating_threshold: validated.operating_threshold,
        validated_recall,
        validated_frauds: validated.frauds,
        validated_precision,
        registry: bridge.registry.name().to_owned(),
        registry_version: version.registration.registry_version.clone(),
    };
    outbox::append(
        &mut tx,
        context.service,
        announcement(&intent.model, &intent.origin, body),
    )
    .await?;
    let task = TaskRow {
        task_id: "register",
        seconds: begun.elapsed().as_secs_f64(),
        records: Some(1),
        error: None,
    };
    store::record_task(&mut tx, &order_of(version), &task).await?;
    tx.commit().await.context("announce the promotion")?;
    tracing::info!(
        model.name = %intent.model,
        "promoted `{}`: champion of model `{}` with fence {}",
        version.version,
        intent.model,
        intent.fence,
    );
    Ok(())
}

async fn refuse(
    mut tx: Tx,
    intent: &Intent,
    version: &StoredVersion,
    reason: &str,
    begun: Instant,
) -> anyhow::Result<()> {
    if !store::promotion::refused(&mut tx, intent, reason).await? {
        return Ok(());
    }
    store::version::retire(&mut tx, version.version.as_str(), version.as_of, reason).await?;
    let task = TaskRow {
        task_id: "register",
        seconds: begun.elapsed().as_secs_f64(),
        records: None,
        error: Some(reason.to_owned()),
    };
    store::record_task(&mut tx, &order_of(version), &task).await?;
    tx.commit().await.context("refuse the promotion")?;
    tracing::error!(
        model.name = %intent.model,
        "did not promote `{}` of model `{}`: {reason}",
        version.version,
        intent.model,
    );
    Ok(())
}

/// A stale promotion reached the registry after a newer one: the newer one is carried out again.
async fn put_back(context: &Context, bridge: &Bridge, champion: &ModelVersion) -> anyhow::Result<()> {
    let Some((version, intent)) = store::promotion::of_champion(&context.pool, champion).await? else {
        return Ok(());
    };
    tracing::warn!(model.name = %intent.model, "carrying out the promotion of `{champion}` again");
    carry_out(bridge, &promoting(&intent, &version, None))
        .await
        .context("put the champion back")
}

fn order_of(version: &StoredVersion) -> Order {
    Order {
        job_id: version.job_id,
        model: version.model.clone(),
        decision_id: version.decision_id.into(),
        as_of: version.as_of,
        plan: version.plan,
    }
}
