//! Reads the event logs of all services: does each chain still hold, and what belongs to a loop?
//!
//! A chain that holds says that no sealed row was changed, removed, added or moved since it was sealed. Whoever can rewrite
//! the whole chain and its head can forge both; a head that was noted elsewhere – an [`Anchor`] – finds that, too.

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use sqlx::{AssertSqlSafe, PgPool};
use uuid::Uuid;

use crate::db::Tx;
use crate::event_log::{ROW, Row, beginning};

/// Rows that are looked at at once.
const PAGE: i64 = 1_000;
/// Schema of what people ask for, and whose name its events carry.
const OPERATOR: (&str, &str) = ("operator", schemas::flow::VIGIE);

/// The event log of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Log {
    /// E.g. `drift-monitor`; `vigie` for what people ask for.
    pub service: String,
    /// Its schema.
    pub schema: String,
}

/// Event logs of this database, by name.
///
/// # Errors
/// Database errors.
pub async fn logs(pool: &PgPool) -> sqlx::Result<Vec<Log>> {
    let schemas: Vec<String> = sqlx::query_scalar(
        "select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = 'event_log' and c.relkind = 'r' \
         and exists (select from pg_class m where m.relnamespace = n.oid and m.relname = '_chassis_migrations') order by 1",
    )
    .fetch_all(pool)
    .await?;
    Ok(schemas.into_iter().map(Log::of_schema).collect())
}

/// Services that have said something here and have no event log: somebody took the whole of it away.
///
/// # Errors
/// Database errors.
pub async fn lost_logs(pool: &PgPool) -> sqlx::Result<Vec<Log>> {
    let schemas: Vec<String> = sqlx::query_scalar(
        "select n.nspname::text from pg_class c join pg_namespace n on n.oid = c.relnamespace \
         where c.relname = 'outbox' and c.relkind = 'r' \
         and exists (select from pg_class m where m.relnamespace = n.oid and m.relname = '_chassis_migrations') \
         and not exists (select from pg_class l where l.relnamespace = n.oid and l.relname = 'event_log') order by 1",
    )
    .fetch_all(pool)
    .await?;
    Ok(schemas.into_iter().map(Log::of_schema).collect())
}

/// The verdict on an event log that is gone.
pub fn lost() -> Verdict {
    Verdict::Broken {
        link: 1,
        seq: None,
        event_id: None,
        why: "is missing, and so is the whole event log".to_owned(),
    }
}

impl Log {
    fn of_schema(schema: String) -> Self {
        let service = if schema == OPERATOR.0 {
            OPERATOR.1.to_owned()
        } else {
            schema.replace('_', "-")
        };
        Self { service, schema }
    }
}

/// A name of ours in a query; quoted, for a schema may be called anything.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A head as it was noted outside of the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchor {
    /// Place in the chain, from 1.
    pub link: i64,
    /// Its hash, 64 hexadecimal digits in lower case.
    pub hash: String,
}

/// Whether a chain holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// Nothing was changed, removed, added or moved since it was sealed.
    Intact {
        /// Rows in the chain, count; the newest has this link.
        links: i64,
        /// Hash of the newest link, 64 hexadecimal digits.
        head: String,
        /// Rows that wait to be sealed, count: a few when the service runs, and of the last second.
        unsealed: i64,
    },
    /// Something was.
    Broken {
        /// The first link that is not as it was sealed.
        link: i64,
        /// The row that is there now; none when it is missing.
        seq: Option<i64>,
        /// The event that the row is about; none when it is missing.
        event_id: Option<Uuid>,
        /// What is wrong, in words that follow "link N".
        why: String,
    },
}

#[derive(Debug, sqlx::FromRow)]
struct Sealed {
    link: i64,
    prev_hash: Option<Vec<u8>>,
    hash: Option<Vec<u8>>,
    #[sqlx(flatten)]
    row: Row,
}

