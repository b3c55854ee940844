//! Devices other than the CPU, where there are some: of this build, or of the program named by `QEIL_TEST_WORKER` (a
//! `qeil` built with another backend). Without any, the test says so and passes.
//!
//! A software Vulkan device (Mesa's lavapipe) is one; ggml shows it only with `GGML_VK_VISIBLE_DEVICES=0`.

use crate::models::{spec, tiny};
use crate::parts::{LONG, worker};
use qeil_engine::handle::{Launch, Worker, probe_devices};
use qeil_engine::protocol::StateSource;
use qeil_engine::request::{GenerateRequest, Prompt, Sampling};
use qeil_engine::spec::{DeviceKind, LoadSpec};
use qeil_engine::trust::check_against;

fn launch() -> Launch {
    let Some(program) = std::env::var_os("QEIL_TEST_WORKER") else { return worker() };
    let mut launch = Launch::program(program);
    launch.args = vec!["worker".into()];
    launch.load_timeout = LONG;
    launch
}

#[tokio::test]
async fn it_is_judged_runs_tokens_and_takes_a_sequence_from_the_cpu() {
    let launch = launch();
    let devices = probe_devices(&launch).await.unwrap();
    let others: Vec<_> = devices.iter().filter(|d| d.kind != DeviceKind::Cpu).collect();
    if others.is_empty() {
        eprintln!("skipped: this build and machine have no device but the CPU");
    }
    for device in others {
        let on_cpu = spec(tiny());
        let on_device = LoadSpec { device: device.name.clone(), ..on_cpu.clone() };
        let cpu = Worker::start(&launch, on_cpu).await.unwrap();
        let other = Worker::start(&launch, on_device).await.unwrap();
        eprintln!("{}: {}", device.name, other.loaded().confinement);

        let verdict = check_against(&other, &cpu).await.unwrap();
        eprintln!("{} ({}): {}", device.name, device.description, verdict.why);
        assert!(verdict.kl_nats.is_finite(), "a verdict on the merits: {verdict:?}");

        let prompt = Prompt::text("five tokens or so");
        let prefill = GenerateRequest::new(prompt.clone(), 1, 0, Sampling::greedy());
        let tokens = cpu.generate(prefill).await.unwrap().collect().await.unwrap().prompt_tokens;
        let state = cpu.export(StateSource::Prefix(tokens.clone()), false).await.unwrap();
        other.import(&state).await.unwrap();
        let mut request = GenerateRequest::new(Prompt::Tokens(tokens.clone()), 2, 4, Sampling::greedy());
        request.ignore_end = true;
        let done = other.generate(request).await.unwrap().collect().await.unwrap();
        assert_eq!(
            done.usage.reused_tokens as usize,
            tokens.len() - 1,
            "all but the last came with the state"
        );
        assert_eq!(done.usage.emitted_tokens, 8);
        other.stop().await;
        cpu.stop().await;
    }
}
