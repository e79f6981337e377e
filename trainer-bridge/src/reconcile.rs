//! A registry's alias is last-writer-wins, and a process that stood still may write last: whoever looks finds the champion
//! of yesterday. Each call that sets the alias is written down before it is made; as long as one is loose, the alias is looked
//! at, and when such a call has moved it, the champion's promotion is carried out again. A person who moved the alias is
//! left alone.

use std::sync::Arc;
use std::time::Duration;

use chassis::patience::{ROUND_MAX, within};
use chassis::service::Context;

use crate::promote::put_back;
use crate::store;
use crate::store::call::Loose;
use crate::work::Bridge;

/// Pause between two looks at what is due.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Looks until told to stop.
///
/// # Errors
/// Never for a database or a registry that is away: it waits and goes on.
pub async fn run(context: Context, bridge: Arc<Bridge>) -> anyhow::Result<()> {
    while !context.stop.is_cancelled() {
        context.metrics.beat("reconcile");
        let looking = within(ROUND_MAX, round(&context, &bridge));
        if let Err(error) = context.metrics.beating("reconcile", looking).await {
            tracing::warn!("the registry's aliases are looked at later: {error:#}");
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_AGAIN) => {}
            () = context.stop.cancelled() => {}
        }
    }
    Ok(())
}

async fn round(context: &Context, bridge: &Bridge) -> anyhow::Result<()> {
    for loose in store::call::loose(&context.pool, bridge.lease * 2).await? {
        // One that cannot be looked at, or put back, must not keep the others.
        if let Err(error) = look(context, bridge, &loose).await {
            tracing::warn!(model.name = %loose.model, "the alias of model `{}` is looked at later: {error:#}", loose.model);
        }
        store::call::looked_at(&context.pool, loose.call_id).await?;
    }
    Ok(store::call::forget(&context.pool).await?)
}

async fn look(context: &Context, bridge: &Bridge, loose: &Loose) -> anyhow::Result<()> {
    let alias = bridge.registry.champion(&loose.model).await?;
    if alias.as_deref() != Some(loose.registry_version.as_str()) {
        return Ok(());
    }
    tracing::error!(
        model.name = %loose.model,
        "a late call pointed the alias of model `{}` at version {}, champion is `{}`; it is put back",
        loose.model,
        loose.registry_version,
        loose.champion,
    );
    put_back(context, bridge, &loose.champion).await
}
