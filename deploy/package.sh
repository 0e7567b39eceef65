#!/bin/sh
# Makes a Debian package in the target directory's debian/: the program, its manual pages and completions, the units and their
# settings, and what the program is made of (CycloneDX). Needs python3 and cargo-deb (cargo install --locked cargo-deb); more
# arguments are handed to it. The same source makes the same package: its times are those of SOURCE_DATE_EPOCH, or of the last
# commit. PACKAGE_PROFILE=dev packages what tests have built.
set -eu
cd "$(dirname "$0")/.."
target=${CARGO_TARGET_DIR:-target}
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH
profile=${PACKAGE_PROFILE:-release}
if [ "$profile" = dev ]; then
    built=$target/debug
else
    built=$target/$profile
    # Where the source lies is no part of the program.
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=forebay --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    export RUSTFLAGS
fi
cargo build --profile "$profile" --locked --package forebay
made=target/package
rm -rf "$made"
mkdir -p "$made"
"$built/forebay" man "$made/man"
"$built/forebay" completions bash > "$made/forebay.bash"
"$built/forebay" completions zsh > "$made/_forebay"
"$built/forebay" completions fish > "$made/forebay.fish"
deploy/sbom.py "$made/forebay.cdx.json"
# From a place that is the same for every profile; cargo-deb knows releases only.
cp "$built/forebay" "$made/forebay"
strip "$made/forebay"
cargo deb --no-build --no-strip --locked --package forebay "$@"
