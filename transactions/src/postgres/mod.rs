//! Rows of a PostgreSQL table or view, by binary COPY.

mod catalogue;
mod copy;

use std::fmt::Write as _;
use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, NaiveDateTime, Utc};
use futures_util::TryStreamExt as _;
use sqlx::pool::PoolConnection;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, PgPool, Postgres, Row as _, Transaction};

use crate::batch::{Batch, CategoryBuilder, Column, Label};
use crate::catalogue::{ColumnType, FeatureKind, FoundColumn, Layout};
use crate::error::{ScanError, SourceError};
use crate::rows::{KnownAt, bad_label, bad_score, label_of, score_of};
use crate::source::{Order, Plan};
use copy::{CopyParser, CopyRow};

/// Rows handed out at a time.
const BATCH_ROWS: usize = 16_384;
/// Span from which two connections read, in microseconds: six hours.
const DIVIDED: i64 = 6 * 3_600_000_000;
/// Longest wait for the second connection.
const SECOND_WAIT: Duration = Duration::from_millis(250);

/// A table or view.
#[derive(Debug, Clone)]
pub struct Table {
    pub pool: PgPool,
    pub schema: String,
    pub name: String,
    /// The server ends a statement by then.
    pub statement_timeout: Duration,
    /// A reading that lasts longer, once it has a connection, has lost its server.
    pub answer_max: Duration,
}

