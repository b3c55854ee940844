//! The catalogue as it is read, and the shelf as names are looked up on it.

use qeil_model::catalogue::{Catalogue, DEFAULT_MODEL, Sha256Sum, Source};
use qeil_model::shelf::{Shelf, ShelfError};
use std::{collections::BTreeSet, fs};

fn entry(name: &str, rest: &str) -> String {
    format!(
        "[[model]]\nname = {name:?}\narchitecture = \"llama\"\nparameters = 1\nquantisation = \"F16\"\n\
         licence = {{ name = \"MIT\" }}\n{rest}\n"
    )
}

const HUB: &str = "sources = [{ huggingface = { repo = \"a/b\", file = \"c d.gguf\" } }]";

#[test]
fn built_in_entries_are_complete() {
    let catalogue = Catalogue::builtin().unwrap();
    assert_eq!(catalogue.find(&DEFAULT_MODEL.to_uppercase()).unwrap().name, DEFAULT_MODEL);
    let families: BTreeSet<&str> = catalogue.entries().iter().map(|e| e.architecture.as_str()).collect();
    for family in ["gpt2", "granite", "qwen2", "llama", "lfm2", "gemma3"] {
        assert!(families.contains(family), "{family}");
    }
    for entry in catalogue.entries() {
        assert!(entry.sha256.is_some() && entry.bytes.is_some(), "{}", entry.name);
        // Four bits a weight and some, and never more than four bytes.
        let bytes = entry.bytes.unwrap();
        assert!(bytes > entry.parameters * 2 / 5 && bytes < entry.parameters * 4, "{}", entry.name);
        for source in &entry.sources {
            if let Source::HuggingFace(file) = source {
                let pinned =
                    file.revision.len() == 40 && file.revision.chars().all(|c| c.is_ascii_hexdigit());
                assert!(pinned || file.revision == "main", "{}", entry.name);
            }
        }
    }
}

#[test]
fn a_users_file_is_merged_over_the_built_in_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("catalogue.toml");
    let builtin = Catalogue::builtin().unwrap();
    let count = builtin.entries().len();
    let same = builtin.merge_file(&path).unwrap();
    assert_eq!(same.entries().len(), count, "no file, no change");

    fs::write(&path, entry(&DEFAULT_MODEL.to_lowercase(), HUB) + &entry("Mine", HUB)).unwrap();
    let merged = same.merge_file(&path).unwrap();
    assert_eq!(merged.entries().len(), count + 1);
    assert_eq!(merged.find(DEFAULT_MODEL).unwrap().quantisation, "F16");
    let Source::HuggingFace(file) = &merged.find("mine").unwrap().sources[0] else { panic!() };
    assert_eq!((file.revision.as_str(), file.file.as_str()), ("main", "c d.gguf"));

    fs::write(&path, "x".repeat(2 << 20)).unwrap();
    let error = merged.merge_file(&path).unwrap_err().to_string();
    assert!(error.contains("larger than") && error.contains("catalogue.toml"), "{error}");
}

/// What could become a path, an option or an address is refused, with the model and the field named.
#[test]
fn wrong_entries_are_refused() {
    let pip = |fields: &str| format!("sources = [{{ pip = {{ version = \"1.0\", {fields} }} }}]");
    let hub = |fields: &str| format!("sources = [{{ huggingface = {{ {fields} }} }}]");
    for (name, rest, expected) in [
        ("../up", HUB.into(), "a name is"),
        ("-rf", HUB.into(), "a name is"),
        (".hidden", HUB.into(), "a name is"),
        ("a.gguf", HUB.into(), "a name is"),
        ("", HUB.into(), "a name is"),
        ("x", "sources = []".into(), "no sources"),
        ("x", "sources = [{ ftp = {} }]".into(), "unknown variant"),
        ("x", format!("sha256 = \"abc\"\n{HUB}"), "64 hexadecimal digits"),
        ("x", format!("sha256 = \"{}\"\n{HUB}", "é".repeat(32)), "64 hexadecimal digits"),
        ("x", format!("bytes = 0\n{HUB}"), "bytes is 0"),
        ("x", format!("bytes = -1\n{HUB}"), "integer"),
        ("x", format!("size = 1\n{HUB}"), "unknown field"),
        ("x", hub("repo = \"a\", file = \"f\""), "owner/name"),
        ("x", hub("repo = \"a/b\", file = \"../f\""), "relative path"),
        ("x", hub("repo = \"a/b\", file = \"f?x=1\""), "relative path"),
        ("x", hub("repo = \"a/b\", file = \"f\", revision = \"\""), "relative path"),
        ("x", pip("package = \"--index-url=x\", file = \"f\""), "plain name"),
        ("x", pip("package = \"git+https://x\", file = \"f\""), "plain name"),
        ("x", pip("package = \"p\", file = \"/etc/passwd\""), "relative path"),
        ("x", pip("package = \"p\""), "either package and file"),
        (
            "x",
            pip("package = \"p\", file = \"f\", parts = [{ package = \"p\", file = \"f\" }]"),
            "either package",
        ),
    ] {
        let error =
            Catalogue::builtin().unwrap().merge_text(&entry(name, &rest), "test").unwrap_err().to_string();
        assert!(error.contains(expected) && error.starts_with("test"), "{name} {rest}: {error}");
    }
    let twice = entry("x", HUB) + &entry("X", HUB);
    let error = Catalogue::builtin().unwrap().merge_text(&twice, "test").unwrap_err().to_string();
    assert!(error.contains("appears twice"), "{error}");
}

