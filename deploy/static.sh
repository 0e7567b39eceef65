#!/bin/sh
# Makes programs without any library beside them, in the target directory's x86_64-unknown-linux-musl/release/: they run on every
# Linux 6.1 or newer, whatever its C library. Needs `rustup target add x86_64-unknown-linux-musl`, and Debian's musl-tools where a
# dependency has C code. The argument is another profile.
set -eu
cd "$(dirname "$0")/.."
cargo build --profile "${1:-release}" --locked --target x86_64-unknown-linux-musl --package forebay --package loadgen