impl Table {
    fn source_name(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    fn quoted(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }

    /// A connection to read on; whoever has one waits no longer than [`Table::bounded`] does.
    async fn connection(&self) -> Result<PoolConnection<Postgres>, SourceError> {
        let acquired = self.pool.acquire().await;
        acquired.map_err(|error| self.plain_error(&error))
    }

    /// A read-only transaction in which a query ends after the timeout.
    async fn begin<'c>(&self, connection: &'c mut PgConnection) -> sqlx::Result<Transaction<'c, Postgres>> {
        let mut tx = connection.begin().await?;
        sqlx::query("set transaction read only").execute(&mut *tx).await?;
        set_timeout(&mut tx, self.statement_timeout).await?;
        Ok(tx)
    }

    fn error(&self, error: &sqlx::Error) -> ScanError {
        let source_name = self.source_name();
        let cause = one_line(error);
        if let sqlx::Error::Database(database) = error {
            let code = database.code().unwrap_or_default();
            match code.as_ref() {
                "57014" => return SourceError::TooSlow { source_name }.into(),
                "42P01" | "42703" | "42501" | "3F000" => return ScanError::Changed(cause),
                // Data exceptions: a value that does not fit, or a view that divides by zero.
                code if code.starts_with("22") => return SourceError::Corrupt { source_name, cause }.into(),
                _ => {}
            }
        }
        SourceError::Unreachable { source_name, cause }.into()
    }

    fn plain_error(&self, error: &sqlx::Error) -> SourceError {
        self.error(error).into_source(&self.source_name())
    }

    /// Waits for a reading; a server that is gone without a word is not waited for.
    fn bounded<T, E: From<SourceError>>(
        &self,
        reading: impl Future<Output = Result<T, E>>,
    ) -> impl Future<Output = Result<T, E>> {
        let reading = Box::pin(reading);
        async move {
            let answered = tokio::time::timeout(self.answer_max, reading).await;
            answered.unwrap_or_else(|_| {
                Err(E::from(SourceError::TooSlow {
                    source_name: self.source_name(),
                }))
            })
        }
    }

    /// Hands out the rows of a plan, batch by batch. Where the order does not matter, a long span is read by two connections, each a half:
    /// the server sends from two processes then.
    pub async fn scan(&self, plan: &Plan, each: impl FnMut(&Batch) + Send) -> Result<(), ScanError> {
        let first = Copying(Some(self.connection().await?));
        let halves = match halves(plan) {
            Some(halves) => self.second().await.map(|second| (halves, second)),
            None => None,
        };
        let Some(([earlier, later], second)) = halves else {
            // Boxed, as below: what copies keeps its buffers.
            return self.bounded(Box::pin(self.copy_out(first, plan, each))).await;
        };
        let each = Mutex::new(each);
        let hand_out = |batch: &Batch| (each.lock().unwrap_or_else(PoisonError::into_inner))(batch);
        let both = Box::pin(async {
            tokio::try_join!(
                self.copy_out(first, &earlier, hand_out),
                self.copy_out(second, &later, hand_out)
            )?;
            Ok(())
        });
        self.bounded(both).await
    }

    /// Another connection, if one is to be had at once: whoever waits for it while it holds one may wait for somebody who does the same.
    async fn second(&self) -> Option<Copying> {
        let acquired = tokio::time::timeout(SECOND_WAIT, self.pool.acquire()).await;
        acquired.ok()?.ok().map(|connection| Copying(Some(connection)))
    }

    async fn copy_out(
        &self,
        mut copying: Copying,
        plan: &Plan,
        mut each: impl FnMut(&Batch) + Send,
    ) -> Result<(), ScanError> {
        let columns = Columns::of(plan);
        let statement = self.copy_statement(plan, &columns);
        let begun = copying.begin(self.statement_timeout, plan.order).await;
        begun.map_err(|error| self.error(&error))?;
        {
            let connection = copying.connection();
            let mut stream = connection
                .copy_out_raw(&statement)
                .await
                .map_err(|error| self.error(&error))?;
            let mut parser = CopyParser::new(columns.expressions.len());
            let mut rows = Collected::new(plan);
            while let Some(piece) = stream.try_next().await.map_err(|error| self.error(&error))? {
                parser
                    .feed(&piece, |row| {
                        rows.push(plan, &columns, row)?;
                        if rows.times.len() == BATCH_ROWS {
                            each(&rows.take(plan));
                        }
                        Ok(())
                    })
                    .map_err(|problem: RowProblem| problem.on(plan))?;
            }
            parser.finish().map_err(|cause| plan.corrupt(cause))?;
            if !rows.times.is_empty() {
                each(&rows.take(plan));
            }
        }
        copying.end().await;
        Ok(())
    }

    /// COPY takes no parameters. The only values are instants, printed here from integers; every name is
    /// quoted and was found in the catalogue.
    fn copy_statement(&self, plan: &Plan, columns: &Columns) -> String {
        let time = quoted(&plan.layout.time.name);
        let kind = &plan.layout.time.kind;
        let mut select = format!(
            "select {} from {} where {time} >= {} and {time} < {}",
            columns.expressions.join(", "),
            self.quoted(),
            literal(plan.span.0, kind),
            literal(plan.span.1, kind),
        );
        // What is wanted of the others is decided row by row; this spares the server to send them.
        if let (Some(since), Some(known)) = (plan.knowledge.since, &plan.layout.label_time) {
            let name = quoted(&known.name);
            let (since, until) = (
                literal(since, &known.kind),
                literal(plan.knowledge.as_of, &known.kind),
            );
            // Writing to a String cannot fail.
            let _ = write!(select, " and {name} > {since} and {name} <= {until}");
        }
        if plan.order == Order::Time {
            let order = match &plan.layout.id {
                Some(id) if id.kind == ColumnType::Integer => quoted(&id.name),
                Some(id) => format!("{}::text collate \"C\"", quoted(&id.name)),
                None => columns.content_order(plan),
            };
            // Writing to a String cannot fail.
            let _ = write!(
                select,
                " order by {time}{}{order}",
                if order.is_empty() { "" } else { ", " }
            );
        }
        format!("copy ({select}) to stdout (format binary)")
    }

    /// Rows in the plan's window.
    pub async fn count(&self, plan: &Plan) -> Result<u64, SourceError> {
        let time = quoted(&plan.layout.time.name);
        let statement = format!(
            "select count(*) from {} where {time} >= $1 and {time} < $2",
            self.quoted()
        );
        let mut connection = self.connection().await?;
        let counted = async {
            let mut tx = self.begin(&mut connection).await?;
            let query = sqlx::query_scalar(AssertSqlSafe(statement));
            let bounds = [plan.span.0, plan.span.1].map(instant);
            let query = if plan.layout.time.kind == ColumnType::InstantWithZone {
                query.bind(bounds[0]).bind(bounds[1])
            } else {
                query.bind(bounds[0].naive_utc()).bind(bounds[1].naive_utc())
            };
            query.fetch_one(&mut *tx).await
        };
        let counted = async { counted.await.map_err(|error| self.plain_error(&error)) };
        self.bounded(counted).await.map(i64::cast_unsigned)
    }

    /// Microseconds of the oldest and the newest row.
    pub async fn extent(&self, layout: &Layout) -> Result<Option<(i64, i64)>, SourceError> {
        let time = quoted(&layout.time.name);
        // Infinity is no instant of a transaction.
        let statement = format!(
            "select min({time}), max({time}) from {} where isfinite({time})",
            self.quoted()
        );
        let zoned = layout.time.kind == ColumnType::InstantWithZone;
        let mut connection = self.connection().await?;
        let found = async {
            let mut tx = self.begin(&mut connection).await?;
            let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(&mut *tx).await?;
            let at = |column: usize| -> sqlx::Result<Option<i64>> {
                if zoned {
                    Ok(row
                        .try_get::<Option<DateTime<Utc>>, _>(column)?
                        .map(|at| at.timestamp_micros()))
                } else {
                    Ok(row
                        .try_get::<Option<NaiveDateTime>, _>(column)?
                        .map(|at| at.and_utc().timestamp_micros()))
                }
            };
            Ok(at(0)?.zip(at(1)?))
        };
        self.bounded(async { found.await.map_err(|error| self.plain_error(&error)) })
            .await
    }
}

