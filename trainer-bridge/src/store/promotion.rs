//! The tables `promotion` and `model`: intents, and who is champion.

use std::time::Duration;

use chassis::Tx;
use chrono::{DateTime, Utc};
use schemas::events::ModelValidated;
use schemas::{EventId, ModelName, ModelVersion, Received};
use sqlx::PgPool;
use sqlx::types::Json;
use uuid::Uuid;

use super::{trace_of, unreadable};
use crate::job::Origin;
use crate::store::version::StoredVersion;

/// A promotion that was intended and is not resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Intent {
    /// The row.
    pub promotion_id: Uuid,
    /// The model.
    pub model: ModelName,
    /// Order of its decision.
    pub fence: i64,
    /// The report it stands on.
    pub validated: ModelValidated,
    /// Guards every update.
    pub revision: i64,
    /// Transient errors in a row.
    pub retries: u32,
    /// Refused after this.
    pub deadline: DateTime<Utc>,
    /// The database's clock when the row was read.
    pub now: DateTime<Utc>,
    /// What its event follows from: the validation.
    pub origin: Origin,
}

/// Who is champion of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Champion {
    /// Its version.
    pub version: ModelVersion,
    /// Its fence.
    pub fence: i64,
    /// How the registry numbers it.
    pub registry_version: Option<String>,
}

/// Writes the intent to promote, once per version.
///
/// # Errors
/// Database errors.
pub async fn intend(
    tx: &mut Tx,
    version: &StoredVersion,
    validated: &ModelValidated,
    deadline: Duration,
    received: &Received,
) -> sqlx::Result<bool> {
    let attributes = &received.attributes;
    let inserted = sqlx::query(
        "insert into promotion (promotion_id, model, version, decision_id, fence, validated, deadline, \
         cause_event_id, correlation_id, trace_parent, trace_state) \
         values ($1, $2, $3, $4, $5, $6, clock_timestamp() + make_interval(secs => $7), $8, $9, $10, $11) \
         on conflict (model, version) do nothing",
    )
    .bind(EventId::derived(attributes.id.uuid(), "promotion").uuid())
    .bind(version.model.as_str())
    .bind(version.version.as_str())
    .bind(version.decision_id)
    .bind(version.fence)
    .bind(Json(validated))
    .bind(deadline.as_secs_f64())
    .bind(attributes.id.uuid())
    .bind(attributes.correlation_id.uuid())
    .bind(&attributes.trace.parent)
    .bind(&attributes.trace.state)
    .execute(&mut **tx)
    .await?;
    Ok(inserted.rows_affected() == 1)
}

#[derive(sqlx::FromRow)]
struct Row {
    promotion_id: Uuid,
    model: String,
    fence: i64,
    validated: Json<ModelValidated>,
    revision: i64,
    retries: i32,
    deadline: DateTime<Utc>,
    now: DateTime<Utc>,
    cause_event_id: Uuid,
    correlation_id: Uuid,
    trace_parent: Option<String>,
    trace_state: Option<String>,
}

impl Row {
    fn intent(self) -> sqlx::Result<Intent> {
        Ok(Intent {
            promotion_id: self.promotion_id,
            model: ModelName::new(self.model).map_err(|error| unreadable("promotion.model", error))?,
            fence: self.fence,
            validated: self.validated.0,
            revision: self.revision,
            retries: self.retries.unsigned_abs(),
            deadline: self.deadline,
            now: self.now,
            origin: Origin {
                event_id: self.cause_event_id.into(),
                correlation_id: self.correlation_id.into(),
                trace: trace_of(self.trace_parent, self.trace_state),
            },
        })
    }
}

/// Takes the oldest intent that is due, for at most `lease`; never two of one model at a time.
///
/// # Errors
/// Database errors.
pub async fn claim(pool: &PgPool, owner: Uuid, lease: Duration) -> sqlx::Result<Option<Intent>> {
    let models: Vec<(String,)> = sqlx::query_as(
        "select distinct model from promotion where state = 'intent' and next_try_at <= clock_timestamp() limit 100",
    )
    .fetch_all(pool)
    .await?;
    for (model,) in models {
        let mut tx = pool.begin().await?;
        // Whoever holds the model's row decides; another process that claims at this moment skips it.
        let locked = sqlx::query("select 1 from model where model = $1 for update skip locked")
            .bind(&model)
            .fetch_optional(&mut *tx)
            .await?;
        if locked.is_none() {
            continue;
        }
        let row: Option<Row> = sqlx::query_as(
            "update promotion set owner = $2, revision = revision + 1, \
             lease_until = clock_timestamp() + make_interval(secs => $3), \
             next_try_at = clock_timestamp() + make_interval(secs => $3) \
             where promotion_id = (select p.promotion_id from promotion p \
               where p.model = $1 and p.state = 'intent' and p.next_try_at <= clock_timestamp() \
               and not exists (select 1 from promotion other where other.model = $1 and other.state = 'intent' \
                 and other.lease_until > clock_timestamp()) \
               order by p.fence limit 1 for update skip locked) \
             returning *, clock_timestamp() as now",
        )
        .bind(&model)
        .bind(owner)
        .bind(lease.as_secs_f64())
        .fetch_optional(&mut *tx)
        .await?;
        tx.commit().await?;
        if let Some(row) = row {
            return row.intent().map(Some);
        }
    }
    Ok(None)
}

