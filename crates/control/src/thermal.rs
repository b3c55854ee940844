//! The first-order model of a device's temperature, fitted while it runs.
//!
//! ```text
//! dT/dt = (P·R + T_amb − T) / τ   =   a + b·p + c·T        p = P / full power
//! ```
//!
//! Linear in three unknowns, so least squares over the readings finds them: each stretch of some seconds gives one
//! equation (its slope, its mean power, its mean temperature), old ones are forgotten. The equations of a prior are added
//! every time, and they are what is left where the data say nothing: a device that stands at one temperature with one
//! power tells nothing of R and τ apart, and plain recursive least squares would wind up there. The prior is a device that
//! heats faster than any real one, so that the first guess errs to the safe side.
//!
//! Real packages have more than one time constant and neighbours that warm them. The fit forgets within minutes, so what
//! it holds is the first-order model that suits the present; a residual of the last stretch is added to its slopes.

/// Seconds over which stretches are forgotten: some time constants of a die, a part of one of a heat sink.
const MEMORY_S: f64 = 120.0;
/// Prior: degrees a second at full power. A passive board of 30 g and 10 W heats by 1.6; twice that is no real device.
const PRIOR_HEATING_C_PER_S: f64 = 3.0;
/// Prior: time constant, seconds: that of a small heat sink, and with the figure above full power leads 90 degrees up.
const PRIOR_TAU_S: f64 = 30.0;
/// Bounds of the fitted time constant, seconds: a bare die, a heavy heat sink.
const TAU_S: (f64, f64) = (2.0, 2000.0);
/// Bounds of the fitted heating at full power, degrees a second.
const HEATING_C_PER_S: (f64, f64) = (0.02, 20.0);
/// Weight of the prior, in squared seconds of stretch (a slope over `t` seconds has the weight t²): the square of half a
/// degree of noise over that of how far a device's constants may lie from the prior's (ridge regression's choice).
const PRIOR_WEIGHT: (f64, f64, f64) = (0.3, 0.5, 0.5);
/// Share of the last stretch's residual that is believed to last.
const DRIFT_SHARE: f64 = 0.5;
/// Temperatures are centred and scaled so that the three equations have like sizes, degrees.
const CENTRE_C: f64 = 50.0;
const SCALE_C: f64 = 50.0;

/// The fitted model.
#[derive(Debug, Clone)]
pub struct Fit {
    /// Normal equations of what was observed, and their right side.
    normal: [[f64; 3]; 3],
    right: [f64; 3],
    prior: [f64; 3],
    /// Slope = coefficients · (1, p, (T − centre) / scale).
    coefficients: [f64; 3],
    drift: f64,
    stretches: u32,
}

impl Fit {
    /// A fit that knows one temperature, and that it was at rest there with power `p` (over full power).
    pub fn new(temperature_c: f64, p: f64) -> Self {
        let slope_t = -SCALE_C / PRIOR_TAU_S;
        let slope_0 = -PRIOR_HEATING_C_PER_S * p - slope_t * (temperature_c - CENTRE_C) / SCALE_C;
        let prior = [slope_0, PRIOR_HEATING_C_PER_S, slope_t];
        Self { normal: [[0.0; 3]; 3], right: [0.0; 3], prior, coefficients: prior, drift: 0.0, stretches: 0 }
    }

    /// Stretches seen.
    pub fn stretches(&self) -> u32 {
        self.stretches
    }

    /// Degrees a second at full power, beyond those at none.
    pub fn heating_c_per_s(&self) -> f64 {
        self.coefficients[1]
    }

    /// Seconds in which a difference shrinks to 1/e.
    pub fn tau_s(&self) -> f64 {
        -SCALE_C / self.coefficients[2]
    }

    /// Degrees a second at a power and a temperature.
    pub fn slope(&self, p: f64, temperature_c: f64) -> f64 {
        let [a, b, c] = self.coefficients;
        a + b * p + c * (temperature_c - CENTRE_C) / SCALE_C + self.drift
    }

