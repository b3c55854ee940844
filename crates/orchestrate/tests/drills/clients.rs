//! Clients that ask again and again, and an account of what each was told.

use crate::floor::LONG;
use qeil_control::event::{Outcome, Refusal};
use qeil_engine::request::{Prompt, Sampling};
use qeil_orchestrate::{AnswerEvent, Ask, Orchestra, Report};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Different requests; each is asked many times.
pub const REQUESTS: u64 = 12;
/// Samples of each.
pub const SAMPLES: u32 = 2;
/// Tokens of each sample.
pub const TOKENS: u32 = 96;

/// The `n`th request: seeded, so that its text is known.
pub fn ask(n: u64) -> Ask {
    let prompts =
        ["The ship left the harbour", "Once upon a time", "Rain fell on the roofs of the town all night"];
    let prompt = Prompt::text(prompts[(n % 3) as usize]);
    let sampling = Sampling { temperature: 1.0, seed: 100 + n, ..Sampling::default() };
    let mut ask = Ask::new(prompt, SAMPLES, TOKENS, sampling);
    (ask.ignore_end, ask.client) = (true, (n % 4) as u32);
    ask
}

/// One request that was admitted.
#[derive(Debug)]
pub struct Told {
    pub n: u64,
    pub texts: Vec<String>,
    pub report: Report,
    pub asked: Instant,
    pub ended: Instant,
}

#[derive(Debug, Default)]
pub struct Account {
    pub told: Vec<Told>,
    pub refused: u32,
    /// Requests whose stream ended without an outcome.
    pub lost: u32,
}

/// Ask until `stop`; what was admitted is waited for.
pub async fn client(orchestra: Orchestra, first: u64, stop: Arc<AtomicBool>) -> Account {
    let mut account = Account::default();
    let mut n = first;
    while !stop.load(Ordering::Relaxed) {
        n = (n + 1) % REQUESTS;
        let asked = Instant::now();
        let mut answer = match orchestra.submit(ask(n)).await {
            Ok(answer) => answer,
            Err(Refusal::Overloaded { .. } | Refusal::Unavailable { .. } | Refusal::Hopeless(_)) => {
                account.refused += 1;
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(other) => panic!("request {n}: {other}"),
        };
        let mut texts = vec![String::new(); SAMPLES as usize];
        let mut counted = vec![0; SAMPLES as usize];
        let mut ends = vec![0; SAMPLES as usize];
        let mut reports = Vec::new();
        while let Some(event) = tokio::time::timeout(LONG, answer.next()).await.expect("an event") {
            match event {
                AnswerEvent::Delta { sample, text, tokens } => {
                    assert_eq!(ends[sample as usize], 0, "text after the end of a sample");
                    texts[sample as usize].push_str(&text);
                    counted[sample as usize] += tokens;
                }
                AnswerEvent::SampleEnded { sample, .. } => ends[sample as usize] += 1,
                AnswerEvent::Ended(report) => reports.push(*report),
            }
        }
        let Some(report) = reports.pop() else {
            account.lost += 1;
            continue;
        };
        assert!(reports.is_empty(), "two outcomes");
        assert_eq!(ends, vec![1; SAMPLES as usize], "each sample ends once: {report:#?}");
        if report.outcome == Outcome::Completed {
            assert_eq!(counted, vec![TOKENS; SAMPLES as usize], "no token lost or doubled: {report:#?}");
        }
        account.told.push(Told { n, texts, report, asked, ended: Instant::now() });
    }
    account
}

/// What each request says where nothing fails.
pub async fn baseline(orchestra: &Orchestra) -> Vec<Vec<String>> {
    let mut texts = Vec::new();
    for n in 0..REQUESTS {
        let (text, report) = orchestra.submit(ask(n)).await.unwrap().collect().await.unwrap();
        assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
        texts.push(text);
    }
    texts
}
