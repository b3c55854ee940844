//! Rounds, blocks, repetitions.

use super::instruments::Instruments;
use super::observation::{Cell, ModelIdentity, Observation};
use super::plan::Plan;
use super::subject::Subject;
use crate::bench::{PROMPTS, random_tokens};
use crate::error::MeasureError;
use crate::shape::Shape;
use crate::store::{Done, Store, SweepId, now_unix_ms};
use crate::timed::{Timed, metered, timed};
use qeil_engine::handle::Worker;
use qeil_engine::request::{GenerateRequest, Prompt, Sampling, Token};
use qeil_engine::spec::{CONTEXT_TOKENS_MAX, LoadSpec};
use qeil_hardware::energy::EnergyReading;
use qeil_laws::random::Random;
use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

/// How often a repetition is made again because other programs disturbed it, before it is taken and flagged.
const REPEATS_MAX: u32 = 2;
/// Tokens of the uncounted request after loading: pages come in, threads wake up.
const WARM_UP_TOKENS: u32 = 32;
/// Degrees Celsius above the device's temperature at the start at which a cell waits.
const COOLDOWN_ABOVE_C: f64 = 5.0;
/// Longest wait: a device that does not cool down in this time has a new normal.
const COOLDOWN_S_MAX: f64 = 60.0;
/// Time between two looks at the temperature.
const COOLDOWN_LOOK: Duration = Duration::from_millis(500);
/// Cells of context beyond what requests need: llama.cpp rounds up.
const CONTEXT_SPARE_TOKENS: u32 = 256;

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Cells that need nothing more.
    pub cells_finished: usize,
    /// All cells.
    pub cells: usize,
    /// Rows saved, those of earlier sittings included.
    pub rows: usize,
    /// Seconds left, by what the cells took so far; `None` before every cell ran once.
    pub remaining_s: Option<f64>,
}

/// What happens in a sweep.
#[derive(Debug)]
pub enum SweepEvent<'a> {
    /// A model is being loaded on a device.
    Loading(&'a ModelIdentity, &'a str),
    /// A repetition was disturbed by this share of CPU time, and is made again.
    Disturbed(&'a Cell, f64),
    /// A row is on disk.
    Saved(&'a Observation, Progress),
    /// A cell cannot be measured: why.
    Failed(&'a ModelIdentity, &'a Cell, String),
}

/// Everything known about one cell of one model.
struct Track {
    subject: usize,
    cell: Cell,
    rows: Vec<Observation>,
    finished: bool,
}

/// Measure `plan` over `subjects` into `store`, going on where `sweep` stopped. A cell that cannot be measured (no
/// memory, a context too large) is finished with the reason, and the sweep goes on.
///
/// # Errors
/// Those of the store. When a worker cannot be started or dies, the block's cells fail, not the sweep.
pub async fn sweep(
    with: &Instruments<'_>,
    store: &mut Store,
    id: SweepId,
    plan: &Plan,
    subjects: &[Subject],
    mut on_event: impl FnMut(SweepEvent<'_>),
) -> Result<(), MeasureError> {
    let mut tracks = tracks(plan, subjects, store.done(id)?);
    let mut random = Random::new(plan.seed, PROMPTS);
    let cool: HashMap<&str, Option<f64>> =
        plan.devices.iter().map(|device| (device.as_str(), with.temperature_c(device))).collect();
    while tracks.iter().any(|track| !track.finished) {
        // A block is a worker: one model on one device with one number of threads.
        let mut blocks: BTreeMap<(usize, String, u32), Vec<usize>> = BTreeMap::new();
        for (at, track) in tracks.iter().enumerate().filter(|(_, track)| !track.finished) {
            let block = (track.subject, track.cell.device.clone(), track.cell.threads);
            blocks.entry(block).or_default().push(at);
        }
        for ((subject, device, threads), mut members) in shuffled(blocks.into_iter().collect(), &mut random) {
            let model = &subjects[subject];
            on_event(SweepEvent::Loading(&model.identity, &device));
            members = shuffled(members, &mut random);
            let cells: Vec<&Cell> = members.iter().map(|&at| &tracks[at].cell).collect();
            let worker = match start(with, plan, model, &device, threads, &cells).await {
                Ok(worker) => worker,
                Err(error) => {
                    for at in members {
                        fail(store, id, &mut tracks[at], &model.identity, &error, &mut on_event)?;
                    }
                    continue;
                }
            };
            for at in members {
                let cell = tracks[at].cell.clone();
                cool_down(with, &device, cool[device.as_str()]).await;
                let measured = undisturbed(with, plan, &worker, &cell, &mut random, |share| {
                    on_event(SweepEvent::Disturbed(&cell, share));
                });
                match measured.await {
                    Ok(taken) => {
                        let row = taken.row(with, &model.identity, cell, plan, tracks[at].rows.len() as u32);
                        store.save(id, &row)?;
                        tracks[at].rows.push(row);
                        let spent_s = tracks.iter().flat_map(|track| &track.rows).map(|row| row.wall_s).sum();
                        if let Some(why) = plan.stopping.verdict(&tracks[at].rows, spent_s) {
                            store.finish_cell(id, &model.identity.sha256, &tracks[at].cell, &why)?;
                            tracks[at].finished = true;
                        }
                        let progress = progress(plan, &tracks);
                        if let Some(row) = tracks[at].rows.last() {
                            on_event(SweepEvent::Saved(row, progress));
                        }
                    }
                    Err(error) => fail(store, id, &mut tracks[at], &model.identity, &error, &mut on_event)?,
                }
            }
            worker.stop().await;
        }
    }
    store.finish(id)?;
    Ok(())
}

fn tracks(plan: &Plan, subjects: &[Subject], done: Done) -> Vec<Track> {
    let mut tracks = Vec::new();
    for (at, subject) in subjects.iter().enumerate() {
        for device in &plan.devices {
            for &threads in &plan.threads {
                tracks.extend(plan.axes.cells(device, threads).into_iter().map(|cell| {
                    let mine =
                        |sha256: &str, other: &Cell| sha256 == subject.identity.sha256 && *other == cell;
                    let rows: Vec<Observation> = done
                        .observations
                        .iter()
                        .filter(|row| mine(&row.model.sha256, &row.cell))
                        .cloned()
                        .collect();
                    let finished = done.finished.iter().any(|(sha256, other, _)| mine(sha256, other))
                        // A kill between the row and its mark leaves a cell that is complete and unmarked.
                        || plan.stopping.verdict(&rows, 0.0).is_some();
                    Track { subject: at, cell, rows, finished }
                }));
            }
        }
    }
    tracks
}

fn fail(
    store: &mut Store,
    id: SweepId,
    track: &mut Track,
    model: &ModelIdentity,
    error: &MeasureError,
    on_event: &mut impl FnMut(SweepEvent<'_>),
) -> Result<(), MeasureError> {
    let why = error.to_string();
    store.finish_cell(id, &model.sha256, &track.cell, &format!("failed: {why}"))?;
    track.finished = true;
    on_event(SweepEvent::Failed(model, &track.cell, why));
    Ok(())
}

fn progress(plan: &Plan, tracks: &[Track]) -> Progress {
    let left = |track: &Track| -> Option<f64> {
        if track.finished {
            return Some(0.0);
        }
        let last = track.rows.last()?;
        // A cell that is not narrow yet needs at least one more, and mostly no more than that.
        let more = plan.stopping.repetitions_min.saturating_sub(track.rows.len() as u32).max(1);
        Some(f64::from(more) * last.wall_s)
    };
    Progress {
        cells_finished: tracks.iter().filter(|track| track.finished).count(),
        cells: tracks.len(),
        rows: tracks.iter().map(|track| track.rows.len()).sum(),
        remaining_s: tracks.iter().map(left).sum(),
    }
}

/// Fisher and Yates.
fn shuffled<T>(mut items: Vec<T>, random: &mut Random) -> Vec<T> {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last + 1));
    }
    items
}

