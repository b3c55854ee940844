//! Hundreds of faults under load: nothing lost, nothing doubled, nothing said otherwise than without them.
//!
//! One round is an orchestra of six engines, three on each of two cores, of which each fails about twice, in turn, while the
//! others serve. `QEIL_TEST_FAULTS` sets the number of faults; the full drill is 1,000. Times are printed, not judged. Where the
//! build has a second backend, the same is done to engines of both.

use crate::clients::{Account, Told, baseline, client};
use crate::floor::{Floor, launch, second_backend, spec};
use qeil_control::config::DeviceId;
use qeil_control::event::Outcome;
use qeil_control::view::{DeviceView, Standing};
use qeil_engine::protocol::Fault;
use qeil_engine::spec::LoadSpec;
use rustix::process::{Pid, Signal, kill_process};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ENGINES: usize = 6;
/// Failures of each engine in a round: the pause before its return doubles with each.
const EACH: usize = 2;
const CLIENTS: u64 = 6;
/// Faults where nothing else is said: what fits into continuous integration, on one backend and on two.
const FAULTS: usize = 60;
const FAULTS_ON_TWO: usize = 8;
/// Load between two faults.
const BETWEEN: Duration = Duration::from_millis(120);
/// How long a victim may stay idle before it is struck all the same.
const IDLE_MOST: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Kill,
    Stop,
    Abort,
    Memory,
    Socket,
    Numbers,
    Hang,
}

const KINDS: [Kind; 7] =
    [Kind::Kill, Kind::Abort, Kind::Memory, Kind::Socket, Kind::Numbers, Kind::Stop, Kind::Hang];

/// What was done, and when, on the loop's clock and ours.
#[derive(Debug)]
struct Struck {
    kind: Kind,
    device: DeviceId,
    at_s: f64,
    out_s: f64,
    at: Instant,
    /// When the device was out; its words until then mean nothing where it computed wrong numbers.
    out: Instant,
}

#[derive(Debug, Default)]
struct Tally {
    struck: BTreeMap<Kind, usize>,
    requests: usize,
    moved: usize,
    compared: usize,
    refused: u32,
    /// Seconds from a death that is known to the loop's turn, in which it decides.
    told_s: Vec<f64>,
    /// Seconds from a death that is known to the sample's new place: all, those that found a place free somewhere, and those
    /// that found none. A free place is not always taken: a sample
    /// waits where it is predicted to finish sooner.
    known_s: Vec<f64>,
    free_s: Vec<f64>,
    full_s: Vec<f64>,
    /// Seconds from the fault to the new place, by kind. Only a kill is a death at once: the others are asked of the worker,
    /// which gets to it when it has a turn.
    fault_s: BTreeMap<Kind, Vec<f64>>,
}

async fn strike(floor: &Floor, at: usize, kind: Kind) -> Option<Struck> {
    let device = DeviceId(at as u16);
    let worker = floor.engines[at].worker()?;
    let pid = Pid::from_raw(worker.pid() as i32).unwrap();
    let at_s = floor.snapshot().await.now_s;
    let at = Instant::now();
    match kind {
        Kind::Kill => kill_process(pid, Signal::KILL).unwrap(),
        Kind::Stop => kill_process(pid, Signal::STOP).unwrap(),
        Kind::Abort => worker.inject(Fault::Assertion).await.unwrap(),
        Kind::Memory => worker.inject(Fault::OutOfMemory).await.unwrap(),
        Kind::Socket => worker.inject(Fault::CloseSocket).await.unwrap(),
        Kind::Hang => worker.inject(Fault::Hang).await.unwrap(),
        Kind::Numbers => {
            worker.inject(Fault::WrongNumbers(8.0)).await.unwrap();
            floor.orchestra.check(device).await;
        }
    }
    let index = usize::from(device.0);
    let seen = floor.until("the fault is seen", |s| s.devices[index].standing != Standing::Serving).await;
    Some(Struck { kind, device, at_s, out_s: seen.now_s, at, out: Instant::now() })
}

