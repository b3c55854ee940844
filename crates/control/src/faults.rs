//! The course of one device between gone and serving: death, silence, wrong numbers, and the way back.
//!
//! ```text
//! Down ─► Starting ─► (Probing ─►) Checking ─► Serving ─► Quarantined ─► Starting, or Probing where the worker lives
//! ```
//!
//! No device serves before it gave a known answer, and none that failed comes back before it gave one token and a known
//! answer again. How long it waits doubles with each failure, with jitter so that devices which failed together do not
//! come back together; it comes back at half load. Every wait has an end: a worker that never answers is stopped, and
//! one that does not even end is asked again after the next wait.

use crate::event::DownCause;
use crate::journal::Kind;
use crate::view::Standing;

/// Seconds of the first quarantine: a worker that died once is most often fine when it is started again.
pub const QUARANTINE_S: f64 = 1.0;
/// Longest quarantine: a device that came back to life is noticed within five minutes.
pub const QUARANTINE_MAX_S: f64 = 300.0;
/// Quarantines are drawn this far around their length.
pub const JITTER_SHARE: f64 = 0.25;
/// Seconds of service after which earlier failures are forgiven: a failure an hour is another matter than one a minute.
pub const FORGIVEN_AFTER_S: f64 = 600.0;
/// Seconds from half load to full.
pub const RAMP_S: f64 = 30.0;
/// Load at the return.
pub const RETURN_SHARE: f64 = 0.5;
/// Seconds that a worker may take to load: 3 GB from a slow SD card.
pub const START_MAX_S: f64 = 120.0;
/// Seconds that one token may take at least, more where [`Course::allow`] says so.
pub const PROBE_MAX_S: f64 = 5.0;
/// Seconds that a known answer may take at least, more where [`Course::allow`] says so. Generous, since the last device is
/// not to be taken out because it is slow.
pub const CHECK_MAX_S: f64 = 60.0;
/// A known answer may take so many times what is predicted: it is batched with nothing, but the machine may be busy.
const CHECK_SLACK: f64 = 2.0;
/// Seconds between known-answer checks in service.
pub const CHECK_EVERY_S: f64 = 600.0;
/// An empty device is checked up to this many seconds before it is due, so that a busy one is seldom emptied for it.
pub const CHECK_EARLY_S: f64 = 120.0;
/// Checks in service without an answer that take a device out.
pub const CHECKS_UNANSWERED_MAX: u32 = 3;
/// Driver resets within [`RESETS_WINDOW_S`] that take a device out.
pub const RESETS_MAX: usize = 3;
/// Seconds over which resets are counted.
pub const RESETS_WINDOW_S: f64 = 600.0;
/// Samples in a row that an engine may fail before its device is suspected: one may be the sample's own fault.
pub const FAILURES_MAX: u32 = 3;
/// Least and most seconds past the predicted time of the next token after which a device counts as hung. The most is the
/// safety contract's; the least is a pause that a busy machine's scheduler may cause.
pub const HANG_MARGIN_S: (f64, f64) = (2.0, 5.0);

/// Seconds of silence after which a device hangs, where its next token is predicted after so many.
pub fn hang_after_s(expected_s: f64) -> f64 {
    let (least, most) = HANG_MARGIN_S;
    expected_s + (2.0 * expected_s).clamp(least, most)
}

/// What is done to the device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Start its worker.
    Start,
    /// End its worker.
    Stop,
    /// Ask for one token.
    Probe,
    /// Ask for a known answer.
    Check,
}

/// What becomes of the jobs that the device holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jobs {
    /// They stay.
    Keep,
    /// They are gone with their worker, or treated so because it will not answer.
    Lost,
    /// They are cancelled and go on elsewhere.
    Leave,
}

/// A change of course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// What to do.
    pub order: Option<Order>,
    /// What becomes of the jobs.
    pub jobs: Jobs,
    /// What the journal calls it.
    pub kind: Kind,
    /// Why.
    pub reason: String,
}

/// Whether there is a worker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worker {
    Absent,
    Present,
    /// It was told to end and has not.
    Ending,
}

/// One device's course.
#[derive(Debug, Clone)]
pub struct Course {
    standing: Standing,
    worker: Worker,
    /// When the standing began, and for quarantine when it ends.
    since_s: f64,
    until_s: f64,
    probe_max_s: f64,
    check_max_s: f64,
    strikes: u32,
    returned_s: f64,
    ramps: bool,
    check_at_s: f64,
    check_sent_s: Option<f64>,
    checks_unanswered: u32,
    resets_s: [f64; RESETS_MAX],
    failures: u32,
}

impl Default for Course {
    fn default() -> Self {
        Self {
            standing: Standing::Down,
            worker: Worker::Absent,
            since_s: f64::NEG_INFINITY,
            until_s: f64::NEG_INFINITY,
            probe_max_s: PROBE_MAX_S,
            check_max_s: CHECK_MAX_S,
            strikes: 0,
            returned_s: 0.0,
            ramps: false,
            check_at_s: f64::INFINITY,
            check_sent_s: None,
            checks_unanswered: 0,
            resets_s: [f64::NEG_INFINITY; RESETS_MAX],
            failures: 0,
        }
    }
}

