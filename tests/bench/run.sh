#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Every measurement, one table. BUILD: where the programs are. What is compared is compared inside this one run: on a
# machine that others use too, only ratios and the smallest of many mean anything.
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}

if [ "$(id -u)" != 0 ]; then
        echo "bench: root is needed" >&2
        exit 1
fi
echo "agentd's benchmark: $(uname -sr), $(nproc) CPUs, $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)," \
        "load before: $(cut -d' ' -f1 /proc/loadavg)"
start=$SECONDS
status=0
"$BUILD/bench/agentd-bench" "$@" || status=1
if [ $# -eq 0 ]; then
        tests/bench/dns.sh "$BUILD" || status=1
fi
echo "$((SECONDS - start)) s"
exit $status
