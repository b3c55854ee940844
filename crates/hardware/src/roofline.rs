//! What the processor can do at most: bytes read from memory per second, and multiply-adds per second.
//!
//! A speed means little until it is held against the machine's own limit (Williams, Waterman and Patterson, "Roofline",
//! CACM 52(4), 2009). Decoding reads every weight once a token, so bandwidth bounds it; prefill reuses each weight for
//! many tokens, so arithmetic does. Both limits are measured with the threads that the engine would use, by the
//! simplest loop that the compiler turns into vector instructions: a sum over a buffer much larger than the last-level
//! cache, and independent chains of multiply-adds that stay in registers. What these reach is what a program can reach,
//! which is a little below the data sheet.
//!
//! Threads are not pinned: fewer threads than cores spread by themselves. The best pass counts, since whatever disturbs
//! a pass makes it slower, never faster.

use crate::Roots;
use crate::cpu::last_level_cache_bytes;
use crate::memory::Memory;
use std::hint::black_box;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// More threads than any edge machine has CPUs.
const THREADS_MAX: u32 = 512;
/// Passes go on for this long: long enough for a clock to rise and a best pass to appear.
const MEASURE: Duration = Duration::from_millis(350);
/// Passes that are made however long they take.
const PASSES_MIN: usize = 3;
/// Passes that are enough however short they are.
const PASSES_MAX: usize = 1000;
/// The buffer holds the last-level cache this often, so that little of it survives from one pass to the next.
const CACHES: u64 = 4;
/// The least that is read: small next to any machine's memory, large next to most caches.
const BUFFER_BYTES_MIN: u64 = 128 << 20;
/// The most: filling more would take longer than measuring.
const BUFFER_BYTES_MAX: u64 = 1 << 30;
/// Of a small machine's free memory, not more than this part is taken.
const MEMORY_PART: u64 = 4;

/// Elements of a vector register, for the instruction set this program was built for.
const LANES: usize = if cfg!(target_feature = "avx512f") {
    16
} else if cfg!(target_feature = "avx") {
    8
} else {
    4
};
/// Independent chains in as many registers: two units with a latency of four or five cycles need ten, and sixteen
/// registers hold twelve beside the factors. One flat array, because that is what the compiler keeps in registers.
const CHAINS: usize = 12 * LANES;
/// Multiply-adds of each chain in a pass: some milliseconds.
const STEPS: u32 = 4 << 20;

/// Bytes per second that `threads` threads read from memory together, each its own part of one large buffer.
///
/// # Panics
/// If the system cannot start the threads.
pub fn read_bandwidth(threads: u32) -> f64 {
    let threads = threads.clamp(1, THREADS_MAX);
    let words = (buffer_bytes(&Roots::default()) / 8 / u64::from(threads)) as usize;
    let best_s = best_pass_s(
        threads,
        || {
            // Filled by the thread that reads it, so that its pages lie where that thread runs.
            let mut words = vec![0u64; words];
            words.iter_mut().zip(0u64..).for_each(|(word, i)| *word = i);
            words
        },
        |words| {
            black_box(sum(black_box(words)));
        },
    );
    (words as u64 * 8 * u64::from(threads)) as f64 / best_s
}

/// Single-precision operations per second of `threads` threads together, a multiply-add counted as two.
///
/// # Panics
/// If the system cannot start the threads.
pub fn peak_f32(threads: u32) -> f64 {
    let threads = threads.clamp(1, THREADS_MAX);
    let best_s = best_pass_s(
        threads,
        || [1.0f32; CHAINS],
        |chains| {
            *chains = multiply_add(black_box(*chains), black_box(0.999_9), black_box(1e-4));
        },
    );
    2.0 * f64::from(STEPS) * CHAINS as f64 * f64::from(threads) / best_s
}

/// The buffer of all threads together.
fn buffer_bytes(roots: &Roots) -> u64 {
    let cache_bytes = last_level_cache_bytes(roots).unwrap_or(0);
    let wanted = (CACHES * cache_bytes).clamp(BUFFER_BYTES_MIN, BUFFER_BYTES_MAX);
    match Memory::read(roots) {
        Ok(Memory { available_bytes: Some(available), .. }) => wanted.min(available / MEMORY_PART),
        _ => wanted,
    }
}

/// Wrapping, so that the compiler may add in any order.
fn sum(words: &[u64]) -> u64 {
    words.iter().fold(0, |sum, word| sum.wrapping_add(*word))
}

