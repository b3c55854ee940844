//! What a simulated machine is: devices with their peaks, power and heat, and the package that they share.
//!
//! A description is a TOML file in which every figure stands beside its source, and a source that was not looked up
//! says so ("assumed", "from memory, not checked"). The files of `devices/` are built in; a user's own has the same form.
//!
//! Devices of one package are not alone. They share the memory bus (two of them decoding at once do not read twice as
//! much), the power that the cooler was built for, and the heat sink. A simulation that forgot that would promise a mix of
//! devices what no machine delivers.

use crate::error::{SimError, parse};
use qeil_laws::random::Random;
use serde::{Deserialize, Serialize};

/// Bytes of a description: the built-in ones are under 10 KB.
pub const DESCRIPTION_BYTES_MAX: usize = 1 << 20;
/// Devices of one machine: more than any edge machine has.
pub const DEVICES_MAX: usize = 16;

/// The descriptions that are built in, each with its name.
const BUILT_IN: &[(&str, &str)] = &[
    ("core-ultra-9-285h", include_str!("../devices/core-ultra-9-285h.toml")),
    ("ryzen-ai-9-hx-370", include_str!("../devices/ryzen-ai-9-hx-370.toml")),
    ("jetson-orin-nano", include_str!("../devices/jetson-orin-nano.toml")),
    ("snapdragon-x-elite", include_str!("../devices/snapdragon-x-elite.toml")),
    ("raspberry-pi-5", include_str!("../devices/raspberry-pi-5.toml")),
    ("rtx-4060-laptop", include_str!("../devices/rtx-4060-laptop.toml")),
    ("epyc-2cores", include_str!("../devices/epyc-2cores.toml")),
];

/// A figure and where it is from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// The figure, in the unit that its key names.
    pub value: f64,
    /// Where it is from.
    pub source: String,
}

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// Processor cores.
    Cpu,
    /// Graphics.
    Gpu,
    /// Neural processor.
    Npu,
}

/// One device.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceSpec {
    /// Its name.
    pub name: String,
    /// What kind it is.
    pub kind: DeviceKind,
    /// Whether it reads a memory of its own, not the bus of the machine.
    #[serde(default)]
    pub own_memory: bool,
    /// Peak arithmetic in FP32, FLOP/s.
    pub peak_f32: Option<Figure>,
    /// Peak arithmetic in FP16, FLOP/s.
    pub peak_f16: Option<Figure>,
    /// Peak arithmetic in INT8, operations a second.
    pub peak_int8: Option<Figure>,
    /// Share of the peak that matrix products reach, in (0, 1].
    pub prefill_efficiency: Figure,
    /// Share of the bandwidth that a decode step reaches, in (0, 1].
    pub decode_efficiency: Figure,
    /// Memory bandwidth, B/s.
    pub bandwidth_b_per_s: Figure,
    /// Memory for weights and keys and values, bytes.
    pub memory_bytes: Figure,
    /// Power when nothing runs, watts.
    pub idle_w: Figure,
    /// Power when everything is busy, watts.
    pub max_w: Figure,
    /// Share of the power above idle that reading memory at full speed takes, in [0, 1]; arithmetic takes the rest.
    pub memory_power_share: Figure,
    /// Degrees over the heat sink for each watt.
    pub resistance_c_per_w: Figure,
    /// Joules that warm the device alone by a degree.
    pub capacity_j_per_c: Figure,
    /// Temperature at which the hardware throttles itself, degrees Celsius.
    pub max_c: Figure,
    /// Seconds of a step whatever it computes.
    pub launch_s: Figure,
}

/// Shares that are left to each device of what all have in common, in (0, 1].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Scales {
    /// Of its power above idle.
    pub power: f64,
    /// Of the bus, for those that read it. A device that waits for the bus draws as if it read at full speed: cores and
    /// schedulers spin.
    pub bus: f64,
}

impl Scales {
    /// The share of its speed that a device keeps.
    pub fn of(&self, device: &DeviceSpec) -> f64 {
        self.power * if device.own_memory { 1.0 } else { self.bus }
    }
}

/// The heat sink that all devices share.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Package {
    /// Degrees over the surroundings for each watt of all devices.
    pub resistance_c_per_w: Figure,
    /// Joules that warm it by a degree.
    pub capacity_j_per_c: Figure,
}

/// A machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// Its name on the command line.
    pub id: String,
    /// Its name in words; says that it is simulated.
    pub name: String,
    /// What the whole machine costs, US dollars: its devices are not sold singly.
    pub price_usd: Figure,
    /// Bandwidth of the memory that devices without their own share, B/s.
    pub bus_b_per_s: Option<Figure>,
    /// Most watts that all devices draw together; beyond, all slow down.
    pub power_max_w: Option<Figure>,
    /// How fast weights load, B/s.
    pub storage_b_per_s: Figure,
    /// The heat sink.
    pub package: Package,
    /// The devices.
    #[serde(rename = "device")]
    pub devices: Vec<DeviceSpec>,
}

/// Names of the machines that are built in.
pub fn machine_names() -> impl Iterator<Item = &'static str> {
    BUILT_IN.iter().map(|(name, _)| *name)
}

