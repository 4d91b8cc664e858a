#!/usr/bin/env bash
# Fuzzes one target: fuzz/run.sh TARGET [SECONDS] [libFuzzer options]
#
# Works with the stable toolchain: coverage is plain compiler options (see instrument.sh), and only the address sanitizer
# would need nightly. `unsafe` is forbidden in this workspace, so panics and broken promises are what there is to find.
#
# New inputs go to TARGET-DIR/fuzz-corpus/TARGET, a crash to fuzz/artifacts/TARGET. Make a crash small
# (-minimize_crash=1) and copy it to fuzz/seeds/TARGET, where the tests replay it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?usage: fuzz/run.sh TARGET [SECONDS] [libFuzzer options]}
seconds=${2:-60}
shift "$(($# < 2 ? $# : 2))"

case "$target" in
http_surface | key_order) features=libfuzzer,engine ;;
*) features=libfuzzer ;;
esac

out=${CARGO_TARGET_DIR:-target}
build=(cargo build --quiet -p settle-fuzz --features "$features")
# Dependencies first, with the compiler cache if there is one; then our crates, which no cache should see.
"${build[@]}" --lib
RUSTC_WRAPPER='' RUSTC_WORKSPACE_WRAPPER="$PWD/fuzz/instrument.sh" CARGO_INCREMENTAL=0 "${build[@]}" --bin "$target"

# The store of http_surface lies in the temporary folder.
rm -rf "$out/fuzz-tmp/$target"
mkdir -p "$out/fuzz-corpus/$target" "$out/fuzz-tmp/$target" "fuzz/artifacts/$target"
export TMPDIR=$out/fuzz-tmp/$target
exec "$out/debug/$target" "$out/fuzz-corpus/$target" "fuzz/seeds/$target" -max_total_time="$seconds" -max_len=4096 \
    -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" "$@"
