//! The promoter: a validated candidate becomes champion, once, and never over a newer one.
//!
//! The intent is a row. Whoever claims it – now or after a crash – locks the model and judges, hashes the bytes anew,
//! has the registry look, set and read back, and then locks the model again to make it so. A promotion whose fence is
//! not larger than the champion's is stale and refused; so are bytes that are not the validated ones.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chassis::patience::{ROUND_MAX, within};
use chassis::service::Context;
use chassis::{Tx, outbox, telemetry, trial};
use schemas::events::{ModelPromoted, PromotionKind, PromotionRefusal, PromotionRefused};
use schemas::{ModelVersion, Share};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::decide::retry_delay;
use crate::job::Order;
use crate::registry::{Promoting, RegistryError};
use crate::store::promotion::{Champion, Intent};
use crate::store::version::StoredVersion;
use crate::store::{self, TaskRow};
use crate::work::{Bridge, announcement, renewing};

/// Longest that artefacts and registry may take for one promotion; then it is tried again, or refused when its time is over.
const CARRY_OUT_MAX: Duration = Duration::from_secs(200);
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
    let claiming = store::promotion::claim(&context.pool, bridge.owner, bridge.lease);
    let claimed = within(context.answer_timeout * 2, claiming).await;
    let Some(intent) = claimed.context("claim a promotion")? else {
        return Ok(false);
    };
    let span = tracing::info_span!(
        "promote",
        model.name = %intent.model,
        model.version = %intent.validated.version,
    );
    telemetry::continue_trace(&span, &intent.origin.trace);
    trial::boundary("promote.claimed");
    let renewing = renewing(bridge.lease, || {
        store::promotion::renew(&context.pool, &intent, bridge.lease)
    });
    let resolving = async {
        tokio::select! {
            result = within(ROUND_MAX, resolve(context, bridge, &intent)) => result,
            // Lost: somebody else resolves it.
            () = renewing => Ok(()),
        }
    };
    let resolving = resolving.instrument(span);
    context.metrics.beating("promote", resolving).await?;
    Ok(true)
}

/// Why a promotion will never be carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// What kind of obstacle.
    pub reason: PromotionRefusal,
    /// One sentence for people.
    pub detail: String,
}

impl Obstacle {
    const fn new(reason: PromotionRefusal, detail: String) -> Self {
        Self { reason, detail }
    }
}

/// What keeps a promotion from being carried out.
enum Hindrance {
    /// It may work later, after the server's own wish if it has one.
    ForNow {
        detail: String,
        retry_after: Option<Duration>,
    },
    /// Asking again cannot help.
    ForGood(Obstacle),
}

impl From<RegistryError> for Hindrance {
    fn from(error: RegistryError) -> Self {
        match error {
            RegistryError::Transient { detail, retry_after } => Self::ForNow { detail, retry_after },
            RegistryError::Permanent(detail) => {
                Self::ForGood(Obstacle::new(PromotionRefusal::Registry, detail))
            }
        }
    }
}

