#!/bin/sh
# Makes a Debian package in the target directory's debian/: the program, its manual pages and completions, the units and their
# settings. Needs cargo-deb (cargo install --locked cargo-deb); more arguments are handed to it. The same source makes the same
# package: its times are those of SOURCE_DATE_EPOCH, or of the last commit.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
# Where the source lies is no part of the program.
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=forebay --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
export RUSTFLAGS
cargo build --release --locked --package forebay
made=target/package
rm -rf "$made"
mkdir -p "$made"
"$target/release/forebay" man "$made/man"
"$target/release/forebay" completions bash > "$made/forebay.bash"
"$target/release/forebay" completions zsh > "$made/_forebay"
"$target/release/forebay" completions fish > "$made/forebay.fish"
cargo deb --no-build --locked --package forebay --strip "$@"
