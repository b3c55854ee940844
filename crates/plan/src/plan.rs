//! From a problem and a goal to the front, the choice, and why it is that one.
//!
//! The choice is the point of the front that is best on the goal; ties go to the better energy, latency, coverage and
//! dollars, in this order, then to the earlier configuration in the order of enumeration, so that a plan never depends on
//! chance. An objective that is unknown for some configuration is left out for all: a missing figure must not win.
//!
//! The reasons are found in the same pass. For every set of models and devices the best configuration is remembered, so a
//! runner-up is the best of its kind and not the choice with another batch; for every limit the best configuration that
//! broke this limit alone.

use crate::cost::{Costs, Source};
use crate::evaluate::{Evaluator, Spent, broken};
use crate::front::{OBJECTIVES, Point};
use crate::problem::{PlanError, Problem, Stop};
use crate::rung::{Lane, Rung};
pub use crate::search::{Effort, Method};
use crate::search::{Found, Search, better, known, rungs_of};
use qeil_units::Provenance;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Runners-up that a plan names.
const RUNNERS_UP: usize = 5;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Fewest joules.
    Energy,
    /// Earliest end.
    Latency,
    /// Most tasks solved.
    Coverage,
    /// Fewest US dollars.
    Cost,
}

impl Goal {
    /// Which objective it is.
    fn objective(self) -> usize {
        match self {
            Self::Energy => 0,
            Self::Latency => 1,
            Self::Coverage => 2,
            Self::Cost => 3,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Energy => "energy",
            Self::Latency => "latency",
            Self::Coverage => "coverage",
            Self::Cost => "cost",
        })
    }
}

/// A place's part in drawing samples.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneChoice {
    /// Place, by number.
    pub place: usize,
    /// Setting of its own prefill; missing where the state comes from the origin.
    pub prefill_setting: Option<usize>,
    /// Setting of decode.
    pub decode_setting: usize,
    /// Its samples.
    pub samples: u32,
    /// How many of them at once.
    pub batch: u32,
}

/// How samples of one model are drawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RungChoice {
    /// The model, by number.
    pub model: usize,
    /// Place and setting that compute the prompt for all lanes; missing: each computes it itself.
    pub origin: Option<(usize, usize)>,
    /// The decoding places.
    pub lanes: Vec<LaneChoice>,
    /// When it ends.
    pub stop: Stop,
}

/// What a configuration is expected to take and give.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Gross joules of the whole machine, idle devices included; missing where a cost bears none.
    pub energy_j: Option<f64>,
    /// Expected seconds.
    pub latency_s: f64,
    /// Seconds if no sample passes.
    pub latency_s_max: f64,
    /// Share of tasks solved; missing where no run showed it.
    pub coverage: Option<f64>,
    /// US dollars; missing where a price or energy is.
    pub usd: Option<f64>,
    /// Most watts of the whole machine; missing where unknown.
    pub peak_w: Option<f64>,
    /// Bytes in each memory.
    pub bytes: [f64; crate::problem::MEMORIES_MAX],
}

/// A configuration with its figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// Its rungs, first asked first.
    pub rungs: Vec<RungChoice>,
    /// What it is expected to take and give.
    pub figures: Figures,
    /// The weakest label of what they rest on.
    pub provenance: Provenance,
    /// What they rest on.
    pub sources: Vec<Source>,
}

/// The best of another kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunnerUp {
    /// The configuration.
    pub candidate: Candidate,
    /// The goal's figure over the choice's, less 1; of coverage: the difference. Positive: worse.
    pub worse_by: f64,
    /// Why it lost, in a sentence.
    pub why: String,
}

/// What a limit kept out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Excluded {
    /// The limit.
    pub limit: String,
    /// Configurations that broke it, among those looked at.
    pub count: u64,
    /// The best of those that broke it alone, if it is better than the choice.
    pub better: Option<Candidate>,
}

