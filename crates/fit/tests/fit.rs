//! Laws from rows: what is found is what the synthetic machine does, and what spoils rows is seen.

mod synthetic;

use qeil_fit::limits::Roofline;
use qeil_fit::quantisation::Divergence;
use qeil_fit::quantity::{Predictor, Quantity};
use qeil_fit::report::{FitInput, FitReport, SeriesReport};
use qeil_fit::{FitError, chart};
use qeil_laws::law::Form;
use qeil_measure::profile::Observation;
use qeil_units::Provenance;
use synthetic::{FAMILY, Machine, cell, family, model, star};

fn fit_with(rows: &[Observation], rooflines: &[Roofline], leave_out: &[&str]) -> Result<FitReport, FitError> {
    let leave_out: Vec<String> = leave_out.iter().map(ToString::to_string).collect();
    FitReport::new(&FitInput {
        observations: rows,
        rooflines,
        divergences: &[],
        kl_nats_max: 0.05,
        leave_out: &leave_out,
    })
}

fn series(rows: &[Observation]) -> SeriesReport {
    match fit_with(rows, &[], &[]).map(|report| report.series) {
        Ok(mut series) if series.len() == 1 => series.remove(0),
        other => panic!("not one device, thread count and quantisation: {other:?}"),
    }
}

#[test]
fn the_law_of_the_machine_wins() {
    let report = series(&Machine { model_sd: 0.0, ..Machine::default() }.measure(&family(), &star()));
    // Prefill is proportional to the non-embedding parameters, decoding affine in the bytes.
    let prefill = report.quantity(Quantity::PrefillPerToken).unwrap().best().unwrap();
    assert_eq!(prefill.predictor, Predictor::NonEmbedding);
    if prefill.fit.law.form == Form::Power {
        assert!((prefill.fit.law.b - 1.0).abs() < 0.03, "{:?}", prefill.fit);
    }
    let decode = report.quantity(Quantity::DecodeStep).unwrap();
    let best = decode.best().unwrap();
    assert_eq!(best.fit.law.form, Form::Affine, "{}", decode.verdict);
    assert!(best.left_out.median_error < 0.02, "{}", decode.verdict);
    assert!(best.fit.r2_log.unwrap() > 0.99);
    assert!(decode.verdict.contains("The power law loses"), "{}", decode.verdict);
    assert_eq!(decode.laws.len(), 6, "two forms over three predictors");
    let reference = decode.reference.unwrap();
    assert_eq!((reference.samples, reference.depth_tokens, reference.output_tokens), (Some(1), 0, Some(128)));
    assert!(decode.blind.is_some());
}

#[test]
fn a_machine_without_fixed_cost_follows_a_power_law() {
    let machine = Machine { step_fixed_ms: 0.0, model_sd: 0.0, noise_sd: 0.0, ..Machine::default() };
    let decode = series(&machine.measure(&family(), &star()));
    let decode = decode.quantity(Quantity::DecodeStep).unwrap();
    let power = decode
        .laws
        .iter()
        .find(|row| (row.fit.law.form, row.predictor) == (Form::Power, Predictor::StepBytes))
        .unwrap();
    assert!((power.fit.law.b - 1.0).abs() < 0.01, "{:?}", power.fit);
    assert!(power.fit.b_interval.holds(power.fit.law.b) && power.b_bootstrap.unwrap().holds(power.fit.law.b));
}

#[test]
fn the_joint_law_finds_the_exponents_of_samples_and_tokens() {
    let cells: Vec<_> = [16, 64, 256]
        .iter()
        .flat_map(|&output| [1, 2, 4].map(|samples| cell(64, output, samples, 0)))
        .collect();
    let report = series(&Machine::default().measure(&family(), &cells));
    assert_eq!(report.joint.len(), 2, "{:?}", report.joint_missing);
    for joint in &report.joint {
        let [n, s, t] = &joint.fit.exponents[..] else { panic!("{:?}", joint.fit.exponents) };
        assert!((0.6..1.0).contains(&n.value.unwrap()), "{n:?}");
        // Each further sample costs a fifth of a step.
        assert!((0.2..0.5).contains(&s.value.unwrap()), "{s:?}");
        assert!((0.6..1.05).contains(&t.value.unwrap()), "{t:?}");
        assert!(n.interval.is_some() && joint.fit.r2_log.unwrap() > 0.95);
    }
    // Without energy there is one of latency, and a reason.
    let report = series(&Machine { power_w: None, ..Machine::default() }.measure(&family(), &cells));
    assert_eq!((report.joint.len(), report.joint_missing.len()), (1, 1));
    // Samples that never vary have no exponent, and the law stands.
    let report = series(&Machine::default().measure(&family(), &[cell(64, 16, 1, 0), cell(64, 64, 1, 0)]));
    assert_eq!(report.joint[0].fit.exponents[1].value, None);
}

