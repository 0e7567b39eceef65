#!/bin/sh
# Makes a Debian package in target/debian: the program, its manual pages and completions, the units and their settings.
# Needs cargo-deb (cargo install cargo-deb). SOURCE_DATE_EPOCH makes it reproducible.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
cargo build --release --locked --package forebay
made=target/package
rm -rf "$made"
mkdir -p "$made"
"$target/release/forebay" man "$made/man"
"$target/release/forebay" completions bash > "$made/forebay.bash"
"$target/release/forebay" completions zsh > "$made/_forebay"
"$target/release/forebay" completions fish > "$made/forebay.fish"
cargo deb --no-build --locked --package forebay "$@"