    /// Where constant power leads, degrees.
    pub fn steady_c(&self, p: f64) -> f64 {
        let [a, b, c] = self.coefficients;
        CENTRE_C - SCALE_C * (a + b * p + self.drift) / c
    }

    /// The temperature after so many seconds of constant power.
    pub fn after_c(&self, temperature_c: f64, p: f64, seconds: f64) -> f64 {
        let end = self.steady_c(p);
        end + (temperature_c - end) * (-seconds.max(0.0) / self.tau_s()).exp()
    }

    /// One stretch: from one temperature to another in so many seconds, at a mean power.
    pub fn learn(&mut self, from_c: f64, to_c: f64, seconds: f64, p: f64) {
        if !(seconds > 0.0 && (to_c - from_c).is_finite() && p.is_finite()) {
            return;
        }
        let slope = (to_c - from_c) / seconds;
        let middle = (from_c + to_c) / 2.0;
        let x = [1.0, p, (middle - CENTRE_C) / SCALE_C];
        let kept = (-seconds / MEMORY_S).exp();
        let weight = seconds * seconds;
        for row in 0..3 {
            for column in 0..3 {
                self.normal[row][column] = self.normal[row][column] * kept + weight * x[row] * x[column];
            }
            self.right[row] = self.right[row] * kept + weight * x[row] * slope;
        }
        self.stretches = self.stretches.saturating_add(1);
        self.solve();
        self.drift = 0.0;
        self.drift = DRIFT_SHARE * (slope - self.slope(p, middle));
    }

    fn solve(&mut self) {
        let weights = [PRIOR_WEIGHT.0, PRIOR_WEIGHT.1, PRIOR_WEIGHT.2];
        let mut a = self.normal;
        let mut b = self.right;
        for i in 0..3 {
            a[i][i] += weights[i];
            b[i] += weights[i] * self.prior[i];
        }
        let Some(solved) = solve3(a, b) else { return };
        let slope_t = solved[2].clamp(-SCALE_C / TAU_S.0, -SCALE_C / TAU_S.1);
        let heating = solved[1].clamp(HEATING_C_PER_S.0, HEATING_C_PER_S.1);
        // The first row of the equations again, for the others at their bounds.
        let level = (b[0] - a[0][1] * heating - a[0][2] * slope_t) / a[0][0];
        self.coefficients = [level, heating, slope_t];
    }
}