/// A plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// What was wanted.
    pub goal: Goal,
    /// The front, best on the goal first.
    pub front: Vec<Candidate>,
    /// The choice.
    pub choice: Candidate,
    /// The best of other kinds, best first.
    pub runners_up: Vec<RunnerUp>,
    /// What limits kept out.
    pub excluded: Vec<Excluded>,
    /// Configurations looked at.
    pub examined: u64,
    /// How.
    pub method: Method,
    /// What a reader should know.
    pub notes: Vec<String>,
}

/// Plan for a goal.
///
/// # Errors
/// The data contradict themselves, nothing has a cost, the goal's figure is unknown, or every configuration breaks a limit.
pub fn plan(problem: &Problem, goal: Goal) -> Result<Plan, PlanError> {
    plan_within(problem, goal, Effort::default())
}

/// The same, narrowing the space where it is larger than `effort`.
///
/// # Errors
/// As [`plan`].
pub fn plan_within(problem: &Problem, goal: Goal, effort: Effort) -> Result<Plan, PlanError> {
    problem.check()?;
    let (problem, notes) = settled(problem);
    let problem = &problem;
    let costs = Costs::of(problem)?;
    let known = known(problem, &costs);
    let unknown = |why: &str| Err(PlanError::GoalUnknown { goal: goal.to_string(), why: why.into() });
    match goal {
        Goal::Energy if !known.energy => {
            return unknown("the energy of some costs was not measured (see `qeil doctor`)");
        }
        Goal::Coverage if !known.coverage => {
            return unknown("no coverage run of these models is stored: run `qeil coverage`");
        }
        Goal::Cost if !known.usd => return unknown("a price or an energy is missing"),
        _ => {}
    }
    let evaluator = Evaluator::new(problem, &costs);
    let found = Search::run(&evaluator, &known, goal.objective(), effort)?;
    if found.entries.is_empty() {
        let models: Vec<&str> = problem.models.iter().map(|model| model.name.as_str()).collect();
        let places: Vec<&str> = problem.places.iter().map(|place| place.name.as_str()).collect();
        return Err(PlanError::NoCost { models: models.join(", "), places: places.join(", ") });
    }
    let teller = Teller { evaluator: &evaluator, known: &known, found: &found, goal };
    let Some(choice) =
        found.front.iter().copied().reduce(|a, b| if better(&b, &a, goal.objective()) { b } else { a })
    else {
        return Err(PlanError::Infeasible { why: teller.excluded_in_words() });
    };
    let mut front = found.front.clone();
    front.sort_by(|a, b| {
        a.at[goal.objective()].total_cmp(&b.at[goal.objective()]).then(crate::front::order(a, b))
    });
    Ok(Plan {
        goal,
        front: front.iter().map(|point| teller.candidate(point)).collect(),
        choice: teller.candidate(&choice),
        runners_up: teller.runners_up(&choice),
        excluded: teller.excluded(&choice),
        examined: found.examined,
        method: found.method.clone(),
        notes,
    })
}

/// What rungs that were chosen under other costs take under these; limits are not looked at.
///
/// # Errors
/// The data contradict themselves, or lack a cost that the rungs need.
pub fn figures_of(problem: &Problem, rungs: &[RungChoice]) -> Result<Figures, PlanError> {
    problem.check()?;
    let costs = Costs::of(problem)?;
    let known = known(problem, &costs);
    let evaluator = Evaluator::new(problem, &costs);
    let mut total = Total::default();
    for choice in rungs {
        let rung = rung_of(&costs, choice).ok_or_else(|| PlanError::NoCost {
            models: problem.models.get(choice.model).map_or("a model", |model| &model.name).into(),
            places: "the places of the plan".into(),
        })?;
        total.add(&evaluator, &rung);
    }
    Ok(total.figures(&evaluator, &known))
}

