//! The least point of a smooth function of two to four variables, without derivatives.
//!
//! Nelder and Mead's simplex (1965) with the usual coefficients. The likelihoods here are cheap, have one hill for all
//! practical purposes and a flat ridge where data are few; a method that needs neither derivatives nor a line search
//! cannot be led astray by a ridge, and penalties as bounds do not trouble it.

/// Steps after which the best point so far is taken: four times what the fits here need.
const STEPS_MAX: usize = 600;
/// Spread of the function over the simplex at which it has settled: a thousandth of what would matter in a
/// log-likelihood.
const SETTLED: f64 = 1e-7;

/// Where `f` is least, starting at `start` with a simplex of size `step`, and its value there.
pub(crate) fn least<const D: usize>(
    start: [f64; D],
    step: f64,
    mut f: impl FnMut(&[f64; D]) -> f64,
) -> ([f64; D], f64) {
    let mut value = |at: [f64; D]| {
        let found = f(&at);
        // A value that is none (NaN) is the worst of all.
        (at, if found.is_nan() { f64::INFINITY } else { found })
    };
    let mut simplex = vec![value(start)];
    for axis in 0..D {
        let mut at = start;
        at[axis] += step;
        simplex.push(value(at));
    }
    for _ in 0..STEPS_MAX {
        simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
        let (best, second, worst) = (simplex[0], simplex[D - 1], simplex[D]);
        if worst.1 - best.1 < SETTLED {
            break;
        }
        let mut centre = [0.0; D];
        for (at, _) in &simplex[..D] {
            (0..D).for_each(|axis| centre[axis] += at[axis] / D as f64);
        }
        let along =
            |share: f64| std::array::from_fn(|axis| centre[axis] + share * (worst.0[axis] - centre[axis]));
        let reflected = value(along(-1.0));
        simplex[D] = if reflected.1 < best.1 {
            let expanded = value(along(-2.0));
            if expanded.1 < reflected.1 { expanded } else { reflected }
        } else if reflected.1 < second.1 {
            reflected
        } else {
            let contracted = value(along(if reflected.1 < worst.1 { -0.5 } else { 0.5 }));
            if contracted.1 < reflected.1.min(worst.1) {
                contracted
            } else {
                for vertex in &mut simplex[1..] {
                    *vertex = value(std::array::from_fn(|axis| f64::midpoint(vertex.0[axis], best.0[axis])));
                }
                continue;
            }
        };
    }
    simplex.sort_by(|a, b| a.1.total_cmp(&b.1));
    simplex[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_valleys() {
        let (at, value) = least([-1.2, 1.0], 0.5, |[x, y]| (1.0 - x).powi(2) + 100.0 * (y - x * x).powi(2));
        assert!((at[0] - 1.0).abs() < 1e-3 && (at[1] - 1.0).abs() < 1e-3 && value < 1e-6, "{at:?} {value}");
        let (at, _) = least([5.0], 1.0, |[x]| (x - 2.0).powi(2));
        assert!((at[0] - 2.0).abs() < 1e-3, "{at:?}");
        let (at, _) = least([3.0, 3.0, 3.0], 1.0, |[x, y, z]| x * x + (y - 1.0).powi(2) + (z + 1.0).powi(2));
        assert!(at[0].abs() < 1e-2 && (at[1] - 1.0).abs() < 1e-2 && (at[2] + 1.0).abs() < 1e-2, "{at:?}");
    }

    #[test]
    fn a_cliff_of_no_numbers_is_avoided() {
        let (at, _) = least([2.0], 1.0, |[x]| if *x < 1.0 { f64::NAN } else { *x });
        assert!((1.0..1.01).contains(&at[0]), "{at:?}");
    }
}
