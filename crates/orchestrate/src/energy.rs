//! Whose joules they are.
//!
//! A sensor tells the power of a place; a place may hold several devices and a device several requests. Between two
//! looks its energy is split twice: over its devices by the time that they computed, and within a device over its
//! requests by their work, which is one for each token and one for being there. What was split is an estimate, however
//! good the sensor; so is the rest between the last look and a request's end, which is taken at the last known power. Only a
//! request that had the place to itself keeps the sensor's own label. Energy is gross while a request is there: the idle
//! power that the machine draws anyway is in it. The time in which a place had no request is nobody's: its idle power is
//! taken off first, so a request of two milliseconds does not pay for the quarter of a second between two looks.

use crate::sense::Look;
use qeil_control::config::DeviceId;
use qeil_control::event::RequestId;
use qeil_units::{Joules, Labelled, Provenance, Watts};
use std::collections::{BTreeMap, BTreeSet};

/// What one request took so far.
#[derive(Debug, Clone, Default, PartialEq)]
struct Bill {
    total: Option<Labelled<Joules>>,
    /// Whether a device worked on it whose power nobody tells.
    unknown: bool,
}

/// All bills.
#[derive(Debug, Default)]
pub(crate) struct Account {
    /// Place of each device.
    places: Vec<Option<usize>>,
    bills: BTreeMap<RequestId, Bill>,
    /// Placements alive.
    live: BTreeMap<(DeviceId, RequestId), u32>,
    /// Tokens since the last look.
    tokens: BTreeMap<(DeviceId, RequestId), u32>,
    /// Seconds that each device had computed at the last look.
    busy_s: BTreeMap<DeviceId, f64>,
    /// Power of each place at the last look, and what was paid of the span since.
    power: Vec<Option<Labelled<Watts>>>,
    paid_j: Vec<f64>,
    presence: Vec<Presence>,
    looked_s: f64,
}

/// How long a place had anything to do since the last look.
#[derive(Debug, Clone, Copy, Default)]
struct Presence {
    /// Watts that it draws when it has nothing.
    idle_w: f64,
    /// Placements alive.
    live: u32,
    /// Seconds that are over.
    seconds: f64,
    /// Since when something is alive, if it is.
    since_s: f64,
}

impl Presence {
    fn until(&self, now_s: f64) -> f64 {
        self.seconds + if self.live > 0 { (now_s - self.since_s).max(0.0) } else { 0.0 }
    }

    fn change(&mut self, now_s: f64, live: u32) {
        self.seconds = self.until(now_s);
        self.since_s = now_s;
        self.live = live;
    }
}

impl Account {
    /// Each device's place, and the idle power of that place as the device's profile has it, watts.
    pub(crate) fn new(devices: &[(Option<usize>, f64)]) -> Self {
        let places = devices.iter().filter_map(|(place, _)| *place).max().map_or(0, |last| last + 1);
        let mut presence = vec![Presence::default(); places];
        for (place, idle_w) in devices {
            if let Some(place) = place {
                presence[*place].idle_w = presence[*place].idle_w.max(*idle_w);
            }
        }
        Self { places: devices.iter().map(|(place, _)| *place).collect(), presence, ..Self::default() }
    }

    fn place(&self, device: DeviceId) -> Option<usize> {
        self.places.get(usize::from(device.0)).copied().flatten()
    }

    /// A placement begins.
    pub(crate) fn begins(&mut self, now_s: f64, device: DeviceId, request: RequestId) {
        *self.live.entry((device, request)).or_default() += 1;
        let unknown = self.place(device).is_none();
        self.bills.entry(request).or_default().unknown |= unknown;
        self.count(now_s, device);
    }

    /// A placement is over.
    pub(crate) fn ends(&mut self, now_s: f64, device: DeviceId, request: RequestId) {
        if let Some(count) = self.live.get_mut(&(device, request)) {
            *count -= 1;
            if *count == 0 {
                self.live.remove(&(device, request));
            }
        }
        self.count(now_s, device);
    }

    /// Count what is alive at the place of a device.
    fn count(&mut self, now_s: f64, device: DeviceId) {
        let Some(place) = self.place(device) else { return };
        let there = self.live.iter().filter(|((other, _), _)| self.place(*other) == Some(place));
        let live = there.map(|(_, count)| count).sum();
        self.presence[place].change(now_s, live);
    }

    /// Tokens came.
    pub(crate) fn works(&mut self, device: DeviceId, request: RequestId, tokens: u32) {
        *self.tokens.entry((device, request)).or_default() += tokens;
    }

