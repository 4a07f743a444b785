#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Fuzzes each target for TIME seconds (default 60): tests/fuzz/run.sh FUZZER...
# What is found new grows build/fuzz/corpus/NAME; what crashes is kept in build/fuzz/found and fails the run.
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
status=0
mkdir -p "$BUILD/fuzz/found"

for program in "$@"; do
        name=$(basename "$program")
        kept=tests/fuzz/corpus/${name%_fuzz}
        grown=$BUILD/fuzz/corpus/${name%_fuzz}
        mkdir -p "$grown"
        set -- "$grown"
        [ ! -d "$kept" ] || set -- "$grown" "$kept"
        echo "== $name, ${TIME:-60} s"
        "$program" -max_total_time="${TIME:-60}" -rss_limit_mb=1024 -timeout=10 -print_final_stats=1 \
                -artifact_prefix="$BUILD/fuzz/found/" "$@" || status=1
done
[ "$status" = 0 ] || echo "inputs that fail are in $BUILD/fuzz/found" >&2
exit "$status"
