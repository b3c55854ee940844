//! How well each law predicts coverage at 1,000 samples from 100.
//!
//! `cargo run --release -p qeil-laws --example thinning -- FILE.csv [REPEATS]` takes, of each model's problems with at
//! least 1,000 samples, 100 samples each without replacement, fits all laws, and compares their coverage at 1,000 with
//! the unbiased pass@1,000 of the full counts. Without a file it does the same with simulated tasks of several families,
//! whose truth is known. Errors are absolute shares of problems, their mean over repeats and, in brackets, the bias.

use qeil_laws::coverage::beta::Difficulty;
use qeil_laws::coverage::pass::mean_pass_at_k;
use qeil_laws::coverage::simulation::{Family, fixed, thinned};
use qeil_laws::coverage::study::{Law, Study};
use qeil_laws::coverage::{Counts, CoverageError};
use qeil_laws::random::Random;
use std::collections::BTreeMap;
use std::error::Error;
use std::fs;

const DRAWN: u32 = 100;
const K: u32 = 1_000;
const REPEATS: u64 = 20;
/// Problems of a simulated model: as many as a common subset of GSM8K.
const TASKS: usize = 128;

/// A name, and for each repeat the counts of 100 samples and the true coverage at 1,000.
type Subject = (String, Vec<(Vec<Counts>, f64)>);

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let (file, repeats) = (arguments.next(), arguments.next());
    let repeats = repeats.map_or(Ok(REPEATS), |text| text.parse())?;
    let subjects = match file.filter(|file| file != "families") {
        Some(file) => measured(&file, repeats)?,
        None => simulated(repeats),
    };
    let mut names: Vec<String> = Law::ALL.iter().map(|law| law.name().into()).collect();
    names.extend(["exp_power by least squares".into(), "chosen".into()]);
    println!(
        "{:28}{}",
        "mean absolute error (bias)",
        names.iter().map(|name| format!(" | {name}")).collect::<String>()
    );
    let mut overall = vec![0.0; names.len()];
    for (name, repeats) in &subjects {
        let mut errors = vec![[0.0; 2]; names.len()];
        let mut other = 0;
        for (seed, (counts, truth)) in repeats.iter().enumerate() {
            let study = Study::new(counts, &[f64::from(K)], 0.95, 0, seed as u64)?;
            let mut found: Vec<f64> = study.laws.iter().map(|law| law.coverage[0]).collect();
            found.push(least_squares(counts)?);
            found.extend(study.chosen().map(|law| law.coverage[0]));
            other += usize::from(study.chosen != Law::ALL[0]);
            for (errors, found) in errors.iter_mut().zip(found) {
                errors[0] += (found - truth).abs() / repeats.len() as f64;
                errors[1] += (found - truth) / repeats.len() as f64;
            }
        }
        let cells: String = errors
            .iter()
            .zip(&names)
            .map(|([error, bias], name)| {
                format!(" | {:>width$}", format!("{error:.3} ({bias:+.3})"), width = name.len())
            })
            .collect();
        println!("{name:28}{cells}  single law chosen {other} times");
        overall.iter_mut().zip(&errors).for_each(|(sum, [error, _])| *sum += error / subjects.len() as f64);
    }
    let cells: String = overall
        .iter()
        .zip(&names)
        .map(|(error, name)| format!(" | {error:>width$.4}", width = name.len()))
        .collect();
    println!("{:28}{cells}", "overall");
    Ok(())
}

fn measured(file: &str, repeats: u64) -> Result<Vec<Subject>, Box<dyn Error>> {
    let mut subjects = Vec::new();
    for (number, (model, counts)) in read(file)?.into_iter().enumerate() {
        let full: Vec<Counts> = counts.iter().copied().filter(|task| task.samples >= K).collect();
        if full.is_empty() {
            continue;
        }
        let truth = mean_pass_at_k(&full, K)?.unwrap_or(f64::NAN);
        let thin = |repeat| {
            let mut random = Random::new(number as u64, repeat);
            (full.iter().map(|&task| thinned(task, DRAWN, &mut random)).collect(), truth)
        };
        let name = format!("{} ({}): {truth:.3}", model, full.len());
        subjects.push((name, (0..repeats).map(thin).collect()));
    }
    Ok(subjects)
}