/// Verifies the chain of a schema from its first link to its head, and that the anchors are part of it.
///
/// # Errors
/// Database errors.
pub async fn verify(pool: &PgPool, schema: &str, anchors: &[Anchor]) -> anyhow::Result<Verdict> {
    let mut tx = pool.begin().await?;
    // Rows and head of one moment, while the service goes on.
    sqlx::query("set transaction isolation level repeatable read, read only")
        .execute(&mut *tx)
        .await?;
    let mut chain = Chain {
        length: 0,
        hash: beginning(schema),
        anchors,
    };
    if let Err(broken) = chain.walk(&mut tx, schema).await? {
        return Ok(broken);
    }
    let quoted = quoted(schema);
    let head = format!("select link, hash from {quoted}.event_log_head where id = 1");
    let head: Option<(i64, Vec<u8>)> = sqlx::query_as(AssertSqlSafe(head))
        .fetch_optional(&mut *tx)
        .await?;
    if let Err(broken) = chain.end(head) {
        return Ok(broken);
    }
    let unsealed = format!("select count(*) from {quoted}.event_log where link is null");
    let (unsealed,): (i64,) = sqlx::query_as(AssertSqlSafe(unsealed))
        .fetch_one(&mut *tx)
        .await?;
    Ok(Verdict::Intact {
        links: chain.length,
        head: hex::encode(chain.hash),
        unsealed,
    })
}

/// A chain as far as it holds.
struct Chain<'a> {
    length: i64,
    hash: Vec<u8>,
    anchors: &'a [Anchor],
}

impl Chain<'_> {
    async fn walk(&mut self, tx: &mut Tx, schema: &str) -> anyhow::Result<Result<(), Verdict>> {
        // By row besides: were the index gone, two rows could have the same link.
        let query = format!(
            "select link, prev_hash, hash, {ROW} from {}.event_log \
             where link is not null and (link, seq) > ($1, $2) order by link, seq limit $3",
            quoted(schema)
        );
        let mut place = (i64::MIN, i64::MIN);
        loop {
            let page: Vec<Sealed> = sqlx::query_as(AssertSqlSafe(query.clone()))
                .bind(place.0)
                .bind(place.1)
                .bind(PAGE)
                .fetch_all(&mut **tx)
                .await
                .with_context(|| format!("read the event log of schema `{schema}`"))?;
            let Some(last) = page.last() else {
                return Ok(Ok(()));
            };
            place = (last.link, last.row.seq);
            for link in &page {
                if let Err(broken) = self.follow(link) {
                    return Ok(Err(broken));
                }
            }
        }
    }

    /// Goes one link on.
    fn follow(&mut self, found: &Sealed) -> Result<(), Verdict> {
        let link = self.length + 1;
        let here = |why: String| Verdict::Broken {
            link,
            seq: Some(found.row.seq),
            event_id: Some(found.row.event_id),
            why,
        };
        if found.link > link {
            let why = format!("is missing: after link {} comes link {}", self.length, found.link);
            return Err(missing(link, why));
        }
        if found.link < link {
            return Err(Verdict::Broken {
                link: found.link,
                seq: Some(found.row.seq),
                event_id: Some(found.row.event_id),
                why: "is there more than once, or was none of the chain".to_owned(),
            });
        }
        if found.prev_hash.as_deref() != Some(&self.hash[..]) {
            return Err(here(format!(
                "was sealed after another row than the one that is link {} now: rows changed places, or that one was replaced",
                self.length
            )));
        }
        let hash = found.row.hash(link, &self.hash);
        if found.hash.as_deref() != Some(&hash[..]) {
            return Err(here("says something else than when it was sealed".to_owned()));
        }
        (self.length, self.hash) = (link, hash);
        let hash = hex::encode(&self.hash);
        match self
            .anchors
            .iter()
            .find(|anchor| anchor.link == link && anchor.hash != hash)
        {
            Some(anchor) => Err(here(format!(
                "has the hash {hash}, and was anchored as {}: the chain was written anew",
                anchor.hash
            ))),
            None => Ok(()),
        }
    }

    /// Compares with the head, and with anchors that lie behind it.
    fn end(&self, head: Option<(i64, Vec<u8>)>) -> Result<(), Verdict> {
        let next = self.length + 1;
        let Some((link, hash)) = head else {
            return Err(missing(
                next,
                "may be missing: the head that says how many there are is gone".to_owned(),
            ));
        };
        if link > self.length {
            let why = format!("is missing, and all after it: the head says that there are {link}");
            return Err(missing(next, why));
        }
        if link < self.length {
            let why = format!("was not sealed by us: the head says that there are {link}");
            return Err(missing(link + 1, why));
        }
        if hash != self.hash {
            let why = format!(
                "has the hash {}, and the head says {}",
                hex::encode(&self.hash),
                hex::encode(hash)
            );
            return Err(missing(link, why));
        }
        match self.anchors.iter().find(|anchor| anchor.link > link) {
            Some(anchor) => {
                let why = format!("is missing: link {} was anchored", anchor.link);
                Err(missing(next, why))
            }
            None => Ok(()),
        }
    }
}

