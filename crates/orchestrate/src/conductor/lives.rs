//! Devices that start, answer, and die.
//!
//! Each start has a number, and whatever a start's tasks have to say carries it: words of an earlier one mean nothing. A
//! device that dies takes its placements with it; their samples are marked as lost before the loop hears of the death, so
//! that the new placements, which follow at once, find them so.

use super::Conductor;
use crate::device::{Device, Ended, Running};
use crate::ledger::Loss;
use qeil_control::config::DeviceId;
use qeil_control::event::{DownCause, Input, JobId};
use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Instant;
use tokio::task::JoinHandle;

/// What becomes of devices. The number is the start that it speaks of: words of an earlier one mean nothing.
#[derive(Debug)]
pub(crate) enum Life {
    Started(DeviceId, u64, Result<Arc<dyn Running>, String>),
    Gone(DeviceId, u64, Ended),
    Probed(DeviceId, u64, Result<f64, String>),
    Checked(DeviceId, u64, Result<(f64, bool), String>),
}

/// One device.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) name: String,
    pub(super) device: Arc<dyn Device>,
    pub(super) place: Option<usize>,
    pub(super) starts: u64,
    pub(super) starting: Option<JoinHandle<()>>,
    pub(super) running: Option<Arc<dyn Running>>,
    pub(super) stopping: bool,
    /// What its worker has said of prompt tokens so far.
    pub(super) prefilled_tokens: u64,
}

impl Conductor {
    /// Ask a device the known questions; `false` where it does not run.
    pub(super) fn check(&mut self, device: DeviceId) -> bool {
        let Some((running, start)) = self.slot(device).and_then(|slot| slot.alive()) else { return false };
        let lives = self.lives.clone();
        tokio::spawn(async move {
            let outcome = running.check().await;
            let _ = lives.send(Life::Checked(device, start, outcome)).await;
        });
        true
    }

    pub(super) fn start(&mut self, device: DeviceId) {
        let lives = self.lives.clone();
        let Some(slot) = self.slot(device) else { return };
        slot.starts += 1;
        slot.stopping = false;
        let (what, start) = (Arc::clone(&slot.device), slot.starts);
        slot.starting = Some(tokio::spawn(async move {
            let started = what.start().await;
            let _ = lives.send(Life::Started(device, start, started)).await;
        }));
    }

    pub(super) fn halt(&mut self, device: DeviceId, inputs: &mut VecDeque<Input>) {
        let Some(slot) = self.slot(device) else { return };
        if let Some(running) = slot.running.clone() {
            slot.stopping = true;
            tokio::spawn(async move { running.stop().await });
            return;
        }
        if let Some(starting) = slot.starting.take() {
            // Dropping a process that starts kills it.
            starting.abort();
            slot.starts += 1;
        }
        inputs.push_back(Input::Down { device, cause: DownCause::Stopped });
    }

    pub(super) fn live(&mut self, life: Life) {
        let (Life::Started(device, start, _)
        | Life::Gone(device, start, _)
        | Life::Probed(device, start, _)
        | Life::Checked(device, start, _)) = life;
        if self.slot(device).is_none_or(|slot| slot.starts != start) {
            return;
        }
        match life {
            Life::Started(_, _, Ok(running)) => {
                let lives = self.lives.clone();
                let watched = Arc::clone(&running);
                tokio::spawn(async move {
                    let ended = watched.death().await;
                    let _ = lives.send(Life::Gone(device, start, ended)).await;
                });
                if let Some(slot) = self.slot(device) {
                    slot.starting = None;
                    slot.running = Some(running);
                    slot.prefilled_tokens = 0;
                }
                self.enlist();
                self.feed(Input::Up(device));
            }
            Life::Started(_, _, Err(why)) => {
                if let Some(slot) = self.slot(device) {
                    slot.starting = None;
                }
                self.feed(Input::Down { device, cause: DownCause::NotStarted(why) });
            }
            Life::Gone(_, _, ended) => self.gone(device, ended),
            Life::Probed(_, _, outcome) => self.feed(Input::Probed { device, outcome }),
            Life::Checked(_, _, outcome) => self.feed(Input::Checked { device, outcome }),
        }
    }

    pub(super) fn gone(&mut self, device: DeviceId, ended: Ended) {
        let Some(slot) = self.slot(device) else { return };
        let stopped = slot.stopping;
        slot.running = None;
        self.enlist();
        let now_s = self.now_s();
        let loss = Loss {
            from: device,
            known: ended.at,
            told: Instant::now(),
            free: self.control.free_places(device),
        };
        let lost: Vec<JobId> =
            self.jobs.iter().filter(|(_, job)| job.device == device).map(|(id, _)| *id).collect();
        for id in lost {
            let Some(job) = self.jobs.remove(&id) else { continue };
            self.account.ends(now_s, device, job.request);
            if let Some(held) = self.held.get_mut(&job.request) {
                job.open.iter().for_each(|&sample| held.lose(sample, id, loss));
            }
        }
        let cause = if stopped { DownCause::Stopped } else { DownCause::Died(ended.words) };
        self.feed(Input::Down { device, cause });
    }

    /// Show the living devices to those who tokenise.
    pub(super) fn enlist(&self) {
        let living = self.slots.iter().map(|slot| slot.running.clone()).collect();
        *self.roster.lock().unwrap_or_else(PoisonError::into_inner) = living;
    }
}

impl Slot {
    /// Its worker, and the start that it is of.
    pub(super) fn alive(&self) -> Option<(Arc<dyn Running>, u64)> {
        Some((self.running.clone()?, self.starts))
    }

    /// Prompt tokens that its worker has computed since this was asked last.
    pub(super) fn prefilled(&mut self) -> u64 {
        let Some(total) = self.running.as_ref().and_then(|running| running.prefilled_tokens()) else {
            return 0;
        };
        total - std::mem::replace(&mut self.prefilled_tokens, total).min(total)
    }
}
