#!/usr/bin/env bash
# The main job on a fresh machine: sets up, builds, fetches the default model, and answers a built-in prompt with
# 8 samples on every device found.
#
#   scripts/run.sh                     CPU
#   scripts/run.sh --vulkan            also every Vulkan device (first argument)
#   scripts/run.sh [ARGUMENT...]       passed on to `qeil run`
set -euo pipefail

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

features=""
if [[ "${1:-}" == --vulkan ]]; then
    shift
    features="vulkan"
    scripts/setup.sh --vulkan
    # shellcheck source=/dev/null
    source "$QEIL_VULKAN_DIR/env.sh"
else
    scripts/setup.sh
fi
cargo build --release --locked --features "$features"
exec "${CARGO_TARGET_DIR:-target}/release/qeil" run "$@"
