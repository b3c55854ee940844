//! Which device a sample goes to.
//!
//! Costs come from profiles, corrected by what was observed since; nothing is assumed about which device suits which work.
//! Each device is asked for two figures: when the sample would be finished there, and what it would cost in joules *more
//! than is spent anyway* (a device that decodes already takes one more sequence for little, an idle one pays for its
//! whole step). A device without a free place is asked as well, with the wait for one: where it is so much quicker or
//! more frugal, the sample waits for it, and else each device pulls the next sample as it gets free.
//!
//! A deadline comes first, the goal second. Where joules are the goal and somebody waits, patience has a bound. A sample that
//! a device failed in the middle, while somebody reads it, waits no longer than [`STALL_MAX_S`] for a better place: then it goes on
//! wherever one is free and its deadline is kept, even in those that a device which just returned holds back from new work.

use crate::config::{DeviceId, Goal, Profile};

/// Part of the time to its deadline that a sample may be predicted to take: predictions err by some percent.
pub const DEADLINE_SHARE: f64 = 0.9;
/// Times the quickest device's finish that an interactive sample waits for a more frugal one.
pub const PATIENCE: f64 = 2.0;
/// Factor on the finish time on a device of another kin for a sample that has emitted text: its text may change.
pub const STRANGER_COST: f64 = 1.25;

/// Seconds that an interrupted sample waits for a better place while somebody reads it. A failover is to take a quarter of a
/// second at most; this leaves the rest for noticing, deciding and starting.
pub const STALL_MAX_S: f64 = 0.15;

/// A device, as placement sees it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// Which.
    pub device: DeviceId,
    /// Its costs.
    pub profile: Profile,
    /// Samples that it may still take at once.
    pub places: u32,
    /// Places beyond these that it holds back from new work, since it just returned from a failure.
    pub reserve: u32,
    /// Tokens that its memory still holds.
    pub room_tokens: u64,
    /// Samples that it may hold at all.
    pub sequences_max: u32,
    /// Samples that it holds.
    pub sequences: u32,
    /// Tokens of prompts that it has still to compute.
    pub prefill_tokens: u64,
    /// Fewest and most tokens that one of its samples has still to emit.
    pub left: (u32, u32),
    /// Tokens that samples which wait for it will emit.
    pub ahead_tokens: u64,
    /// Its time for the same work over its profile's, by observation, and over its duty.
    pub stretch: f64,
    /// Cost factor for bad health, from 1.
    pub doubt: f64,
    /// Watts that it would draw with one sample more, less those it draws now.
    pub more_w: f64,
}

/// A sample that wants a place.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Tokens of its prompt: computed once for all samples of a request that start together on a device.
    pub prompt_tokens: u64,
    /// Tokens that it emitted elsewhere, which are computed again.
    pub emitted: u32,
    /// Tokens that it may emit.
    pub tokens: u32,
    /// Tokens of memory that it needs.
    pub held_tokens: u64,
    /// Seconds until its deadline.
    pub left_s: f64,
    /// Whether somebody waits for it.
    pub interactive: bool,
    /// Whether it was interrupted and has waited for [`STALL_MAX_S`] while somebody reads it.
    pub stalled: bool,
}

/// What a device offers for a sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Offer {
    /// Seconds until it would be finished.
    pub finish_s: f64,
    /// Joules more than are spent anyway.
    pub joules: f64,
    /// Whether it starts at once.
    pub at_once: bool,
}

/// What a device offers. `shares_prompt`: its prompt is computed there already. `stranger`: its text may change.
pub fn offer(candidate: &Candidate, ask: &Ask, shares_prompt: bool, stranger: bool) -> Offer {
    let profile = &candidate.profile;
    let places = if ask.stalled { candidate.places + candidate.reserve } else { candidate.places };
    let at_once = places > 0 && ask.held_tokens <= candidate.room_tokens;
    let tokens = f64::from(ask.tokens);
    let prompt = if shares_prompt { 0 } else { ask.prompt_tokens };
    let own_prefill = (prompt + u64::from(ask.emitted)) as f64;
    let prefill_s = (own_prefill + candidate.prefill_tokens as f64) * profile.prefill_s_per_token;
    let sequences = (candidate.sequences + 1).min(candidate.sequences_max.max(1));
    let step_s = profile.decode_step_s(sequences);
    let wait_s = if at_once {
        0.0
    } else {
        let per_token_s = step_s / f64::from(sequences);
        f64::from(candidate.left.0) * step_s + candidate.ahead_tokens as f64 * per_token_s
    };
    let strange = if stranger { STRANGER_COST } else { 1.0 };
    let finish_s = (wait_s + prefill_s + tokens * step_s) * candidate.stretch * candidate.doubt * strange;
    // Steps that run anyway for others cost nothing more than this one's share of them.
    let alone = (tokens - f64::from(candidate.left.1)).max(0.0);
    let idle_j = |seconds: f64| profile.idle_w * seconds;
    let prefill_j =
        own_prefill * profile.prefill_j_per_token - idle_j(own_prefill * profile.prefill_s_per_token);
    let shared_j = alone * (profile.step_j - idle_j(profile.step_s));
    let own_j = tokens * (profile.step_j_per_sequence - idle_j(profile.step_s_per_sequence));
    let joules = (prefill_j.max(0.0) + shared_j.max(0.0) + own_j.max(0.0)) * candidate.doubt * strange;
    Offer { finish_s, joules, at_once }
}

/// The best of some offers: its index. Ties go to the earlier one.
pub fn choose(goal: Goal, ask: &Ask, offers: &[Option<Offer>]) -> Option<usize> {
    let given = || offers.iter().enumerate().filter_map(|(i, offer)| offer.map(|offer| (i, offer)));
    let goes_on = |offer: &Offer| offer.at_once && offer.finish_s <= ask.left_s * DEADLINE_SHARE;
    let only_now = ask.stalled && given().any(|(_, offer)| goes_on(&offer));
    let each = || given().filter(move |(_, offer)| !only_now || goes_on(offer));
    let quickest_s = each().map(|(_, offer)| offer.finish_s).fold(f64::INFINITY, f64::min);
    let patience_s = if ask.interactive { PATIENCE * quickest_s } else { f64::INFINITY };
    let bound_s = (ask.left_s * DEADLINE_SHARE).min(patience_s);
    let least = |key: fn(&Offer) -> f64, allowed: f64| {
        each()
            .filter(|(_, offer)| offer.finish_s <= allowed)
            .min_by(|a, b| key(&a.1).total_cmp(&key(&b.1)).then(a.1.finish_s.total_cmp(&b.1.finish_s)))
            .map(|(i, _)| i)
    };
    let frugal = match goal {
        Goal::Energy => least(|offer| offer.joules, bound_s),
        Goal::Latency => None,
    };
    frugal.or_else(|| least(|offer| offer.finish_s, f64::INFINITY))
}
