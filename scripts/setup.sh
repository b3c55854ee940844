#!/usr/bin/env bash
# Installs what a build needs and this machine lacks. Quiet and quick where nothing is missing.
#
#   scripts/setup.sh            compiler, cmake, libclang, pip
#   scripts/setup.sh --vulkan   also what the Vulkan backend is built and run with
#
# Debian and Ubuntu: through apt-get, with sudo where needed. Elsewhere: says what is missing. Rust is never
# installed, only named.
set -euo pipefail

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

have() { command -v "$1" >/dev/null 2>&1; }

any_file() { compgen -G "$1" >/dev/null; }

# bindgen loads the library, and needs the headers of clang itself beside it.
have_libclang() {
    [[ -n "${LIBCLANG_PATH:-}" ]] && return
    local dir library=0 headers=0
    for dir in /usr/lib/llvm-*/lib /usr/lib/*-linux-gnu /usr/lib64 /usr/lib /usr/local/lib /opt/homebrew/opt/llvm/lib \
        /usr/local/opt/llvm/lib /Library/Developer/CommandLineTools/usr/lib; do
        any_file "$dir/libclang.so*" || any_file "$dir/libclang-*.so*" || any_file "$dir/libclang.dylib" && library=1
        any_file "$dir/clang/*/include/stddef.h" && headers=1
    done
    ((library && headers))
}

have_pip() { have pip3 || have pip || { have python3 && python3 -m pip --version >/dev/null 2>&1; }; }

check_rust() {
    local needed found
    needed="$(sed -n 's/^rust-version = "\(.*\)"/\1/p' Cargo.toml)"
    if ! have cargo || ! have rustc; then
        fail "Rust is missing (at least $needed). Install it with rustup, https://rustup.rs, or on Debian 13," \
            "Ubuntu 24.04 and later: sudo apt-get install rustup && rustup default stable"
    fi
    found="$(rustc --version | cut -d' ' -f2)"
    [[ "$(printf '%s\n%s\n' "$needed" "$found" | sort -V | head -n1)" == "$needed" ]] ||
        fail "Rust $found is older than $needed. If rustup installed it: rustup update stable"
}

# Packages to install, as Debian and Ubuntu call them.
missing_packages() {
    have cmake || echo cmake
    { have c++ || have g++ || have clang++; } || echo g++
    { have make || have ninja; } || echo make
    have_libclang || echo libclang-dev
    have_pip || echo python3-pip
    if ((vulkan)); then
        have glslc || echo glslc
        any_file '/usr/lib/*/libvulkan.so' || any_file '/usr/lib64/libvulkan.so' || echo libvulkan-dev
        have_spirv_cmake || echo spirv-headers
        any_file '/usr/share/vulkan/icd.d/*.json' || any_file '/etc/vulkan/icd.d/*.json' || echo mesa-vulkan-drivers
    fi
}

have_spirv_cmake() {
    any_file "/usr/share/cmake/SPIRV-Headers/*Config.cmake" || any_file "/usr/lib*/cmake/SPIRV-Headers/*Config.cmake" ||
        [[ -n "${VULKAN_SDK:-}" ]]
}

install_packages() {
    local as_root=()
    if ((EUID != 0)); then
        have sudo || fail "no sudo here; as root: apt-get install --no-install-recommends $*"
        as_root=(sudo)
    fi
    echo "setup: installing $*"
    "${as_root[@]}" apt-get update -qq
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

vulkan=0
for argument in "$@"; do
    case "$argument" in
        --vulkan) vulkan=1 ;;
        *) fail "unknown argument $argument (known: --vulkan)" ;;
    esac
done

missing=()
while read -r package; do
    missing+=("$package")
done < <(missing_packages)
if ((${#missing[@]})); then
    have apt-get || fail "missing here, by their Debian names: ${missing[*]}" \
        "Fedora: sudo dnf install cmake gcc-c++ make clang-devel python3-pip" \
        "Arch: sudo pacman -S cmake gcc make clang python-pip" \
        "macOS: xcode-select --install && brew install cmake llvm" \
        "(for Vulkan also: glslc or shaderc, the Vulkan loader and headers, SPIRV-Headers, a Vulkan driver)"
    install_packages "${missing[@]}"
fi
if ((vulkan)); then
    scripts/vulkan-headers.sh
fi
check_rust
