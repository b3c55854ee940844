//! Sweeps that are killed at any moment lose nothing and repeat nothing.

use crate::home::{Home, stderr, stdout};
use qeil_measure::profile::Observation;
use qeil_measure::store::Store;
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::process::Stdio;
use std::time::Duration;

/// Kills of the test; a nightly run asks for more.
const KILLS: &str = "QEIL_TEST_KILLS";
const KILLS_DEFAULT: u32 = 20;
const SWEEP: [&str; 16] = [
    "profile",
    "tiny",
    "--json",
    "-p",
    "16,8",
    "-n",
    "4,1",
    "-k",
    "1,2",
    "--depth-tokens",
    "0",
    "--half-width",
    "0",
    "-r",
    "60",
    "--interference-max=1",
];

type Row = (String, String, u32);

fn key(row: &Observation) -> Row {
    (row.model.sha256.clone(), serde_json::to_string(&row.cell).unwrap(), row.repetition)
}

#[test]
fn a_killed_sweep_keeps_what_it_reported_and_goes_on() {
    let home = Home::new();
    let kills = std::env::var(KILLS).map_or(KILLS_DEFAULT, |kills| kills.parse().unwrap());
    let file = home.path("data/measurements.sqlite");
    let mut saved: Vec<Observation> = Vec::new();
    let mut repeated = 0;
    // Moments from before the first row to somewhere in the middle, evenly spread but not in order.
    for kill in 0..kills {
        let mut child = home.command(&SWEEP).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            // The last line may be cut in the middle: it was not reported yet.
            lines.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str(&line).ok()).collect()
        });
        // A busy machine starts slowly: longer and longer until a first row was seen.
        let patience = if saved.is_empty() { 1 + u64::from(kill) } else { 1 };
        std::thread::sleep(Duration::from_millis(u64::from(kill) * 7919 % 900 * patience));
        child.kill().unwrap();
        child.wait().unwrap();
        let reported: Vec<Observation> = reader.join().unwrap();
        let known: BTreeSet<Row> = saved.iter().map(key).collect();
        repeated += reported.iter().filter(|row| known.contains(&key(row))).count();
        saved.extend(reported);
        if file.exists() {
            let rows = Store::open(&file).unwrap().observations().unwrap();
            for row in &saved {
                assert!(rows.contains(row), "kill {kill} lost {row:?}");
            }
        }
    }
    assert!(!saved.is_empty(), "no row was ever reported: the kills came too early to show anything");
    let sweeps = Store::open(&file).unwrap().sweeps().unwrap();
    if sweeps == 1 {
        assert_eq!(repeated, 0, "repetitions measured twice in one sweep");
    }

    let left = home.qeil(&SWEEP);
    assert!(left.status.success(), "{}", stderr(&left));
    let store = Store::open(&file).unwrap();
    let rows = store.observations().unwrap();
    let cells: BTreeSet<_> = rows.iter().map(|row| &row.cell).collect();
    assert_eq!(cells.len(), 5, "the reference, three axes, the corner");
    assert_eq!(
        rows.len(),
        5 * 60 * store.sweeps().unwrap() as usize,
        "every repetition of every sweep, once"
    );
}

#[test]
fn a_quick_profile_ends_in_a_table_and_exports() {
    let home = Home::new();
    let output = home.qeil(&["profile", "tiny", "--quick", "--export", "rows.csv"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let table = stdout(&output);
    for words in ["pp64+tg17", "pp16+tg1×4", "estimated", "measurements.sqlite"] {
        assert!(table.contains(words), "{words} is missing in\n{table}");
    }
    let csv = std::fs::read_to_string(home.path("rows.csv")).unwrap();
    let rows = Store::open(&home.path("data/measurements.sqlite")).unwrap().observations().unwrap();
    assert_eq!(csv.lines().count(), rows.len() + 1);
    assert!(rows.iter().all(|row| row.energy.is_some() && row.prefill_ms > 0.0));
}
