//! An OpenAI-compatible endpoint as a device, played by a few lines of HTTP that can break off.

use crate::floor::{config, launch, named, spec};
use qeil_control::event::Outcome;
use qeil_control::view::Standing;
use qeil_engine::request::{FinishReason, Prompt, Sampling};
use qeil_orchestrate::device::Device;
use qeil_orchestrate::engine::{EngineDevice, Reference};
use qeil_orchestrate::remote::{Endpoint, RemoteDevice};
use qeil_orchestrate::{Ask, Orchestra, Setup};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Pieces that a whole answer has.
const PIECES: u32 = 6;

/// Serve; the first `broken` answers that are longer than a probe break off after two pieces.
fn serve(broken: u32) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}/v1", listener.local_addr().unwrap());
    let left = Arc::new(AtomicU32::new(broken));
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let left = Arc::clone(&left);
            std::thread::spawn(move || answer(stream, &left));
        }
    });
    base
}

fn answer(mut stream: TcpStream, left: &AtomicU32) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut first, mut length) = (String::new(), 0);
    reader.read_line(&mut first).unwrap();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if let Some(bytes) = line.to_lowercase().strip_prefix("content-length:") {
            length = bytes.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    if first.starts_with("GET /v1/models") {
        let body = r#"{"data":[{"id":"m"}]}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        stream.write_all((head + body).as_bytes()).unwrap();
        return;
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let asked: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let pieces = PIECES.min(asked["max_tokens"].as_u64().unwrap() as u32);
    let breaks = pieces > 1
        && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
    stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n").unwrap();
    let mut say = |text: &str| {
        let event = format!("data: {text}\n\n");
        let _ = stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        let _ = stream.flush();
    };
    for piece in 0..pieces {
        if breaks && piece == 2 {
            std::thread::sleep(Duration::from_millis(50));
            return;
        }
        let finish = if piece + 1 == pieces { r#""stop""# } else { "null" };
        say(&format!(r#"{{"choices":[{{"text":"w{piece} ","finish_reason":{finish}}}]}}"#));
    }
    say("[DONE]");
    let _ = stream.write_all(b"0\r\n\r\n");
}

async fn serving(orchestra: &Orchestra) {
    while orchestra.snapshot().await.unwrap().devices.iter().any(|d| d.standing != Standing::Serving) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn remote(base: String) -> Arc<dyn Device> {
    Arc::new(RemoteDevice::new(Endpoint { base, model: "m".into(), key: None }))
}

#[tokio::test]
async fn an_endpoint_serves_and_its_energy_is_unknown() {
    let setup = Setup::new(config()).with(named("endpoint", "far"), remote(serve(0)), None);
    let orchestra = Orchestra::start(setup).unwrap();
    serving(&orchestra).await;
    let ask = Ask::new(Prompt::text("Say"), 2, 20, Sampling::default());
    let (texts, report) = orchestra.submit(ask).await.unwrap().collect().await.unwrap();
    assert_eq!(texts, vec!["w0 w1 w2 w3 w4 w5 "; 2], "{report:#?}");
    assert_eq!((&report.outcome, &report.energy), (&Outcome::Completed, &None));
    assert!(report.samples.iter().all(|s| s.tokens == PIECES && s.finish == FinishReason::EndOfText));
    orchestra.stop().await;
}

#[tokio::test]
async fn a_stream_that_breaks_goes_on_at_an_engine() {
    let reference = Reference::new(launch(), &spec(0));
    let engine = Arc::new(EngineDevice::new(launch(), spec(0), reference)) as Arc<dyn Device>;
    // The endpoint is asked first: it costs next to nothing.
    let mut far = named("endpoint", "far");
    (far.profile.step_s, far.profile.step_s_per_sequence, far.profile.prefill_s_per_token) =
        (1e-6, 1e-6, 1e-6);
    let setup =
        Setup::new(config()).with(far, remote(serve(1)), None).with(named("engine", "cpu"), engine, None);
    let orchestra = Orchestra::start(setup).unwrap();
    serving(&orchestra).await;
    let ask = Ask::new(Prompt::text("Say"), 1, 12, Sampling::greedy());
    let (texts, report) = orchestra.submit(ask).await.unwrap().collect().await.unwrap();
    assert_eq!(report.outcome, Outcome::Completed, "{report:#?}");
    assert_eq!(report.samples[0].devices, ["endpoint", "engine"], "{report:#?}");
    assert!(texts[0].starts_with("w0 w1 ") && !texts[0].starts_with("w0 w1 w2"), "{texts:?}");
    orchestra.stop().await;
}
