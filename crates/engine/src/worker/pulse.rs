//! What the heartbeat reports: counters the loop leaves behind after each step, read by another thread.

use super::stepper::{Clock, Stepper};
use crate::llama::Backend;
use crate::protocol::Heartbeat;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Shared between the loop and the pulse thread.
pub struct Pulse {
    born: Instant,
    /// Opened before the process is confined.
    statm: File,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    beat: Heartbeat,
    step_since: Option<Instant>,
}

impl Pulse {
    /// Counters at zero.
    ///
    /// # Errors
    /// Where `/proc/self/statm` cannot be opened.
    pub fn new() -> io::Result<Self> {
        let statm = File::open("/proc/self/statm")?;
        Ok(Self { born: Instant::now(), statm, state: Mutex::default() })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Plain numbers: whatever a panicking thread left is as good as any.
        self.state.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The loop begins a step.
    pub fn step_starts(&self) {
        self.state().step_since = Some(Instant::now());
    }

    /// The loop has ended a step.
    pub fn step_ends<B: Backend, C: Clock>(&self, stepper: &Stepper<B, C>, duty: f32) {
        let (counts, (queued, active, cached_tokens)) = (stepper.counts(), stepper.load());
        let mut state = self.state();
        let took = state.step_since.take().map_or(0.0, |since| since.elapsed().as_secs_f64());
        let beat = &mut state.beat;
        beat.last_step_s = took;
        beat.busy_s += took;
        (beat.steps, beat.prefilled_tokens, beat.decoded_tokens) =
            (counts.steps, counts.prefilled, counts.decoded);
        (beat.queued, beat.active, beat.cached_tokens) = (queued, active, cached_tokens);
        beat.duty = duty;
    }

    /// The heartbeat of this moment.
    pub fn read(&self) -> Heartbeat {
        let (mut beat, since) = {
            let state = self.state();
            (state.beat.clone(), state.step_since)
        };
        beat.step_running_s = since.map_or(0.0, |since| since.elapsed().as_secs_f64());
        beat.cpu_s = process_cpu_s();
        beat.resident_bytes = self.resident_bytes().unwrap_or(0);
        if beat.duty == 0.0 {
            beat.duty = 1.0;
        }
        beat
    }

    fn resident_bytes(&self) -> Option<u64> {
        let mut text = [0u8; 128];
        let read = self.statm.read_at(&mut text, 0).ok()?;
        let pages: u64 = std::str::from_utf8(&text[..read]).ok()?.split(' ').nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

impl Clock for Arc<Pulse> {
    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    fn cpu_s(&self) -> f64 {
        process_cpu_s()
    }
}

/// CPU seconds of this process, user and system, all threads.
fn process_cpu_s() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
