//! The table `registry_call`: calls that may have changed a registry's alias.

use std::time::Duration;

use chassis::Tx;
use schemas::{ModelName, ModelVersion};
use sqlx::PgPool;
use uuid::Uuid;

use super::promotion::Intent;
use super::unreadable;

/// Writes down that a call is about to be made.
///
/// # Errors
/// Database errors.
pub async fn begin(tx: &mut Tx, intent: &Intent) -> sqlx::Result<Uuid> {
    let id = Uuid::new_v4();
    sqlx::query("insert into registry_call (call_id, model, version, fence) values ($1, $2, $3, $4)")
        .bind(id)
        .bind(intent.model.as_str())
        .bind(intent.validated.version.as_str())
        .bind(intent.fence)
        .execute(&mut **tx)
        .await?;
    Ok(id)
}

/// Writes down that a call was answered.
///
/// # Errors
/// Database errors.
pub async fn end(tx: &mut Tx, call: Uuid) -> sqlx::Result<()> {
    sqlx::query("update registry_call set ended_at = clock_timestamp() where call_id = $1")
        .bind(call)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// A call that never ended, of a version that is not champion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loose {
    /// The row.
    pub call_id: Uuid,
    /// The model.
    pub model: ModelName,
    /// How the registry numbers the version that the call points at.
    pub registry_version: String,
    /// The champion.
    pub champion: ModelVersion,
}

/// The calls to look at now: begun longer than `lease` ago, never ended, and not those of promotions under way.
///
/// # Errors
/// Database errors.
pub async fn loose(pool: &PgPool, lease: Duration) -> sqlx::Result<Vec<Loose>> {
    let rows: Vec<(Uuid, String, String, String)> = sqlx::query_as(
        "select c.call_id, c.model, v.registry_version, m.champion from registry_call c \
         join model m on m.model = c.model join model_version v on v.version = c.version \
         where c.ended_at is null and c.next_look_at <= clock_timestamp() and c.watched_until > clock_timestamp() \
         and c.begun_at < clock_timestamp() - make_interval(secs => $1) \
         and v.registry_version is not null and m.champion is not null and m.champion <> c.version \
         and not exists (select from promotion p where p.version = c.version and p.state = 'intent') \
         order by c.next_look_at limit 100",
    )
    .bind(lease.as_secs_f64())
    .fetch_all(pool)
    .await?;
    rows.into_iter()
        .map(|(call_id, model, registry_version, champion)| {
            Ok(Loose {
                call_id,
                model: ModelName::new(model).map_err(|error| unreadable("registry_call.model", error))?,
                registry_version,
                champion: ModelVersion::new(champion).map_err(|error| unreadable("model.champion", error))?,
            })
        })
        .collect()
}

/// Notes that a call was looked at: soon again while it is young, then every minute.
///
/// # Errors
/// Database errors.
pub async fn looked_at(pool: &PgPool, call: Uuid) -> sqlx::Result<()> {
    sqlx::query(
        "update registry_call set next_look_at = clock_timestamp() + \
         case when begun_at > clock_timestamp() - interval '10 minutes' then interval '5 seconds' \
         else interval '1 minute' end where call_id = $1",
    )
    .bind(call)
    .execute(pool)
    .await?;
    Ok(())
}

/// Drops what nobody looks at any more.
///
/// # Errors
/// Database errors.
pub async fn forget(pool: &PgPool) -> sqlx::Result<()> {
    sqlx::query(
        "delete from registry_call where watched_until < clock_timestamp() \
         or ended_at < clock_timestamp() - interval '1 hour'",
    )
    .execute(pool)
    .await?;
    Ok(())
}
