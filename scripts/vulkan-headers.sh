#!/usr/bin/env bash
# Sees to Vulkan headers that ggml compiles with, and writes $QEIL_VULKAN_DIR/env.sh, which a build sources.
# Called by `setup.sh --vulkan`.
#
# Debian 12 and Ubuntu 24.04 have headers that are too old. Then those of a newer suite are fetched from the
# mirror this machine uses anyway, checked by its own keys, and unpacked into a folder of ours. Nothing is
# installed, and only headers are taken: the loader and the shader compiler stay the release's own.
set -euo pipefail

# shellcheck source=scripts/env.sh
source "$(dirname "${BASH_SOURCE[0]}")/env.sh"

# The oldest headers that this version of ggml is known to compile with.
version_min="1.4.309"
# Suites that have them, in the order to try.
declare -A newer_suites=([debian]="trixie forky" [ubuntu]="resolute questing")

# The version of the Vulkan headers in an include folder, like 1.3.239; nothing if there are none.
version_of() {
    local core="$1/vulkan/vulkan_core.h" patch minor
    [[ -f "$core" && -f "$1/vulkan/vulkan.hpp" ]] || return 0
    patch="$(sed -nE 's/^#define VK_HEADER_VERSION ([0-9]+).*/\1/p' "$core")"
    minor="$(sed -nE 's/^#define VK_HEADER_VERSION_COMPLETE .*\(0, ([0-9]+), ([0-9]+),.*/\1.\2/p' "$core")"
    echo "$minor.$patch"
}

# Are there headers below a prefix, new enough, and SPIR-V headers with the cmake configuration ggml asks for?
good_prefix() {
    local version
    version="$(version_of "$1/include")"
    [[ -n "$version" ]] && printf '%s\n%s\n' "$version_min" "$version" | sort -C -V &&
        compgen -G "$1/share/cmake/SPIRV-Headers/*Config.cmake" >/dev/null
}

# apt lines for another suite of the mirrors that this release comes from.
sources_of() {
    local suite="$1" keyring="/usr/share/keyrings/$ID-archive-keyring.gpg" options="" origin release component
    [[ -f "$keyring" ]] && options="[signed-by=$keyring] "
    # shellcheck disable=SC2016 # apt expands these
    apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' |
        while read -r origin release component; do
            if [[ "$release" == "$VERSION_CODENAME" ]]; then
                echo "deb $options$origin $suite $component"
            fi
        done | sort -u
}

# Unpacks the headers of one suite below a folder.
unpack_suite() {
    local suite="$1" into="$2" package
    local apt=(apt-get -qq -o "Dir::Etc::sourcelist=$work/sources.list" -o Dir::Etc::sourceparts=/dev/null
        -o "Dir::State::lists=$work/lists" -o "Dir::Cache=$work/cache" -o Acquire::Languages=none
        -o APT::Sandbox::User=root)
    mkdir -p "$work/lists/partial" "$work/cache/archives/partial" "$work/debs" "$work/root"
    sources_of "$suite" >"$work/sources.list"
    [[ -s "$work/sources.list" ]] || return 1
    echo "$(basename "$0"): fetching Vulkan and SPIR-V headers of $suite"
    "${apt[@]}" update || return 1
    (cd "$work/debs" && "${apt[@]}" download libvulkan-dev spirv-headers) || return 1
    for package in "$work"/debs/*.deb; do
        dpkg-deb -x "$package" "$work/root"
    done
    rm -rf "$into"
    mkdir -p "$into/share"
    cp -r "$work/root/usr/include" "$into/"
    cp -r "$work/root/usr/share/cmake" "$into/share/"
    rm -rf "${work:?}"/*
}

fetch_into() {
    local suite ID="" VERSION_CODENAME="" work
    command -v apt-get >/dev/null || return 1
    # shellcheck source=/dev/null
    source /etc/os-release
    work="$(mktemp -d)"
    # shellcheck disable=SC2064 # its name is known now, and gone at the end
    trap "rm -rf '$work'" EXIT
    for suite in ${newer_suites[$ID]:-}; do
        if unpack_suite "$suite" "$1" && good_prefix "$1"; then
            return 0
        fi
    done
    return 1
}

own="$QEIL_VULKAN_DIR/headers"
mkdir -p "$QEIL_VULKAN_DIR"
if [[ -n "${VULKAN_SDK:-}" && "$VULKAN_SDK" != "$own" ]]; then
    printf 'export VULKAN_SDK=%q\n' "$VULKAN_SDK" >"$QEIL_VULKAN_DIR/env.sh"
elif good_prefix /usr; then
    echo "# The system's own Vulkan headers are new enough." >"$QEIL_VULKAN_DIR/env.sh"
elif good_prefix "$own" || fetch_into "$own"; then
    # cmake's FindVulkan and ggml's search for SPIRV-Headers look here first, and then in the system's folders
    # for what is not here.
    printf 'export VULKAN_SDK=%q\n' "$own" >"$QEIL_VULKAN_DIR/env.sh"
else
    fail "the Vulkan headers here are older than $version_min, and no newer ones were found." \
        "Install the Vulkan SDK and set VULKAN_SDK to its folder."
fi
