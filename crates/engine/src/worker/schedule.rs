//! Which tokens go into the next step.
//!
//! A step costs nearly the same for one row as for sixteen while memory bandwidth is the limit, and grows with
//! every row once arithmetic is. So every sequence that decodes gets its one row first, always; prefill fills
//! what is left, first come first served, but while anything decodes at most `chunk` rows of it, which bounds
//! how long a new prompt makes the others wait. With nothing decoding a step takes one physical batch: more
//! would gain nothing and would delay whoever arrives next.

/// What one sequence could feed into the step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Demand {
    /// Tokens not yet in memory.
    pub pending: usize,
}

/// Limits of a step.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Rows in all (`n_batch`).
    pub batch: usize,
    /// Rows of prefill while nothing decodes (`n_ubatch`).
    pub solo: usize,
    /// Rows of prefill while something decodes.
    pub chunk: usize,
}

/// How many tokens each demand may feed, in the same order.
pub fn plan(demands: &[Demand], limits: Limits) -> Vec<usize> {
    let mut grants = vec![0; demands.len()];
    let mut left = limits.batch;
    let mut decoding = false;
    for (grant, _) in grants.iter_mut().zip(demands).filter(|(_, d)| d.pending == 1) {
        *grant = left.min(1);
        left -= *grant;
        decoding = true;
    }
    let mut prefill = left.min(if decoding { limits.chunk } else { limits.solo });
    for (grant, demand) in grants.iter_mut().zip(demands).filter(|(_, d)| d.pending > 1) {
        *grant = prefill.min(demand.pending);
        prefill -= *grant;
    }
    grants
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        let limits = Limits { batch: 100, solo: 64, chunk: 16 };
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[10], &[10]),
            (&[1000], &[64]),
            (&[1, 1, 1], &[1, 1, 1]),
            (&[1000, 1], &[16, 1]),
            (&[10, 1, 10], &[10, 1, 6]),
            (&[40, 40, 40], &[40, 24, 0]),
        ];
        for (pending, grants) in cases {
            let demands: Vec<_> = pending.iter().map(|&pending| Demand { pending }).collect();
            assert_eq!(plan(&demands, limits), *grants, "{pending:?}");
        }
    }

    proptest! {
        #[test]
        fn nobody_decoding_waits_and_no_limit_is_passed(
            pending in proptest::collection::vec(0usize..300, 0..80),
            batch in 80usize..400, solo in 1usize..400, chunk in 1usize..100,
        ) {
            let demands: Vec<_> = pending.iter().map(|&pending| Demand { pending }).collect();
            let grants = plan(&demands, Limits { batch, solo, chunk });
            prop_assert!(grants.iter().sum::<usize>() <= batch);
            let decoding = pending.contains(&1);
            let prefill: usize = grants.iter().zip(&pending).filter(|(_, p)| **p > 1).map(|(g, _)| g).sum();
            let most = if decoding { chunk } else { solo };
            prop_assert!(prefill <= most);
            for (grant, pending) in grants.iter().zip(&pending) {
                prop_assert!(grant <= pending);
                prop_assert!(*pending != 1 || *grant == 1);
            }
            if pending.iter().any(|&p| p > 0) {
                prop_assert!(grants.iter().sum::<usize>() > 0, "a step makes progress");
            }
        }
    }
}