#[test]
fn a_model_held_out_is_not_seen_and_judged() {
    let rows = Machine::default().measure(&family(), &star());
    for wanted in ["Qwen2 1.5B", "qwen2-1.5b", "1.5b"] {
        let report = &fit_with(&rows, &[], &[wanted]).unwrap().series[0];
        assert_eq!(report.subjects.iter().filter(|subject| subject.held_out).count(), 1);
        for quantity in [Quantity::PrefillPerToken, Quantity::DecodeStep, Quantity::FirstToken] {
            let report = report.quantity(quantity).unwrap();
            assert_eq!(report.best().unwrap().fit.groups, FAMILY.len() - 1);
            let [held] = &report.held_out[..] else { panic!("{:?}", report.held_out) };
            assert!(held.inside && held.relative_error.abs() < 0.15, "{quantity}: {held:?}");
        }
    }
    let Err(FitError::UnknownModel { known, .. }) = fit_with(&rows, &[], &["Mamba"]) else { panic!() };
    assert_eq!(known.len(), FAMILY.len());
    assert!(fit_with(&rows, &[], &[""]).is_err());
}

#[test]
fn the_law_does_not_move_with_what_it_must_not_see() {
    let mut rows = Machine::default().measure(&family(), &star());
    let law = |rows: &[Observation]| {
        let report = fit_with(rows, &[], &["Qwen2 1.5B"]).unwrap();
        report.series[0].quantity(Quantity::DecodeStep).unwrap().best().unwrap().fit.law
    };
    let before = law(&rows);
    for row in rows.iter_mut().filter(|row| row.model.name == "Qwen2 1.5B") {
        row.decode_ms = row.decode_ms.map(|ms| ms * 3.0);
    }
    assert_eq!(before, law(&rows));
    let report = fit_with(&rows, &[], &["Qwen2 1.5B"]).unwrap();
    assert!(!report.series[0].quantity(Quantity::DecodeStep).unwrap().held_out[0].inside);
}

#[test]
fn disturbed_repetitions_count_only_where_there_are_no_others() {
    let clean = Machine::default().measure(&family(), &star());
    let value = |rows: &[Observation], at: usize| {
        series(rows).quantity(Quantity::DecodeStep).unwrap().points[at].clone()
    };
    let spoil = |row: &mut Observation| {
        row.disturbed = true;
        row.decode_ms = row.decode_ms.map(|ms| ms * 5.0);
        row.wall_s *= 5.0;
    };
    let mut some = clean.clone();
    some.iter_mut().filter(|row| row.repetition < 2).for_each(spoil);
    assert!((value(&some, 0).value / value(&clean, 0).value - 1.0).abs() < 0.05);
    assert!(!value(&some, 0).disturbed);
    let mut all = clean.clone();
    all.iter_mut().filter(|row| row.model.name == "GPT-2 124M").for_each(spoil);
    assert!(value(&all, 0).disturbed && !value(&all, 1).disturbed);
    let report = series(&all);
    assert_eq!(report.disturbed_cells, star().len());
    assert_eq!(report.subjects[0].disturbed_rows, star().len() * 5);
}

#[test]
fn devices_threads_and_quantisations_are_kept_apart() {
    let machine = Machine::default();
    let mut rows = machine.measure(&family(), &star());
    let mut more = rows.clone();
    for row in &mut more {
        row.cell.threads = 1;
    }
    rows.extend(more.clone());
    for row in &mut more {
        row.cell.device = "Vulkan0".into();
    }
    rows.extend(more);
    let q8: Vec<_> =
        FAMILY.iter().map(|(name, total, without)| model(name, *total, *without, "Q8_0")).collect();
    rows.extend(machine.measure(&q8, &star()));
    let report = fit_with(&rows, &[], &[]).unwrap();
    let keys: Vec<String> = report.series.iter().map(|series| series.key.to_string()).collect();
    assert_eq!(
        keys,
        ["CPU, 1 thread, Q4_0", "CPU, 2 threads, Q4_0", "CPU, 2 threads, Q8_0", "Vulkan0, 1 thread, Q4_0"]
    );
}

