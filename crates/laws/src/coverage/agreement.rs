//! When enough samples agree: the stop rule of Adaptive-Consistency.
//!
//! Without a ground truth the answer is what most samples say. Sampling may stop once it is unlikely that more samples
//! would change the winner (Aggarwal et al. 2023, "Let's sample step by step", whose experiments prefer the two-answer
//! rule used here to the full Dirichlet: equal accuracy at a fraction of the work). Between the leader and the
//! runner-up alone, the leader's share has the posterior `Beta(v₁ + 1, v₂ + 1)` under a uniform prior, and the leader
//! stays ahead if that share is above one half. Where all samples agree so far, the runner-up is an answer not seen
//! yet, with no vote.

use statrs::function::beta::beta_reg;

/// Confidence at which to stop where nobody says otherwise: the one of Aggarwal et al. 2023.
pub const CONFIDENCE: f64 = 0.95;

/// Posterior probability that the answer with most votes stays ahead of the second; missing without a vote. `votes`
/// holds the votes of each answer, in any order.
pub fn leader_confidence(votes: &[u32]) -> Option<f64> {
    let (leader, runner_up) = two_highest(votes);
    (leader > 0).then(|| 1.0 - beta_reg(f64::from(leader) + 1.0, f64::from(runner_up) + 1.0, 0.5))
}

/// Whether to stop: the leader stays ahead with probability `confidence` or more, or `samples_left` more samples could
/// not overtake it.
pub fn settled(votes: &[u32], samples_left: u32, confidence: f64) -> bool {
    let (leader, runner_up) = two_highest(votes);
    leader > runner_up.saturating_add(samples_left)
        || leader_confidence(votes).is_some_and(|found| found >= confidence)
}

fn two_highest(votes: &[u32]) -> (u32, u32) {
    votes.iter().fold(
        (0, 0),
        |(first, second), &votes| {
            if votes > first { (votes, first) } else { (first, second.max(votes)) }
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confidence_of_the_leader() {
        // P(Beta(a + 1, b + 1) > 1/2) is the chance that a + b + 1 fair coins show at most a heads.
        for (votes, expected) in [
            (&[][..], None),
            (&[0, 0], None),
            (&[1], Some(0.75)),
            (&[2], Some(0.875)),
            (&[3], Some(0.937_5)),
            (&[4], Some(0.968_75)),
            (&[1, 1], Some(0.5)),
            (&[5, 5, 5], Some(0.5)),
            (&[2, 1], Some(11.0 / 16.0)),
            (&[1, 3], Some(26.0 / 32.0)),
            (&[1, 1, 4, 1], Some(57.0 / 64.0)),
            (&[5, 1], Some(120.0 / 128.0)),
            (&[1, 6, 0, 1, 1], Some(247.0 / 256.0)),
            (&[7, 2], Some(968.0 / 1024.0)),
        ] {
            let found = leader_confidence(votes);
            let close = match (found, expected) {
                (Some(found), Some(expected)) => (found - expected).abs() < 1e-12,
                (found, expected) => found == expected,
            };
            assert!(close, "{votes:?}: {found:?}, not {expected:?}");
        }
    }

    #[test]
    fn stopping() {
        for (votes, left, confidence, expected) in [
            (&[][..], 40, 0.95, false),
            (&[3], 37, 0.95, false),
            (&[4], 36, 0.95, true),
            (&[5, 1], 34, 0.95, false),
            (&[6, 1], 33, 0.95, true),
            (&[6, 1, 1, 1], 31, 0.95, true),
            (&[20, 20], 10, 0.95, false),
            (&[4], 36, 0.99, false),
            (&[6], 34, 0.99, true),
            // No doubt left, whatever the confidence: the rest cannot overtake.
            (&[3, 1], 1, 0.999, true),
            (&[3, 1], 2, 0.999, false),
            (&[1], 0, 0.999, true),
            (&[1, 1], 0, 0.999, false),
        ] {
            assert_eq!(settled(votes, left, confidence), expected, "{votes:?}, {left} left, {confidence}");
        }
    }

    #[test]
    fn a_hopeless_race_is_not_sure_even_with_many_votes() {
        assert!(leader_confidence(&[1_000_000, 999_000]).unwrap() < 0.95);
        assert!(leader_confidence(&[1_000_000, 990_000]).unwrap() > 0.999_999);
    }
}