/// A model and its counts.
type Model = (String, Vec<Counts>);

/// All models in the order of the file.
fn read(file: &str) -> Result<Vec<Model>, Box<dyn Error>> {
    let text = fs::read_to_string(file)?;
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap_or_default().split(',').map(str::trim).collect();
    let mut models: Vec<Model> = Vec::new();
    for line in lines {
        let row: BTreeMap<&str, &str> = header.iter().copied().zip(line.split(',').map(str::trim)).collect();
        let cell = |name: &str| row.get(name).copied().ok_or_else(|| format!("no {name} in {line:?}"));
        let model = cell("model")?;
        let counts = Counts::new(cell("samples")?.parse()?, cell("correct")?.parse()?)?;
        match models.iter_mut().find(|(known, _)| known == model) {
            Some((_, all)) => all.push(counts),
            None => models.push((model.to_owned(), vec![counts])),
        }
    }
    Ok(models)
}

fn simulated(repeats: u64) -> Vec<Subject> {
    let beta = |alpha, beta, unsolvable| Family::Beta(Difficulty { alpha, beta, unsolvable });
    let logit = |mean, deviation| Family::LogitNormal { mean, deviation };
    let mixed = |share, first, second| Family::Mixed(share, Box::new(first), Box::new(second));
    let families = [
        ("beta 0.3, 3", beta(0.3, 3.0, 0.0)),
        ("beta 0.15, 1", beta(0.15, 1.0, 0.0)),
        ("beta 0.5, 50", beta(0.5, 50.0, 0.0)),
        ("beta 0.3, 3, 20 % never", beta(0.3, 3.0, 0.2)),
        ("beta 1, 60, 30 % never", beta(1.0, 60.0, 0.3)),
        ("log-normal −5, 2", Family::LogNormal { mean: -5.0, deviation: 2.0 }),
        ("logit-normal −3, 2.5", logit(-3.0, 2.5)),
        ("logit-normal −6, 1.5", logit(-6.0, 1.5)),
        ("power 0.25 to 0.5", Family::Power { exponent: 0.25, largest: 0.5 }),
        ("power 0.5 to 0.05", Family::Power { exponent: 0.5, largest: 0.05 }),
        ("easy and hard", mixed(0.4, beta(2.0, 2.0, 0.0), Family::LogNormal { mean: -7.0, deviation: 1.5 })),
        ("easy, hard and never", mixed(0.3, beta(5.0, 2.0, 0.0), beta(0.7, 100.0, 0.4))),
    ];
    let subject = |(name, family): (&str, Family)| {
        let one = |repeat| {
            let mut random = Random::new(77, repeat);
            let p: Vec<f64> = (0..TASKS).map(|_| family.draw(&mut random)).collect();
            let truth = p.iter().map(|p| 1.0 - (1.0 - p).powf(f64::from(K))).sum::<f64>() / TASKS as f64;
            (p.iter().map(|&p| fixed(DRAWN, p, &mut random)).collect(), truth)
        };
        (name.to_owned(), (0..repeats).map(one).collect())
    };
    families.into_iter().map(subject).collect()
}

/// `exp(−a·k^−b)` through points of pass@k that are evenly spaced in the logarithm of k: the fit to beat.
fn least_squares(counts: &[Counts]) -> Result<f64, CoverageError> {
    const POINTS: i32 = 12;
    let mut points: Vec<(f64, f64)> = Vec::new();
    for at in 0..POINTS {
        let k = f64::from(DRAWN).powf(f64::from(at) / f64::from(POINTS - 1)).round();
        if let Some(value) = mean_pass_at_k(counts, k as u32)?
            && value > 0.0
            && value < 1.0
        {
            points.push((k.ln(), (-value.ln()).ln()));
        }
    }
    let count = points.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
    let (x, y) = (mean(|point| point.0), mean(|point| point.1));
    let slope = points.iter().map(|point| (point.0 - x) * (point.1 - y)).sum::<f64>()
        / points.iter().map(|point| (point.0 - x).powi(2)).sum::<f64>();
    let found = (-(y + slope * (f64::from(K).ln() - x)).exp()).exp();
    Ok(if found.is_finite() { found } else { 0.0 })
}