async fn round(specs: &[(LoadSpec, &str)], faults: usize, seed: usize, exact: bool, tally: &mut Tally) {
    let floor = Floor::open(specs, None).await;
    let said = baseline(&floor.orchestra).await;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|n| tokio::spawn(client(floor.orchestra.clone(), n * 2, Arc::clone(&stop))))
        .collect();
    let mut struck = Vec::new();
    for turn in 0..faults {
        let at = (turn + seed) % specs.len();
        let kind = match KINDS[(turn + seed * faults) % KINDS.len()] {
            // Memory without a limit is the machine's.
            Kind::Memory if specs[at].0.memory_limit_bytes.is_none() => Kind::Kill,
            kind => kind,
        };
        // A warm peer, and a victim that serves.
        let ready = |s: &qeil_orchestrate::Snapshot| {
            let serving = s.devices.iter().filter(|d| d.standing == Standing::Serving).count();
            serving >= 2 && s.devices[at].standing == Standing::Serving
        };
        floor.until("the victim serves", ready).await;
        tokio::time::sleep(BETWEEN).await;
        let since = Instant::now();
        while floor.snapshot().await.devices[at].sequences == 0 && since.elapsed() < IDLE_MOST {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        // One that stands still is missed only by those who wait for it: such a fault takes a device that works.
        let works = |d: &DeviceView| d.standing == Standing::Serving && d.sequences > 0;
        let victim = if matches!(kind, Kind::Stop | Kind::Hang) {
            let seen = floor.until("a device works", |s| s.devices.iter().any(works)).await;
            if works(&seen.devices[at]) { at } else { seen.devices.iter().position(works).unwrap_or(at) }
        } else {
            at
        };
        struck.extend(strike(&floor, victim, kind).await);
    }
    stop.store(true, Ordering::Relaxed);
    let mut accounts = Vec::new();
    for client in clients {
        accounts.push(client.await.unwrap());
    }
    let snapshot = floor.snapshot().await;
    floor.orchestra.stop().await;
    assert_eq!(snapshot.requests.len(), 0, "nothing is left over: {:#?}", snapshot.requests);
    for fault in &struck {
        *tally.struck.entry(fault.kind).or_default() += 1;
        let of_it = |r: &&qeil_orchestrate::snapshot::Reroute| {
            r.from == fault.device && r.known_s >= fault.at_s && r.known_s <= fault.out_s
        };
        for reroute in snapshot.reroutes.iter().filter(of_it) {
            let known_to_placed_s = reroute.placed_s - reroute.known_s;
            tally.told_s.push(reroute.told_s - reroute.known_s);
            tally.known_s.push(known_to_placed_s);
            if reroute.free == 0 { &mut tally.full_s } else { &mut tally.free_s }.push(known_to_placed_s);
            if matches!(fault.kind, Kind::Kill | Kind::Abort | Kind::Memory | Kind::Socket) {
                tally.fault_s.entry(fault.kind).or_default().push(reroute.placed_s - fault.at_s);
            }
        }
    }
    judge(&accounts, &struck, exact.then_some(&said), specs, tally);
}

fn judge(
    accounts: &[Account],
    struck: &[Struck],
    said: Option<&Vec<Vec<String>>>,
    specs: &[(LoadSpec, &str)],
    tally: &mut Tally,
) {
    let lied_to = |told: &Told| {
        struck.iter().filter(|fault| fault.kind == Kind::Numbers).any(|fault| {
            let at = usize::from(fault.device.0);
            let name = format!("{} {at}", specs[at].0.device);
            told.asked < fault.out
                && told.ended > fault.at
                && told.report.samples.iter().any(|sample| sample.devices.contains(&name))
        })
    };
    let mut ids = Vec::new();
    for account in accounts {
        assert_eq!(account.lost, 0, "a request without an outcome");
        tally.refused += account.refused;
        for told in &account.told {
            ids.push(told.report.request);
            assert_eq!(told.report.outcome, Outcome::Completed, "{:#?}", told.report);
            tally.requests += 1;
            tally.moved += told.report.samples.iter().filter(|sample| sample.devices.len() > 1).count();
            if let Some(said) = said.filter(|_| !lied_to(told)) {
                assert_eq!(told.texts, said[told.n as usize], "request {}: {:#?}", told.n, told.report);
                tally.compared += 1;
            }
        }
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all, "no request was answered twice");
}