/// A connection on which a COPY runs. Unless it ran to its end, the connection is closed rather than returned to
/// the pool: after a failed or abandoned COPY, answers to it are still under way and would be taken for answers to
/// the next query.
struct Copying(Option<PoolConnection<Postgres>>);

impl Copying {
    async fn begin(&mut self, statement_timeout: Duration, order: Order) -> sqlx::Result<()> {
        let connection = self.connection();
        sqlx::query("begin read only").execute(&mut *connection).await?;
        if order == Order::Stored {
            // The server would begin where another scan is, or read at several places.
            sqlx::query(
                "select set_config('synchronize_seqscans', 'off', true), set_config('max_parallel_workers_per_gather', '0', true)",
            )
            .execute(&mut *connection)
            .await?;
        }
        set_timeout(connection, statement_timeout).await
    }

    fn connection(&mut self) -> &mut PgConnection {
        self.0
            .as_mut()
            .unwrap_or_else(|| unreachable!("only `end` takes the connection"))
    }

    /// Nothing was written, so ending the transaction can take nothing back; a connection that cannot is closed.
    async fn end(mut self) {
        match sqlx::query("rollback").execute(self.connection()).await {
            Ok(_) => drop(self.0.take()),
            Err(error) => tracing::debug!("the reading transaction was not ended: {error}"),
        }
    }
}

impl Drop for Copying {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

/// The plan in two halves, where it is long and nobody asks for an order.
fn halves(plan: &Plan) -> Option<[Plan; 2]> {
    let (start, end) = plan.span;
    if plan.order != Order::Any || end.saturating_sub(start) < DIVIDED {
        return None;
    }
    let middle = start + (end - start) / 2;
    let of = |span| Plan { span, ..plan.clone() };
    Some([of((start, middle)), of((middle, end))])
}

async fn set_timeout(connection: &mut PgConnection, timeout: Duration) -> sqlx::Result<()> {
    sqlx::query("select set_config('statement_timeout', $1, true)")
        .bind(timeout.as_millis().to_string())
        .execute(connection)
        .await?;
    Ok(())
}

/// An identifier in quotes, whatever it is made of.
pub fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap_or(if micros < 0 {
        DateTime::<Utc>::MIN_UTC
    } else {
        DateTime::<Utc>::MAX_UTC
    })
}

/// An instant as SQL, in the type of the time column so that its index serves.
fn literal(micros: i64, kind: &ColumnType) -> String {
    // Years 1 to 9999: what both sides write in the same way.
    let text = instant(micros.clamp(-62_135_596_800_000_000, 253_402_300_799_999_999))
        .format("%Y-%m-%d %H:%M:%S%.6f");
    if *kind == ColumnType::InstantWithZone {
        format!("timestamptz '{text}+00'")
    } else {
        format!("timestamp '{text}'")
    }
}