fn multiply_add(mut chains: [f32; CHAINS], factor: f32, add: f32) -> [f32; CHAINS] {
    for _ in 0..STEPS {
        for chain in &mut chains {
            // Without the instruction, `mul_add` would call a function of the C library.
            *chain = if cfg!(any(target_feature = "fma", target_feature = "neon")) {
                chain.mul_add(factor, add)
            } else {
                *chain * factor + add
            };
        }
    }
    chains
}

/// Seconds of the fastest pass, from the first thread's start to the last one's end.
fn best_pass_s<S>(threads: u32, prepare: impl Fn() -> S + Sync, pass: impl Fn(&mut S) + Sync) -> f64 {
    let gate = Barrier::new(threads as usize);
    let enough = AtomicBool::new(false);
    let epoch = Instant::now();
    let work = |leads: bool| {
        let mut state = prepare();
        let mut spans: Vec<(f64, f64)> = Vec::new();
        gate.wait();
        let began = Instant::now();
        while !enough.load(Ordering::SeqCst) {
            gate.wait();
            let start = epoch.elapsed();
            pass(&mut state);
            spans.push((start.as_secs_f64(), epoch.elapsed().as_secs_f64()));
            if leads && (spans.len() >= PASSES_MAX || spans.len() >= PASSES_MIN && began.elapsed() >= MEASURE)
            {
                enough.store(true, Ordering::SeqCst);
            }
            // Nobody looks at the decision before it is made.
            gate.wait();
        }
        spans
    };
    let spans: Vec<Vec<(f64, f64)>> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(false))).collect();
        let own = work(true);
        others.into_iter().filter_map(|thread| thread.join().ok()).chain([own]).collect()
    });
    let passes = spans.iter().map(Vec::len).min().unwrap_or(0);
    let pass_s = |i: usize| {
        let start = spans.iter().map(|thread| thread[i].0).fold(f64::INFINITY, f64::min);
        let end = spans.iter().map(|thread| thread[i].1).fold(0.0, f64::max);
        end - start
    };
    (0..passes).map(pass_s).fold(f64::INFINITY, f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::fixture::Tree;

    #[test]
    fn limits_of_this_machine_are_plausible() {
        for threads in [1, 2] {
            let bytes_per_s = read_bandwidth(threads);
            // The slowest boards read about 1 GB/s; the fastest sockets of today about 1 TB/s.
            assert!((2e8..5e12).contains(&bytes_per_s), "{threads} threads: {bytes_per_s:e} B/s");
            let flop_per_s = peak_f32(threads);
            assert!((1e8..1e13).contains(&flop_per_s), "{threads} threads: {flop_per_s:e} FLOP/s");
            println!("{threads} threads: {:.1} GB/s, {:.1} GFLOP/s", bytes_per_s / 1e9, flop_per_s / 1e9);
        }
    }

    #[test]
    fn no_thread_is_one_thread() {
        assert!(peak_f32(0).is_finite());
    }

    #[test]
    fn the_buffer_follows_cache_and_memory() {
        const CACHE: &str = "sys/devices/system/cpu/cpu0/cache";
        // (size of the level-3 cache, free memory in kB, buffer in MiB)
        let cases = [
            (Some("32768K"), Some(1 << 24), 128),
            (Some("98304K"), Some(1 << 24), 384),
            (Some("768M"), Some(1 << 24), 1024),
            (Some("32768K"), Some(256 << 10), 64),
            (Some("a lot"), None, 128),
            (None, None, 128),
        ];
        for (cache, free_kb, buffer_mib) in cases {
            let tree = Tree::new(&[]);
            if let Some(size) = cache {
                for (index, level, kind, size) in [(0, 1, "Data", "32K"), (3, 3, "Unified", size)] {
                    tree.write(&format!("{CACHE}/index{index}/level"), &format!("{level}\n"));
                    tree.write(&format!("{CACHE}/index{index}/type"), &format!("{kind}\n"));
                    tree.write(&format!("{CACHE}/index{index}/size"), &format!("{size}\n"));
                }
            }
            if let Some(free_kb) = free_kb {
                tree.write("proc/meminfo", &format!("MemTotal: 99999999 kB\nMemAvailable: {free_kb} kB\n"));
            }
            assert_eq!(buffer_bytes(&tree.roots()), buffer_mib << 20, "{cache:?} {free_kb:?}");
        }
    }

    #[test]
    fn the_loops_compute_what_they_say() {
        let words: Vec<u64> = (0..1000).collect();
        assert_eq!(sum(&words), 499_500);
        assert_eq!(sum(&[u64::MAX, 2]), 1);
        // x = 0.5 x + 1 settles at 2.
        let settled = multiply_add([1.0; CHAINS], 0.5, 1.0);
        assert!(settled.iter().all(|x| (x - 2.0).abs() < 1e-6));
    }
}
