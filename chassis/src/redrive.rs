//! What a person does about dead letters: look, offer once more, or put aside. Each with who and why.

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use schemas::EventKind;
use serde::Serialize;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::db::Tx;
use crate::dead_letter::{INCOMPLETE, KEPT_BYTES_MAX};
use crate::event_log::{self, About, What};

/// A parked message, as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, sqlx::FromRow)]
pub struct Letter {
    /// The service that gave up on it.
    pub consumer: String,
    /// The letter's id.
    pub dead_letter_id: Uuid,
    /// The event's id; derived from the bytes when the message could not be decoded.
    pub event_id: Uuid,
    /// NATS subject it came on.
    pub subject: String,
    /// Stable word, e.g. `schema_invalid`.
    pub reason_class: String,
    /// In words.
    pub reason: String,
    /// How often it was delivered.
    pub deliveries: i32,
    /// When it was parked first.
    pub first_at: DateTime<Utc>,
    /// When it was parked last.
    pub last_at: DateTime<Utc>,
    /// `parked`, `redriven` or `discarded`.
    pub state: String,
    /// Who dealt with it.
    pub decided_by: Option<String>,
    /// When.
    pub decided_at: Option<DateTime<Utc>>,
    /// Why.
    pub decision: Option<String>,
    /// Its headers.
    pub headers: Value,
    /// Its body, as far as it is kept.
    #[serde(skip)]
    pub data: Vec<u8>,
}

impl Letter {
    /// Whether it goes out again from the operator's outbox, which no service looks after.
    pub fn is_of_operator(&self) -> bool {
        publisher_of(&self.subject) == Some(schemas::flow::VIGIE)
    }
}

fn publisher_of(subject: &str) -> Option<&'static str> {
    let kind = EventKind::ALL.iter().find(|kind| kind.subject() == subject);
    kind.and_then(|kind| kind.publishers().first()).copied()
}

/// What is to be done about a letter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Offer it to its reader once more, under a new message id and the same event id.
    Redrive,
    /// Leave it at that.
    Discard,
}

impl Decision {
    const fn what(self) -> What {
        match self {
            Self::Redrive => What::Redriven,
            Self::Discard => What::Discarded,
        }
    }

    const fn state(self) -> &'static str {
        match self {
            Self::Redrive => "redriven",
            Self::Discard => "discarded",
        }
    }
}

/// Who decides, and why.
#[derive(Debug, Clone, Copy)]
pub struct Because<'a> {
    /// E.g. `cli:ana`.
    pub by: &'a str,
    /// In words; not empty.
    pub why: &'a str,
}

/// Schemas of the services that have dead letters, quoted.
async fn schemas(pool: &PgPool) -> sqlx::Result<Vec<String>> {
    sqlx::query_scalar(
        "select quote_ident(n.nspname) from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = 'dead_letter' and c.relkind = 'r' \
         and exists (select from pg_class m where m.relnamespace = n.oid and m.relname = '_chassis_migrations') order by 1",
    )
    .fetch_all(pool)
    .await
}

const COLUMNS: &str = "consumer, dead_letter_id, event_id, subject, reason_class, reason, deliveries, first_at, last_at, state, \
                       decided_by, decided_at, decision, headers, data";

/// Which dead letters; all that are parked by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Which {
    /// Also those that are dealt with.
    pub all: bool,
    /// Of this service only.
    pub consumer: Option<String>,
    /// Of this class only, such as `schema_invalid`.
    pub class: Option<String>,
    /// About this model only.
    pub model: Option<String>,
}

/// Dead letters of all services, newest first, at most `limit`.
///
/// # Errors
/// Database errors.
pub async fn letters(pool: &PgPool, which: &Which, limit: i64) -> anyhow::Result<Vec<Letter>> {
    let parts: Vec<String> = schemas(pool)
        .await?
        .iter()
        .map(|schema| {
            format!(
                "select {COLUMNS} from {schema}.dead_letter where ($1 or state = 'parked') and consumer = coalesce($3, consumer) \
                 and reason_class = coalesce($4, reason_class) and ($5::text is null or headers ->> 'ce-subject' = $5)"
            )
        })
        .collect();
    if parts.is_empty() {
        return Ok(Vec::new());
    }
    let query = format!("{} order by last_at desc limit $2", parts.join(" union all "));
    let letters = sqlx::query_as(AssertSqlSafe(query))
        .bind(which.all)
        .bind(limit)
        .bind(&which.consumer)
        .bind(&which.class)
        .bind(&which.model);
    letters.fetch_all(pool).await.context("read dead letters")
}

/// One dead letter, by its own id or its event's.
///
/// # Errors
/// Database errors.
pub async fn find(pool: &PgPool, id: Uuid) -> anyhow::Result<Vec<Letter>> {
    let mut found = Vec::new();
    for schema in schemas(pool).await? {
        let query =
            format!("select {COLUMNS} from {schema}.dead_letter where dead_letter_id = $1 or event_id = $1");
        found.extend(
            sqlx::query_as(AssertSqlSafe(query))
                .bind(id)
                .fetch_all(pool)
                .await?,
        );
    }
    Ok(found)
}

