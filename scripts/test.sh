#!/usr/bin/env bash
# All tests, as continuous integration runs them: sets up, builds, fetches the default model, checks format and
# lints, runs every test. The last line says `N passed, N failed, N skipped`; any failure makes the exit status 1.
#
# Everything uses the release profile and the same features, so that llama.cpp is compiled once, for the build,
# the lints and the tests together.
#
#   QEIL_TEST_MODEL=PATH    a GGUF file to test with, instead of fetching the default model
set -uo pipefail

# The newest Rust whose lints were seen clean. A later one may know new lints; they are shown, and break nothing.
lints_of_rust="1.95"

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

failed_steps=()
step() {
    local name="$1"
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed_steps+=("$name")
}

scripts/setup.sh || exit 1
cargo build --release --locked || exit 1

if [[ -z "${QEIL_TEST_MODEL:-}" ]]; then
    pulled="$("${CARGO_TARGET_DIR:-target}/release/qeil" pull --json)" || exit 1
    QEIL_TEST_MODEL="$(sed -nE 's/.*"path": *"([^"]*)".*/\1/p' <<<"$pulled" | head -n1)"
fi
[[ -f "$QEIL_TEST_MODEL" ]] || fail "no model to test with at '$QEIL_TEST_MODEL'"
export QEIL_TEST_MODEL
echo "model: $QEIL_TEST_MODEL"

step "format" cargo fmt --all --check

lints="--deny=warnings"
rust="$(rustc --version | cut -d' ' -f2)"
if [[ "$(printf '%s\n%s.999\n' "$rust" "$lints_of_rust" | sort -V | tail -n1)" == "$rust" ]]; then
    echo "Rust $rust is newer than $lints_of_rust: its lints are shown only"
    lints="--warn=warnings"
fi
step "lints" cargo clippy --release --locked --workspace --all-targets -- "$lints"

results="$(mktemp)"
trap 'rm -f "$results"' EXIT
run_tests() {
    CARGO_TERM_COLOR=never cargo test --release --locked --workspace --no-fail-fast 2>&1 | tee "$results"
}
step "tests" run_tests

printf '\n'
if ((${#failed_steps[@]})); then
    printf 'failed: %s\n' "${failed_steps[@]}"
fi
# cargo prints one line for each test binary:
# test result: ok. 26 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.25s
awk '/^test result:/ { passed += $4; failed += $6; skipped += $8 }
     END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped }' "$results"
((${#failed_steps[@]} == 0))
