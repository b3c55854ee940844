//! Weighted least squares.
//!
//! By modified Gram–Schmidt with the right-hand side as a last column (Björck 1967), which is as stable as Householder
//! reflections for this purpose and yields the leverages on the way. Normal equations would square the condition
//! number, and parameters counts of 10⁸ beside a column of ones leave nothing to spare.

use crate::LawError;

/// Share of a column's length that must be left after the columns before it are taken out. Doubles carry 16 digits;
/// a direction known to fewer than about six of them is a rounding error and no measurement.
const INDEPENDENT_MIN: f64 = 1e-10;

/// What least squares gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Solution {
    /// One for each column.
    pub coefficients: Vec<f64>,
    /// `(XᵀWX)⁻¹`: times the residual variance, the covariance of the coefficients.
    pub covariance_unscaled: Vec<Vec<f64>>,
    /// Sum of the weighted squared residuals.
    pub residual_sum: f64,
    /// How much each row pulls the law towards itself, 0 to 1.
    pub leverages: Vec<f64>,
}

/// The coefficients that minimise `Σ w·(y − x·c)²`. `names` names the columns, for errors.
///
/// # Errors
/// Fewer rows than columns; a row with another number of columns; a figure that is not finite; a weight that is not
/// above zero; columns that depend on each other.
pub fn least_squares(
    names: &[&str],
    rows: &[Vec<f64>],
    y: &[f64],
    weights: &[f64],
) -> Result<Solution, LawError> {
    let (n, p) = (rows.len().min(y.len()).min(weights.len()), names.len());
    if n < p.max(1) {
        return Err(LawError::TooFew { what: "points", found: n, least: p.max(1) });
    }
    let mut columns = vec![Vec::with_capacity(n); p];
    let mut target = Vec::with_capacity(n);
    for index in 0..n {
        let root = LawError::positive("weight", index, weights[index])?.sqrt();
        if rows[index].len() != p {
            return Err(LawError::Factors { index, found: rows[index].len(), expected: p });
        }
        for (column, (&value, name)) in columns.iter_mut().zip(rows[index].iter().zip(names)) {
            column.push(root * finite(name, index, value)?);
        }
        target.push(root * finite("y", index, y[index])?);
    }
    let mut r = vec![vec![0.0; p]; p];
    let mut projected = vec![0.0; p];
    for at in 0..p {
        let (done, rest) = columns.split_at_mut(at);
        let column = &mut rest[0];
        let before = norm(column);
        for (k, other) in done.iter().enumerate() {
            let share = dot(other, column);
            r[k][at] = share;
            subtract(column, share, other);
        }
        let left = norm(column);
        if left <= INDEPENDENT_MIN * before || left == 0.0 {
            return Err(LawError::Collinear { what: names[at].into() });
        }
        r[at][at] = left;
        column.iter_mut().for_each(|value| *value /= left);
        projected[at] = dot(column, &target);
        subtract(&mut target, projected[at], column);
    }
    let inverse = invert_upper(&r);
    let product = |row: &[f64], other: &[f64]| dot(row, other);
    Ok(Solution {
        coefficients: inverse.iter().map(|row| product(row, &projected)).collect(),
        covariance_unscaled: inverse
            .iter()
            .map(|row| inverse.iter().map(|other| product(row, other)).collect())
            .collect(),
        residual_sum: dot(&target, &target),
        leverages: (0..n).map(|i| columns.iter().map(|q| q[i] * q[i]).sum()).collect(),
    })
}

impl Solution {
    /// `xᵀ(XᵀWX)⁻¹x`: how uncertain the law is at `x`, in units of the residual variance.
    pub fn leverage_at(&self, x: &[f64]) -> f64 {
        quadratic(&self.covariance_unscaled, x)
    }
}

/// `xᵀMx`.
pub(crate) fn quadratic(matrix: &[Vec<f64>], x: &[f64]) -> f64 {
    matrix.iter().zip(x).map(|(row, &xi)| xi * dot(row, x)).sum()
}

