//! Writing a model with its weights in another format, and what comes of it.

use crate::models::{spec, tiny};
use crate::parts::worker;
use qeil_engine::handle::{EngineError, Worker, transcode};
use qeil_engine::spec::{TranscodeSpec, WeightFormat};
use qeil_engine::trust::{answers, judge};
use qeil_model::gguf::Limits;

#[tokio::test]
async fn a_lighter_file_is_almost_the_same_model() {
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("light.gguf");
    let order = TranscodeSpec {
        from: tiny(),
        to: to.clone(),
        format: WeightFormat::Q8_0,
        threads: 1,
        texts: vec![("general.name".into(), "light".into()), ("qeil.note".into(), "é".repeat(63))],
    };
    let written = transcode(&worker(), order.clone()).await.unwrap();
    let (before, after) = (tiny().metadata().unwrap().len(), to.metadata().unwrap().len());
    // Q8_0 takes 34 bytes for 32 weights, f32 takes 128; the rest of the file stays.
    assert!(written > 0 && after < before / 2, "{written} written, {before} to {after}");
    let original = Worker::start(&worker(), spec(tiny())).await.unwrap();
    let light = Worker::start(&worker(), spec(to.clone())).await.unwrap();
    assert!(light.loaded().weight_bytes < original.loaded().weight_bytes / 3);
    let (known, given) = (answers(&original).await.unwrap(), answers(&light).await.unwrap());
    let verdict = judge(&known, &given);
    assert!(verdict.kl_nats > 0.0 && verdict.kl_nats < 0.05, "{verdict:?}");

    let gguf = qeil_model::gguf::read(&to, &Limits::default()).unwrap();
    assert_eq!(gguf.metadata["general.name"], "light".into());
    assert_eq!(gguf.metadata["qeil.note"], "é".repeat(63).into());
    let mut long = order.clone();
    long.texts[1].1.push_str("éé");
    assert!(matches!(transcode(&worker(), long).await, Err(EngineError::Transcode(_))));

    let mut nowhere = order.clone();
    nowhere.to = folder.path().join("no/such/folder/light.gguf");
    let error = transcode(&worker(), nowhere).await.unwrap_err();
    assert!(matches!(error, EngineError::Transcode(_) | EngineError::Died(_)), "{error:?}");
    let mut broken = order;
    broken.from = folder.path().join("broken.gguf");
    std::fs::write(&broken.from, b"GGUF").unwrap();
    assert!(matches!(transcode(&worker(), broken).await, Err(EngineError::Model(_))));
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "no half-written file stays: {left:?}");
}