    /// The sensors were read: split what was drawn since the last time. Returns what each request took.
    pub(crate) fn looked(
        &mut self,
        now_s: f64,
        looks: &[Look],
        busy_s: &BTreeMap<DeviceId, f64>,
    ) -> Vec<(RequestId, f64)> {
        let span_s = now_s - self.looked_s;
        let mut taken = Vec::new();
        for (place, look) in looks.iter().enumerate() {
            let Some(power) = &look.power else { continue };
            let paid = self.paid_j.get(place).copied().unwrap_or(0.0);
            let presence = self.presence.get(place).copied().unwrap_or_default();
            let deserted_s = (span_s - presence.until(now_s)).max(0.0);
            let energy_j = (power.value.0 * span_s - presence.idle_w * deserted_s - paid).max(0.0);
            let shares = self.shares(place, busy_s);
            let alone = shares.len() == 1 && paid == 0.0 && deserted_s == 0.0;
            for (request, share) in shares {
                let provenance =
                    if alone { power.provenance } else { power.provenance.weakest(Provenance::Estimated) };
                self.charge(request, energy_j * share, provenance, &power.source);
                taken.push((request, energy_j * share));
            }
        }
        self.power = looks.iter().map(|look| look.power.clone()).collect();
        self.paid_j = vec![0.0; looks.len()];
        self.looked_s = now_s;
        for presence in &mut self.presence {
            (presence.seconds, presence.since_s) = (0.0, now_s);
        }
        self.busy_s = busy_s.clone();
        self.tokens.clear();
        taken
    }

    /// A request is over: its share since the last look at the last known power, and its whole bill.
    pub(crate) fn settle(
        &mut self,
        now_s: f64,
        request: RequestId,
        busy_s: &BTreeMap<DeviceId, f64>,
    ) -> Option<Labelled<Joules>> {
        for place in 0..self.power.len().min(self.presence.len()) {
            let Some(power) = self.power[place].clone() else { continue };
            let present_s = self.presence[place].until(now_s);
            let share: f64 = self
                .shares(place, busy_s)
                .into_iter()
                .filter(|(who, _)| *who == request)
                .map(|(_, s)| s)
                .sum();
            if share > 0.0 {
                let joules = power.value.0 * present_s * share;
                self.paid_j[place] += joules;
                self.charge(request, joules, power.provenance.weakest(Provenance::Estimated), &power.source);
            }
        }
        let on: Vec<DeviceId> =
            self.live.keys().filter(|(_, who)| *who == request).map(|(device, _)| *device).collect();
        self.live.retain(|(_, who), _| *who != request);
        on.into_iter().for_each(|device| self.count(now_s, device));
        self.tokens.retain(|(_, who), _| *who != request);
        let bill = self.bills.remove(&request)?;
        if bill.unknown { None } else { bill.total }
    }

    /// Each request's share of a place, over its devices by computing time, over its requests by work.
    fn shares(&self, place: usize, busy_s: &BTreeMap<DeviceId, f64>) -> Vec<(RequestId, f64)> {
        let mut work: BTreeMap<DeviceId, BTreeMap<RequestId, f64>> = BTreeMap::new();
        let active: BTreeSet<(DeviceId, RequestId)> =
            self.live.keys().chain(self.tokens.keys()).copied().collect();
        for key in active {
            if self.place(key.0) == Some(place) {
                let tokens = self.tokens.get(&key).copied().unwrap_or(0);
                let live = self.live.get(&key).copied().unwrap_or(0);
                work.entry(key.0).or_default().insert(key.1, f64::from(tokens + live));
            }
        }
        let computed = |device: &DeviceId| {
            let before = self.busy_s.get(device).copied().unwrap_or(0.0);
            // A new process counts from zero.
            busy_s.get(device).map_or(0.0, |&now| if now >= before { now - before } else { now })
        };
        let all: f64 = work.keys().map(computed).sum();
        let devices = work.len() as f64;
        let mut shares: BTreeMap<RequestId, f64> = BTreeMap::new();
        for (device, requests) in &work {
            let of_place = if all > 0.0 { computed(device) / all } else { 1.0 / devices };
            let of_device: f64 = requests.values().sum();
            for (&request, &own) in requests {
                *shares.entry(request).or_default() += of_place * own / of_device;
            }
        }
        shares.into_iter().filter(|(_, share)| share.is_finite()).collect()
    }