fn turn(order: Option<Order>, kind: Kind, reason: impl Into<String>) -> Option<Turn> {
    Some(Turn { order, jobs: Jobs::Keep, kind, reason: reason.into() })
}

impl Course {
    /// Where it stands.
    pub fn standing(&self) -> Standing {
        self.standing
    }

    /// Whether it takes work. A check in service waits until the device is empty, and then is alone on it.
    pub fn takes_work(&self, now_s: f64) -> bool {
        self.standing == Standing::Serving && self.check_sent_s.is_none() && now_s < self.check_at_s
    }

    /// Whether it serves.
    pub fn serves(&self) -> bool {
        self.standing == Standing::Serving
    }

    /// Whether there is a worker that was not told to end.
    pub fn has_worker(&self) -> bool {
        self.worker == Worker::Present
    }

    /// Failures that are not yet forgiven.
    pub fn strikes(&self) -> u32 {
        self.strikes
    }

    /// Share of its sequences that it may hold, in (0, 1].
    pub fn load_share(&self, now_s: f64) -> f64 {
        if !self.ramps {
            return 1.0;
        }
        let ramped = ((now_s - self.returned_s) / RAMP_S).clamp(0.0, 1.0);
        RETURN_SHARE + (1.0 - RETURN_SHARE) * ramped
    }

    /// A probe and a check are predicted to take so many seconds, as the device is now.
    pub fn allow(&mut self, probe_s: f64, check_s: f64) {
        let answering =
            self.check_sent_s.is_some() || matches!(self.standing, Standing::Probing | Standing::Checking);
        // What is being answered was partly computed as it was before: it gets no less time than it was given.
        let (probe_least_s, check_least_s) =
            if answering { (self.probe_max_s, self.check_max_s) } else { (PROBE_MAX_S, CHECK_MAX_S) };
        self.probe_max_s = hang_after_s(probe_s).max(probe_least_s);
        self.check_max_s = (CHECK_SLACK * check_s).max(check_least_s);
    }

    /// When the standing runs out, seconds.
    fn due_s(&self) -> f64 {
        match self.standing {
            Standing::Down => f64::NEG_INFINITY,
            Standing::Starting => self.since_s + START_MAX_S,
            Standing::Probing => self.since_s + self.probe_max_s,
            Standing::Checking => self.since_s + self.check_max_s,
            Standing::Serving => f64::INFINITY,
            Standing::Quarantined => self.until_s,
        }
    }

    /// When it likely serves again, seconds; missing where it serves.
    pub fn back_s(&self) -> Option<f64> {
        (self.standing != Standing::Serving).then_some(self.due_s())
    }

    /// When [`Course::tick`] has something to do at the latest, seconds.
    pub fn wake_s(&self, idle: bool) -> f64 {
        match (self.standing, self.check_sent_s) {
            (Standing::Serving, Some(sent_s)) => sent_s + self.check_max_s,
            (Standing::Serving, None) if idle => self.check_at_s - CHECK_EARLY_S,
            (Standing::Serving, None) => f64::INFINITY,
            _ => self.due_s(),
        }
    }

    /// The worker answers.
    pub fn up(&mut self, now_s: f64) -> Option<Turn> {
        self.worker = Worker::Present;
        if self.standing != Standing::Starting {
            return None;
        }
        if self.strikes == 0 { self.ask_check(now_s) } else { self.ask_probe(now_s) }
    }

    /// The worker is gone. `draw` is a random number in [0, 1).
    pub fn down(&mut self, now_s: f64, cause: &DownCause, draw: f64) -> Option<Turn> {
        let expected = self.worker == Worker::Ending;
        self.worker = Worker::Absent;
        if self.standing == Standing::Down || (self.standing == Standing::Quarantined && expected) {
            return None;
        }
        let reason = match cause {
            DownCause::Died(words) => format!("its worker died: {words}"),
            DownCause::Stopped => "its worker was stopped".into(),
            DownCause::NotStarted(why) => format!("it could not be started: {why}"),
            DownCause::Vanished(why) => format!("the device is no longer there: {why}"),
        };
        Some(Turn { order: None, ..self.quarantine(now_s, Jobs::Lost, false, reason, draw) })
    }

    /// Takes the device out for a while that doubles each time; `stop` ends its worker.
    pub fn quarantine(&mut self, now_s: f64, jobs: Jobs, stop: bool, reason: String, draw: f64) -> Turn {
        if self.standing == Standing::Serving && now_s - self.returned_s >= FORGIVEN_AFTER_S {
            self.strikes = 0;
        }
        self.strikes = self.strikes.saturating_add(1);
        // More doublings than these are beyond the longest quarantine anyway.
        let doublings = self.strikes.saturating_sub(1).min(16);
        let length_s = (QUARANTINE_S * f64::from(1u32 << doublings)).min(QUARANTINE_MAX_S);
        self.standing = Standing::Quarantined;
        self.until_s = now_s + length_s * (1.0 + JITTER_SHARE * (2.0 * draw - 1.0));
        self.check_sent_s = None;
        self.checks_unanswered = 0;
        self.failures = 0;
        let stop = stop && self.worker == Worker::Present;
        if stop {
            self.worker = Worker::Ending;
        }
        Turn { order: stop.then_some(Order::Stop), jobs, kind: Kind::Quarantined, reason }
    }

