//! Questions to a source that counts its rows itself.

use crate::Batch;
use crate::counts::{CellCount, Cells, LevelCount, OutcomeCount};
use crate::error::SourceError;
use crate::source::{Request, TransactionSource};
use crate::warehouse::Table;

/// A source that counts its rows itself. Its counts are those that its rows would have given.
#[derive(Debug, Clone, Copy)]
pub struct InPlace<'a> {
    pub(crate) source: &'a TransactionSource,
    pub(crate) table: &'a Table,
}

impl InPlace<'_> {
    /// Counts the rows of a request per hour (since 1970 UTC), feature and cell; `cells` has one entry per feature of the request.
    /// Hours, features and cells without a row are left out, and come in no order.
    ///
    /// # Errors
    /// [`SourceError`]; what was handed out before it stays handed out.
    pub async fn cells(
        &self,
        request: &Request,
        cells: &[Cells],
        each: impl FnMut(CellCount<i64>) + Send,
    ) -> Result<(), SourceError> {
        let Some(plan) = self.source.plan(request)? else {
            return Ok(());
        };
        let counted = self.table.cells_by_hour(&plan, cells, each).await;
        self.source.known(counted).await
    }

    /// Counts the rows of a request per level of a column, feature and cell; `cells` has one entry per feature of the request that is
    /// counted, the first ones. Only rows whose column `segment` (its position among the features of the request) has one of `levels`,
    /// or no value, are counted.
    ///
    /// # Errors
    /// [`SourceError`]; what was handed out before it stays handed out.
    pub async fn cells_by_level(
        &self,
        request: &Request,
        cells: &[Cells],
        segment: usize,
        levels: &[String],
        each: impl FnMut(CellCount<Option<String>>) + Send,
    ) -> Result<(), SourceError> {
        let Some(plan) = self.source.plan(request)? else {
            return Ok(());
        };
        let counted = self
            .table
            .cells_by_level(&plan, cells, segment, levels, each)
            .await;
        self.source.known(counted).await
    }

    /// Counts the rows of a request per level of each of its categories, the most frequent `most` of each.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn levels(&self, request: &Request, most: usize) -> Result<Vec<LevelCount>, SourceError> {
        use crate::catalogue::FeatureKind;
        let Some(plan) = self.source.plan(request)? else {
            return Ok(Vec::new());
        };
        let is_category = |at: &usize| plan.layout.features[*at].0.kind == FeatureKind::Category;
        if !plan.features.iter().any(is_category) {
            return Ok(Vec::new());
        }
        let counted = self.table.levels(&plan, most).await;
        self.source.known(counted).await
    }

    /// Rows of a request whose label is known at its instant, and frauds among them.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn labels(&self, request: &Request) -> Result<(u64, u64), SourceError> {
        let Some(plan) = self.source.plan(request)? else {
            return Ok((0, 0));
        };
        let counted = self.table.labels(&plan).await;
        self.source.known(counted).await
    }

    /// Counts the rows of a request per hour, label, and score: `resolution` bins of equal width on 0 to 1, on either side of the
    /// operating threshold.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn outcomes(
        &self,
        request: &Request,
        threshold: f64,
        resolution: usize,
    ) -> Result<Vec<OutcomeCount>, SourceError> {
        let Some(plan) = self.source.plan(request)? else {
            return Ok(Vec::new());
        };
        let counted = self.table.outcomes(&plan, threshold, resolution).await;
        self.source.known(counted).await
    }

    /// Hands out about `share` (0 to 1) of the rows of a request, spread evenly and always the same ones.
    ///
    /// # Errors
    /// [`SourceError`].
    pub async fn sample(
        &self,
        request: &Request,
        share: f64,
        each: impl FnMut(&Batch) + Send,
    ) -> Result<(), SourceError> {
        let Some(mut plan) = self.source.plan(request)? else {
            return Ok(());
        };
        plan.sample = (share < 1.0).then_some(share);
        let scanned = self.table.scan(&plan, each).await;
        self.source.known(scanned).await
    }
}
