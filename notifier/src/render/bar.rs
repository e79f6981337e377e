//! A bar of text: how far a feature moved, and where its threshold lies.

use crate::alert::Movement;

/// The largest number among scores and thresholds: what a full bar stands for. 0 or more.
pub fn scale(moved: &[Movement]) -> f64 {
    moved
        .iter()
        .flat_map(|movement| [movement.psi, movement.threshold])
        .fold(0.0, f64::max)
}

/// `value / scale` within 0 to 1; 0 when there is no scale.
pub fn share(value: f64, scale: f64) -> f64 {
    if scale > 0.0 {
        (value / scale).clamp(0.0, 1.0)
    } else {
        0.0
    }
}

/// A bar of `width` characters with `│` at the threshold, e.g. `███│████▌   `.
pub fn bar(movement: &Movement, scale: f64, width: usize) -> String {
    let eighths = (share(movement.psi, scale) * (width * 8) as f64).round() as usize;
    let tick =
        ((share(movement.threshold, scale) * width as f64).round() as usize).min(width.saturating_sub(1));
    (0..width)
        .map(|cell| match eighths.saturating_sub(cell * 8) {
            _ if cell == tick => '│',
            0 => ' ',
            filled => EIGHTHS[filled.min(8) - 1],
        })
        .collect()
}

const EIGHTHS: [char; 8] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉', '█'];

#[cfg(test)]
mod tests {
    use super::*;

    fn moved(psi: f64, threshold: f64) -> Movement {
        Movement {
            feature: "f".to_owned(),
            psi,
            threshold,
            noise: 0.0,
            detail: String::new(),
        }
    }

    #[test]
    fn bars_fill_in_proportion_and_mark_the_threshold() {
        let cases = [
            (moved(1.0, 0.5), 1.0, "████│███"),
            (moved(0.5, 0.25), 1.0, "██│█    "),
            (moved(0.0, 0.25), 1.0, "  │     "),
            (moved(0.3125, 0.0), 1.0, "│█▌     "),
            (moved(0.5, 1.0), 1.0, "████   │"),
            (moved(0.0, 0.0), 0.0, "│       "),
        ];
        for (movement, scale, expected) in cases {
            assert_eq!(bar(&movement, scale, 8), expected, "{movement:?}");
        }
    }

    #[test]
    fn the_scale_covers_scores_and_thresholds() {
        assert_eq!(scale(&[moved(0.2, 0.3), moved(0.1, 0.3)]), 0.3);
        assert_eq!(scale(&[moved(0.9, 0.3)]), 0.9);
        assert_eq!(scale(&[]), 0.0);
    }
}