fn one_line(error: &sqlx::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// SQL expressions of a plan, and where each answer stands in a row.
struct Columns {
    expressions: Vec<String>,
    label: Option<usize>,
    label_time: Option<usize>,
    score: Option<usize>,
    first_feature: usize,
}

impl Columns {
    fn of(plan: &Plan) -> Self {
        let layout = &plan.layout;
        let mut expressions = vec![quoted(&layout.time.name)];
        let mut push = |expression: String| {
            expressions.push(expression);
            expressions.len() - 1
        };
        let label = plan.labels.then(|| push(as_number(&layout.label)));
        let label_time = layout.label_time.as_ref().filter(|_| plan.labels).map(|column| {
            // Both kinds come as microseconds since 2000, one of them taken as UTC.
            push(quoted(&column.name))
        });
        let score = layout
            .score
            .as_ref()
            .filter(|_| plan.scores)
            .map(|column| push(as_number(column)));
        for at in &plan.features {
            let (feature, column) = &layout.features[*at];
            push(match feature.kind {
                FeatureKind::Numeric => as_number(column),
                FeatureKind::Category => format!("{}::text", quoted(&column.name)),
            });
        }
        let first_feature = expressions.len() - plan.features.len();
        Self {
            expressions,
            label,
            label_time,
            score,
            first_feature,
        }
    }

    /// Order of rows of one instant when no id tells them apart.
    fn content_order(&self, plan: &Plan) -> String {
        let score = self.score.map(|at| self.expressions[at].clone());
        let features = plan
            .features
            .iter()
            .zip(&self.expressions[self.first_feature..])
            .map(|(at, expression)| match plan.layout.features[*at].0.kind {
                FeatureKind::Numeric => expression.clone(),
                FeatureKind::Category => format!("{expression} collate \"C\""),
            });
        score.into_iter().chain(features).collect::<Vec<_>>().join(", ")
    }
}

fn as_number(column: &FoundColumn) -> String {
    let name = quoted(&column.name);
    if column.kind == ColumnType::Boolean {
        format!("{name}::int::float8")
    } else {
        format!("{name}::float8")
    }
}

/// What is wrong with a row.
enum RowProblem {
    Format(String),
    Value { column: String, detail: String },
}

impl From<String> for RowProblem {
    fn from(cause: String) -> Self {
        Self::Format(cause)
    }
}

impl RowProblem {
    fn on(self, plan: &Plan) -> SourceError {
        match self {
            Self::Format(cause) => plan.corrupt(cause),
            Self::Value { column, detail } => plan.bad_value(&column, detail),
        }
    }
}

/// Rows of the batch being collected.
struct Collected {
    times: Vec<i64>,
    labels: Vec<Label>,
    scores: Vec<f64>,
    features: Vec<Collecting>,
}

enum Collecting {
    Numbers(Vec<f64>),
    Categories(CategoryBuilder),
}

impl Collected {
    fn new(plan: &Plan) -> Self {
        let features = plan
            .features
            .iter()
            .map(|at| match plan.layout.features[*at].0.kind {
                FeatureKind::Numeric => Collecting::Numbers(Vec::with_capacity(BATCH_ROWS)),
                FeatureKind::Category => Collecting::Categories(CategoryBuilder::default()),
            });
        Self {
            times: Vec::with_capacity(BATCH_ROWS),
            labels: Vec::with_capacity(BATCH_ROWS),
            scores: Vec::with_capacity(BATCH_ROWS),
            features: features.collect(),
        }
    }

    fn push(&mut self, plan: &Plan, columns: &Columns, row: &CopyRow<'_>) -> Result<(), RowProblem> {
        let time = row
            .instant(0)?
            .ok_or_else(|| "a row without time was sent".to_owned())?;
        let label = match columns.label {
            None => Label::Unknown,
            Some(at) => {
                let known_at = match columns.label_time {
                    None => KnownAt::AfterDelay,
                    Some(at) => KnownAt::Column(row.instant(at)?),
                };
                let raw = row.number(at)?;
                if !plan.knowledge.wants(raw, time, known_at) {
                    return Ok(());
                }
                label_of(raw, time, known_at, plan.knowledge).map_err(|value| RowProblem::Value {
                    column: plan.layout.label.name.clone(),
                    detail: bad_label(value),
                })?
            }
        };
        self.times.push(time);
        self.labels.push(label);
        let score = columns.score.map(|at| row.number(at)).transpose()?.flatten();
        self.scores.push(score_of(score).map_err(|value| {
            RowProblem::Value {
                column: plan
                    .layout
                    .score
                    .as_ref()
                    .map(|column| column.name.clone())
                    .unwrap_or_default(),
                detail: bad_score(value),
            }
        })?);
        for (feature, at) in self.features.iter_mut().zip(columns.first_feature..) {
            match feature {
                Collecting::Numbers(numbers) => numbers.push(row.number(at)?.unwrap_or(f64::NAN)),
                Collecting::Categories(builder) => builder.push(row.text(at)?),
            }
        }
        Ok(())
    }

    fn take(&mut self, plan: &Plan) -> Batch {
        let full = std::mem::replace(self, Self::new(plan));
        let features = full.features.into_iter().map(|feature| match feature {
            Collecting::Numbers(numbers) => Column::Numeric(numbers),
            Collecting::Categories(builder) => builder.finish(),
        });
        Batch {
            times: full.times,
            features: features.collect(),
            labels: full.labels,
            scores: full.scores,
        }
    }
}
