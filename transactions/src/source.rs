//! A source that was checked against its catalogue, and questions to it.

use chrono::{DateTime, Utc};
use schemas::Window;

use crate::access::{ANSWER_SLACK, Readers, SourceSettings};
use crate::batch::Batch;
use crate::catalogue::{Feature, Layout};
use crate::definition::{ModelDefinition, SourceDefinition};
use crate::error::{CatalogueProblem, ScanError, SourceError};
use crate::file::DataFile;
use crate::in_place::InPlace;
use crate::nearest::nearest;
use crate::rows::Knowledge;
use crate::{file, postgres, warehouse};

/// Which features to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeatureChoice {
    /// None.
    None,
    /// Every feature, in the order of the settings.
    All,
    /// Those that are watched for drift, in the order of the settings.
    Monitored,
    /// These, in this order.
    Named(Vec<String>),
    /// These, in this order, then the columns of segments, in the order of the settings, as categories. A source that counts its rows
    /// itself counts them and does not hand them out.
    WithSegments(Vec<String>),
}

/// Order of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Whatever is quickest, also from several places at once; enough for counting.
    Any,
    /// As the source has them, one after the other: by time, in most tables and files.
    Stored,
    /// By time, then by id (without an id column: by score and features); the same rows always come in the same order.
    Time,
}

/// Which rows and columns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Rows whose time lies in it; nothing at or after `as_of` is read even when it lies inside.
    pub window: Window,
    /// The instant of the question: labels known at it count.
    pub as_of: DateTime<Utc>,
    /// Which features.
    pub features: FeatureChoice,
    /// Whether labels are wanted; else all are unknown.
    pub labels: bool,
    /// Whether scores are wanted; else, or when the model has no score column, all are missing.
    pub scores: bool,
    /// Only rows whose label became known after this instant (and by `as_of`); `None` wants all rows.
    pub labelled_after: Option<DateTime<Utc>>,
    /// In which order.
    pub order: Order,
}

impl Request {
    /// Everything, in order: for training and validation.
    pub fn all(window: Window, as_of: DateTime<Utc>) -> Self {
        Self {
            window,
            as_of,
            features: FeatureChoice::All,
            labels: true,
            scores: true,
            labelled_after: None,
            order: Order::Time,
        }
    }

    /// The watched features, in any order: for profiles.
    pub fn monitored(window: Window, as_of: DateTime<Utc>) -> Self {
        Self {
            window,
            as_of,
            features: FeatureChoice::Monitored,
            labels: false,
            scores: false,
            labelled_after: None,
            order: Order::Any,
        }
    }

    /// Labels and scores, in any order: for realised performance.
    pub fn outcomes(window: Window, as_of: DateTime<Utc>) -> Self {
        Self {
            window,
            as_of,
            features: FeatureChoice::None,
            labels: true,
            scores: true,
            labelled_after: None,
            order: Order::Any,
        }
    }

    /// Labels and scores of rows whose label became known after an instant, in any order.
    pub fn news(window: Window, labelled_after: DateTime<Utc>, as_of: DateTime<Utc>) -> Self {
        Self {
            labelled_after: Some(labelled_after),
            ..Self::outcomes(window, as_of)
        }
    }

    /// First and last microsecond: `[start, end)`; `None` when nothing lies before `as_of`. Where a label is known so long after
    /// its row, news are rows of a span.
    fn span(&self, fixed_delay: Option<i64>) -> Option<(i64, i64)> {
        let mut start = self.window.start().timestamp_micros();
        let mut end = self.window.end().min(self.as_of).timestamp_micros();
        if let (Some(delay), Some(since)) = (fixed_delay, self.labelled_after) {
            let after = |at: DateTime<Utc>| at.timestamp_micros().saturating_sub(delay).saturating_add(1);
            start = start.max(after(since));
            end = end.min(after(self.as_of));
        }
        (start < end).then_some((start, end))
    }
}

/// What a kind of source needs to answer a request.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Columns by purpose.
    pub layout: Layout,
    /// Positions in `layout.features`.
    pub features: Vec<usize>,
    /// Whether labels are wanted.
    pub labels: bool,
    /// Whether scores are wanted and there is a column.
    pub scores: bool,
    /// In which order rows are handed out.
    pub order: Order,
    /// Of a source that counts in place: the share of the rows that is wanted, 0 to 1; `None` wants all.
    pub sample: Option<f64>,
    /// `[start, end)`, microseconds since 1970 UTC.
    pub span: (i64, i64),
    /// What decides whether a label is known.
    pub knowledge: Knowledge,
    /// For messages.
    pub source_name: String,
}

impl Plan {
    /// Every row, whatever its instant.
    pub const fn of_all(layout: Layout, source_name: String) -> Self {
        Self {
            layout,
            features: Vec::new(),
            labels: false,
            scores: false,
            order: Order::Stored,
            sample: None,
            span: (i64::MIN, i64::MAX),
            knowledge: Knowledge {
                as_of: i64::MAX,
                delay: 0,
                since: None,
            },
            source_name,
        }
    }

