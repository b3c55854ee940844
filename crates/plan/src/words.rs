//! Configurations and reasons in words, as tables and journals show them.

use crate::front::OBJECTIVES;
use crate::plan::{Candidate, Goal, RungChoice};
use crate::problem::{Problem, Stop};

/// A configuration in a line.
pub fn describe(problem: &Problem, candidate: &Candidate) -> String {
    let rungs: Vec<String> = candidate.rungs.iter().map(|rung| describe_rung(problem, rung)).collect();
    rungs.join("; what stays unsolved: ")
}

fn describe_rung(problem: &Problem, rung: &RungChoice) -> String {
    let model = &problem.models[rung.model];
    let at = |place: usize, setting: usize| {
        let several = problem.settings.len() > 1;
        let setting = if several { format!(" ({})", problem.settings[setting]) } else { String::new() };
        format!("{}{setting}", problem.places[place].name)
    };
    let origin =
        rung.origin.map(|(place, setting)| format!("prompt on {}, ", at(place, setting))).unwrap_or_default();
    let lanes: Vec<String> = rung
        .lanes
        .iter()
        .map(|lane| {
            let place = at(lane.place, lane.decode_setting);
            let apart = lane.prefill_setting.filter(|&setting| setting != lane.decode_setting);
            let prompt = apart
                .map(|setting| format!(" (prompt with {})", problem.settings[setting]))
                .unwrap_or_default();
            let batch =
                if lane.batch < lane.samples { format!(", {} at once", lane.batch) } else { String::new() };
            format!("{} on {place}{prompt}{batch}", lane.samples)
        })
        .collect();
    let total: u32 = rung.lanes.iter().map(|lane| lane.samples).sum();
    let stop = if rung.stop == Stop::UntilPass && total > 1 { ", until one passes" } else { "" };
    format!("{} {}: {origin}{}{stop}", model.name, model.quantisation, lanes.join(" + "))
}

/// By what one point lost to another.
pub(crate) fn difference(
    goal: Goal,
    worse_by: f64,
    point: &[f64; OBJECTIVES],
    choice: &[f64; OBJECTIVES],
    known: [bool; OBJECTIVES],
) -> String {
    let by_goal = match goal {
        Goal::Coverage => format!("solves {:.1} points less", 100.0 * worse_by),
        Goal::Energy => format!("takes {} more energy", percent(worse_by)),
        Goal::Latency => format!("takes {} longer", percent(worse_by)),
        Goal::Cost => format!("costs {} more", percent(worse_by)),
    };
    let mut rest = Vec::new();
    let ratio = |at: usize| point[at] / choice[at] - 1.0;
    for (at, (name, goal_of)) in [
        ("energy", Goal::Energy),
        ("time", Goal::Latency),
        ("coverage", Goal::Coverage),
        ("dollars", Goal::Cost),
    ]
    .into_iter()
    .enumerate()
    {
        if goal_of == goal || !known[at] || point[at] == choice[at] {
            continue;
        }
        rest.push(match goal_of {
            Goal::Coverage => format!("{name} {:+.1} points", -100.0 * (point[at] - choice[at])),
            _ => format!("{name} {:+.0} %", 100.0 * ratio(at)),
        });
    }
    if rest.is_empty() { by_goal } else { format!("{by_goal} ({})", rest.join(", ")) }
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    if percent < 9.95 { format!("{percent:.1} %") } else { format!("{percent:.0} %") }
}
