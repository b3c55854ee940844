//! What a client and the journal are told.

use crate::clients::ask;
use crate::floor::{Floor, LONG, config, launch, named, spec};
use qeil_control::event::{Outcome, Refusal};
use qeil_control::journal::Kind;
use qeil_engine::protocol::Fault;
use qeil_engine::request::{FinishReason, Prompt, Sampling};
use qeil_orchestrate::device::Device;
use qeil_orchestrate::engine::{EngineDevice, Reference};
use qeil_orchestrate::journal::{Filter, Journal};
use qeil_orchestrate::sense::{Look, PERIOD, Sensors};
use qeil_orchestrate::{AnswerEvent, Ask, Orchestra, Setup};
use qeil_units::{Labelled, Provenance, Watts};
use std::sync::Arc;
use std::time::Duration;

/// A place that always draws 10 W.
struct Steady;

impl Sensors for Steady {
    fn look(&mut self) -> Vec<Look> {
        let reading = qeil_control::event::Reading {
            temperature_c: Some(40.0),
            power_w: Some(10.0),
            throttling: false,
            memory_share: None,
        };
        vec![Look { reading, power: Some(Labelled::measured(Watts(10.0), "a steady counter")) }]
    }
}

#[tokio::test]
async fn a_report_has_joules_and_rows_that_are_on_disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.sqlite");
    let reference = Reference::new(launch(), &spec(0));
    let engine = Arc::new(EngineDevice::new(launch(), spec(0), reference)) as Arc<dyn Device>;
    let mut setup = Setup::new(config()).with(named("one", "cpu"), engine, Some(0));
    setup.sensors = Some(Box::new(Steady));
    setup.journal = Some(path.clone());
    let orchestra = Orchestra::start(setup).unwrap();
    // A place whose power nobody has told yet has none.
    tokio::time::sleep(2 * PERIOD).await;
    let mut request = ask(0);
    request.tokens_max = 400;
    // The first ones may come before the device serves.
    let answer = loop {
        match orchestra.submit(request.clone()).await {
            Ok(answer) => break answer,
            Err(Refusal::Unavailable { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(other) => panic!("{other}"),
        }
    };
    let (texts, report) = tokio::time::timeout(LONG, answer.collect()).await.unwrap().unwrap();
    assert_eq!((texts.len(), &report.outcome), (2, &Outcome::Completed), "{report:#?}");
    assert!(report.samples.iter().all(|s| s.finish == FinishReason::Length && s.devices == ["one"]));
    let energy = report.energy.as_ref().unwrap();
    assert!(energy.value.0 > 0.0 && energy.value.0 < 10.0 * report.wall_s * 1.5 + 5.0, "{report:#?}");
    assert_ne!(energy.provenance, Provenance::Simulated);
    assert!(report.journalled && !report.decisions.is_empty(), "{report:#?}");
    // The loop still runs: what was reported is readable by another program now.
    let journal = Journal::open(&path).unwrap();
    let filter = Filter { request: Some(report.request.0), limit: 100, ..Filter::default() };
    let rows = journal.rows(&filter).unwrap();
    let ids: Vec<u64> = rows.iter().map(|row| row.id).collect();
    assert_eq!(ids, report.decisions.iter().map(|decided| decided.row).collect::<Vec<_>>());
    assert!(
        rows.iter().any(|row| row.decision.kind == Kind::Placed && row.device_name.as_deref() == Some("one"))
    );
    orchestra.stop().await;
    let again = Journal::open(&path).unwrap();
    let (run, decisions) = again.until(i64::MAX).unwrap().unwrap();
    assert_eq!((run.config.devices[0].name.as_str(), decisions.is_empty()), ("one", false));
}

#[tokio::test]
async fn requests_end_for_the_reason_that_comes_first() {
    let floor = Floor::open(&[(spec(0), "cpu")], None).await;
    let long = || {
        let mut ask = Ask::new(Prompt::text("On"), 1, 490, Sampling::greedy());
        ask.ignore_end = true;
        ask
    };
    let wrong = Ask { tokens_max: 0, ..long() };
    assert!(matches!(floor.orchestra.submit(wrong).await, Err(Refusal::Invalid(_))));
    let wall = Ask { prompt: Prompt::text("again ".repeat(2000)), ..long() };
    assert!(floor.orchestra.submit(wall).await.is_err(), "a wall of repetition");
    let huge = Ask { samples: 200, tokens_max: 1 << 20, ..long() };
    assert!(matches!(floor.orchestra.submit(huge).await, Err(Refusal::TooLarge { .. })));

    let mut withdrawn = floor.orchestra.submit(long()).await.unwrap();
    assert!(matches!(withdrawn.next().await, Some(AnswerEvent::Delta { .. })));
    floor.orchestra.withdraw(withdrawn.request()).await;
    let (_, report) = withdrawn.collect().await.unwrap();
    assert_eq!((&report.outcome, &report.samples[0].finish), (&Outcome::Withdrawn, &FinishReason::Cancelled));

    // A client that goes away without a word.
    drop(floor.orchestra.submit(long()).await.unwrap());
    floor.until("the deserted request is over", |s| s.requests.is_empty() && s.outcomes == 2).await;

    let judged = Ask { until_pass: true, samples: 2, tokens_max: 8, ..long() };
    let mut judged = floor.orchestra.submit(judged).await.unwrap();
    let mut finished = Vec::new();
    let outcome = loop {
        match judged.next().await.unwrap() {
            AnswerEvent::SampleEnded { sample, .. } => {
                if finished.is_empty() {
                    floor.orchestra.judged(judged.request(), sample, true).await;
                }
                finished.push(sample);
            }
            AnswerEvent::Ended(report) => break report.outcome,
            AnswerEvent::Delta { .. } => {}
        }
    };
    assert_eq!(outcome, Outcome::Completed);
    floor.orchestra.stop().await;
    assert!(matches!(floor.orchestra.submit(long()).await, Err(Refusal::Unavailable { .. })));
}

#[tokio::test]
async fn a_device_that_hung_while_idle_holds_up_nobody() {
    // The first device is the first that is asked for the tokens of a prompt; alone, it is the only one.
    for engines in [2, 1] {
        let specs: Vec<_> = (0..engines).map(|core| (spec(core), "cpu")).collect();
        let floor = Floor::open(&specs, None).await;
        floor.engines[0].worker().unwrap().inject(Fault::Hang).await.unwrap();
        let answer = tokio::time::timeout(LONG, floor.orchestra.submit(ask(0))).await.unwrap().unwrap();
        let (_, report) = tokio::time::timeout(LONG, answer.collect()).await.unwrap().unwrap();
        assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
        floor.orchestra.stop().await;
    }
}