    /// A value that cannot mean what its column means.
    pub fn bad_value(&self, column: &str, detail: String) -> SourceError {
        SourceError::BadValue {
            source_name: self.source_name.clone(),
            column: column.to_owned(),
            detail,
        }
    }

    /// An answer that breaks its format.
    pub fn corrupt(&self, cause: impl std::fmt::Display) -> SourceError {
        SourceError::Corrupt {
            source_name: self.source_name.clone(),
            cause: cause.to_string(),
        }
    }
}

/// Rows of one model, opened and checked.
#[derive(Debug, Clone)]
pub struct TransactionSource {
    definition: ModelDefinition,
    layout: Layout,
    backing: Backing,
}

#[derive(Debug, Clone)]
enum Backing {
    Postgres(postgres::Table),
    File(DataFile),
    Warehouse(warehouse::Table),
}

impl TransactionSource {
    /// Opens a model's source and checks it against the catalogue.
    ///
    /// # Errors
    /// [`SourceError::Catalogue`] with every problem at once, or [`SourceError::Unreachable`].
    pub async fn open(
        definition: &ModelDefinition,
        readers: &Readers,
        settings: SourceSettings,
    ) -> Result<Self, SourceError> {
        let (backing, layout) = match &definition.source {
            SourceDefinition::Postgres { schema, table } => {
                let table = postgres::Table {
                    pool: readers.pool.clone(),
                    schema: schema.clone(),
                    name: table.clone(),
                    statement_timeout: settings.statement_timeout,
                    answer_max: settings.statement_timeout + ANSWER_SLACK,
                };
                let layout = Box::pin(table.check(definition)).await?;
                (Backing::Postgres(table), layout)
            }
            SourceDefinition::File(file) => {
                let layout = file::check(file.clone(), definition.clone()).await?;
                (Backing::File(file.clone()), layout)
            }
            SourceDefinition::Databricks { table } => {
                let source_name = definition.source.to_string();
                let Some(warehouse) = &readers.warehouse else {
                    let cause = "no SQL warehouse is set (`[warehouse]`)".to_owned();
                    return Err(SourceError::Refused { source_name, cause });
                };
                let table = warehouse::Table {
                    warehouse: warehouse.clone(),
                    name: source_name,
                    quoted: warehouse::quoted(table),
                    answer_max: settings.statement_timeout + ANSWER_SLACK,
                };
                let layout = Box::pin(table.check(definition)).await?;
                (Backing::Warehouse(table), layout)
            }
        };
        Ok(Self {
            definition: definition.clone(),
            layout,
            backing,
        })
    }

    /// The definition it was opened with.
    pub fn definition(&self) -> &ModelDefinition {
        &self.definition
    }

    /// Every feature, in the order of the settings.
    pub fn features(&self) -> impl Iterator<Item = &Feature> {
        self.layout.features[..self.layout.of_model]
            .iter()
            .map(|(feature, _)| feature)
    }

    /// What is wrong with the columns of segments; nothing but questions for segments fails for it.
    pub fn segment_problems(&self) -> &[CatalogueProblem] {
        &self.layout.segment_problems
    }

    /// The features that are watched for drift, in the order of the settings.
    pub fn monitored(&self) -> impl Iterator<Item = &Feature> {
        self.features().filter(|feature| feature.monitored)
    }

