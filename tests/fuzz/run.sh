#!/usr/bin/env bash
# Runs the fuzz targets under cargo-fuzz, one after the other: run.sh [TARGET...] [--seconds N]
#
# What is found is kept in target/fuzz/findings/<target>/. Inputs that reach new code are kept in target/fuzz/corpus/<target>/; the corpus
# of the repository is read and not written.
set -euo pipefail
cd "$(dirname "$0")/libfuzzer"
root=$(cd ../../.. && pwd)
seconds=60
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --seconds)
        seconds=${2:?--seconds needs a number}
        shift 2
        ;;
    -*)
        echo "usage: run.sh [TARGET...] [--seconds N]" >&2
        exit 2
        ;;
    *)
        targets+=("$1")
        shift
        ;;
    esac
done
if [ ${#targets[@]} -eq 0 ]; then
    for file in fuzz_targets/*.rs; do
        targets+=("$(basename "$file" .rs)")
    done
fi
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "cargo-fuzz is missing: cargo install cargo-fuzz (and rustup toolchain install nightly)" >&2
    exit 1
fi
export CARGO_TARGET_DIR=$root/target/fuzz
for target in "${targets[@]}"; do
    found=$root/target/fuzz/corpus/$target
    findings=$root/target/fuzz/findings/$target
    mkdir -p "$found" "$findings"
    cargo +nightly fuzz run --fuzz-dir . "$target" "$found" "../corpus/$target" -- \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=2048 -max_len=16384 -artifact_prefix="$findings/" -print_final_stats=1
done