/// Deals with a letter that is parked, in one transaction: what was decided, by whom and why; and, when it is redriven, the
/// message in the outbox of the service that gave up on it.
///
/// # Errors
/// When there is no such letter, it was dealt with before, or it is not kept whole.
pub async fn decide(
    pool: &PgPool,
    id: Uuid,
    decision: Decision,
    because: Because<'_>,
) -> anyhow::Result<Letter> {
    for schema in schemas(pool).await? {
        let mut tx = pool.begin().await?;
        let query =
            format!("select {COLUMNS} from {schema}.dead_letter where dead_letter_id = $1 for update");
        let letter: Option<Letter> = sqlx::query_as(AssertSqlSafe(query))
            .bind(id)
            .fetch_optional(&mut *tx)
            .await?;
        let Some(mut letter) = letter else { continue };
        if letter.state != "parked" {
            let by = letter.decided_by.as_deref().unwrap_or("somebody");
            bail!("dead letter {id} was {} by {by} before", letter.state);
        }
        if decision == Decision::Redrive {
            redrive(&mut tx, &schema, &letter).await?;
        }
        let query = format!(
            "update {schema}.dead_letter set state = $2, decided_by = $3, decided_at = clock_timestamp(), decision = $4 \
             where dead_letter_id = $1 returning state, decided_by, decided_at, decision"
        );
        (
            letter.state,
            letter.decided_by,
            letter.decided_at,
            letter.decision,
        ) = sqlx::query_as(AssertSqlSafe(query))
            .bind(id)
            .bind(decision.state())
            .bind(because.by)
            .bind(because.why)
            .fetch_one(&mut *tx)
            .await?;
        let entry = json!({
            "consumer": letter.consumer,
            "class": letter.reason_class,
            "dead_letter_id": letter.dead_letter_id,
            "by": because.by,
            "why": because.why,
        });
        let about = About::letter(letter.event_id, &letter.headers);
        let log = format!("{schema}.event_log");
        event_log::append_to(&mut tx, &log, decision.what(), &about, &entry, None).await?;
        tx.commit().await.context("deal with the dead letter")?;
        return Ok(letter);
    }
    bail!("there is no dead letter {id}; `vigie dlq list` shows those that there are")
}

async fn redrive(tx: &mut Tx, schema: &str, letter: &Letter) -> anyhow::Result<()> {
    let fields = letter.headers.as_object().context("headers are a JSON object")?;
    let whole = letter.data.len() < KEPT_BYTES_MAX && !fields.contains_key(INCOMPLETE);
    if !whole {
        bail!(
            "dead letter {} is not kept whole, so it cannot be offered again",
            letter.dead_letter_id
        );
    }
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let correlation: Option<Uuid> = text("ce-correlationid").and_then(|id| id.parse().ok());
    let forget =
        format!("delete from {schema}.inbox where consumer = $1 and event_id = $2 and state = 'dead'");
    sqlx::query(AssertSqlSafe(forget))
        .bind(&letter.consumer)
        .bind(letter.event_id)
        .execute(&mut **tx)
        .await?;
    let outbox = outbox_of(tx, schema, &letter.subject).await?;
    let offer = format!(
        "insert into {outbox}.outbox (event_id, subject, event_type, model, correlation_id, headers, data, redriven) \
         values ($1, $2, $3, $4, $5, $6, $7, 1) on conflict (event_id) do update set redriven = outbox.redriven + 1, \
         published_at = null, stream_seq = null, failed_reason = null, attempt = 0, next_at = clock_timestamp(), \
         confirmed_at = null, offer = 0"
    );
    sqlx::query(AssertSqlSafe(offer))
        .bind(letter.event_id)
        .bind(&letter.subject)
        .bind(text("ce-type").unwrap_or("unknown"))
        .bind(text("ce-subject").unwrap_or("unknown"))
        .bind(correlation.unwrap_or(letter.event_id))
        .bind(&letter.headers)
        .bind(&letter.data)
        .execute(&mut **tx)
        .await?;
    sqlx::query("select pg_notify('outbox_' || $1, '')")
        .bind(outbox.trim_matches('"'))
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// The schema that a message goes out of once more: its publisher's, who alone may say it; the letter's own when the publisher
/// has no tables here.
async fn outbox_of(tx: &mut Tx, own: &str, subject: &str) -> sqlx::Result<String> {
    let Some(publisher) = publisher_of(subject) else {
        return Ok(own.to_owned());
    };
    // Names of services are constants of `schemas::flow`.
    let schema = if publisher == schemas::flow::VIGIE {
        schemas::rights::OPERATOR.to_owned()
    } else {
        publisher.replace('-', "_")
    };
    let (there,): (bool,) = sqlx::query_as("select to_regclass($1) is not null")
        .bind(format!("{schema}.outbox"))
        .fetch_one(&mut **tx)
        .await?;
    Ok(if there { schema } else { own.to_owned() })
}
