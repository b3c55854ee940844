//! Prefill on one engine, decode on another; samples of one request on several.

use crate::clients::ask;
use crate::floor::{Floor, config, launch, named, spec};
use qeil_control::event::Outcome;
use qeil_control::view::Standing;
use qeil_engine::request::{Prompt, Sampling};
use qeil_orchestrate::device::Device;
use qeil_orchestrate::engine::{EngineDevice, Reference};
use qeil_orchestrate::prefill::{Prefiller, TRIALS, Way};
use qeil_orchestrate::{Ask, Orchestra, Setup};
use std::sync::Arc;

#[tokio::test]
async fn a_prompt_is_computed_where_it_is_measured_cheaper() {
    let mut both = spec(0);
    // Prompts come in chunks here, and the prefix cache is where a state arrives.
    (both.ubatch_tokens, both.prefix_cache_tokens) = (64, 1024);
    let mut other = both.clone();
    other.cpus = spec(1).cpus;
    let prefiller = Arc::new(Prefiller::new(launch(), other));
    let reference = Reference::new(launch(), &both);
    let device = EngineDevice::new(launch(), both, reference).prefilled_by(Arc::clone(&prefiller));
    let setup = Setup::new(config()).with(named("decodes", "cpu"), Arc::new(device) as Arc<dyn Device>, None);
    let orchestra = Orchestra::start(setup).unwrap();
    while orchestra.snapshot().await.unwrap().devices[0].standing != Standing::Serving {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    for n in 0..2 * TRIALS + 2 {
        // Another beginning each time: a prompt that is in a cache measures nothing.
        let prompt = Prompt::text(format!("{n} ").repeat(4) + &"and the rain fell on the roofs ".repeat(6));
        let asked = Ask::new(prompt, 1, 8, Sampling::greedy());
        let (_, report) = orchestra.submit(asked).await.unwrap().collect().await.unwrap();
        assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
    }
    let costs = prefiller.costs();
    orchestra.stop().await;
    assert_eq!(costs.refused, None);
    let (moved, again) = (costs.median(Way::Moved), costs.median(Way::Again));
    let cheaper = if moved < again { Way::Moved } else { Way::Again };
    assert_eq!(costs.choose(), cheaper, "{costs:?}");
    let us = |s: Option<f64>| s.unwrap() * 1e6;
    eprintln!("a prompt token (measured): {:.0} us moved, {:.0} us computed again", us(moved), us(again));
}

#[tokio::test]
async fn samples_of_one_request_are_shared_out() {
    let floor = Floor::open(&[(spec(0), "cpu"), (spec(1), "cpu")], None).await;
    let wide = Ask { samples: 16, ..ask(1) };
    let (texts, report) = floor.orchestra.submit(wide.clone()).await.unwrap().collect().await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
    let mut devices: Vec<&String> = report.samples.iter().flat_map(|sample| &sample.devices).collect();
    devices.sort();
    devices.dedup();
    assert_eq!(devices.len(), 2, "both worked on it: {report:#?}");
    // Where a sample ran does not show in it.
    let (again, _) = floor.orchestra.submit(wide).await.unwrap().collect().await.unwrap();
    assert_eq!(texts, again);
    floor.orchestra.stop().await;
}