    /// Reads the rows of a request into memory.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn read(&self, request: &Request) -> Result<Batch, SourceError> {
        let mut whole = self.empty(request)?;
        self.scan(request, |batch| whole.append(batch)).await?;
        Ok(whole)
    }

    /// Reads the rows of a request part by part, in bounded memory (for an ordered request to a file: all
    /// at once); returns how many there were.
    ///
    /// # Errors
    /// [`SourceError`]; parts given before it stay given.
    pub async fn scan(
        &self,
        request: &Request,
        mut each: impl FnMut(&Batch) + Send,
    ) -> Result<u64, SourceError> {
        let Some(plan) = self.plan(request)? else {
            return Ok(0);
        };
        if let (Some(_), FeatureChoice::WithSegments(_)) = (self.in_place(), &request.features) {
            return Err(SourceError::Refused {
                source_name: plan.source_name,
                cause: "segments are counted where the rows are".to_owned(),
            });
        }
        let mut rows = 0;
        let count = |batch: &Batch| {
            rows += batch.rows() as u64;
            each(batch);
        };
        match &self.backing {
            Backing::Postgres(table) => {
                let scanned = Box::pin(table.scan(&plan, count)).await;
                self.known(scanned).await?;
            }
            Backing::Warehouse(table) => {
                let scanned = Box::pin(table.scan(&plan, count)).await;
                self.known(scanned).await?;
            }
            Backing::File(file) => {
                file::scan(file.clone(), self.definition.clone(), plan, count).await?;
            }
        }
        Ok(rows)
    }

    /// What a scan gave; where the table changed since it was opened, what it lacks now.
    pub(crate) async fn known<T>(&self, scanned: Result<T, ScanError>) -> Result<T, SourceError> {
        let error = match scanned {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        if matches!(error, ScanError::Changed(_)) {
            match &self.backing {
                Backing::Postgres(table) => Box::pin(table.check(&self.definition)).await.map(|_| ())?,
                Backing::Warehouse(table) => Box::pin(table.check(&self.definition)).await.map(|_| ())?,
                Backing::File(_) => {}
            }
        }
        Err(error.into_source(&self.definition.source.to_string()))
    }

    /// What can be asked of a source that outgrows one machine; `None` where rows are as well read here.
    pub fn in_place(&self) -> Option<InPlace<'_>> {
        match &self.backing {
            Backing::Warehouse(table) => Some(InPlace { source: self, table }),
            Backing::Postgres(_) | Backing::File(_) => None,
        }
    }

    /// Rows in the window before `as_of`.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn count(&self, window: Window, as_of: DateTime<Utc>) -> Result<u64, SourceError> {
        let request = Request {
            labels: false,
            scores: false,
            ..Request::outcomes(window, as_of)
        };
        match (&self.backing, self.plan(&request)?) {
            (_, None) => Ok(0),
            (Backing::Postgres(table), Some(plan)) => Box::pin(table.count(&plan)).await,
            (Backing::Warehouse(table), Some(plan)) => {
                let counted = Box::pin(table.count(&plan)).await;
                self.known(counted).await
            }
            (Backing::File(_), Some(_)) => self.scan(&request, |_| {}).await,
        }
    }

    /// Instants of the oldest and the newest row; `None` when there are no rows.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn extent(&self) -> Result<Option<(DateTime<Utc>, DateTime<Utc>)>, SourceError> {
        let micros = match &self.backing {
            Backing::Postgres(table) => table.extent(&self.layout).await?,
            Backing::File(file) => file::extent(file.clone(), self.definition.clone()).await?,
            Backing::Warehouse(table) => {
                let found = table.extent(&self.layout).await;
                self.known(found).await?
            }
        };
        let instant = DateTime::<Utc>::from_timestamp_micros;
        Ok(micros.and_then(|(oldest, newest)| Some((instant(oldest)?, instant(newest)?))))
    }

    pub(crate) fn plan(&self, request: &Request) -> Result<Option<Plan>, SourceError> {
        let features = self.chosen(&request.features)?;
        let delay = i64::try_from(self.definition.label_delay.as_micros()).unwrap_or(i64::MAX);
        let fixed_delay = self.layout.label_time.is_none().then_some(delay);
        Ok(request.span(fixed_delay).map(|span| Plan {
            features,
            labels: request.labels,
            scores: request.scores && self.layout.score.is_some(),
            order: request.order,
            sample: None,
            span,
            knowledge: Knowledge {
                as_of: request.as_of.timestamp_micros(),
                delay,
                since: request.labelled_after.map(|at| at.timestamp_micros()),
            },
            source_name: self.definition.source.to_string(),
            layout: self.layout.clone(),
        }))
    }

    fn chosen(&self, choice: &FeatureChoice) -> Result<Vec<usize>, SourceError> {
        let all = || self.features().enumerate();
        match choice {
            FeatureChoice::None => Ok(Vec::new()),
            FeatureChoice::All => Ok(all().map(|(at, _)| at).collect()),
            FeatureChoice::Monitored => {
                let monitored = all().filter(|(_, feature)| feature.monitored);
                Ok(monitored.map(|(at, _)| at).collect())
            }
            FeatureChoice::WithSegments(names) => {
                if !self.segment_problems().is_empty() {
                    return Err(SourceError::Catalogue {
                        source_name: self.definition.source.to_string(),
                        problems: self.segment_problems().to_vec(),
                    });
                }
                let mut chosen = self.chosen(&FeatureChoice::Named(names.clone()))?;
                chosen.extend(self.layout.of_model..self.layout.features.len());
                Ok(chosen)
            }
            FeatureChoice::Named(names) => names
                .iter()
                .map(|name| {
                    all()
                        .find(|(_, feature)| feature.name == *name)
                        .map(|(at, _)| at)
                        .ok_or_else(|| {
                            let problem = CatalogueProblem::MissingColumn {
                                setting: "features",
                                column: name.clone(),
                                nearest: nearest(name, self.features().map(|feature| feature.name.as_str())),
                            };
                            SourceError::Catalogue {
                                source_name: self.definition.source.to_string(),
                                problems: vec![problem],
                            }
                        })
                })
                .collect(),
        }
    }

    /// A batch of no rows with the columns of a request.
    fn empty(&self, request: &Request) -> Result<Batch, SourceError> {
        let kinds = self
            .chosen(&request.features)?
            .into_iter()
            .map(|at| self.layout.features[at].0.kind);
        Ok(Batch {
            features: kinds.map(crate::batch::Column::empty).collect(),
            ..Batch::default()
        })
    }
}
