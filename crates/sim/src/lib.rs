//! Simulated devices: latency, power and heat from a description of a device, with injectable faults.
