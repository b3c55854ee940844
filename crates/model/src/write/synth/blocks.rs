//! Random blocks of each format.
//!
//! Quantised blocks are drawn directly: uniform digits under a scale. The sign of each block's scale is random where
//! digits are not symmetric (ggml's quantiser does the same, with the sign of the largest weight), so that weights
//! have no mean; a mean would grow with the width of a row and drown everything else.
//!
//! The sizes of scales vary as they do in a trained model, and that is not for looks. ggml widens half-precision scales
//! by a table of 256 KiB: with the same scale everywhere its entry never leaves the first-level cache, and the twin of
//! a 135M model decoded 25 % faster than the model itself on one thread.

use crate::gguf::{Tensor, TensorType};
use crate::write::draw::{Random, bf16_bits, f16_bits};
use std::io::{self, Write};

/// Blocks drawn before they are written, about 64 KiB of them.
const BATCH_BYTES: usize = 1 << 16;

/// Spread of the scales of one row, as the standard deviation of their logarithm. In SmolLM2-135M (Q4_1) it is 0.165 to
/// 0.185 in most matrices, about what the ranges of 32 normal numbers have.
const BLOCK_SPREAD: f32 = 0.17;
/// Spread from row to row: 0.05 to 0.25 there.
const ROW_SPREAD: f32 = 0.15;
/// Root mean square of scales so spread: exp(BLOCK_SPREAD² + ROW_SPREAD²).
const SPREAD_RMS: f32 = 1.0527;
/// Spread of the middle of a Q4_1 block around 0, in units of its scale: 1.26 to 1.39 there.
const MIDDLE_SPREAD: f32 = 1.3;

/// Standard deviation of digits -127 to 127.
const DEVIATION_Q8: f32 = 73.61;
/// Standard deviation of digits 0 to 15 around 7.5; around 8, as Q4_0 counts, it is 4.637.
const DEVIATION_Q4: f32 = 4.61;
/// The same with a middle that varies.
const DEVIATION_Q4_1: f32 = 4.79;
/// Root mean square of digits -32 to 31.
const DEVIATION_Q6: f32 = 18.48;
/// Root mean square of block scales 64 to 127.
const DEVIATION_Q6_SCALE: f32 = 97.27;

/// Write the data of `tensor`: random weights of this standard deviation, a stream of their own for each name.
///
/// # Errors
/// Those of `out`; `InvalidInput` for a type that no quantisation here asks for.
pub(super) fn write(
    tensor: &Tensor,
    seed: u64,
    deviation: f32,
    out: &mut dyn Write,
    progress: &mut dyn FnMut(u64),
) -> io::Result<()> {
    let draw: fn(&mut Random, f32, &mut Vec<u8>) = match tensor.kind {
        TensorType::F32 => f32_element,
        TensorType::F16 => f16_element,
        TensorType::BF16 => bf16_element,
        TensorType::Q8_0 => q8_0_block,
        TensorType::Q4_0 => q4_0_block,
        TensorType::Q4_1 => q4_1_block,
        TensorType::Q6_K => q6_k_block,
        other => {
            let says = format!("tensor `{}`: random blocks of {other} are not known", tensor.name);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, says));
        }
    };
    let mut random = Random::named(seed, &tensor.name);
    let mut batch = Vec::with_capacity(BATCH_BYTES + tensor.kind.block_bytes() as usize);
    let quantised = tensor.kind.block_elements() > 1;
    let blocks_a_row = tensor.shape[0] / tensor.kind.block_elements();
    let mut of_row = 1.0;
    for at in 0..tensor.elements() / tensor.kind.block_elements() {
        let mut of_block = deviation;
        if quantised {
            if at % blocks_a_row == 0 {
                of_row = spread(&mut random, ROW_SPREAD);
            }
            of_block *= of_row * spread(&mut random, BLOCK_SPREAD) / SPREAD_RMS;
        }
        draw(&mut random, of_block, &mut batch);
        if batch.len() >= BATCH_BYTES {
            out.write_all(&batch)?;
            progress(batch.len() as u64);
            batch.clear();
        }
    }
    out.write_all(&batch)?;
    progress(batch.len() as u64);
    Ok(())
}