/// A worker with room for each of `cells`, warmed up.
async fn start(
    with: &Instruments<'_>,
    plan: &Plan,
    model: &Subject,
    device: &str,
    threads: u32,
    cells: &[&Cell],
) -> Result<Worker, MeasureError> {
    let mut spec = LoadSpec { threads, ..LoadSpec::new(&model.path, device) };
    plan.settings.apply(with.launch, None, &mut spec).await?;
    let depth_tokens = cells.iter().map(|cell| cell.depth_tokens).max().unwrap_or(0);
    let most = |of: fn(&Cell) -> u32| cells.iter().map(|cell| of(cell)).max().unwrap_or(0);
    let mut context_tokens = 0;
    for cell in cells {
        let mut fitted = LoadSpec { prefix_cache_tokens: 0, ..spec.clone() };
        shape(cell).fit(&mut fitted, false)?;
        context_tokens = context_tokens.max(fitted.context_tokens);
    }
    Shape { prompt_tokens: 1, output_tokens: 1, samples: most(|cell| cell.samples) }.fit(&mut spec, false)?;
    // Prefixes of given depth stay in memory beside the request that continues them.
    let cached = if depth_tokens > 0 { depth_tokens + most(|cell| cell.prompt_tokens) } else { 0 };
    spec.prefix_cache_tokens = cached;
    spec.sequences += u32::from(cached > 0) * 2;
    spec.context_tokens = (context_tokens + cached + CONTEXT_SPARE_TOKENS).min(CONTEXT_TOKENS_MAX);
    spec.check()?;
    let worker = Worker::start(with.launch, spec).await?;
    let mut random = Random::new(plan.seed, PROMPTS);
    let prompt = random_tokens(&mut random, WARM_UP_TOKENS, worker.loaded().vocab_tokens);
    timed(&worker, request(prompt, most(|cell| cell.samples), 4, false)).await?;
    Ok(worker)
}

