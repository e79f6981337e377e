//! What a training says while it runs, and how it is told to stop.

/// Where a training is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Columns become inputs.
    Encode,
    /// The logistic regression is fitted.
    Logistic,
    /// The forest grows.
    Forest,
    /// Candidates are scored and the operating threshold is chosen.
    Choose,
}

impl Stage {
    /// The word used in logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Encode => "encode",
            Self::Logistic => "logistic_regression",
            Self::Forest => "random_forest",
            Self::Choose => "choose",
        }
    }
}

/// Looks on from outside; called from several threads.
pub trait Watch: Sync {
    /// `done` is the finished share of this stage, 0 to 1, never smaller than said before.
    fn progress(&self, stage: Stage, done: f64);
    /// Whether to stop; asked between stages and between groups of trees.
    fn cancelled(&self) -> bool;
}

/// Nobody looks on.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Watch for Silent {
    fn progress(&self, _: Stage, _: f64) {}

    fn cancelled(&self) -> bool {
        false
    }
}