fn f32_element(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    to.extend_from_slice(&(random.normal() * deviation).to_le_bytes());
}

fn f16_element(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    to.extend_from_slice(&f16_bits(random.normal() * deviation).to_le_bytes());
}

fn bf16_element(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    to.extend_from_slice(&bf16_bits(random.normal() * deviation).to_le_bytes());
}

/// `block_q8_0`: a scale, 32 signed digits.
fn q8_0_block(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    to.extend_from_slice(&f16_bits(deviation / DEVIATION_Q8).to_le_bytes());
    for _ in 0..4 {
        // The quantiser never makes -128.
        let digits = random.next().to_le_bytes().map(|digit| if digit == 0x80 { 0 } else { digit });
        to.extend_from_slice(&digits);
    }
}

/// `block_q4_0`: a scale, 32 digits that count from -8.
fn q4_0_block(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    let scale = signed(random, deviation / DEVIATION_Q4);
    to.extend_from_slice(&f16_bits(scale).to_le_bytes());
    bytes::<2>(random, to);
}

/// `block_q4_1`: a scale, a minimum, 32 digits.
fn q4_1_block(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    let scale = deviation / DEVIATION_Q4_1;
    let middle = 7.5 + MIDDLE_SPREAD * random.normal();
    to.extend_from_slice(&f16_bits(scale).to_le_bytes());
    to.extend_from_slice(&f16_bits(-middle * scale).to_le_bytes());
    bytes::<2>(random, to);
}

/// `block_q6_K`: the low four bits of 256 digits that count from -32, their high two bits, 16 scales, one scale above
/// those.
fn q6_k_block(random: &mut Random, deviation: f32, to: &mut Vec<u8>) {
    bytes::<24>(random, to);
    for draw in [random.next(), random.next()] {
        // Six bits of size on top of 64, one of sign.
        to.extend(draw.to_le_bytes().map(|byte| {
            let size = 64 + (byte & 0x3f).cast_signed();
            (if byte & 0x40 == 0 { size } else { -size }).cast_unsigned()
        }));
    }
    to.extend_from_slice(&f16_bits(deviation / (DEVIATION_Q6 * DEVIATION_Q6_SCALE)).to_le_bytes());
}

/// A factor around 1 whose logarithm has this standard deviation: (1 + x/256)^256 for exp(x), in multiplications only,
/// hence the same bits everywhere.
fn spread(random: &mut Random, deviation: f32) -> f32 {
    let mut factor = 1.0 + random.normal() * deviation / 256.0;
    for _ in 0..8 {
        factor *= factor;
    }
    factor
}

fn signed(random: &mut Random, size: f32) -> f32 {
    if random.next() & 1 == 0 { size } else { -size }
}

