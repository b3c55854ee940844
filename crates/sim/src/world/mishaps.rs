//! Faults that begin and end.

use super::device::Process;
use super::{DEATH_SEEN_S, Event, REPLY_S, World, id_of};
use crate::fault::FaultKind;
use qeil_control::event::{DownCause, Input, SampleEnd};

impl World<'_> {
    pub(super) fn fault_begins(&mut self, number: usize) {
        let fault = self.scenario.faults[number];
        let Some(at) = self.place_of.get(fault.device).copied().flatten() else { return };
        let device = &mut self.devices[at];
        device.faults.push((number, fault.kind));
        device.examine();
        device.hard_s = self.now_s;
        match fault.kind {
            FaultKind::Death => self.dies(at, DownCause::Died("killed by signal 9 (simulated)".into())),
            FaultKind::Reset => {
                self.dies(at, DownCause::Died("device lost (simulated)".into()));
                let what = "reset (simulated)".into();
                self.later(DEATH_SEEN_S, Event::Tell(Input::DriverEvent { device: id_of(at), what }));
            }
            FaultKind::Vanish => self.dies(at, DownCause::Vanished("no such device (simulated)".into())),
            FaultKind::LostMemory(_) => self.lose_memory(at),
            _ => {}
        }
        self.later(fault.for_s, Event::FaultEnds(number));
        self.rebalance();
    }

    pub(super) fn fault_ends(&mut self, number: usize) {
        let Some(at) = self.place_of.get(self.scenario.faults[number].device).copied().flatten() else {
            return;
        };
        let device = &mut self.devices[at];
        device.hard_s = if device.condition.hard() { self.now_s } else { device.hard_s };
        device.faults.retain(|(other, _)| *other != number);
        device.cured.retain(|other| *other != number);
        device.examine();
        if !device.condition.hung {
            for (job, sample) in std::mem::take(&mut device.unanswered) {
                let end = SampleEnd::Cancelled;
                self.later(REPLY_S, Event::Tell(Input::SampleEnded { device: id_of(at), job, sample, end }));
            }
        }
        self.rebalance();
    }

    /// The worker is gone, and the loop hears of it a moment later.
    pub(super) fn dies(&mut self, at: usize, cause: DownCause) {
        let device = &mut self.devices[at];
        device.hard_s = self.now_s;
        if device.process != Process::Absent {
            device.end();
            self.later(DEATH_SEEN_S, Event::Tell(Input::Down { device: id_of(at), cause }));
        }
    }

    /// The samples of a device are nowhere now.
    pub(super) fn take_off(&mut self, at: usize) {
        for sample in self.open.values_mut().flat_map(|record| &mut record.samples) {
            if sample.on.is_some_and(|(on, _)| on == at) {
                sample.on = None;
            }
        }
    }

    /// The latest jobs fail until the others fit.
    pub(super) fn lose_memory(&mut self, at: usize) {
        let device = &mut self.devices[at];
        let mut failed = Vec::new();
        while device.worker.tokens_held() > device.room_tokens() {
            let Some(job) = device.worker.jobs().last() else { break };
            let (id, samples) = (job.id, job.slots.iter().map(|slot| slot.sample).collect::<Vec<_>>());
            failed.extend(device.worker.cancel(id, &samples).into_iter().map(|sample| (id, sample)));
        }
        for (job, sample) in failed {
            let end = SampleEnd::Failed("out of memory (simulated)".into());
            self.later(REPLY_S, Event::Tell(Input::SampleEnded { device: id_of(at), job, sample, end }));
        }
    }
}