#[test]
fn checksums_read_and_write() {
    let text = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53";
    let sum: Sha256Sum = text.to_uppercase().parse().unwrap();
    assert_eq!(sum.to_string(), text);
    for wrong in ["", &text[1..], &format!("{text}0"), &text.replace('b', "g")] {
        assert!(wrong.parse::<Sha256Sum>().is_err(), "{wrong}");
    }
}

#[test]
fn names_and_paths_are_resolved() {
    let folder = tempfile::tempdir().unwrap();
    let shelf = Shelf::at(folder.path().join("models"));
    let catalogue = Catalogue::builtin().unwrap();
    assert_eq!(shelf.list().unwrap(), [], "a shelf that is not there is empty");

    fs::create_dir_all(shelf.root().join("folder.gguf")).unwrap();
    for name in
        ["Zeta.gguf", "alpha-Q4_0.gguf", ".hidden.gguf", "half.gguf.part", "half.gguf.sha256", "notes.txt"]
    {
        fs::write(shelf.root().join(name), "GGUF").unwrap();
    }
    let listed: Vec<_> = shelf.list().unwrap().into_iter().map(|m| (m.name, m.bytes)).collect();
    assert_eq!(listed, [("alpha-Q4_0".into(), 4), ("Zeta".into(), 4)]);

    let elsewhere = folder.path().join("elsewhere.GGUF");
    fs::write(&elsewhere, "GGUF").unwrap();
    let resolve = |word: &str| shelf.resolve(word, &catalogue);
    assert_eq!(resolve("zeta").unwrap(), shelf.path_of("Zeta"));
    assert_eq!(resolve("ALPHA-q4_0").unwrap(), shelf.path_of("alpha-Q4_0"));
    assert_eq!(resolve(elsewhere.to_str().unwrap()).unwrap(), elsewhere);
    assert_eq!(resolve("Cargo.toml").unwrap().to_str(), Some("Cargo.toml"), "a file that exists is a path");

    for (word, expected) in [
        ("zeta.gguf", "no model file at zeta.gguf"),
        ("models/zeta", "no model file at models/zeta"),
        (folder.path().to_str().unwrap(), "no model file at"),
        ("smollm2-135m-instruct", "run `qeil pull SmolLM2-135M-Instruct`"),
        ("smolm2-135m-instruct", "did you mean SmolLM2-135M-Instruct?"),
        ("gemma", "did you mean Gemma-3-270M?"),
        ("zetta", "did you mean Zeta?"),
        ("alpha", "did you mean alpha-Q4_0?"),
        ("nothing of the kind", "no model is called \"nothing of the kind\"; `qeil models`"),
        ("", "no model is called \"\"; "),
    ] {
        let error = resolve(word).unwrap_err();
        assert!(error.to_string().contains(expected), "{word}: {error}");
    }
    assert!(matches!(resolve("lfm2-2.6b"), Err(ShelfError::NotPulled { name }) if name == "LFM2-2.6B"));
}

#[test]
fn a_folder_that_cannot_be_read_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let error = Shelf::at(&file).list().unwrap_err().to_string();
    assert!(error.contains("QEIL_MODELS"), "{error}");
}