/// Eight random bytes, `WORDS` times.
fn bytes<const WORDS: usize>(random: &mut Random, to: &mut Vec<u8>) {
    for _ in 0..WORDS {
        to.extend_from_slice(&random.next().to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Half precision to single, for numbers that are finite.
    fn half(bytes: &[u8]) -> f32 {
        let bits = u16::from_le_bytes([bytes[0], bytes[1]]);
        let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f32::from(bits & 0x3ff));
        let size = match exponent {
            0 => fraction / 1024.0 * 2f32.powi(-14),
            _ => (1.0 + fraction / 1024.0) * 2f32.powi(exponent - 15),
        };
        if bits >> 15 == 0 { size } else { -size }
    }

    /// Weights of one block, as ggml's `dequantize_row_*` computes them.
    fn weights(kind: TensorType, block: &[u8]) -> Vec<f32> {
        let nibbles = |digits: &[u8]| -> Vec<f32> {
            digits.iter().map(|d| d & 15).chain(digits.iter().map(|d| d >> 4)).map(f32::from).collect()
        };
        match kind {
            TensorType::F32 => vec![f32::from_le_bytes(block.try_into().unwrap())],
            TensorType::F16 => vec![half(block)],
            TensorType::BF16 => {
                vec![f32::from_bits(u32::from(u16::from_le_bytes([block[0], block[1]])) << 16)]
            }
            TensorType::Q8_0 => block[2..].iter().map(|d| half(block) * f32::from(d.cast_signed())).collect(),
            TensorType::Q4_0 => nibbles(&block[2..]).iter().map(|d| half(block) * (d - 8.0)).collect(),
            TensorType::Q4_1 => {
                nibbles(&block[4..]).iter().map(|d| half(block) * d + half(&block[2..])).collect()
            }
            TensorType::Q6_K => (0..256)
                .map(|at| {
                    let (part, within) = (at / 128, at % 128);
                    let (quarter, lane) = (within / 32, within % 32);
                    let low = block[64 * part + 32 * (quarter % 2) + lane] >> (4 * (quarter / 2)) & 15;
                    let high = block[128 + 32 * part + lane] >> (2 * quarter) & 3;
                    let scale = block[192 + 8 * part + 2 * quarter + lane / 16].cast_signed();
                    half(&block[208..]) * f32::from(scale) * (f32::from(low | high << 4) - 32.0)
                })
                .collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn blocks_have_the_deviation_that_was_asked_for() {
        use TensorType::*;
        for kind in [F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q6_K] {
            let deviation = 0.01;
            let shape = vec![256, 1024];
            let size_bytes = kind.bytes(256 * 1024).unwrap();
            let tensor = Tensor { name: "a".into(), shape, kind, offset_bytes: 0, size_bytes };
            let (mut data, mut told) = (Vec::new(), 0);
            write(&tensor, 1, deviation, &mut data, &mut |bytes| told += bytes).unwrap();
            assert_eq!((data.len() as u64, told), (size_bytes, size_bytes), "{kind}");

            let all: Vec<f64> = data
                .chunks(kind.block_bytes() as usize)
                .flat_map(|block| weights(kind, block))
                .map(f64::from)
                .collect();
            let mean = all.iter().sum::<f64>() / all.len() as f64;
            let rms = (all.iter().map(|x| x * x).sum::<f64>() / all.len() as f64).sqrt();
            assert!((rms / f64::from(deviation) - 1.0).abs() < 0.02, "{kind}: {rms}");
            assert!(mean.abs() < 0.01 * rms, "{kind}: mean {mean}, deviation {rms}");
        }
    }

    #[test]
    fn scales_vary_like_a_trained_models() {
        for (kind, at) in
            [(TensorType::Q8_0, 0), (TensorType::Q4_0, 0), (TensorType::Q4_1, 0), (TensorType::Q6_K, 208)]
        {
            let size_bytes = kind.bytes(1024 * 1024).unwrap();
            let tensor =
                Tensor { name: "a".into(), shape: vec![1024, 1024], kind, offset_bytes: 0, size_bytes };
            let mut data = Vec::new();
            write(&tensor, 1, 0.05, &mut data, &mut |_| {}).unwrap();
            let logs: Vec<f32> =
                data.chunks(kind.block_bytes() as usize).map(|block| half(&block[at..]).abs().ln()).collect();
            let mean = logs.iter().sum::<f32>() / logs.len() as f32;
            let deviation = (logs.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / logs.len() as f32).sqrt();
            assert!((0.2..0.26).contains(&deviation), "{kind}: {deviation}");
            let rows: Vec<f32> = logs
                .chunks(1024 / kind.block_elements() as usize)
                .map(|row| row.iter().sum::<f32>() / row.len() as f32 - mean)
                .collect();
            let rows = (rows.iter().map(|x| x * x).sum::<f32>() / rows.len() as f32).sqrt();
            assert!(rows > 0.12, "{kind}: rows differ by {rows}");
        }
    }

    #[test]
    fn what_nothing_asks_for_is_refused() {
        let tensor = Tensor {
            name: "a".into(),
            shape: vec![256],
            kind: TensorType::Q2_K,
            offset_bytes: 0,
            size_bytes: 84,
        };
        let error = write(&tensor, 1, 0.1, &mut Vec::new(), &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("Q2_K"), "{error}");
    }
}
