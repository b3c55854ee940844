//! The files of the workspace that rules look at.

use std::fs;
use std::path::Path;

/// A text file, by its path below the workspace's root.
pub struct File {
    pub path: String,
    pub text: String,
}

/// Folders below the root that hold our own text; everything else there is output.
const FOLDERS: &[&str] = &[".cargo", ".ci", "bench", "crates", "docs", "fuzz", "scripts"];
/// Folders of output inside those.
const OUTPUT: &[&str] = &["target", "corpus", "artifacts", "__pycache__"];
/// Text larger than this was not written by hand.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// The files that quote what the rules forbid.
const QUOTES: &[&str] = &["crates/tidy/tests/house.rs", "crates/tidy/tests/house/rules.rs"];
/// Written by cargo.
const LOCK: &str = "Cargo.lock";

/// All files, the walk sorted so that complaints come in the same order every time.
pub fn workspace() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut files = Vec::new();
    for entry in sorted(&root) {
        if !entry.starts_with('.') && !entry.ends_with(LOCK) && root.join(&entry).is_file() {
            read(&root, entry, &mut files);
        }
    }
    for folder in FOLDERS {
        walk(&root, folder, &mut files);
    }
    files
}

fn walk(root: &Path, folder: &str, files: &mut Vec<File>) {
    for name in sorted(&root.join(folder)) {
        let path = format!("{folder}/{name}");
        let Ok(metadata) = fs::symlink_metadata(root.join(&path)) else { continue };
        if metadata.is_dir() && !OUTPUT.contains(&name.as_str()) {
            walk(root, &path, files);
        } else if metadata.is_file() && metadata.len() <= FILE_BYTES_MAX && !name.ends_with(LOCK) {
            read(root, path, files);
        }
    }
}

/// Files that are no text (a recorded model, a picture) are nobody's style.
fn read(root: &Path, path: String, files: &mut Vec<File>) {
    if let Ok(text) = fs::read_to_string(root.join(&path)) {
        let quotes = QUOTES.contains(&path.as_str());
        files.push(File { path, text: if quotes { "//! Quotes what is forbidden.\n".into() } else { text } });
    }
}

fn sorted(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}
