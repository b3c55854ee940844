//! Pure search: cost model, constraints, exact Pareto front.
