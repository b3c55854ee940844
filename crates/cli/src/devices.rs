//! `qeil devices`.

use crate::arguments::DevicesArguments;
use crate::table::{self, MISSING};
use anyhow::Result;
use qeil_engine::handle::{Launch, probe_devices};
use qeil_hardware::Roots;
use qeil_hardware::cpu::Cpu;
use qeil_hardware::energy::{EnergyMeter, Envelope};
use qeil_measure::report::DevicesReport;

pub async fn devices(arguments: &DevicesArguments) -> Result<String> {
    let roots = Roots::default();
    let cpu = Cpu::read(&roots);
    let meter = EnergyMeter::open(&roots, Envelope::of_user(&cpu)?);
    let found = probe_devices(&Launch::this_program()?).await?;
    let report = DevicesReport::new(found, cpu, &meter);
    if arguments.json {
        return table::json(&report);
    }
    let mut rows = table::table(&["device", "kind", "memory", "free", "description"], 2..4);
    for device in &report.devices {
        let size = |size: Option<u64>| size.map_or_else(|| MISSING.into(), table::bytes);
        rows.add_row([
            device.name.clone(),
            device.kind.replace('_', " "),
            size(device.memory_bytes),
            size(device.memory_free_bytes),
            device.description.clone(),
        ]);
    }
    let cpu = &report.cpu;
    let cores = cpu.physical_cores.map_or_else(|| "unknown".into(), |n| n.to_string());
    let usable = cpu.usable_cpus.len();
    let width = usize::from(table::COLUMNS_MAX) - 1;
    let mut text = format!(
        "{rows}\n Processor: {}; {} logical CPUs, physical cores: {cores}{}\n",
        cpu.model.as_deref().unwrap_or("of unknown name"),
        cpu.logical_cpus,
        if usable > 0 && usable < cpu.logical_cpus as usize {
            format!(", {usable} usable by this process")
        } else {
            String::new()
        },
    );
    let energy = format!("Energy: {}, {}", report.energy.provenance, report.energy.source);
    text += &format!(" {}\n", table::wrap(&energy, width, " "));
    if let Some(remark) = &report.energy.remark {
        text += &format!(" {}\n", table::wrap(remark, width, " "));
    }
    Ok(text)
}
