//! The known-answer check on real workers.

use crate::models::{real, spec, tiny};
use crate::parts::worker;
use qeil_engine::handle::{EngineError, Worker};
use qeil_engine::protocol::Fault;
use qeil_engine::trust::{KL_NATS_MAX, answers, check, check_against};

#[tokio::test]
async fn honest_devices_are_trusted_and_wrong_ones_are_not() {
    for model in [Some(tiny()), real()].into_iter().flatten() {
        let reference = Worker::start(&worker(), spec(model.clone())).await.unwrap();
        let mut other = spec(model);
        (other.threads, other.ubatch_tokens, other.flash_attention) = (2, 8, true);
        let candidate = Worker::start(&worker(), other).await.unwrap();

        let honest = check_against(&candidate, &reference).await.unwrap();
        let known = answers(&reference).await.unwrap();
        assert!(honest.trusted, "{honest:?}");
        eprintln!("honest: {}", honest.why);
        for size in [1.0, 2.0, 8.0] {
            candidate.inject(Fault::WrongNumbers(size)).await.unwrap();
            let wrong = check(&candidate, &known).await.unwrap();
            eprintln!("every logit off by up to {size}: {}", wrong.why);
            assert!(!wrong.trusted && wrong.kl_nats > KL_NATS_MAX, "{size}: {wrong:?}");
        }
        candidate.inject(Fault::WrongNumbers(0.0)).await.unwrap();
        assert_eq!(check(&candidate, &known).await.unwrap(), honest, "it computes right again");

        candidate.kill().await;
        assert!(matches!(check(&candidate, &known).await, Err(EngineError::Died(_))));
    }
}