    fn charge(&mut self, request: RequestId, joules: f64, provenance: Provenance, source: &str) {
        let Some(bill) = self.bills.get_mut(&request) else { return };
        let more = Labelled { value: Joules(joules), provenance, source: source.to_owned() };
        bill.total = Labelled::sum(bill.total.take().into_iter().chain([more]));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_control::event::Reading;

    fn look(watts: f64) -> Look {
        let reading =
            Reading { temperature_c: None, power_w: Some(watts), throttling: false, memory_share: None };
        Look { reading, power: Some(Labelled::measured(Watts(watts), "a counter")) }
    }

    fn busy(pairs: &[(u16, f64)]) -> BTreeMap<DeviceId, f64> {
        pairs.iter().map(|&(device, s)| (DeviceId(device), s)).collect()
    }

    const A: RequestId = RequestId(1);
    const B: RequestId = RequestId(2);

    #[test]
    fn alone_keeps_the_label_and_takes_all() {
        let mut account = Account::new(&[(Some(0), 2.0)]);
        account.begins(0.0, DeviceId(0), A);
        assert_eq!(account.looked(2.0, &[look(10.0)], &busy(&[(0, 1.0)])), [(A, 20.0)]);
        account.ends(2.0, DeviceId(0), A);
        let bill = account.settle(2.0, A, &busy(&[(0, 1.0)])).unwrap();
        assert_eq!((bill.value, bill.provenance), (Joules(20.0), Provenance::Measured));
    }

    #[test]
    fn shared_energy_is_split_by_time_then_work_and_nothing_is_made_up() {
        let mut account = Account::new(&[(Some(0), 2.0), (Some(0), 2.0)]);
        account.begins(0.0, DeviceId(0), A);
        account.begins(0.0, DeviceId(1), B);
        account.begins(0.0, DeviceId(1), A);
        account.works(DeviceId(1), B, 8);
        // Device 1 computed three times as long; in it B did 9 of 10.
        let taken = account.looked(1.0, &[look(100.0)], &busy(&[(0, 1.0), (1, 3.0)]));
        let of = |who| taken.iter().filter(|(request, _)| *request == who).map(|(_, j)| j).sum::<f64>();
        assert!((of(A) - (25.0 + 7.5)).abs() < 1e-9 && (of(B) - 67.5).abs() < 1e-9, "{taken:?}");
        // The tail at the last power; what it paid is not charged again.
        let tail = account.settle(1.5, A, &busy(&[(0, 1.0), (1, 3.0)])).unwrap();
        assert_eq!(tail.provenance, Provenance::Estimated);
        let rest: f64 =
            account.looked(2.0, &[look(100.0)], &busy(&[(0, 1.0), (1, 4.0)])).iter().map(|(_, j)| j).sum();
        assert!((tail.value.0 + of(B) + rest - 200.0).abs() < 1e-9, "{tail:?} {rest}");
    }

    #[test]
    fn a_device_that_nobody_feels_makes_the_sum_unknown() {
        let mut account = Account::new(&[(Some(0), 2.0), (None, 2.0)]);
        account.begins(0.0, DeviceId(0), A);
        account.begins(0.0, DeviceId(1), A);
        account.looked(1.0, &[look(10.0)], &busy(&[]));
        assert_eq!(account.settle(1.0, A, &busy(&[])), None);
    }

    #[test]
    fn a_short_request_pays_for_its_own_time() {
        let mut account = Account::new(&[(Some(0), 2.0)]);
        account.looked(1.0, &[look(2.0)], &busy(&[]));
        // Two milliseconds at 10 W in a quarter of a second at 2 W: what the counter tells is the mean.
        account.begins(1.1, DeviceId(0), A);
        account.ends(1.102, DeviceId(0), A);
        let mean_w = (0.002 * 10.0 + 0.248 * 2.0) / 0.25;
        let taken = account.looked(1.25, &[look(mean_w)], &busy(&[(0, 0.002)]));
        assert!(taken.is_empty(), "nothing is known of a placement that left no token: {taken:?}");
        account.begins(1.3, DeviceId(0), A);
        account.works(DeviceId(0), A, 1);
        account.ends(1.302, DeviceId(0), A);
        let taken = account.looked(1.5, &[look(mean_w)], &busy(&[(0, 0.004)]));
        assert!((taken[0].1 - 0.02).abs() < 1e-9, "{taken:?}");
        // One that is over before the next look pays at the last power, for the time that it was there.
        account.begins(1.6, DeviceId(0), B);
        let bill = account.settle(1.602, B, &busy(&[(0, 0.006)])).unwrap();
        assert!((bill.value.0 - 0.002 * mean_w).abs() < 1e-9, "{bill:?}");
        assert_eq!(bill.provenance, Provenance::Estimated);
    }
}
