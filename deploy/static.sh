#!/bin/sh
# Makes static programs: they run on every Linux 6.1 or newer, whatever its C library. Needs
# `rustup target add x86_64-unknown-linux-musl` and musl-gcc (Debian: musl-tools), since the TLS library has C code.
# Usage: deploy/static.sh [PROFILE [PACKAGE…]]     without arguments: the release of forebay and loadgen
set -eu
cd "$(dirname "$0")/.."
profile=${1:-release}
if [ $# -gt 0 ]; then shift; fi
[ $# -gt 0 ] || set -- forebay loadgen
target=x86_64-unknown-linux-musl
built=$(mkdir -p "${CARGO_TARGET_DIR:-target}" && cd "${CARGO_TARGET_DIR:-target}" && pwd)
command -v musl-gcc >/dev/null || { echo "static.sh: musl-gcc is missing (Debian: apt install musl-tools)" >&2; exit 1; }

# tokio-uring 0.5.0 takes msg_controllen for a usize, which it is not with musl (tokio-rs/tokio-uring, pull request 334), and there is
# no newer version. So a copy of our sources is built, with a copy of that library in which these lines are right. Whoever
# has another version in Cargo.lock is told here, not by the compiler.
library=tokio-uring-0.5.0
cargo fetch --locked --target "$target"
fetched=$(find "${CARGO_HOME:-$HOME/.cargo}/registry/src" -maxdepth 2 -name "$library" | head -n 1)
if [ -z "$fetched" ] || ! grep -A1 'name = "tokio-uring"' Cargo.lock | grep -q 'version = "0.5.0"'; then
    echo "static.sh: this is written for $library; see whether its successor builds for musl by itself" >&2
    exit 1
fi
work=$built/static-source
rm -rf "$work"
mkdir -p "$work"
cp -R Cargo.toml Cargo.lock rust-toolchain.toml src loadgen bench "$work/"
cp -R "$fetched" "$work/$library"
sed -i 's/\(msghdr\.msg_controllen = \)\(.*\);/\1(\2) as _;/' "$work/$library/src/io/sendmsg.rs" "$work/$library/src/io/sendmsg_zc.rs"
printf '\n[patch.crates-io]\ntokio-uring = { path = "%s" }\n' "$library" >>"$work/Cargo.toml"
# The same versions as ever, but for where this one comes from.
sed -i '/^name = "tokio-uring"$/,/^$/{/^source = /d;/^checksum = /d}' "$work/Cargo.lock"

CARGO_TARGET_DIR=$built
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$work=forebay --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
export CARGO_TARGET_DIR RUSTFLAGS
for package in "$@"; do
    (cd "$work" && cargo build --profile "$profile" --locked --target "$target" --package "$package")
done
rm -rf "$work"