fn finite(what: &str, index: usize, value: f64) -> Result<f64, LawError> {
    if value.is_finite() { Ok(value) } else { Err(LawError::NotFinite { what: what.into(), index, value }) }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

fn subtract(from: &mut [f64], share: f64, other: &[f64]) {
    from.iter_mut().zip(other).for_each(|(value, other)| *value -= share * other);
}

/// The inverse of an upper triangular matrix without a zero on its diagonal.
fn invert_upper(r: &[Vec<f64>]) -> Vec<Vec<f64>> {
    let p = r.len();
    let mut inverse = vec![vec![0.0; p]; p];
    for column in 0..p {
        inverse[column][column] = 1.0 / r[column][column];
        for row in (0..column).rev() {
            let sum: f64 = (row + 1..=column).map(|k| r[row][k] * inverse[k][column]).sum();
            inverse[row][column] = -sum / r[row][row];
        }
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn line(x: &[f64]) -> Vec<Vec<f64>> {
        x.iter().map(|&x| vec![1.0, x]).collect()
    }

    #[test]
    fn a_line_by_hand() {
        // Through (0,1), (1,3), (2,2): slope 0.5, intercept 1.5; residuals −0.5, 1, −0.5.
        let solution =
            least_squares(&["one", "x"], &line(&[0.0, 1.0, 2.0]), &[1.0, 3.0, 2.0], &[1.0; 3]).unwrap();
        assert!((solution.coefficients[0] - 1.5).abs() < 1e-12);
        assert!((solution.coefficients[1] - 0.5).abs() < 1e-12);
        assert!((solution.residual_sum - 1.5).abs() < 1e-12);
        // (XᵀX)⁻¹ = [[5/6, −1/2], [−1/2, 1/2]].
        let expected = [[5.0 / 6.0, -0.5], [-0.5, 0.5]];
        for (row, expected) in solution.covariance_unscaled.iter().zip(expected) {
            for (value, expected) in row.iter().zip(expected) {
                assert!((value - expected).abs() < 1e-12, "{value} for {expected}");
            }
        }
        assert!((solution.leverages.iter().sum::<f64>() - 2.0).abs() < 1e-12);
        assert!((solution.leverage_at(&[1.0, 1.0]) - 1.0 / 3.0).abs() < 1e-12);
    }

    #[test]
    fn weight_two_is_the_same_as_twice() {
        let once = least_squares(&["one", "x"], &line(&[0.0, 1.0, 2.0]), &[1.0, 3.0, 2.0], &[1.0, 2.0, 1.0]);
        let twice =
            least_squares(&["one", "x"], &line(&[0.0, 1.0, 1.0, 2.0]), &[1.0, 3.0, 3.0, 2.0], &[1.0; 4]);
        let (once, twice) = (once.unwrap(), twice.unwrap());
        for (a, b) in once.coefficients.iter().zip(&twice.coefficients) {
            assert!((a - b).abs() < 1e-12, "{a} and {b}");
        }
    }

    #[test]
    fn what_cannot_be_solved() {
        let names = ["one", "x"];
        let solve = |rows: &[Vec<f64>], y: &[f64], w: &[f64]| least_squares(&names, rows, y, w).unwrap_err();
        assert!(matches!(solve(&line(&[1.0]), &[1.0], &[1.0]), LawError::TooFew { found: 1, least: 2, .. }));
        assert_eq!(
            solve(&line(&[3.0, 3.0]), &[1.0, 2.0], &[1.0; 2]),
            LawError::Collinear { what: "x".into() }
        );
        assert!(matches!(
            solve(&line(&[1.0, f64::NAN]), &[1.0, 2.0], &[1.0; 2]),
            LawError::NotFinite { index: 1, .. }
        ));
        assert!(matches!(
            solve(&line(&[1.0, 2.0]), &[f64::INFINITY, 2.0], &[1.0; 2]),
            LawError::NotFinite { index: 0, .. }
        ));
        assert!(matches!(
            solve(&line(&[1.0, 2.0]), &[1.0, 2.0], &[1.0, 0.0]),
            LawError::NotPositive { index: 1, .. }
        ));
        assert!(matches!(
            solve(&[vec![1.0], vec![1.0, 2.0]], &[1.0, 2.0], &[1.0; 2]),
            LawError::Factors { index: 0, found: 1, expected: 2 }
        ));
    }

    proptest! {
        /// No other coefficients do better.
        #[test]
        fn it_is_the_least(
            y in prop::collection::vec(-10.0..10.0f64, 6),
            w in prop::collection::vec(0.1..10.0f64, 6),
            nudge in prop::array::uniform2(-1.0..1.0f64),
        ) {
            let rows = line(&[1.0, 2.0, 4.0, 8.0, 16.0, 1e6]);
            let solution = least_squares(&["one", "x"], &rows, &y, &w).unwrap();
            let cost = |c: [f64; 2]| -> f64 {
                (0..6).map(|i| w[i] * (y[i] - c[0] - c[1] * rows[i][1]).powi(2)).sum()
            };
            let best = [solution.coefficients[0], solution.coefficients[1]];
            prop_assert!((cost(best) - solution.residual_sum).abs() <= 1e-6 * (1.0 + solution.residual_sum));
            let other = [best[0] + nudge[0], best[1] + nudge[1] * 1e-3];
            prop_assert!(cost(other) >= cost(best) - 1e-9);
        }
    }
}