pub(crate) fn rung_of(costs: &Costs, choice: &RungChoice) -> Option<Rung> {
    let model = choice.model;
    let prefill = |place: usize, setting: usize| {
        Some(costs.prefill(model, place).iter().position(|timed| timed.setting == setting)? as u16)
    };
    let origin = match choice.origin {
        Some((place, setting)) => Some((place as u16, prefill(place, setting)?)),
        None => None,
    };
    let lane = |lane: &LaneChoice| {
        let decode =
            costs.decode(model, lane.place).iter().position(|timed| timed.setting == lane.decode_setting)?;
        Some(Lane {
            place: lane.place as u16,
            prefill: lane.prefill_setting.map_or(Some(0), |setting| prefill(lane.place, setting))?,
            decode: decode as u16,
            samples: lane.samples as u16,
            batch: lane.batch as u16,
        })
    };
    let lanes: Option<Vec<Lane>> = choice.lanes.iter().map(lane).collect();
    Some(Rung::new(model, origin, &lanes?, choice.stop))
}

/// Rungs one after the other.
#[derive(Default)]
struct Total {
    spent: Spent,
    devices: u64,
    peak_w: f64,
    coverage: f64,
    bytes: [f64; crate::problem::MEMORIES_MAX],
}

impl Total {
    fn add(&mut self, evaluator: &Evaluator<'_>, rung: &Rung) {
        let spent = evaluator.spent(rung, self.coverage);
        let footprint = evaluator.footprint(rung, spent.s_max);
        self.spent.s += spent.s;
        self.spent.j += spent.j;
        self.spent.s_max += spent.s_max;
        self.devices |= footprint.devices;
        self.peak_w = self.peak_w.max(footprint.peak_w);
        self.coverage = self.coverage.max(footprint.coverage);
        self.bytes.iter_mut().zip(footprint.bytes).for_each(|(sum, bytes)| *sum += bytes);
    }

    fn figures(&self, evaluator: &Evaluator<'_>, known: &crate::search::Known) -> Figures {
        Figures {
            energy_j: known.energy.then(|| evaluator.joules(&self.spent)),
            latency_s: self.spent.s,
            latency_s_max: self.spent.s_max,
            coverage: known.coverage.then_some(self.coverage),
            usd: known.usd.then(|| evaluator.usd(&self.spent, self.devices)).flatten(),
            peak_w: self.peak_w.is_finite().then_some(self.peak_w),
            bytes: self.bytes,
        }
    }
}

/// What is left to choose where coverage is not known, and what to say of it.
fn settled(problem: &Problem) -> (Problem, Vec<String>) {
    let mut problem = problem.clone();
    let mut notes = Vec::new();
    let lacking: Vec<&str> = problem
        .models
        .iter()
        .filter(|model| model.coverage.is_none())
        .map(|model| model.name.as_str())
        .collect();
    if lacking.is_empty() {
        return (problem, notes);
    }
    let most = problem.menu.samples.iter().copied().max().unwrap_or(1);
    notes.push(format!(
        "No stored run shows what samples of {} solve, so all plans draw {most} sample{} of one model.",
        lacking.join(", "),
        if most == 1 { "" } else { "s" }
    ));
    problem.menu.samples = vec![most];
    problem.menu.ladder_max = 1;
    problem.menu.stops = vec![Stop::All];
    (problem, notes)
}

struct Teller<'a> {
    evaluator: &'a Evaluator<'a>,
    known: &'a crate::search::Known,
    found: &'a Found,
    goal: Goal,
}

