# shellcheck shell=bash
# Sourced by the other scripts: the repository is the working directory, and a Rust that rustup installed is
# found even where the login shell has not been restarted since.

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if ! command -v cargo >/dev/null && [[ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ]]; then
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
fi

# Where `setup.sh --vulkan` puts newer Vulkan headers, if the system's are too old, and what points the build
# at them.
export QEIL_VULKAN_DIR="${XDG_CACHE_HOME:-$HOME/.cache}/qeil/vulkan"

fail() {
    printf "$(basename "$0"): %s\n" "$@" >&2
    exit 1
}
