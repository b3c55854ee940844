//! `qeil doctor`: what can be measured here, what cannot, and what would change that.
//!
//! The library examines; this file puts its findings into a page that can be read from top to bottom: what is
//! measured, what is estimated and how to a better estimate, what is missing and whether anything helps.

use crate::arguments::DoctorArguments;
use crate::table::{self, COLUMNS_MAX, wrap};
use anyhow::Result;
use qeil_hardware::Roots;
use qeil_hardware::calibration::Calibration;
use qeil_hardware::catalogue::Catalogue;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::doctor::{Diagnosis, Figure, Finding, Instruments, State, examine};
use qeil_hardware::energy::Envelope;
use qeil_hardware::machine::Machine;
use qeil_hardware::nvml;
use qeil_units::{Bytes, Provenance, Watts};

/// How many figures of one source are shown in the text; JSON has all.
const FIGURES_MAX: usize = 8;

pub async fn doctor(arguments: &DoctorArguments) -> Result<String> {
    let roots = Roots::default();
    let mut kept = None;
    if let Some((idle_w, busy_w)) = arguments.calibrate {
        kept = Some(Calibration::new(&roots, Watts(idle_w), Watts(busy_w))?.keep()?);
    }
    let envelope = Envelope::of_user(&Cpu::read(&roots))?;
    let catalogue = Catalogue::load()?;
    let found = tokio::task::spawn_blocking(move || {
        let with = Instruments { nvidia: nvml::open(), envelope, catalogue: &catalogue };
        examine(&roots, &with, std::thread::sleep)
    })
    .await?;
    if arguments.json {
        return table::json(&found);
    }
    let kept = kept.map(|path| format!(" Readings kept in {}.\n\n", path.display()));
    Ok(kept.unwrap_or_default() + &text(&found))
}

fn text(found: &Diagnosis) -> String {
    let mut text = format!(" {}\n", wrap(&machine(&found.machine), width(1), " "));
    let sections = [
        ("Measured here", State::Measured),
        ("Estimated", State::Estimated),
        ("Cannot be measured here", State::Missing),
    ];
    for (title, state) in sections {
        let of_state: Vec<&Finding> = found.findings.iter().filter(|f| f.state == state).collect();
        if !of_state.is_empty() {
            text += &format!("\n {title}\n");
            of_state.into_iter().for_each(|f| text += &paragraph(f));
        }
    }
    let verdict = match found.energy {
        Provenance::Measured => "Energy on this machine's processor is measured.",
        _ => {
            "Every joule of this machine's processor will be labelled estimated, until one of the above helps."
        }
    };
    text + &format!("\n {}\n", wrap(verdict, width(1), " "))
}

fn paragraph(finding: &Finding) -> String {
    let shown = finding.figures.iter().take(FIGURES_MAX);
    let mut figures: Vec<String> = shown.map(|f| format!("{} {}", f.name, with_unit(f))).collect();
    if let Some(more) = finding.figures.len().checked_sub(FIGURES_MAX).filter(|more| *more > 0) {
        figures.push(format!("{more} more (--json)"));
    }
    let figures = (!figures.is_empty()).then(|| figures.join(", "));
    let told = [figures, finding.remark.clone()].into_iter().flatten().collect::<Vec<_>>().join("; ");
    let mut text = format!("   {}\n", wrap(&format!("{}: {told}", finding.what), width(3), "     "));
    for remedy in &finding.remedies {
        text += &format!("     → {}\n", wrap(&remedy.what, width(7), "       "));
        // A command stays in one piece: it is there to be copied.
        text += &remedy.command.as_ref().map(|command| format!("         {command}\n")).unwrap_or_default();
    }
    text
}

fn width(indent: usize) -> usize {
    usize::from(COLUMNS_MAX) - indent
}

fn with_unit(figure: &Figure) -> String {
    match figure.unit {
        "B" => Bytes(figure.value as u64).to_string(),
        "W" => Watts(figure.value).to_string(),
        "Hz" => clock(figure.value),
        unit => format!("{} {unit}", table::figure(figure.value)),
    }
}

/// A clock in GHz.
pub fn clock(hz: f64) -> String {
    format!("{:.2} GHz", hz * 1e-9)
}

fn machine(machine: &Machine) -> String {
    let cores = machine.physical_cores.map(|cores| format!("{cores} cores"));
    let vm = machine.virtual_machine.filter(|vm| *vm).map(|_| "virtual machine".to_owned());
    let words = [
        Some(machine.cpu_model.clone().unwrap_or_else(|| "processor of unknown name".into())),
        cores,
        Some(format!("{} logical CPUs", machine.logical_cpus)),
        machine.memory_bytes.map(|bytes| Bytes(bytes).to_string()),
        machine.os.clone(),
        machine.kernel.as_ref().map(|kernel| format!("Linux {kernel}")),
        vm,
    ];
    words.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use qeil_hardware::doctor::Remedy;

    fn finding(what: &str, state: State) -> Finding {
        Finding {
            what: what.into(),
            state,
            figures: vec![],
            remark: Some("because".into()),
            remedies: vec![],
        }
    }

    fn diagnosis(energy: Provenance, findings: Vec<Finding>) -> Diagnosis {
        Diagnosis { machine: Machine::read(&Roots::default()), energy, findings }
    }

    #[test]
    fn a_page_in_three_parts() {
        let figure = |name: &str, value, unit| Figure { name: name.into(), value, unit };
        let mut power = finding("counters", State::Measured);
        power.figures =
            vec![figure("package-0", 12.345, "W"), figure("clock", 3.5e9, "Hz"), figure("use", 5.0, "%")];
        let mut many = finding("sensors", State::Measured);
        many.figures = (0..11).map(|i| figure(&format!("t{i}"), 50.0, "°C")).collect();
        let mut estimate = finding("guess", State::Estimated);
        estimate.remedies = vec![Remedy { what: "do this".into(), command: Some("x ".repeat(80)) }];
        let found =
            diagnosis(Provenance::Estimated, vec![power, many, estimate, finding("battery", State::Missing)]);
        let broken = text(&found);
        let page = broken.split_whitespace().collect::<Vec<_>>().join(" ");
        let at = |part: &str| page.find(part).unwrap_or_else(|| panic!("{part:?} is not in\n{page}"));
        assert!(at("Measured here") < at("counters: package-0 12.3 W, clock 3.50 GHz, use 5.00 %; because"));
        assert!(at("t7 50.0 °C") < at("3 more (--json)"));
        assert!(at("Estimated") < at("→ do this"));
        assert!(at("Cannot be measured here") < at("battery: because"));
        assert!(at("labelled estimated") > at("battery"));
        // The command was not broken.
        assert!(broken.lines().any(|line| line.trim() == "x ".repeat(80).trim()));
    }

    #[test]
    fn a_machine_that_measures_says_so_and_shows_no_empty_part() {
        let page = text(&diagnosis(Provenance::Measured, vec![finding("counters", State::Measured)]));
        assert!(page.contains("is measured") && !page.contains("Cannot") && !page.contains("→"), "{page}");
    }
}
