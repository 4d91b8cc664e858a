#!/bin/sh
# Compiles the workspace's own crates with the coverage counters that libFuzzer reads. run.sh makes it cargo's
# RUSTC_WORKSPACE_WRAPPER, so dependencies, RocksDB among them, stay the ones of an ordinary build.
exec "$@" -C opt-level=3 -C debug-assertions=on -C overflow-checks=on -C passes=sancov-module \
    -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-trace-compares \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table