fn shape(cell: &Cell) -> Shape {
    Shape {
        prompt_tokens: cell.depth_tokens + cell.prompt_tokens,
        output_tokens: cell.output_tokens,
        samples: cell.samples,
    }
}

fn request(prompt: Vec<Token>, samples: u32, tokens_max: u32, reuse_prefix: bool) -> GenerateRequest {
    let mut request = GenerateRequest::new(Prompt::Tokens(prompt), samples, tokens_max, Sampling::default());
    request.ignore_end = true;
    request.reuse_prefix = reuse_prefix;
    request
}

/// One repetition, as it came from the instruments.
struct Taken {
    run: Timed,
    energy: Option<EnergyReading>,
    temperature_c: Option<[f64; 2]>,
    interference: Option<f64>,
    disturbed: bool,
}

impl Taken {
    fn row(
        self,
        with: &Instruments<'_>,
        model: &ModelIdentity,
        cell: Cell,
        plan: &Plan,
        repetition: u32,
    ) -> Observation {
        let usage = &self.run.usage;
        Observation {
            machine: with.host.label(),
            model: model.clone(),
            decode_ms: (cell.output_tokens > 1).then_some(usage.decode_ms),
            cell,
            settings: plan.settings,
            repetition,
            at_unix_ms: now_unix_ms(),
            prefill_ms: usage.prefill_ms,
            first_token_ms: usage.first_token_ms,
            wall_s: self.run.wall_s,
            cpu_s: usage.cpu_s,
            energy: self.energy,
            temperature_c: self.temperature_c,
            interference: self.interference,
            disturbed: self.disturbed,
        }
    }
}

/// One repetition that other programs left alone; the last attempt, flagged, if none was.
async fn undisturbed(
    with: &Instruments<'_>,
    plan: &Plan,
    worker: &Worker,
    cell: &Cell,
    random: &mut Random,
    mut on_disturbed: impl FnMut(f64),
) -> Result<Taken, MeasureError> {
    let mut repeats = 0;
    loop {
        let mut taken = once(with, plan, worker, cell, random).await?;
        match taken.interference.filter(|&share| share > plan.interference_max) {
            Some(share) if repeats < REPEATS_MAX => on_disturbed(share),
            disturbed => {
                taken.disturbed = disturbed.is_some();
                return Ok(taken);
            }
        }
        repeats += 1;
    }
}

async fn once(
    with: &Instruments<'_>,
    plan: &Plan,
    worker: &Worker,
    cell: &Cell,
    random: &mut Random,
) -> Result<Taken, MeasureError> {
    let vocab_tokens = worker.loaded().vocab_tokens;
    let deep = cell.depth_tokens > 0;
    // The same tokens for each repetition, so that they are computed once and found in the cache afterwards.
    let mut prompt = random_tokens(&mut Random::new(plan.seed, PROMPTS), cell.depth_tokens, vocab_tokens);
    if deep {
        timed(worker, request(prompt.clone(), 1, 0, true)).await?;
    }
    prompt.extend(random_tokens(random, cell.prompt_tokens, vocab_tokens));
    let request = request(prompt, cell.samples, cell.output_tokens, deep);
    let meter = with.meter(&cell.device);
    let before_c = with.temperature_c(&cell.device);
    let before = with.cpu_times();
    let (run, energy) = match meter {
        Some(meter) => metered(worker, request, meter).await.map(|(run, energy)| (run, Some(energy)))?,
        None => (timed(worker, request).await?, None),
    };
    let interference = with.interference(before, run.usage.cpu_s);
    let temperature_c = before_c.zip(with.temperature_c(&cell.device)).map(|(before, after)| [before, after]);
    let computed = run.usage.prompt_tokens - run.usage.reused_tokens;
    if computed != cell.prompt_tokens {
        // Happens where a model's memory cannot be continued from a prefix.
        return Err(MeasureError::DepthNotKept { asked: cell.prompt_tokens, computed });
    }
    Ok(Taken { run, energy, temperature_c, interference, disturbed: false })
}

/// Wait until the device is about as cool as at the start; without a sensor there is nothing to wait for.
async fn cool_down(with: &Instruments<'_>, device: &str, start_c: Option<f64>) {
    let began = Instant::now();
    while let (Some(start_c), Some(now_c)) = (start_c, with.temperature_c(device))
        && now_c > start_c + COOLDOWN_ABOVE_C
        && began.elapsed().as_secs_f64() < COOLDOWN_S_MAX
    {
        tokio::time::sleep(COOLDOWN_LOOK).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shuffle_keeps_everything_and_follows_its_seed() {
        let shuffle = |seed| shuffled((0..50).collect::<Vec<u32>>(), &mut Random::new(seed, PROMPTS));
        assert_eq!(shuffle(1), shuffle(1));
        assert_ne!(shuffle(1), shuffle(2));
        let mut sorted = shuffle(3);
        assert_ne!(sorted, (0..50).collect::<Vec<u32>>());
        sorted.sort_unstable();
        assert_eq!(sorted, (0..50).collect::<Vec<u32>>());
    }
}