/// All machines that are built in.
///
/// # Errors
/// Where a description is not valid, which a test excludes.
pub fn machines() -> Result<Vec<Machine>, SimError> {
    BUILT_IN.iter().map(|(name, text)| Machine::parse(name, text)).collect()
}

/// The machine of that name that is built in.
///
/// # Errors
/// Where there is none.
pub fn machine(name: &str) -> Result<Machine, SimError> {
    match BUILT_IN.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
        Some((known, text)) => Machine::parse(known, text),
        None => Err(SimError::UnknownMachine {
            wanted: name.into(),
            known: machine_names().collect::<Vec<_>>().join(", "),
        }),
    }
}

impl DeviceSpec {
    /// Peak arithmetic for weights of a format: its own type's, else that of the next wider one.
    pub fn peak(&self, int8: bool) -> f64 {
        let narrow = if int8 { self.peak_int8.as_ref() } else { None };
        let peak = narrow.or(self.peak_f16.as_ref()).or(self.peak_f32.as_ref());
        // Validated: one of them is there. A description made by hand without any computes nothing.
        peak.map_or(f64::MIN_POSITIVE, |figure| figure.value)
    }

    /// Put its true costs off the described ones: see [`Machine::perturbed`].
    pub fn perturb(&mut self, sigma: f64, random: &mut Random) {
        let mut factor = || (sigma * random.normal()).exp();
        self.prefill_efficiency.value = (self.prefill_efficiency.value * factor()).min(1.0);
        self.decode_efficiency.value = (self.decode_efficiency.value * factor()).min(1.0);
        self.max_w.value = self.idle_w.value + (self.max_w.value - self.idle_w.value) * factor();
    }