/// Solves three equations by elimination with the largest pivot; nothing where they have no one solution.
fn solve3(mut a: [[f64; 3]; 3], mut b: [f64; 3]) -> Option<[f64; 3]> {
    for column in 0..3 {
        let pivot = (column..3).max_by(|x, y| a[*x][column].abs().total_cmp(&a[*y][column].abs()))?;
        a.swap(column, pivot);
        b.swap(column, pivot);
        let value = a[column][column];
        if value.abs() < 1e-12 {
            return None;
        }
        for row in column + 1..3 {
            let factor = a[row][column] / value;
            let above = a[column];
            for (cell, above) in a[row].iter_mut().zip(above).skip(column) {
                *cell -= factor * above;
            }
            b[row] -= factor * b[column];
        }
    }
    let mut x = [0.0; 3];
    for row in (0..3).rev() {
        let known: f64 = (row + 1..3).map(|column| a[row][column] * x[column]).sum();
        x[row] = (b[row] - known) / a[row][row];
    }
    x.iter().all(|value| value.is_finite()).then_some(x)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_equations_are_solved_and_two_are_not() {
        let x = solve3([[0.0, 2.0, 1.0], [1.0, -1.0, 0.0], [3.0, 0.0, 1.0]], [7.0, -1.0, 6.0]).unwrap();
        for (got, wanted) in x.iter().zip([1.0, 2.0, 3.0]) {
            assert!((got - wanted).abs() < 1e-12, "{x:?}");
        }
        assert_eq!(solve3([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 0.0]], [1.0, 2.0, 3.0]), None);
    }

    /// A device with these constants, and what a fit makes of some minutes of it.
    fn fitted(tau_s: f64, rise_c: f64, ambient_c: f64) -> Fit {
        let mut fit = Fit::new(ambient_c, 0.0);
        let mut t = ambient_c;
        for i in 0..60 {
            let p = [0.1, 1.0, 0.4][i / 7 % 3];
            let end = ambient_c + rise_c * p;
            let next = end + (t - end) * (-4.0 / tau_s).exp();
            fit.learn(t, next, 4.0, p);
            t = next;
        }
        fit
    }

    #[test]
    fn constants_are_found_from_varied_power() {
        // (time constant s, rise at full power, ambient)
        for (tau_s, rise_c, ambient_c) in [(20.0, 50.0, 25.0), (60.0, 80.0, 15.0), (120.0, 40.0, 40.0)] {
            let fit = fitted(tau_s, rise_c, ambient_c);
            let heating = rise_c / tau_s;
            // The slower the device, the less the data say and the more the prior's fast heating shows.
            let close = |got: f64, wanted: f64| (0.4..=1.4).contains(&(got / wanted));
            assert!(close(fit.heating_c_per_s(), heating), "{} against {heating}", fit.heating_c_per_s());
            assert!(close(fit.tau_s(), tau_s), "{} against {tau_s}", fit.tau_s());
            assert!((fit.steady_c(1.0) - ambient_c - rise_c).abs() < 8.0, "{}", fit.steady_c(1.0));
            let end = ambient_c + rise_c * 0.5;
            let wanted = end + (50.0 - end) * (-10.0 / tau_s).exp();
            assert!((fit.after_c(50.0, 0.5, 10.0) - wanted).abs() < 1.0);
            assert_eq!(fit.stretches(), 60);
        }
    }

    #[test]
    fn the_first_guess_is_at_rest_and_heats_fast() {
        let fit = Fit::new(35.0, 0.2);
        assert!(fit.slope(0.2, 35.0).abs() < 1e-9);
        assert!((fit.steady_c(0.2) - 35.0).abs() < 1e-6);
        assert!((fit.slope(1.2, 35.0) - 3.0).abs() < 1e-9);
        assert!((fit.tau_s() - 30.0).abs() < 1e-9);
    }

    #[test]
    fn rest_at_one_point_leaves_the_other_directions_to_the_prior() {
        let mut fit = Fit::new(40.0, 0.0);
        for _ in 0..1000 {
            fit.learn(60.0, 60.0, 8.0, 0.5);
        }
        assert!(fit.slope(0.5, 60.0).abs() < 0.02, "{}", fit.slope(0.5, 60.0));
        assert!(fit.heating_c_per_s() > 0.5 && fit.heating_c_per_s() < 5.0, "{}", fit.heating_c_per_s());
        assert!(fit.tau_s() > 5.0 && fit.tau_s() < 200.0);
    }

    #[test]
    fn constants_stay_within_their_bounds_whatever_is_seen() {
        // Colder with power, hotter with heat, and nonsense.
        for (from, to, p) in [(60.0, 40.0, 1.0), (40.0, 60.0, 0.0), (90.0, 140.0, 0.0), (140.0, -30.0, 2.0)] {
            let mut fit = Fit::new(50.0, 0.0);
            for _ in 0..50 {
                fit.learn(from, to, 2.0, p);
            }
            fit.learn(f64::NAN, 1.0, 1.0, 1.0);
            fit.learn(1.0, 2.0, 0.0, 1.0);
            assert!((HEATING_C_PER_S.0..=HEATING_C_PER_S.1).contains(&fit.heating_c_per_s()));
            assert!((TAU_S.0 - 1e-9..=TAU_S.1 + 1e-9).contains(&fit.tau_s()), "{}", fit.tau_s());
            assert!(fit.steady_c(1.0).is_finite());
            assert_eq!(fit.stretches(), 50);
        }
    }
}
