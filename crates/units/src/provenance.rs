//! Where a figure comes from.
//!
//! The label travels with the value, through every sum and quotient, and can only get weaker on its way. The
//! source is for the reader of a table: which counter, or which model with which figures.

use serde::{Deserialize, Serialize};
use std::fmt;

/// What stands between two sources in [`Labelled::source`].
const SOURCE_SEPARATOR: &str = "; ";

/// How much a figure can be trusted. The order is by strength, so the weakest of several is their minimum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Provenance {
    /// Computed from a device description: no silicon was involved.
    Simulated,
    /// A model of ours filled in, from something that was measured (utilisation × a power envelope, a roofline).
    Estimated,
    /// A counter or sensor on the device covered the whole span.
    Measured,
}

impl Provenance {
    /// The label of anything computed from figures with these two labels.
    pub fn weakest(self, other: Self) -> Self {
        self.min(other)
    }
}

impl fmt::Display for Provenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Simulated => "simulated",
            Self::Estimated => "estimated",
            Self::Measured => "measured",
        })
    }
}

/// A value with its label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Labelled<T> {
    /// The figure.
    pub value: T,
    /// How it was come by.
    pub provenance: Provenance,
    /// Which counter, or which model with which figures. Several are separated by `"; "`, each named once.
    pub source: String,
}

impl<T> Labelled<T> {
    /// A figure that a counter or sensor gave.
    pub fn measured(value: T, source: impl Into<String>) -> Self {
        Self { value, provenance: Provenance::Measured, source: source.into() }
    }

    /// A figure that a model of ours gave.
    pub fn estimated(value: T, source: impl Into<String>) -> Self {
        Self { value, provenance: Provenance::Estimated, source: source.into() }
    }

    /// A figure that comes from a device description.
    pub fn simulated(value: T, source: impl Into<String>) -> Self {
        Self { value, provenance: Provenance::Simulated, source: source.into() }
    }

    /// Another figure that follows from this one alone (or with exact constants), under the same label.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Labelled<U> {
        Labelled { value: f(self.value), provenance: self.provenance, source: self.source }
    }

    /// A figure that follows from two: the weakest label wins, the sources are joined.
    pub fn combine<U, V>(self, other: Labelled<U>, f: impl FnOnce(T, U) -> V) -> Labelled<V> {
        Labelled {
            value: f(self.value, other.value),
            provenance: self.provenance.weakest(other.provenance),
            source: join_sources(self.source, &other.source),
        }
    }
}

impl<T: std::ops::Add<Output = T>> Labelled<T> {
    /// The sum of several figures; nothing at all has no sum.
    pub fn sum(figures: impl IntoIterator<Item = Self>) -> Option<Self> {
        figures.into_iter().reduce(|a, b| a.combine(b, |a, b| a + b))
    }
}

impl<T: fmt::Display> fmt::Display for Labelled<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.value.fmt(f)?;
        write!(f, " ({})", self.provenance)
    }
}

fn join_sources(mut joined: String, more: &str) -> String {
    for source in more.split(SOURCE_SEPARATOR).filter(|s| !s.is_empty()) {
        if !joined.split(SOURCE_SEPARATOR).any(|known| known == source) {
            if !joined.is_empty() {
                joined.push_str(SOURCE_SEPARATOR);
            }
            joined.push_str(source);
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Joules, Seconds};
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn provenance() -> impl Strategy<Value = Provenance> {
        prop_oneof![Just(Provenance::Simulated), Just(Provenance::Estimated), Just(Provenance::Measured)]
    }

    fn figure() -> impl Strategy<Value = Labelled<Joules>> {
        (-1e6..1e6f64, provenance(), "[a-d]( [a-c])?").prop_map(|(value, provenance, source)| Labelled {
            value: Joules(value),
            provenance,
            source,
        })
    }

    fn sources(figure: &Labelled<Joules>) -> BTreeSet<&str> {
        figure.source.split(SOURCE_SEPARATOR).collect()
    }

    fn add(a: Labelled<Joules>, b: Labelled<Joules>) -> Labelled<Joules> {
        a.combine(b, |a, b| a + b)
    }

    proptest! {
        #[test]
        fn the_weakest_label_wins(figures in prop::collection::vec(figure(), 1..9)) {
            let weakest = figures.iter().map(|f| f.provenance).min();
            let total: f64 = figures.iter().map(|f| f.value.0).sum();
            let sum = Labelled::sum(figures.clone()).unwrap();
            prop_assert_eq!(Some(sum.provenance), weakest);
            prop_assert!((sum.value.0 - total).abs() <= 1e-6);
        }

        #[test]
        fn every_source_is_named_and_none_twice(figures in prop::collection::vec(figure(), 1..9)) {
            let all: BTreeSet<&str> = figures.iter().flat_map(sources).collect();
            let sum = Labelled::sum(figures.clone()).unwrap();
            prop_assert_eq!(&sources(&sum), &all);
            prop_assert_eq!(sum.source.split(SOURCE_SEPARATOR).count(), all.len());
        }

        #[test]
        fn grouping_and_order_do_not_matter(a in figure(), b in figure(), c in figure()) {
            let left = add(add(a.clone(), b.clone()), c.clone());
            let right = add(a.clone(), add(b.clone(), c));
            prop_assert_eq!(left.provenance, right.provenance);
            prop_assert_eq!(&left.source, &right.source);
            let (ab, ba) = (add(a.clone(), b.clone()), add(b, a));
            prop_assert_eq!(ab.provenance, ba.provenance);
            prop_assert_eq!(sources(&ab), sources(&ba));
        }

        #[test]
        fn a_label_survives_json(f in figure()) {
            let back: Labelled<Joules> = serde_json::from_str(&serde_json::to_string(&f).unwrap()).unwrap();
            prop_assert_eq!(back.provenance, f.provenance);
            prop_assert_eq!(back.source, f.source);
        }
    }

    #[test]
    fn nothing_has_no_sum() {
        assert_eq!(Labelled::<Joules>::sum([]), None);
    }

    #[test]
    fn map_and_combine_keep_the_story() {
        let energy = Labelled::estimated(Joules(6.0), "CPU time × envelope");
        let time = Labelled::measured(Seconds(2.0), "clock");
        let power = energy.combine(time, |e, t| e / t);
        assert_eq!(power.to_string(), "3.00 W (estimated)");
        assert_eq!(power.source, "CPU time × envelope; clock");
        assert_eq!(power.map(|w| w.0).value, 3.0);
    }

    #[test]
    fn names_in_json() {
        let f = Labelled::simulated(Joules(1.5), "plant");
        let json = serde_json::to_string(&f).unwrap();
        assert_eq!(json, r#"{"value":1.5,"provenance":"simulated","source":"plant"}"#);
    }
}