fn percentile(sorted: &[f64], share: f64) -> f64 {
    let at = ((sorted.len() as f64 * share).ceil() as usize).clamp(1, sorted.len().max(1)) - 1;
    sorted.get(at).copied().unwrap_or(f64::NAN) * 1e3
}

fn print(what: &str, tally: &mut Tally, took: Duration) {
    let faults: usize = tally.struck.values().sum();
    eprintln!("{what}: {faults} faults in {:.0} s: {:?}", took.as_secs_f64(), tally.struck);
    eprintln!(
        "  {} requests, each with one outcome; {} samples moved; {} requests compared, all equal; {} refused",
        tally.requests, tally.moved, tally.compared, tally.refused
    );
    let by_kind = tally.fault_s.iter_mut().map(|(kind, times)| (format!("{kind:?} to rerouted"), times));
    let known = [
        ("death known to decided", &mut tally.told_s),
        ("death known to rerouted", &mut tally.known_s),
        ("the same, a place was free", &mut tally.free_s),
        ("the same, none was free", &mut tally.full_s),
    ];
    for (name, times) in known.into_iter().map(|(name, times)| (name.to_owned(), times)).chain(by_kind) {
        times.sort_by(f64::total_cmp);
        eprintln!(
            "  {name} (measured, {} samples): median {:.2} ms, p99 {:.2} ms, most {:.2} ms",
            times.len(),
            percentile(times, 0.5),
            percentile(times, 0.99),
            percentile(times, 1.0)
        );
    }
}

fn faults_wanted(otherwise: usize) -> usize {
    std::env::var("QEIL_TEST_FAULTS").ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

async fn drill(what: &str, specs: &[(LoadSpec, &str)], faults: usize, exact: bool) {
    let began = Instant::now();
    let mut tally = Tally::default();
    let a_round = specs.len() * EACH;
    let mut done = 0;
    for seed in 0..faults.div_ceil(a_round) {
        let now = a_round.min(faults - done);
        round(specs, now, seed, exact, &mut tally).await;
        done += now;
        eprintln!("{what}: {done} of {faults} faults, {:.0} s", began.elapsed().as_secs_f64());
    }
    assert_eq!(tally.struck.values().sum::<usize>(), faults, "every fault was struck");
    assert!(tally.moved > 0, "the drill bites: samples moved");
    print(what, &mut tally, began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_engines_of_one_kin_lose_nothing_and_change_no_text() {
    let specs: Vec<(LoadSpec, &str)> = (0..ENGINES).map(|core| (spec(core), "cpu")).collect();
    drill("engines on different cores", &specs, faults_wanted(FAULTS), true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_on_two_backends_lose_nothing() {
    let Some(name) = second_backend().await else {
        eprintln!("skipped: this build has no second backend ({})", launch().program.display());
        return;
    };
    let mut other = spec(1);
    (other.device, other.cpus, other.memory_limit_bytes) = (name, Vec::new(), None);
    let of_each = (0..ENGINES / 2).flat_map(|core| [(spec(core), "cpu"), (other.clone(), "other")]);
    let specs: Vec<(LoadSpec, &str)> = of_each.collect();
    drill("CPU and a second backend", &specs, faults_wanted(FAULTS_ON_TWO), false).await;
}