    /// A probe ended.
    pub fn probed(&mut self, now_s: f64, outcome: &Result<f64, String>, draw: f64) -> Option<Turn> {
        if self.standing != Standing::Probing {
            return None;
        }
        match outcome {
            Ok(seconds) if *seconds <= self.probe_max_s => self.ask_check(now_s),
            Ok(seconds) => {
                let reason = format!("its one-token probe took {seconds:.1} s");
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
            Err(why) => {
                let reason = format!("its one-token probe failed: {why}");
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
        }
    }

    /// A known-answer check ended.
    pub fn checked(&mut self, now_s: f64, outcome: &Result<(f64, bool), String>, draw: f64) -> Option<Turn> {
        let first = self.standing == Standing::Checking;
        let awaited = first || (self.standing == Standing::Serving && self.check_sent_s.is_some());
        // A wrong answer counts whenever it comes; a right one only where it was waited for.
        let wrong = self.standing == Standing::Serving && matches!(outcome, Ok((_, false)));
        if !awaited && !wrong {
            return None;
        }
        self.check_sent_s = None;
        self.check_at_s = now_s + CHECK_EVERY_S;
        match outcome {
            Ok((nats, true)) => {
                self.checks_unanswered = 0;
                if !first {
                    return None;
                }
                self.standing = Standing::Serving;
                self.returned_s = now_s;
                self.ramps = self.strikes > 0;
                turn(None, Kind::Returned, format!("its known answer is right, divergence {nats:.4} nat"))
            }
            Ok((nats, false)) => {
                let reason = format!("its known answer is wrong, divergence {nats:.4} nat");
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
            Err(why) => {
                self.checks_unanswered += 1;
                if !first && self.checks_unanswered < CHECKS_UNANSWERED_MAX {
                    self.check_at_s = now_s + CHECK_MAX_S;
                    return None;
                }
                let reason = format!("it gave no known answer: {why}");
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
        }
    }

    /// A driver reset was seen; true where they are too many.
    pub fn reset(&mut self, now_s: f64) -> bool {
        self.resets_s.rotate_left(1);
        self.resets_s[RESETS_MAX - 1] = now_s;
        now_s - self.resets_s[0] <= RESETS_WINDOW_S
    }

    /// A sample came to its end, or the engine failed on it; true where too many failed in a row.
    pub fn sample_ended(&mut self, failed: bool) -> bool {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.failures >= FAILURES_MAX
    }

    /// Asks for a known answer as soon as the device is empty.
    pub fn suspect(&mut self, now_s: f64) {
        self.failures = 0;
        self.check_at_s = self.check_at_s.min(now_s);
    }

    /// Time has passed; `idle` where the device holds no job.
    pub fn tick(&mut self, now_s: f64, idle: bool, draw: f64) -> Option<Turn> {
        match self.standing {
            Standing::Down => {
                self.standing = Standing::Starting;
                self.since_s = now_s;
                turn(Some(Order::Start), Kind::Started, "the loop starts")
            }
            Standing::Serving => match self.check_sent_s {
                Some(sent_s) if now_s >= sent_s + self.check_max_s => {
                    let reason = format!("it gave no known answer within {:.0} s", self.check_max_s);
                    Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
                }
                None if idle && now_s >= self.check_at_s - CHECK_EARLY_S => {
                    self.check_sent_s = Some(now_s);
                    turn(Some(Order::Check), Kind::Probed, "its known answer is due")
                }
                _ => None,
            },
            _ if now_s < self.due_s() => None,
            Standing::Starting => {
                let reason = format!("its worker did not load within {START_MAX_S:.0} s");
                self.worker = Worker::Present;
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
            Standing::Probing => {
                let reason = format!("its one-token probe was not answered within {:.0} s", self.probe_max_s);
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
            Standing::Checking => {
                let reason = format!("it gave no known answer within {:.0} s", self.check_max_s);
                Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
            }
            Standing::Quarantined => match self.worker {
                Worker::Absent => {
                    self.standing = Standing::Starting;
                    self.since_s = now_s;
                    turn(Some(Order::Start), Kind::Started, "its quarantine is over")
                }
                Worker::Present => self.ask_probe(now_s),
                Worker::Ending => {
                    self.worker = Worker::Present;
                    let reason = "its worker does not end".to_owned();
                    Some(self.quarantine(now_s, Jobs::Lost, true, reason, draw))
                }
            },
        }
    }

    fn ask_probe(&mut self, now_s: f64) -> Option<Turn> {
        self.standing = Standing::Probing;
        self.since_s = now_s;
        turn(Some(Order::Probe), Kind::Probed, "one token before it may serve again")
    }

    fn ask_check(&mut self, now_s: f64) -> Option<Turn> {
        self.standing = Standing::Checking;
        self.since_s = now_s;
        turn(Some(Order::Check), Kind::Probed, "a known answer before it may serve")
    }
}