/// Renews a claim; `false` when it was lost.
///
/// # Errors
/// Database errors.
pub async fn renew(pool: &PgPool, intent: &Intent, lease: Duration) -> sqlx::Result<bool> {
    let renewed = sqlx::query(
        "update promotion set lease_until = clock_timestamp() + make_interval(secs => $3), \
         next_try_at = clock_timestamp() + make_interval(secs => $3) where promotion_id = $1 and revision = $2",
    )
    .bind(intent.promotion_id)
    .bind(intent.revision)
    .bind(lease.as_secs_f64())
    .execute(pool)
    .await?;
    Ok(renewed.rows_affected() == 1)
}

/// Ends a claim without a result.
///
/// # Errors
/// Database errors.
pub async fn pause(pool: &PgPool, intent: &Intent, after: Duration, error: &str) -> sqlx::Result<()> {
    sqlx::query(
        "update promotion set next_try_at = clock_timestamp() + make_interval(secs => $3), lease_until = null, \
         retries = retries + 1, last_error = $4 where promotion_id = $1 and revision = $2 and state = 'intent'",
    )
    .bind(intent.promotion_id)
    .bind(intent.revision)
    .bind(after.as_secs_f64())
    .bind(error)
    .execute(pool)
    .await?;
    Ok(())
}

/// Locks the model's row and says who is champion.
///
/// # Errors
/// Database errors.
pub async fn lock_champion(tx: &mut Tx, model: &ModelName) -> sqlx::Result<Option<Champion>> {
    let row: Option<(Option<String>, i64, Option<String>)> = sqlx::query_as(
        "select m.champion, m.champion_fence, v.registry_version from model m \
         left join model_version v on v.version = m.champion where m.model = $1 for update of m",
    )
    .bind(model.as_str())
    .fetch_optional(&mut **tx)
    .await?;
    let Some((Some(version), fence, registry_version)) = row else {
        return Ok(None);
    };
    let version = ModelVersion::new(version).map_err(|error| unreadable("model.champion", error))?;
    Ok(Some(Champion {
        version,
        fence,
        registry_version,
    }))
}

/// Ends an intent as promoted and makes its version champion; `false` when it is no longer ours, or a newer one was
/// promoted meanwhile.
///
/// # Errors
/// Database errors.
pub async fn promoted(tx: &mut Tx, intent: &Intent) -> sqlx::Result<bool> {
    let version = intent.validated.version.as_str();
    let fenced = sqlx::query(
        "update model set champion = $2, champion_fence = $3 where model = $1 and champion_fence < $3",
    )
    .bind(intent.model.as_str())
    .bind(version)
    .bind(intent.fence)
    .execute(&mut **tx)
    .await?;
    let ended = end(tx, intent, "promoted", None).await?;
    Ok(fenced.rows_affected() == 1 && ended)
}

/// Ends an intent as refused; `false` when it is no longer ours.
///
/// # Errors
/// Database errors.
pub async fn refused(tx: &mut Tx, intent: &Intent, reason: &str) -> sqlx::Result<bool> {
    end(tx, intent, "refused", Some(reason)).await
}

/// The champion's version and the promotion that made it champion.
///
/// # Errors
/// Database errors.
pub async fn of_champion(
    pool: &PgPool,
    champion: &ModelVersion,
) -> sqlx::Result<Option<(StoredVersion, Intent)>> {
    let mut tx = pool.begin().await?;
    let Some(version) = super::version::lock(&mut tx, champion.as_str()).await? else {
        return Ok(None);
    };
    let row: Option<Row> = sqlx::query_as(
        "select *, clock_timestamp() as now from promotion where model = $1 and version = $2 and state = 'promoted'",
    )
    .bind(version.model.as_str())
    .bind(champion.as_str())
    .fetch_optional(&mut *tx)
    .await?;
    tx.commit().await?;
    row.map(|row| Ok((version, row.intent()?))).transpose()
}

async fn end(tx: &mut Tx, intent: &Intent, state: &str, reason: Option<&str>) -> sqlx::Result<bool> {
    let ended = sqlx::query(
        "update promotion set state = $3, reason = $4, revision = revision + 1, lease_until = null, owner = null, \
         ended_at = clock_timestamp() where promotion_id = $1 and revision = $2 and state = 'intent'",
    )
    .bind(intent.promotion_id)
    .bind(intent.revision)
    .bind(state)
    .bind(reason)
    .execute(&mut **tx)
    .await?;
    Ok(ended.rows_affected() == 1)
}