    /// Its figures that must be there, with their keys and ranges.
    fn figures(&self) -> [(&'static str, &Figure, f64, f64); 11] {
        [
            ("prefill_efficiency", &self.prefill_efficiency, 1e-4, 1.0),
            ("decode_efficiency", &self.decode_efficiency, 1e-4, 1.0),
            ("bandwidth_b_per_s", &self.bandwidth_b_per_s, 1e6, 1e14),
            ("memory_bytes", &self.memory_bytes, 1e6, 1e13),
            ("idle_w", &self.idle_w, 0.0, 1e4),
            ("max_w", &self.max_w, 1e-3, 1e4),
            ("memory_power_share", &self.memory_power_share, 0.0, 1.0),
            ("resistance_c_per_w", &self.resistance_c_per_w, 1e-4, 1e3),
            ("capacity_j_per_c", &self.capacity_j_per_c, 1e-2, 1e6),
            ("max_c", &self.max_c, 30.0, 200.0),
            ("launch_s", &self.launch_s, 0.0, 1.0),
        ]
    }

    fn peaks(&self) -> [(&'static str, Option<&Figure>); 3] {
        [
            ("peak_f32", self.peak_f32.as_ref()),
            ("peak_f16", self.peak_f16.as_ref()),
            ("peak_int8", self.peak_int8.as_ref()),
        ]
    }
}

impl Machine {
    /// Read a description; `file` is what errors call it.
    ///
    /// # Errors
    /// Where it is no TOML, a key is unknown or missing, a figure is out of range or a source is empty.
    pub fn parse(file: &str, text: &str) -> Result<Self, SimError> {
        if text.len() > DESCRIPTION_BYTES_MAX {
            return Err(SimError::Figure {
                file: file.into(),
                key: "its length".into(),
                value: format!("{} bytes", text.len()),
                expected: format!("at most {DESCRIPTION_BYTES_MAX}"),
            });
        }
        let machine: Self = parse(file, text)?;
        machine.validate(file)?;
        Ok(machine)
    }

    /// What is left to each device of power and bus where all together ask for so much: idle and dynamic watts, and
    /// bytes a second of those that read the common bus.
    pub fn scales(&self, idle_w: f64, dynamic_w: f64, bus_b_per_s: f64) -> Scales {
        let power_max_w = self.power_max_w.as_ref().map_or(f64::INFINITY, |limit| limit.value);
        let bus_max = self.bus_b_per_s.as_ref().map_or(f64::INFINITY, |limit| limit.value);
        let share = |most: f64, asked: f64| if asked > 0.0 { (most / asked).min(1.0) } else { 1.0 };
        Scales { power: share((power_max_w - idle_w).max(0.0), dynamic_w), bus: share(bus_max, bus_b_per_s) }
    }

    /// The same machine with its true costs off the described ones: efficiencies and power above idle, each by a
    /// log-normal factor whose logarithm deviates by `sigma`.
    pub fn perturbed(&self, sigma: f64, random: &mut Random) -> Self {
        let mut machine = self.clone();
        machine.devices.iter_mut().for_each(|device| device.perturb(sigma, random));
        machine
    }

    fn validate(&self, file: &str) -> Result<(), SimError> {
        let wrong = |key: &str, value: String, expected: &str| SimError::Figure {
            file: file.into(),
            key: key.into(),
            value,
            expected: expected.into(),
        };
        let figure = |key: &str, figure: &Figure, low: f64, high: f64| {
            if !(low..=high).contains(&figure.value) {
                return Err(wrong(key, figure.value.to_string(), &format!("a number from {low} to {high}")));
            }
            if figure.source.trim().is_empty() {
                return Err(wrong(
                    &format!("{key}.source"),
                    "empty".into(),
                    "where the figure is from, or \"assumed\"",
                ));
            }
            Ok(())
        };
        if self.id.is_empty() || self.name.is_empty() {
            return Err(wrong("id or name", "empty".into(), "a name"));
        }
        if self.devices.is_empty() || self.devices.len() > DEVICES_MAX {
            return Err(wrong("device", format!("there {} times", self.devices.len()), "1 to 16 of them"));
        }
        figure("price_usd", &self.price_usd, 0.0, 1e7)?;
        figure("storage_b_per_s", &self.storage_b_per_s, 1e5, 1e12)?;
        figure("package.resistance_c_per_w", &self.package.resistance_c_per_w, 1e-4, 1e3)?;
        figure("package.capacity_j_per_c", &self.package.capacity_j_per_c, 1e-2, 1e6)?;
        if let Some(bus) = &self.bus_b_per_s {
            figure("bus_b_per_s", bus, 1e6, 1e14)?;
        }
        if let Some(power) = &self.power_max_w {
            figure("power_max_w", power, 1e-2, 1e5)?;
        }
        for (i, device) in self.devices.iter().enumerate() {
            let of = |key: &str| format!("device[{i}].{key} ({})", device.name);
            if device.name.is_empty() || self.devices[..i].iter().any(|other| other.name == device.name) {
                return Err(wrong(
                    &of("name"),
                    format!("{:?}", device.name),
                    "a name that no other device has",
                ));
            }
            for (key, value, low, high) in device.figures() {
                figure(&of(key), value, low, high)?;
            }
            for (key, peak) in device.peaks() {
                if let Some(peak) = peak {
                    figure(&of(key), peak, 1e6, 1e18)?;
                }
            }
            if device.peaks().iter().all(|(_, peak)| peak.is_none()) {
                return Err(wrong(&of("peak_f32"), "missing".into(), "it, peak_f16 or peak_int8"));
            }
            if device.max_w.value <= device.idle_w.value {
                return Err(wrong(&of("max_w"), device.max_w.value.to_string(), "more than idle_w"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_built_in_description_is_valid_and_named_after_its_file() {
        let all = machines().unwrap();
        assert_eq!(all.len(), BUILT_IN.len());
        for (machine, (name, _)) in all.iter().zip(BUILT_IN) {
            assert_eq!(machine.id, *name);
            assert!(machine.name.contains("(simulated)"), "{}", machine.name);
        }
        let kinds = |name: &str| machine(name).unwrap().devices.iter().map(|d| d.kind).collect::<Vec<_>>();
        use DeviceKind::{Cpu, Gpu, Npu};
        assert_eq!(kinds("core-ultra-9-285h"), [Cpu, Gpu, Npu]);
        assert_eq!(kinds("Jetson-Orin-Nano"), [Cpu, Gpu]);
    }

    #[test]
    fn a_wrong_description_is_told_by_file_and_key() {
        let good = BUILT_IN[4].1;
        // (what is replaced, by what, what the error must name)
        let cases: [(&str, &str, &[&str]); 9] = [
            ("idle_w = {", "idle = {", &["my.toml", "idle"]),
            ("value = 2.7,", "value = -1.0,", &["my.toml", "idle_w"]),
            ("value = 2.7,", "value = 12.0,", &["max_w", "more than idle_w"]),
            ("value = 0.67,", "value = 67.0,", &["decode_efficiency", "from 0.0001 to 1"]),
            ("value = 85.0,", "value = nan,", &["max_c"]),
            ("kind = \"cpu\"", "kind = \"tpu\"", &["kind", "tpu"]),
            ("[[device]]", "[[devices]]", &["my.toml"]),
            (
                "source = \"assumed: 25 g of aluminium and the board's copper\"",
                "source = \" \"",
                &["package.capacity_j_per_c.source", "empty"],
            ),
            ("id = ", "id == ", &["my.toml"]),
        ];
        for (from, to, named) in cases {
            assert!(good.contains(from), "{from}");
            let error = Machine::parse("my.toml", &good.replacen(from, to, 1)).unwrap_err().to_string();
            for part in named {
                assert!(error.contains(part), "{from} -> {to}: {error}");
            }
        }
        assert!(Machine::parse("my.toml", &"#".repeat(DESCRIPTION_BYTES_MAX + 1)).is_err());
        assert!(machine("abacus").unwrap_err().to_string().contains("raspberry-pi-5"));
    }

    #[test]
    fn peaks_fall_back_to_the_wider_type() {
        let laptop = machine("ryzen-ai-9-hx-370").unwrap();
        assert_eq!(laptop.devices[0].peak(true), 5.6e12);
        assert_eq!(laptop.devices[0].peak(false), 1.4e12);
        assert_eq!(laptop.devices[1].peak(true), 11.8e12);
    }
}