/// What stands against a promotion, if anything does; pure.
pub fn obstacle(intent: &Intent, version: &StoredVersion, champion: Option<&Champion>) -> Option<Obstacle> {
    let validated = &intent.validated;
    if validated.artifact.sha256 != version.artifact.sha256 {
        return Some(Obstacle::new(
            PromotionRefusal::Artifact,
            format!(
                "validated were bytes with sha256 `{}`, trained were `{}`",
                validated.artifact.sha256, version.artifact.sha256
            ),
        ));
    }
    if version.status == "retired" {
        let detail = "the version was retired".to_owned();
        return Some(Obstacle::new(PromotionRefusal::Superseded, detail));
    }
    if let Some(missing) = ["recall", "precision"]
        .into_iter()
        .find(|name| metric(intent, name).is_none())
    {
        let detail = format!("the validation passed without a {missing}, and drift is measured against it");
        return Some(Obstacle::new(PromotionRefusal::ReportIncomplete, detail));
    }
    match champion {
        Some(champion) if champion.fence >= intent.fence => Some(Obstacle::new(
            PromotionRefusal::Superseded,
            format!(
                "stale: the champion `{}` has fence {}, this promotion has {}",
                champion.version, champion.fence, intent.fence
            ),
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
    let patience = context.answer_timeout * 2;
    let Some(at_work) = within(patience, begin(context, intent)).await? else {
        return Ok(());
    };
    let promoting = promoting(intent, &at_work.version, at_work.replaces.clone());
    let carrying = tokio::time::timeout(CARRY_OUT_MAX, Box::pin(carry_out(bridge, &promoting)));
    let carried = carrying.await.unwrap_or_else(|_| {
        Err(Hindrance::ForNow {
            detail: format!("no end within {} s", CARRY_OUT_MAX.as_secs()),
            retry_after: None,
        })
    });
    let obstacle = match carried {
        Ok(()) => {
            return match within(patience, finish(&at_work, bridge.registry.name())).await? {
                Some(newer) => put_back(context, bridge, &newer).await,
                None => Ok(()),
            };
        }
        Err(Hindrance::ForGood(obstacle)) => obstacle,
        Err(Hindrance::ForNow { detail, .. }) if intent.now >= intent.deadline => Obstacle::new(
            PromotionRefusal::Registry,
            format!("it could not be carried out in time: {detail}"),
        ),
        Err(Hindrance::ForNow { detail, retry_after }) => {
            let after = retry_delay(bridge.policy.retry, intent.retries, retry_after);
            let model = &intent.model;
            tracing::warn!(model.name = %model, "promotion of model `{model}` waits {:.1} s: {detail}", after.as_secs_f64());
            let pausing = store::promotion::pause(&context.pool, intent, after, &detail);
            return within(patience, pausing).await;
        }
    };
    let refusing = async {
        let mut tx = context.pool.begin().await?;
        let champion = store::promotion::lock_champion(&mut tx, &intent.model).await?;
        at_work.refuse(tx, champion.as_ref(), &obstacle).await
    };
    within(patience, refusing).await
}

/// Judges, and writes down what may come of telling the registry, which is done outside any transaction. None when the
/// promotion was refused.
async fn begin<'a>(context: &'a Context, intent: &'a Intent) -> anyhow::Result<Option<AtWork<'a>>> {
    let begun = Instant::now();
    let mut tx = context.pool.begin().await?;
    let champion = store::promotion::lock_champion(&mut tx, &intent.model).await?;
    let Some(version) = store::version::lock(&mut tx, intent.validated.version.as_str()).await? else {
        anyhow::bail!("version `{}` is not in the table", intent.validated.version);
    };
    let obstacle = obstacle(intent, &version, champion.as_ref());
    let mut at_work = AtWork {
        context,
        intent,
        version,
        begun,
        call: None,
        replaces: None,
    };
    if let Some(obstacle) = obstacle {
        at_work.refuse(tx, champion.as_ref(), &obstacle).await?;
        return Ok(None);
    }
    at_work.call = Some(store::call::begin(&mut tx, intent).await?);
    tx.commit().await?;
    at_work.replaces = champion.and_then(|champion| champion.registry_version);
    Ok(Some(at_work))
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
async fn carry_out(bridge: &Bridge, promoting: &Promoting) -> Result<(), Hindrance> {
    let (artifacts, artifact) = (bridge.artifacts.clone(), promoting.artifact.clone());
    let read = tokio::task::spawn_blocking(move || artifacts.get(&artifact).map(|_| ())).await;
    match read {
        Ok(Ok(())) => {}
        Ok(Err(error)) if error.is_transient() => {
            return Err(RegistryError::transient(error.to_string()).into());
        }
        Ok(Err(error)) => {
            let obstacle = Obstacle::new(PromotionRefusal::Artifact, error.to_string());
            return Err(Hindrance::ForGood(obstacle));
        }
        Err(error) => {
            return Err(RegistryError::transient(format!("hashing was broken off: {error}")).into());
        }
    }
    trial::boundary("promote.hashed");
    bridge.registry.promote(promoting).await?;
    trial::boundary("promote.told");
    Ok(())
}

/// Makes the version champion. Returns the champion that a newer decision made meanwhile, if one did: the registry must be
/// told of it again.
async fn finish(at_work: &AtWork<'_>, registry: &str) -> anyhow::Result<Option<ModelVersion>> {
    let AtWork {
        context,
        intent,
        version,
        begun,
        call,
        ..
    } = at_work;
    let mut tx = context.pool.begin().await?;
    let champion = store::promotion::lock_champion(&mut tx, &intent.model).await?;
    if let Some(newer) = champion
        .as_ref()
        .filter(|champion| champion.fence >= intent.fence)
    {
        let newer = newer.version.clone();
        let detail = format!("a newer decision promoted `{newer}` meanwhile");
        let obstacle = Obstacle::new(PromotionRefusal::Superseded, detail);
        at_work.refuse(tx, champion.as_ref(), &obstacle).await?;
        return Ok(Some(newer));
    }
    if !store::promotion::promoted(&mut tx, intent).await? {
        // Dropping the transaction undoes both updates.
        tracing::warn!(model.name = %intent.model, "promotion of model `{}` was taken over by another process", intent.model);
        return Ok(None);
    }
    store::version::enthrone(&mut tx, version).await?;
    if let Some(call) = call {
        store::call::end(&mut tx, *call).await?;
    }
    let now = context.clock.now(&mut *tx).await?;
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
        // Rows before it were scored by the champion that was.
        effective_from: now.unwrap_or(version.as_of).max(version.as_of),
        kind: PromotionKind::Promotion,
        fence: intent.fence.unsigned_abs(),
        artifact: validated.artifact.clone(),
        training_window: version.plan.training,
        operating_threshold: validated.operating_threshold,
        validated_recall,
        validated_frauds: validated.frauds,
        validated_precision,
        score_counts: validated.score_counts.clone(),
        registry: registry.to_owned(),
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
    trial::boundary("promote.written");
    tx.commit().await.context("announce the promotion")?;
    trial::boundary("promote.announced");
    tracing::info!(
        model.name = %intent.model,
        "promoted `{}`: champion of model `{}` with fence {}",
        version.version,
        intent.model,
        intent.fence,
    );
    Ok(None)
}

/// An intent that is being resolved.
struct AtWork<'a> {
    context: &'a Context,
    intent: &'a Intent,
    version: StoredVersion,
    begun: Instant,
    /// The call that may move the alias, written down before it is made.
    call: Option<Uuid>,
    /// The champion's version in the registry.
    replaces: Option<String>,
}

impl AtWork<'_> {
    /// Ends the intent, retires the version and says so, in one transaction.
    async fn refuse(
        &self,
        mut tx: Tx,
        champion: Option<&Champion>,
        obstacle: &Obstacle,
    ) -> anyhow::Result<()> {
        let (intent, version, reason) = (self.intent, &self.version, obstacle.detail.as_str());
        if !store::promotion::refused(&mut tx, intent, reason).await? {
            return Ok(());
        }
        store::version::retire(&mut tx, version.version.as_str(), version.as_of, reason).await?;
        let body = PromotionRefused {
            version: version.version.clone(),
            champion: champion.map(|champion| champion.version.clone()),
            decision_id: version.decision_id.into(),
            as_of: version.as_of,
            reason: obstacle.reason,
            detail: obstacle.detail.clone(),
        };
        let draft = announcement(&intent.model, &intent.origin, body);
        outbox::append(&mut tx, self.context.service, draft).await?;
        let task = TaskRow {
            task_id: "register",
            seconds: self.begun.elapsed().as_secs_f64(),
            records: None,
            error: Some(reason.to_owned()),
        };
        store::record_task(&mut tx, &order_of(version), &task).await?;
        trial::boundary("refusal.written");
        tx.commit().await.context("refuse the promotion")?;
        trial::boundary("refusal.announced");
        tracing::error!(
            model.name = %intent.model,
            "did not promote `{}` of model `{}`: {reason}",
            version.version,
            intent.model,
        );
        Ok(())
    }
}

/// A stale promotion reached the registry after a newer one: the newer one is carried out again.
///
/// # Errors
/// When the registry cannot be asked now.
pub(crate) async fn put_back(
    context: &Context,
    bridge: &Bridge,
    champion: &ModelVersion,
) -> anyhow::Result<()> {
    let Some((version, intent)) = store::promotion::of_champion(&context.pool, champion).await? else {
        return Ok(());
    };
    tracing::warn!(model.name = %intent.model, "carrying out the promotion of `{champion}` again");
    match carry_out(bridge, &promoting(&intent, &version, None)).await {
        Ok(()) => Ok(()),
        Err(Hindrance::ForNow { detail, .. } | Hindrance::ForGood(Obstacle { detail, .. })) => {
            anyhow::bail!("put the champion `{champion}` back: {detail}")
        }
    }
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
