#!/usr/bin/env bash
# Fuzzes one target: fuzz/run.sh TARGET [SECONDS] [libFuzzer options]
#
# Works with the stable toolchain: cargo-fuzz's coverage flags are plain compiler options (the passes are LLVM's), and
# only the address sanitizer would need nightly. `unsafe` is forbidden in this workspace, so panics and failed promises
# are what there is to find. C and C++ (RocksDB, for the engine targets) is built without instrumentation.
#
# What it finds new goes to target/fuzz-corpus/TARGET, a crash to fuzz/artifacts/TARGET; copy a crash, made small, into
# fuzz/seeds/TARGET, where the tests replay it for ever.
set -euo pipefail
cd "$(dirname "$0")/.."

target=${1:?usage: fuzz/run.sh TARGET [SECONDS] [libFuzzer options]}
seconds=${2:-60}
shift "$(($# < 2 ? $# : 2))"

case "$target" in
http_surface | key_order) features=libfuzzer,engine ;;
*) features=libfuzzer ;;
esac

out="${CARGO_TARGET_DIR:-target}/fuzz"
# With --target, these flags do not reach build scripts and macros. RUSTFLAGS replaces .cargo/config.toml's: the first
# one is from there, and keeps RocksDB's C++ flags as they are elsewhere, so that a compiler cache serves all builds.
triple=$(rustc -vV | sed -n 's/^host: //p')
flags=(-C target-cpu=x86-64-v2 -C passes=sancov-module -C codegen-units=1 -C debug-assertions --cfg fuzzing
    -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-trace-compares
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table)
[ "${triple%%-*}" = x86_64 ] || flags=("${flags[@]:2}")
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --target "$triple" --target-dir "$out" \
    -p settle-fuzz --features "$features" --bin "$target"

corpus="${CARGO_TARGET_DIR:-target}/fuzz-corpus/$target"
mkdir -p "$corpus" "fuzz/artifacts/$target"
exec "$out/$triple/release/$target" "$corpus" "fuzz/seeds/$target" -max_total_time="$seconds" -max_len=4096 \
    -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -artifact_prefix="fuzz/artifacts/$target/" "$@"