#[test]
fn what_allows_no_law_says_why() {
    assert_eq!(fit_with(&[], &[], &[]).unwrap_err(), FitError::Nothing);
    let report = series(&Machine::default().measure(&family()[..2], &star()));
    for quantity in &report.quantities {
        assert!(quantity.best().is_none() && quantity.verdict.contains("at least 3"), "{}", quantity.verdict);
        assert_eq!(quantity.points.len(), 2, "the points are shown all the same");
    }
    assert!(chart::draw(&report.quantities[0], &report.key).is_none());
    let no_energy = series(&Machine { power_w: None, ..Machine::default() }.measure(&family(), &star()));
    let energy = no_energy.quantity(Quantity::EnergyPerEmittedToken).unwrap();
    assert!(energy.best().is_none() && energy.label.is_none() && energy.reference.is_none());
}

#[test]
fn energies_keep_the_weakest_label() {
    let mut rows =
        Machine { provenance: Provenance::Measured, ..Machine::default() }.measure(&family(), &star());
    let label = |rows: &[Observation]| {
        let report = series(rows);
        let of = |quantity| report.quantity(quantity).unwrap().label.clone().unwrap().provenance;
        [of(Quantity::EnergyPerEmittedToken), of(Quantity::EnergyPerPrefillToken), of(Quantity::DecodeStep)]
    };
    assert_eq!(label(&rows), [Provenance::Measured; 3]);
    for row in &mut rows {
        if let (true, Some(energy)) = (row.model.name == "LFM2 2.6B", &mut row.energy) {
            energy.gross.provenance = Provenance::Simulated;
        }
    }
    assert_eq!(label(&rows), [Provenance::Simulated, Provenance::Simulated, Provenance::Measured]);
}

#[test]
fn twins_share_a_group() {
    let mut models = family();
    let mut real = models[2].clone();
    real.weightless = false;
    real.sha256 = "real".into();
    models.push(real);
    let report = series(&Machine::default().measure(&models, &star()));
    let fit = &report.quantity(Quantity::DecodeStep).unwrap().best().unwrap().fit;
    assert_eq!((fit.points, fit.groups), (7, 6));
}

#[test]
fn fractions_of_the_limit_and_where_the_rest_goes() {
    let machine = Machine { model_sd: 0.0, noise_sd: 0.0, ..Machine::default() };
    let rows = machine.measure(&family(), &star());
    let report = fit_with(&rows, &[machine.roofline()], &[]).unwrap();
    let limits = report.series[0].limits.as_ref().unwrap();
    assert_eq!(limits.rows.len(), FAMILY.len());
    for (row, model) in limits.rows.iter().zip(family()) {
        let context = 256.0 + 64.0;
        let bytes = model.step_bytes as f64 + model.kv_bytes_per_token * context;
        assert!((row.bytes_per_step / bytes - 1.0).abs() < 1e-9);
        let (_, step_ms) = machine.truth(&model, &cell(256, 128, 1, 0));
        assert!((row.bandwidth_fraction - bytes / 22e9 * 1e3 / step_ms).abs() < 1e-9, "{row:?}");
        assert!((row.tokens_per_s / row.tokens_per_s_limit - row.bandwidth_fraction).abs() < 1e-9);
        assert!(row.prefill_arithmetic_fraction.is_some());
    }
    // The smallest model suffers most, from the 2 ms that every step costs.
    assert!(limits.explanation.starts_with("GPT-2 124M (weightless) is furthest"), "{}", limits.explanation);
    let cause = limits.explanation.split("Of the rest, ").nth(1).unwrap();
    assert!(cause.starts_with("2.") || cause.starts_with("1.9"), "{cause}");
    assert!(cause.contains("fixed cost"), "{cause}");
    // Without the fixed cost, it is the bytes.
    let machine = Machine { step_fixed_ms: 0.0, ..machine };
    let report = fit_with(&machine.measure(&family(), &star()), &[machine.roofline()], &[]).unwrap();
    let explanation = &report.series[0].limits.as_ref().unwrap().explanation;
    assert!(
        explanation.split("Of the rest, ").nth(1).unwrap().contains("work on every byte"),
        "{explanation}"
    );
    // Another thread count has other limits, and a later probe replaces an earlier one.
    let other = Roofline { threads: 1, ..machine.roofline() };
    assert!(fit_with(&rows, &[other], &[]).unwrap().series[0].limits.is_none());
    let later = Roofline { read_bytes_per_s: 44e9, ..machine.roofline() };
    let report = fit_with(&rows, &[machine.roofline(), later], &[]).unwrap();
    assert_eq!(report.series[0].limits.as_ref().unwrap().roofline.read_bytes_per_s, 44e9);
}

