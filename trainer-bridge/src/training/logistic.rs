//! Logistic regression on standardised inputs: smartcore's L-BFGS; scores come from the coefficients.

use scoring::{Body, Logistic};
use smartcore::linalg::basic::arrays::Array;
use smartcore::linalg::basic::matrix::DenseMatrix;
use smartcore::linear::logistic_regression::{LogisticRegression, LogisticRegressionParameters};

use super::run::TrainingError;

/// What a logistic regression is fitted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LogisticParameters {
    /// Weight of the squared coefficients in the loss (half of it each), 0 or more; larger shrinks more.
    pub l2: f64,
}

/// Fits the coefficients; `inputs` is the standardised row-major matrix.
///
/// # Errors
/// [`TrainingError::Library`] when smartcore refuses, or the optimiser leaves the numbers.
pub fn fit(
    inputs: Vec<f64>,
    width: usize,
    labels: &[bool],
    parameters: LogisticParameters,
) -> Result<Body, TrainingError> {
    let refuse =
        |error: smartcore::error::Failed| TrainingError::Library(format!("logistic regression: {error}"));
    let x = DenseMatrix::new(labels.len(), width, inputs, false).map_err(refuse)?;
    let y: Vec<u32> = labels.iter().map(|label| u32::from(*label)).collect();
    let settings = LogisticRegressionParameters::default().with_alpha(parameters.l2);
    // Classes come back sorted, so the coefficients speak of class 1, fraud.
    let fitted = LogisticRegression::fit(&x, &y, settings).map_err(refuse)?;
    let coefficients = (0..width)
        .map(|column| *fitted.coefficients().get((0, column)))
        .collect();
    let logistic = Logistic {
        intercept: *fitted.intercept().get((0, 0)),
        coefficients,
    };
    if logistic.intercept.is_finite() && logistic.coefficients.iter().all(|c| c.is_finite()) {
        Ok(Body::Logistic(logistic))
    } else {
        Err(TrainingError::Library(
            "logistic regression: the optimiser left the finite numbers".to_owned(),
        ))
    }
}
