#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Look-ups: nsd on loopback, asked directly and through agentd, in namespaces of this script's own.
#
# zero.bench.test has TTL 0, so each look-up goes upstream: what agentd adds to the upstream's answer. cached.bench.test
# is answered from the cache. n0..n4999.bench.test are names of the policy: the price of many.
set -u

cd "$(dirname "$0")/../.." || exit 1
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$PWD/$BUILD ;; esac
if [ -z "${AGENTD_BENCH_INNER:-}" ]; then
        AGENTD_BENCH_INNER=$(mktemp -d "${TMPDIR:-/tmp}/agbench.XXXXXX") || exit 1
        export AGENTD_BENCH_INNER BUILD
        timeout -k 5 90 unshare -mn "$0"
        status=$?
        rm -rf "$AGENTD_BENCH_INNER"
        exit $status
fi

dir=$AGENTD_BENCH_INNER
mount --make-rprivate /
ip link set lo up
mkdir "$dir/bpf" && mount -t bpf bpf "$dir/bpf" || exit 1
export AGENTD_BPFFS=$dir/bpf
nsd_pid=
trap '[ -z "$nsd_pid" ] || kill "$nsd_pid"; wait; umount "$dir/bpf"' EXIT

{
        echo '$ORIGIN bench.test.'
        echo '@ 3600 IN SOA ns hostmaster 1 3600 600 86400 60'
        echo '@ 3600 IN NS ns'
        echo 'ns 3600 IN A 127.0.0.1'
        echo 'zero 0 IN A 198.51.100.1'
        echo 'cached 3600 IN A 198.51.100.2'
        for i in $(seq 0 4999); do echo "n$i 3600 IN A 198.18.$((i / 250)).$((i % 250 + 1))"; done
} > "$dir/bench.zone"
cat > "$dir/nsd.conf" <<CONF
server:
        ip-address: 127.0.0.1@5353
        server-count: 1
        username: ""
        database: ""
        zonesdir: "$dir"
        pidfile: "$dir/nsd.pid"
        xfrdfile: "$dir/xfrd.state"
        zonelistfile: "$dir/zone.list"
        logfile: "$dir/nsd.log"
        log-only-syslog: no
        verbosity: 1
        rrl-ratelimit: 0
remote-control:
        control-enable: no
zone:
        name: bench.test
        zonefile: bench.zone
CONF
{
        echo 'version: 1'
        echo 'dns: {upstream: ["127.0.0.1@5353"], min_ttl: 1s, grace: 1s}'
        echo 'daemon: {metrics: "off", events: "off"}'
        echo 'policies:'
        echo '  bench:'
        echo '    egress:'
        echo '      - {domain: zero.bench.test}'
        echo '      - {domain: cached.bench.test}'
        for i in $(seq 0 4999); do echo "      - {domain: n$i.bench.test}"; done
} > "$dir/agentd.yaml"

: > "$dir/nsd.log"
nsd -d -c "$dir/nsd.conf" >/dev/null 2>&1 &
nsd_pid=$!
timeout 10 tail -n +1 -F "$dir/nsd.log" 2>/dev/null | grep -q -m1 'nsd started' || { echo "bench: nsd does not start" >&2; exit 1; }

load=$BUILD/bench/dns_load
# Asked outside for what is compared, inside for agentd; the same commands.
measure() {
        local server=$1 port=$2
        # the first ones fill the caches
        "$load" -n 200 -w 1 "$server" "$port" zero.bench.test > /dev/null
        "$load" -n 6000 -w 1 -k 5000 "$server" "$port" 'n%.bench.test' > /dev/null
        for _ in 1 2 3; do
                echo "zero $("$load" -n 3000 -w 1 "$server" "$port" zero.bench.test)"
                echo "cached $("$load" -n 10000 -w 1 "$server" "$port" cached.bench.test)"
                echo "many $("$load" -n 10000 -w 1 -k 5000 "$server" "$port" 'n%.bench.test')"
                echo "burst $("$load" -n 60000 -w 64 "$server" "$port" cached.bench.test)"
        done
}
export -f measure
export load
measure 127.0.0.1 5353 > "$dir/direct"
"$BUILD/agentd" run --config "$dir/agentd.yaml" --policy bench --name bench-dns -- bash -c 'measure 192.0.2.53 53' \
        > "$dir/agentd" 2> "$dir/agentd.err" || { echo "bench: agentd run failed:" >&2; tail -n 3 "$dir/agentd.err" >&2; exit 1; }

awk '
function best(file, kind, field, low,   key) { key = file SUBSEP kind; return low ? lowest[key, field] : highest[key, field] }
{
        kind = $1
        for (i = 2; i < NF; i += 2) {
                value = $(i + 1) + 0; key = FILENAME SUBSEP kind
                if (!((key, $i) in lowest) || value < lowest[key, $i]) lowest[key, $i] = value
                if (!((key, $i) in highest) || value > highest[key, $i]) highest[key, $i] = value
        }
}
function row(what, measured, unit, against, compared, result, goal, distance) {
        printf "  %-45s %16s  %-20s %14s %13s  %-18s %s\n", what, measured " " unit, against, compared, result, goal, distance
}
END {
        d = ARGV[1]; a = ARGV[2]
        print "\nLook-ups (nsd on loopback; best of three)"
        x = best(a, "zero", "p50_us", 1); y = best(d, "zero", "p50_us", 1)
        row("through agentd to the upstream, p50", x, "us", "asked directly", y " us", sprintf("%+.1f us", x - y), "<= 100.0 us",
            x - y <= 100 ? sprintf("met by %.1f us", 100 - (x - y)) : sprintf("MISSED by %.1f us", x - y - 100))
        x = best(a, "cached", "p50_us", 1); y = best(d, "cached", "p50_us", 1)
        row("cached, one name, p50", x, "us", "asked directly", y " us", sprintf("%+.1f us", x - y), "", "")
        z = best(a, "many", "p50_us", 1)
        row("cached, 5000 names in turn, p50", z, "us", "one name", x " us", sprintf("x %.3f", z / x), "", "")
        x = best(a, "burst", "qps", 0); y = best(d, "burst", "qps", 0)
        row("cached, 64 at once", sprintf("%.1fk", x / 1000), "/s", "asked directly", sprintf("%.1fk /s", y / 1000), sprintf("x %.3f", x / y),
            ">= 50.0k /s", sprintf("%s: x %.2f of it", x >= 50000 ? "met" : "MISSED", x / 50000))
        if (highest[a SUBSEP "burst", "lost"] + highest[a SUBSEP "zero", "lost"] > 0) print "note: answers were lost through agentd"
}' "$dir/direct" "$dir/agentd"