const fn missing(link: i64, why: String) -> Verdict {
    Verdict::Broken {
        link,
        seq: None,
        event_id: None,
        why,
    }
}

/// A row of an event log, for people.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Whose log it is in, e.g. `drift-monitor`.
    pub service: String,
    /// Number of the row in that log.
    pub seq: i64,
    /// When it was recorded.
    pub at: DateTime<Utc>,
    /// `said`, `received`, `parked`, `redriven` or `discarded`.
    pub what: String,
    /// The event.
    pub event_id: Uuid,
    /// Its type, e.g. `vigie.drift.checked.v1`.
    pub event_type: String,
    /// The model it is about.
    pub model: String,
    /// The event that began the loop.
    pub correlation_id: Uuid,
    /// The direct cause.
    pub causation_id: Option<Uuid>,
    /// Headers with the trace; who and why.
    pub entry: Value,
    /// What was said.
    pub body: Option<Vec<u8>>,
    /// Place in the chain; none until it is sealed.
    pub link: Option<i64>,
}

#[derive(Debug, sqlx::FromRow)]
struct EntryRow {
    seq: i64,
    at_micros: i64,
    what: String,
    event_id: Uuid,
    event_type: String,
    model: String,
    correlation_id: Uuid,
    causation_id: Option<Uuid>,
    entry: String,
    body: Option<Vec<u8>>,
    link: Option<i64>,
}

impl EntryRow {
    fn of(self, service: &str) -> anyhow::Result<Entry> {
        let (seq, at) = (self.seq, DateTime::from_timestamp_micros(self.at_micros));
        let place = || format!("row {seq} of the event log of {service}");
        Ok(Entry {
            service: service.to_owned(),
            seq,
            at: at.with_context(|| format!("{} has an instant that cannot be shown", place()))?,
            what: self.what,
            event_id: self.event_id,
            event_type: self.event_type,
            model: self.model,
            correlation_id: self.correlation_id,
            causation_id: self.causation_id,
            entry: serde_json::from_str(&self.entry).with_context(|| format!("{} holds no JSON", place()))?,
            body: self.body,
            link: self.link,
        })
    }
}

/// All rows of a loop, over all services, in the order of their recording.
///
/// # Errors
/// Database errors, or a row that cannot be read.
pub async fn of_loop(pool: &PgPool, correlation_id: Uuid) -> anyhow::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for log in logs(pool).await? {
        let query = format!(
            "select seq, (extract(epoch from at) * 1000000)::bigint as at_micros, what, event_id, event_type, model, \
             correlation_id, causation_id, entry, body, link from {}.event_log where correlation_id = $1",
            quoted(&log.schema)
        );
        let rows: Vec<EntryRow> = sqlx::query_as(AssertSqlSafe(query))
            .bind(correlation_id)
            .fetch_all(pool)
            .await
            .with_context(|| format!("read the event log of {}", log.service))?;
        for row in rows {
            entries.push(row.of(&log.service)?);
        }
    }
    entries.sort_by(|a, b| (a.at, &a.service, a.seq).cmp(&(b.at, &b.service, b.seq)));
    Ok(entries)
}

/// The loop that an event belongs to; none when no log knows the event.
///
/// # Errors
/// Database errors.
pub async fn loop_of(pool: &PgPool, event_id: Uuid) -> anyhow::Result<Option<Uuid>> {
    for log in logs(pool).await? {
        let query = format!(
            "select correlation_id from {}.event_log where event_id = $1 order by seq limit 1",
            quoted(&log.schema)
        );
        let found: Option<Uuid> = sqlx::query_scalar(AssertSqlSafe(query))
            .bind(event_id)
            .fetch_optional(pool)
            .await
            .with_context(|| format!("read the event log of {}", log.service))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}
