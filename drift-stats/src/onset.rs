//! Since when values are those of the window rather than those of the reference.
//!
//! Steps (hours) become one number each: the mean of `ln(q_b / p_b)` over their values, with the shares `p` of the reference and `q` of
//! what is taken for changed, so that only what tells the two apart is weighed. The change is where the steps before and
//! the steps after differ most, by the sum of squares between them (least squares for one shift of the mean: Hinkley, *Inference about
//! the change-point in a sequence of random variables*, Biometrika 57, 1970). What is taken for changed is at first the window, which may
//! hold values from before, and then what came after the change.
//!
//! Limits: one change. Where hours have a rhythm, the beginning is known to within half of it.

/// How often what is taken for changed is looked at again.
const ROUNDS: usize = 4;

/// The first step that belongs to what the window shows; `None` without counts, or when nothing moved. 0 means: all of them, and
/// perhaps earlier ones.
///
/// `reference` and `window` are counts per bin; each of `steps`, oldest first, has as many bins. Steps before the window are welcome.
pub fn onset(reference: &[u64], window: &[u64], steps: &[Vec<u64>]) -> Option<usize> {
    let bins = reference.len();
    let sizes = [reference, window].map(|counts| counts.iter().sum::<u64>());
    if window.len() != bins || steps.iter().any(|step| step.len() != bins) || sizes.contains(&0) {
        return None;
    }
    if !steps.iter().flatten().any(|count| *count > 0) {
        return None;
    }
    let mut changed = window.to_vec();
    let mut found = None;
    for _ in 0..ROUNDS {
        let weights = weights(reference, &changed)?;
        let at = split(&weights, reference, steps);
        if found == Some(at) {
            break;
        }
        found = Some(at);
        changed = (0..bins)
            .map(|bin| steps[at..].iter().map(|step| step[bin]).sum())
            .collect();
    }
    found
}

/// What a value in each bin says for the change; `None` when nothing tells the two apart.
fn weights(reference: &[u64], changed: &[u64]) -> Option<Vec<f64>> {
    let bins = reference.len() as f64;
    let (n, m): (u64, u64) = (reference.iter().sum(), changed.iter().sum());
    // Half a value more in each bin: none is impossible because a sample has none of it.
    let share = |count: u64, of: u64| (count as f64 + 0.5) / (of as f64 + bins / 2.0);
    let weights: Vec<f64> = reference
        .iter()
        .zip(changed)
        .map(|(before, now)| (share(*now, m) / share(*before, n)).ln())
        .collect();
    let apart = reference
        .iter()
        .zip(changed)
        .any(|(before, now)| u128::from(*before) * u128::from(m) != u128::from(*now) * u128::from(n));
    apart.then_some(weights)
}

/// The first step after the largest shift; 0 when what comes before it is as far from the reference as what comes after.
fn split(weights: &[f64], reference: &[u64], steps: &[Vec<u64>]) -> usize {
    let sum = |counts: &[u64]| -> (f64, f64) {
        let rows = counts.iter().sum::<u64>() as f64;
        (
            counts
                .iter()
                .zip(weights)
                .map(|(count, weight)| *count as f64 * weight)
                .sum(),
            rows,
        )
    };
    let mean = |(sum, rows): (f64, f64)| if rows > 0.0 { sum / rows } else { 0.0 };
    let sums: Vec<(f64, f64)> = steps.iter().map(|step| sum(step)).collect();
    let whole = sums
        .iter()
        .fold((0.0, 0.0), |all, step| (all.0 + step.0, all.1 + step.1));
    let mut before = (0.0, 0.0);
    let mut best = (0, 0.0);
    for (at, step) in sums.iter().enumerate() {
        let after = (whole.0 - before.0, whole.1 - before.1);
        let rise = mean(after) - mean(before);
        let between = rise * rise * before.1 * after.1 / whole.1;
        if rise > 0.0 && between > best.1 {
            let halfway = f64::midpoint(mean(sum(reference)), mean(after));
            best = (if mean(before) < halfway { at } else { 0 }, between);
        }
        before = (before.0 + step.0, before.1 + step.1);
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: [u64; 4] = [4_100, 2_900, 2_100, 900];

    fn sum(steps: &[Vec<u64>]) -> Vec<u64> {
        (0..4)
            .map(|bin| steps.iter().map(|step| step[bin]).sum())
            .collect()
    }

    #[test]
    fn the_first_changed_step_is_found_wherever_it_lies() {
        let (before, after) = (vec![41, 29, 21, 9], vec![30, 30, 25, 15]);
        for first in 0..24 {
            let steps: Vec<Vec<u64>> = (0..24)
                .map(|at| if at < first { before.clone() } else { after.clone() })
                .collect();
            assert_eq!(onset(&REFERENCE, &sum(&steps), &steps), Some(first));
        }
    }

    #[test]
    fn what_had_changed_before_the_first_step_has_no_beginning() {
        let mut noise = 7_u64;
        let mut wobble = || {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (noise >> 33) % 9
        };
        let steps: Vec<Vec<u64>> = (0..48)
            .map(|_| vec![26 + wobble(), 26 + wobble(), 21 + wobble(), 11 + wobble()])
            .collect();
        assert_eq!(onset(&REFERENCE, &sum(&steps[24..]), &steps), Some(0));
    }

    #[test]
    fn the_rhythm_of_a_day_does_not_count_as_a_change() {
        // Nights differ from days by more than what changes at step 30, and the reference has both.
        let rhythm = |at: usize| {
            if at % 24 < 8 {
                [10, 20, 30, 40]
            } else {
                [55, 35, 8, 2]
            }
        };
        let reference: Vec<u64> = (0..4)
            .map(|bin| (0..24).map(|at| rhythm(at)[bin]).sum::<u64>() * 50)
            .collect();
        let steps: Vec<Vec<u64>> = (0..54)
            .map(|at| {
                let [a, b, c, d] = rhythm(at);
                if at < 30 {
                    vec![a, b, c, d]
                } else {
                    vec![a / 2, b, c, d + a - a / 2]
                }
            })
            .collect();
        let window = sum(&steps[30..]);
        let found = onset(&reference, &window, &steps).unwrap();
        assert!((22..=34).contains(&found), "{found}");
    }

    #[test]
    fn what_cannot_be_told_is_none() {
        assert_eq!(onset(&[], &[], &[]), None);
        assert_eq!(onset(&[1, 2], &[1], &[]), None);
        assert_eq!(onset(&[1, 2], &[0, 0], &[vec![0, 0]]), None);
        assert_eq!(onset(&[1, 2], &[2, 1], &[vec![1]]), None);
        assert_eq!(
            onset(&[10, 20], &[10, 20], &[vec![10, 20]]),
            None,
            "nothing moved"
        );
        assert_eq!(onset(&[10, 20], &[20, 10], &[]), None);
    }
}
