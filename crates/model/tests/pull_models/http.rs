//! Over HTTP.

use crate::{
    Bench,
    hub::{Hub, Reply},
    model, on_hub, on_hub_as, sum,
};
use qeil_model::pull::{PullError, SourceError};
use std::{fs, time::Duration};

const BYTES: usize = 700_000;

#[test]
fn a_file_arrives_whole_and_is_not_fetched_twice() {
    let content = model(BYTES, 1);
    let hub = Hub::new([Reply::file(&content)]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    bench.expect(&content);
    assert_eq!((bench.told.total_bytes, bench.told.done_bytes), (Some(BYTES as u64), BYTES as u64));
    assert_eq!(hub.requests()[0].path, "/own/er/resolve/main/file%20name.gguf");
    bench.expect(&content);
    assert_eq!(hub.requests().len(), 1);
}

/// However a transfer is disturbed, what is kept in the end is the file and nothing else.
#[test]
fn disturbed_transfers_end_well() {
    let content = model(BYTES, 1);
    let file = || Reply::file(&content);
    let (no_length, no_etag) = (Reply { states_length: false, ..file() }, file().etag(None));
    for (what, replies, starts) in [
        ("cut once", vec![file().cut(300_000), file()], vec![None, Some(300_000)]),
        (
            "cut again and again, each time further",
            vec![
                file().cut(300_000),
                file().cut(1000),
                file().cut(1000),
                file().cut(1000),
                file().cut(1000),
                file(),
            ],
            vec![None, Some(300_000), Some(301_000), Some(302_000), Some(303_000), Some(304_000)],
        ),
        (
            "cut, then the range is ignored",
            vec![file().cut(9), Reply { ranges: false, ..file() }],
            vec![None, Some(9)],
        ),
        (
            "cut, then a range from elsewhere",
            vec![file().cut(9), Reply { range_slip: 5, ..file() }, file()],
            vec![None, Some(9), None],
        ),
        (
            "cut, then the server is down for a moment",
            vec![file().cut(9), Reply::status(503), file()],
            vec![None, Some(9), Some(9)],
        ),
        ("down for a moment", vec![Reply::status(500), Reply::status(429), file()], vec![None, None, None]),
        ("no length stated", vec![no_length.clone()], vec![None]),
        ("no length stated, and cut", vec![no_length.cut(50_000), file()], vec![None, Some(50_000)]),
        ("no validator, and cut", vec![no_etag.clone().cut(9), no_etag], vec![None, Some(9)]),
        ("a weak validator, and cut", vec![file().etag(Some("W/\"w\"")).cut(9), file()], vec![None, Some(9)]),
        ("redirected within the host", vec![Reply::redirect("/elsewhere"), file()], vec![None, None]),
    ] {
        let hub = Hub::new(replies);
        let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
        bench.expect(&content);
        assert_eq!(hub.starts(), starts, "{what}");
        assert_eq!(
            (bench.told.total_bytes, bench.told.done_bytes),
            (Some(BYTES as u64), BYTES as u64),
            "{what}"
        );
    }
}

#[test]
fn a_later_pull_goes_on_where_an_earlier_one_was_cut_off() {
    let content = model(BYTES, 1);
    let hub = Hub::new([Reply::file(&content).cut(400_000), Reply::file(&content).cut(0)]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    assert!(matches!(bench.expect_failure(), SourceError::Network { .. }));
    assert_eq!(bench.part_bytes(), Some(400_000));
    assert!(!bench.path("Model.gguf").exists());

    hub.now([Reply::file(&content)]);
    bench.expect(&content);
    let request = &hub.requests()[0];
    assert_eq!((request.from, request.if_range.as_deref()), (Some(400_000), Some("\"one\"")));
    assert!(bench.was_told("400000 bytes are here already"));
    assert_eq!(bench.told.done_bytes, BYTES as u64);
}

/// A file that changed between two pulls is fetched anew, never glued to the old beginning, however the server
/// lets us know.
#[test]
fn a_changed_file_is_not_glued() {
    let (old, new) = (model(BYTES, 1), model(BYTES, 2));
    let changed = || Reply::file(&new).etag(Some("\"two\""));
    for (what, replies, starts) in [
        ("If-Range is honoured", vec![changed()], vec![Some(400_000)]),
        ("If-Range is ignored", vec![Reply { careless: true, ..changed() }], vec![Some(400_000), None]),
    ] {
        let hub = Hub::new([Reply::file(&old).cut(400_000), Reply::file(&old).cut(0)]);
        let mut bench = Bench::new(&new, vec![on_hub()]).on(&hub).unknown();
        bench.expect_failure();
        assert_eq!(bench.part_bytes(), Some(400_000), "{what}");
        hub.now(replies);
        bench.expect(&new);
        assert_eq!(hub.starts(), starts, "{what}");
    }
    // Without validator and checksum nothing would tell: start anew.
    let hub = Hub::new([Reply::file(&old).etag(None).cut(400_000), Reply::file(&old).etag(None).cut(0)]);
    let mut bench = Bench::new(&new, vec![on_hub()]).on(&hub).unknown();
    bench.expect_failure();
    hub.now([Reply::file(&new).etag(None)]);
    bench.expect(&new);
    assert_eq!(hub.starts(), [None]);
}

/// A pull that was killed after the last byte and before the rename.
#[test]
fn a_complete_part_is_only_verified() {
    let content = model(BYTES, 1);
    let hub = Hub::new([Reply::file(&content)]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    let leave = |bench: &Bench, bytes: &[u8]| {
        fs::create_dir_all(bench.shelf().root()).unwrap();
        fs::write(bench.path("Model.gguf.part"), bytes).unwrap();
        fs::write(bench.path(".Model.origin"), "huggingface own/er@main/file name.gguf\n\"one\"\n").unwrap();
    };
    leave(&bench, &content);
    bench.expect(&content);
    assert_eq!(hub.starts(), [Some(BYTES)]);

    // Bytes that a crash garbled are found out, and the next pull is whole.
    fs::remove_file(bench.path("Model.gguf")).unwrap();
    leave(&bench, &[&model(1000, 9)[..], &content[1000..300_000]].concat());
    assert!(matches!(bench.expect_failure(), SourceError::Mismatch { .. }));
    bench.expect(&content);

    // A part of unknown origin, and one larger than the file, are dropped.
    for (bytes, origin) in
        [(1000, "huggingface some/thing@else\n\n"), (BYTES + 1, "huggingface own/er@main/file name.gguf\n\n")]
    {
        fs::remove_file(bench.path("Model.gguf")).unwrap();
        leave(&bench, &model(bytes, 3));
        fs::write(bench.path(".Model.origin"), origin).unwrap();
        hub.now([Reply::file(&content)]);
        bench.expect(&content);
        assert_eq!(hub.starts(), [None]);
    }
}

#[test]
fn wrong_content_is_deleted_and_both_sums_are_shown() {
    let (right, wrong) = (model(BYTES, 1), model(BYTES, 2));
    let hub = Hub::new([Reply::file(&wrong)]);
    let mut bench = Bench::new(&right, vec![on_hub()]).on(&hub);
    let error = bench.pull().unwrap_err().to_string();
    for part in [
        sum(&right).to_string(),
        sum(&wrong).to_string(),
        "checksum mismatch".into(),
        "Hugging Face own/er".into(),
    ] {
        assert!(error.contains(&part), "{error}");
    }
    assert!(bench.files().is_empty(), "{:?}", bench.files());
}

/// What a source answers, and what the user is told. Nothing is kept of any of these.
#[test]
fn refusals() {
    let content = model(BYTES, 1);
    let longer = [&content[..], b"more"].concat();
    let stated = |sum: &str| Reply::redirect("/x").header("X-Linked-Etag", format!("\"{sum}\""));
    for (reply, expected, requests) in [
        (Reply::status(404), "answered 404 (the file is not there", 1),
        (Reply::status(401), "answered 401 (it wants a login", 1),
        (Reply::status(503), "answered 503 (the server has trouble", 4),
        (Reply::status(206), "answered 206", 1),
        (Reply::redirect("/again"), "too many redirects", 6),
        (Reply::redirect("ftp://127.0.0.1/x"), "neither an http address", 1),
        (Reply::redirect("//127.0.0.1/x"), "neither an http address", 1),
        (Reply::status(302), "neither an http address", 1),
        (Reply::file(&longer), "has 700004 bytes where 700000 were expected", 1),
        (Reply { states_length: false, ..Reply::file(&longer) }, "bytes where 700000 were expected", 1),
        (Reply::file(&content[1..]), "has 699999 bytes where 700000 were expected", 1),
        (stated(&sum(b"another").to_string()), "checksum mismatch", 1),
    ] {
        let hub = Hub::new([reply]);
        let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
        let error = bench.expect_failure().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert_eq!(hub.requests().len(), requests, "{expected}");
        assert!(bench.files().is_empty(), "{expected}: {:?}", bench.files());
    }
}

#[test]
fn sources_are_tried_in_order() {
    let content = model(BYTES, 1);
    let hub = Hub::new([Reply::status(404), Reply::file(&content)]);
    let mut bench = Bench::new(&content, vec![on_hub_as("first.gguf"), on_hub_as("second.gguf")]).on(&hub);
    bench.expect(&content);
    assert!(bench.was_told("own/er/first.gguf failed") && bench.was_told("404"));

    let mut bench = Bench::new(&content, vec![on_hub_as("first.gguf"), on_hub_as("second.gguf")]).on(&hub);
    hub.now([Reply::status(404), Reply::status(410)]);
    let error = bench.pull().unwrap_err().to_string();
    let (first, second) = (error.find("first.gguf").unwrap(), error.find("410").unwrap());
    assert!(first < second && error.contains("give its path"), "{error}");
}

/// A part of the first source survives the second one's failure.
#[test]
fn a_failing_source_costs_no_other_one_its_bytes() {
    let content = model(BYTES, 1);
    let cut = Reply::file(&content).cut(0);
    let hub = Hub::new([
        Reply::file(&content).cut(5000),
        cut.clone(),
        cut.clone(),
        cut.clone(),
        Reply::status(404),
    ]);
    let mut bench = Bench::new(&content, vec![on_hub_as("first.gguf"), on_hub_as("second.gguf")]).on(&hub);
    bench.pull().unwrap_err();
    assert_eq!(bench.part_bytes(), Some(5000));
    hub.now([Reply::file(&content)]);
    bench.expect(&content);
    assert_eq!(hub.starts(), [Some(5000)]);
}

#[test]
fn trust_on_first_use() {
    let (first, second) = (model(BYTES, 1), model(BYTES, 2));
    let mut bench = Bench::new(&first, vec![on_hub()]).unknown();
    // The hub states a sum with its redirect, and it is checked.
    let stating = |sum: String| Reply::redirect("/x").header("X-Linked-Etag", format!("\"{sum}\""));
    let hub = Hub::new([stating(sum(&first).to_string()), Reply::file(&second)]);
    bench.options.hub = hub.address();
    assert!(
        matches!(bench.expect_failure(), SourceError::Mismatch { expected, .. } if expected == sum(&first))
    );
    hub.now([stating(sum(&first).to_string()), Reply::file(&first)]);
    bench.expect(&first);
    assert!(bench.was_told("trusting what the hub says") && bench.was_told("recorded sha256"));

    // Later pulls demand the same file, whatever the hub says by then.
    fs::remove_file(bench.path("Model.gguf")).unwrap();
    hub.now([stating(sum(&second).to_string()), Reply::file(&second)]);
    assert!(
        matches!(bench.expect_failure(), SourceError::Mismatch { expected, .. } if expected == sum(&first))
    );
    hub.now([Reply::file(&second)]);
    assert!(
        matches!(bench.expect_failure(), SourceError::Mismatch { expected, .. } if expected == sum(&first))
    );
    assert!(bench.was_told("recorded on an earlier pull"));
    hub.now([Reply::file(&first)]);
    bench.expect(&first);

    // A page that is no model is not recorded as one.
    let hub = Hub::new([Reply::file(b"<html>Please log in</html>")]);
    let mut bench = Bench::new(&first, vec![on_hub()]).on(&hub).unknown();
    assert!(matches!(bench.expect_failure(), SourceError::NotGguf));
    assert!(bench.files().is_empty());
}

#[test]
fn nobody_answers() {
    let content = model(100, 1);
    let mut bench = Bench::new(&content, vec![on_hub()]);
    let error = bench.expect_failure().to_string();
    assert!(error.contains("set HF_ENDPOINT"), "{error}");

    let hub = Hub::new([Reply { silent: true, ..Reply::file(&content) }]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    bench.options.silence_max = Duration::from_millis(50);
    assert!(matches!(bench.expect_failure(), SourceError::Network { .. }));
    assert_eq!(hub.requests().len(), 1);
}

#[test]
fn one_pull_at_a_time() {
    use rustix::fs::{FlockOperation, flock};
    let content = model(100, 1);
    let hub = Hub::new([Reply::file(&content)]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    fs::create_dir_all(bench.shelf().root()).unwrap();
    let other = fs::File::create(bench.path(".Model.lock")).unwrap();
    flock(&other, FlockOperation::LockExclusive).unwrap();
    assert!(matches!(bench.pull(), Err(PullError::Busy { name }) if name == "Model"));
    assert!(hub.requests().is_empty());
    drop(other);
    bench.expect(&content);
}

#[test]
fn the_shelf_says_no() {
    let content = model(100, 1);
    let mut bench = Bench::new(&content, vec![on_hub()]);
    fs::create_dir_all(bench.shelf().root()).unwrap();
    fs::write(bench.path("Model.gguf"), "GGUF, but another one").unwrap();
    let error = bench.pull().unwrap_err();
    assert!(matches!(error, PullError::Occupied { actual_bytes: 21, expected_bytes: 100, .. }), "{error}");

    let mut bench = Bench::new(&content, vec![on_hub()]);
    fs::write(bench.shelf().root(), "a file where the folder should be").unwrap();
    let error = bench.pull().unwrap_err();
    assert!(
        matches!(&error, PullError::Shelf { .. }) && error.to_string().contains("QEIL_MODELS"),
        "{error}"
    );

    let hub = Hub::new([Reply { states_length: false, ..Reply::file(&content) }]);
    let mut bench = Bench::new(&content, vec![on_hub()]).on(&hub);
    bench.entry.bytes = Some(1 << 60);
    let error = bench.pull().unwrap_err();
    assert!(matches!(error, PullError::DiskFull { needed_bytes, .. } if needed_bytes > 1 << 60), "{error}");
}