#[test]
fn the_fastest_quantisation_within_the_bound_is_chosen() {
    let machine = Machine::default();
    let kinds = ["Q4_0", "Q4_1", "Q8_0"];
    let models: Vec<_> = kinds
        .map(|kind| qeil_measure::profile::ModelIdentity {
            weightless: false,
            ..model("SmolLM2 135M", 134_515_008, 106_000_000, kind)
        })
        .to_vec();
    let rows = machine.measure(&models, &star());
    let divergence = |kind: &str, kl_nats| Divergence {
        sha256: format!("SmolLM2 135M {kind}"),
        kl_nats,
        top1_agreement: Some(0.9),
        reference: "F16".into(),
    };
    let known = [divergence("Q4_0", 0.08), divergence("Q4_1", 0.04), divergence("Q8_0", 0.001)];
    for (known, bound, choice) in [
        (&known[..], 0.1, Some("Q4_0")),
        (&known[..], 0.05, Some("Q4_1")),
        (&known[..], 0.01, Some("Q8_0")),
        (&known[..], 0.0001, None),
        (&known[2..], 0.1, Some("Q8_0")),
        (&[], 0.1, None),
    ] {
        let report = FitReport::new(&FitInput {
            observations: &rows,
            rooflines: &[],
            divergences: known,
            kl_nats_max: bound,
            leave_out: &[],
        })
        .unwrap();
        let [one] = &report.quantisations[..] else { panic!("{:?}", report.quantisations) };
        let shown: Vec<&str> = one.rows.iter().map(|row| row.quantisation.as_str()).collect();
        assert_eq!(shown, kinds);
        assert!(one.rows.iter().all(|row| row.decode_tokens_per_s.is_some()
            && row.prefill_tokens_per_s.is_some()
            && row.energy_per_token_j.is_some()));
        assert_eq!(one.choice.map(|at| shown[at]), choice, "bound {bound}: {}", one.verdict);
        assert_eq!(one.verdict.contains("Not judged"), known.len() < 3, "{}", one.verdict);
    }
    // One quantisation is no comparison.
    assert!(fit_with(&machine.measure(&family(), &star()), &[], &[]).unwrap().quantisations.is_empty());
}

#[test]
fn a_picture_says_what_it_shows() {
    let mut rows = Machine::default().measure(&family(), &star());
    for row in rows.iter_mut().filter(|row| row.model.name == "Llama 3.2 1B") {
        row.model.weightless = false;
        row.model.name = "Llama <3.2> & 1B".into();
    }
    let report = &fit_with(&rows, &[], &["Qwen2 1.5B"]).unwrap().series[0];
    for quantity in &report.quantities {
        let picture = chart::draw(quantity, &report.key).unwrap();
        for part in [
            "CPU, 2 threads, Q4_0",
            "of synthetic",
            "95 % prediction interval",
            "Rival: ",
            "weightless (random weights)",
            "Measured, real weights",
            "held out",
            "Held out: Qwen2 1.5B",
            "GPT-2 124M<",
            "Llama &lt;3.2&gt; &amp; 1B<",
            "(logarithmic)",
            "stroke-dasharray",
        ] {
            assert!(picture.contains(part), "{} lacks {part:?}", quantity.quantity);
        }
        let label =
            if quantity.quantity.is_energy() { "Figures are estimated" } else { "Figures are measured" };
        assert!(picture.contains(label), "{}", quantity.quantity);
        assert!(!picture.contains("NaN") && !picture.contains("inf"), "{}", quantity.quantity);
    }
}

#[test]
fn the_document_survives_json_and_is_repeatable() {
    let machine = Machine::default();
    let rows = machine.measure(&family(), &star());
    let fit = || fit_with(&rows, &[machine.roofline()], &["Qwen2 1.5B"]).unwrap();
    let text = serde_json::to_string(&fit()).unwrap();
    assert_eq!(text, serde_json::to_string(&fit()).unwrap());
    let back: FitReport = serde_json::from_str(&text).unwrap();
    assert_eq!(back.series[0].quantities.len(), Quantity::ALL.len());
    assert_eq!(back.series[0].key, fit().series[0].key);
}

#[test]
fn rows_of_two_machines_are_never_fitted_together() {
    let rows = Machine::default().measure(&family(), &star());
    let moved = rows.iter().cloned().map(|row| Observation { machine: "another".into(), ..row });
    let both: Vec<Observation> = rows.iter().cloned().chain(moved).collect();
    let report = fit_with(&both, &[Machine::default().roofline()], &[]).unwrap();
    let machines: Vec<&str> = report.series.iter().map(|series| series.key.machine.as_str()).collect();
    assert_eq!(machines, ["another", "synthetic"]);
    assert!(report.series[0].limits.is_none(), "the limits of one machine are not another's");
    assert!(report.series[1].limits.is_some());
}
