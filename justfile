# The habits of this repository; `just --list` shows them. Everything also works without just: the lines below
# are what to type.

# Set up, build, fetch the default model, answer a prompt on every device
run *arguments:
    scripts/run.sh {{arguments}}

# What continuous integration does
test:
    scripts/test.sh

# Install what a build needs (--vulkan: also for the Vulkan backend)
setup *flags:
    scripts/setup.sh {{flags}}

# A build for this machine's own instruction set
build:
    cargo build --release --locked

# A build that other x86-64 machines since about 2015 can run
portable:
    RUSTFLAGS="-C target-cpu=x86-64-v3" cargo build --release --locked --target-dir target/portable

# A build with the Vulkan backend
vulkan:
    #!/usr/bin/env bash
    set -euo pipefail
    source scripts/env.sh
    scripts/setup.sh --vulkan
    source "$QEIL_VULKAN_DIR/env.sh"
    cargo build --release --locked --features vulkan --target-dir target/vulkan

# A build with another backend of ggml: cuda, metal, rocm, opencl
backend name:
    cargo build --release --locked --features {{name}} --target-dir target/{{name}}

# Ten thousand random hours of simulated operation against the safety contract, and a thousand without the guard
nightly first="0":
    cargo run --release --locked -- simulate --seed {{first}} --count 10000
    cargo run --release --locked -- simulate --seed {{first}} --count 1000 --no-guard

# Mutants of the guard, health, admission and failover (needs cargo-mutants); docs/mutants.md explains the survivors
mutants:
    cargo mutants -p qeil-control --jobs 2 \
        -f crates/control/src/heat.rs -f crates/control/src/health.rs -f crates/control/src/admission.rs \
        -f crates/control/src/faults.rs -f crates/control/src/silence.rs -f crates/control/src/control/rescue.rs

# Tests of one crate, quickly
unit crate:
    cargo test --release --locked -p {{crate}}

# The house rules alone
tidy:
    cargo test --release --locked -p qeil-tidy

fmt:
    cargo fmt --all

lint:
    cargo fmt --all --check
    cargo clippy --release --locked --workspace --all-targets -- -D warnings
    bash -n scripts/*.sh .ci/run

# Fuzz the GGUF reader (needs cargo-fuzz; fuzz/README.md says more)
fuzz seconds="600":
    cd fuzz && cargo run --bin seeds
    cd fuzz && cargo fuzz run --sanitizer none gguf -- -max_total_time={{seconds}} -max_len=32768 -dict=gguf.dict

# Measure prefill and decode speed, and k samples sharing one prompt
bench *arguments:
    cargo run --release --locked -- bench {{arguments}}
