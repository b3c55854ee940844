//! Why there is no law, or no figure from one.

/// What was wrong with the data.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum LawError {
    /// Too little to fit anything to.
    #[error("{found} {what}, but at least {least} are needed: measure more")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many are needed.
        least: usize,
    },
    /// NaN or infinite.
    #[error("{what} of point {index} is {value}, not a finite number")]
    NotFinite {
        /// Which figure.
        what: String,
        /// Of which point, from 0.
        index: usize,
        /// What it is.
        value: f64,
    },
    /// Zero or negative, where a logarithm or a relative error is taken.
    #[error(
        "{what} of point {index} is {value}, but must be above zero: leave the point out if it was not measured"
    )]
    NotPositive {
        /// Which figure.
        what: String,
        /// Of which point, from 0.
        index: usize,
        /// What it is.
        value: f64,
    },
    /// All points have the same predictor.
    #[error("{what} is the same for all points: measure models or workloads that differ in it")]
    NoSpread {
        /// Which predictor.
        what: String,
    },
    /// One predictor is a combination of others in this data.
    #[error("{what} cannot be told from the other factors: measure cells that vary it alone")]
    Collinear {
        /// Which predictor.
        what: String,
    },
    /// A point without all its factors.
    #[error("point {index} has {found} factors, not {expected}")]
    Factors {
        /// Which point, from 0.
        index: usize,
        /// How many it has.
        found: usize,
        /// How many it should have.
        expected: usize,
    },
    /// The law gives zero or less there.
    #[error("the law {law} gives {value} at x = {x}, which cannot be: it does not reach that far")]
    OutOfReach {
        /// The law.
        law: String,
        /// Where.
        x: f64,
        /// What it gives.
        value: f64,
    },
    /// A share of tasks that is none.
    #[error("a coverage of {value} is no share of tasks: it must lie between 0 and 1")]
    Coverage {
        /// What was given.
        value: f64,
    },
    /// Resamples of the tasks that do not come with their time and energy one by one.
    #[error("{draws} resamples of the tasks, but time and energy of {spend}: give those of each, or of none")]
    Draws {
        /// Coverages given.
        draws: usize,
        /// Factors of time and energy given.
        spend: usize,
    },
    /// A confidence that is none.
    #[error("a confidence of {level} is no probability between 0 and 1")]
    Level {
        /// The level asked for.
        level: f64,
    },
}

impl LawError {
    /// `value` if it is above zero and finite.
    pub(crate) fn positive(what: &str, index: usize, value: f64) -> Result<f64, Self> {
        if !value.is_finite() {
            return Err(Self::NotFinite { what: what.into(), index, value });
        }
        if value <= 0.0 {
            return Err(Self::NotPositive { what: what.into(), index, value });
        }
        Ok(value)
    }
}