impl Teller<'_> {
    fn candidate(&self, point: &Point) -> Candidate {
        let mut total = Total::default();
        let mut rungs = Vec::new();
        let mut offers = Vec::new();
        for at in rungs_of(point.id) {
            let rung = &self.found.entries[at].rung;
            total.add(self.evaluator, rung);
            rungs.push(self.rung(rung, &mut offers));
        }
        let offers = offers.into_iter().map(|at: usize| &self.evaluator.problem.offers[at]);
        let mut provenance: Option<Provenance> = None;
        let mut sources = Vec::new();
        for offer in offers {
            provenance = Some(provenance.map_or(offer.provenance, |label| label.weakest(offer.provenance)));
            sources.push(offer.source);
        }
        let models = rungs.iter().map(|rung| &self.evaluator.problem.models[rung.model]);
        let curves =
            models.filter_map(|model| model.coverage.as_ref()).map(|coverage| coverage.label.provenance);
        // A plan is a calculation, whatever it rests on.
        let provenance = curves.chain(provenance).fold(Provenance::Estimated, Provenance::weakest);
        sources.sort_unstable();
        sources.dedup();
        let figures = total.figures(self.evaluator, self.known);
        Candidate { rungs, figures, provenance, sources }
    }

    fn rung(&self, rung: &Rung, offers: &mut Vec<usize>) -> RungChoice {
        let (costs, model) = (self.evaluator.costs, usize::from(rung.model));
        let mut prefill = |place: u16, cost: u16| {
            let timed = &costs.prefill(model, usize::from(place))[usize::from(cost)];
            offers.push(timed.offer);
            timed.setting
        };
        let origin = rung.origin.map(|(place, cost)| (usize::from(place), prefill(place, cost)));
        let prefills: Vec<Option<usize>> = rung
            .lanes()
            .iter()
            .map(|lane| rung.origin.is_none().then(|| prefill(lane.place, lane.prefill)))
            .collect();
        let lanes = rung.lanes().iter().zip(prefills).map(|(lane, prefill_setting)| {
            let timed = &costs.decode(model, usize::from(lane.place))[usize::from(lane.decode)];
            offers.push(timed.offer);
            LaneChoice {
                place: usize::from(lane.place),
                prefill_setting,
                decode_setting: timed.setting,
                samples: u32::from(lane.samples),
                batch: u32::from(lane.batch),
            }
        });
        RungChoice { model, origin, lanes: lanes.collect(), stop: rung.stop }
    }

    fn kind_of(&self, point: &Point) -> (Vec<u16>, u64, u64) {
        let entries = || rungs_of(point.id).map(|at| &self.found.entries[at]);
        let models = entries().map(|entry| entry.rung.model).collect();
        entries().fold((models, 0, 0), |(models, devices, prefill), entry| {
            (models, devices | entry.footprint.devices, prefill | entry.footprint.prefill_devices)
        })
    }

    fn worse_by(&self, point: &Point, choice: &Point) -> f64 {
        let goal = self.goal.objective();
        match self.goal {
            Goal::Coverage => point.at[goal] - choice.at[goal],
            _ if choice.at[goal] > 0.0 => point.at[goal] / choice.at[goal] - 1.0,
            _ => 0.0,
        }
    }

    fn runners_up(&self, choice: &Point) -> Vec<RunnerUp> {
        let own = self.kind_of(choice);
        let mut others: Vec<Point> =
            self.found.best.values().filter(|point| self.kind_of(point) != own).copied().collect();
        others.sort_by(|a, b| {
            let goal = self.goal.objective();
            a.at[goal].total_cmp(&b.at[goal]).then(crate::front::order(a, b))
        });
        others.truncate(RUNNERS_UP);
        let tell = |point: Point| {
            let worse_by = self.worse_by(&point, choice);
            let why = crate::words::difference(self.goal, worse_by, &point.at, &choice.at, self.flags());
            RunnerUp { candidate: self.candidate(&point), worse_by, why }
        };
        others.into_iter().map(tell).collect()
    }

    /// Which objectives are known.
    fn flags(&self) -> [bool; OBJECTIVES] {
        [self.known.energy, true, self.known.coverage, self.known.usd]
    }

    fn excluded(&self, choice: &Point) -> Vec<Excluded> {
        let limits = broken::NAMES.iter().zip(&self.found.excluded).filter(|(_, tally)| tally.count > 0);
        let tell = |(&(_, name), tally): (&(u8, &str), &crate::search::Tally)| Excluded {
            limit: name.into(),
            count: tally.count,
            better: tally
                .best
                .filter(|best| best.at[self.goal.objective()] < choice.at[self.goal.objective()])
                .map(|best| self.candidate(&best)),
        };
        limits.map(tell).collect()
    }

    fn excluded_in_words(&self) -> String {
        let limits = broken::NAMES.iter().zip(&self.found.excluded).filter(|(_, tally)| tally.count > 0);
        let words: Vec<String> =
            limits.map(|((_, name), tally)| format!("{name} excludes {}", tally.count)).collect();
        format!("of {} looked at, {}", self.found.examined, words.join(", "))
    }
}
