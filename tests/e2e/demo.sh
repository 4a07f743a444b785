#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# `make demo`: a real client and real servers in network namespaces of its own; one name allowed, one denied, the event and
# the explanation shown. Ends non-zero when anything is not as it tells. Touches nothing outside its namespaces.
set -euo pipefail

cd "$(dirname "$0")/../.."
[ "$(id -u)" = 0 ] || { echo "demo: needs root (namespaces, cgroups, BPF)" >&2; exit 4; }

WORK=$(mktemp -d "${TMPDIR:-/tmp}/agentd-demo.XXXXXX")
BATS_TEST_FILENAME=demo.bats BATS_RUN_TMPDIR=$WORK BATS_FILE_TMPDIR=$WORK BATS_TEST_TMPDIR=$WORK BATS_TEST_NUMBER=1
AGENTD_TEST_RUN=demo$$
export AGENTD_TEST_RUN
# shellcheck source=tests/lib/net.bash
. tests/lib/net.bash

cleanup() {
        status=$?
        set +eu
        test_end
        net_down
        rm -rf "$WORK"
        exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

bold='' dim='' plain=''
if [ -t 1 ]; then bold=$'\e[1m' dim=$'\e[2m' plain=$'\e[0m'; fi
say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
show() { sed "s/^/    $dim/; s/\$/$plain/"; }
wrong() { printf '\ndemo: not as told: %s\n' "$*" >&2; [ ! -s "$WORK/agentd.log" ] || cat "$WORK/agentd.log" >&2; exit 1; }

say "A small world: an agent's namespace, and beyond its only link web servers and a name server."
net_up agent
test_begin
echo "    www.example.test  198.51.100.10, 2001:db8:1::10"
echo "    evil.example      203.0.113.9,   2001:db8:bad::9"

say "Without agentd the agent reaches both:"
printf 'nameserver %s\n' "$DNS_SERVER" > "$WORK/resolv.conf"
# The agent's resolv.conf, in a mount namespace of the command's own.
# shellcheck disable=SC2016
client=(unshare -m bash -c 'mount --make-rprivate / && mount --bind "$0" /etc/resolv.conf && exec "$@"' "$WORK/resolv.conf")
for name in www.example.test evil.example; do
        code=$(in_ns agent "${client[@]}" curl -s -o /dev/null -m 10 -w '%{http_code}' "http://$name/") || true
        echo "    curl http://$name/  ->  $code"
        [ "$code" = 200 ] || wrong "$name should answer while nothing is enforced"
done
recorder_mark agent

say "The policy: one name, two ports. Everything else is denied."
file=$(config demo.yaml <<'YAML'
policies:
  demo:
    egress:
      - {name: website, domain: www.example.test, ports: [80, 443]}
YAML
)
sed -n '/^policies:/,$p' "$file" | show

say "\$ agentd run --config demo.yaml -- sh -c 'curl www.example.test; curl evil.example; curl 203.0.113.9'"
# shellcheck disable=SC2016
agentd_run --config "$file" --name demo -- "${client[@]}" bash -c '
        for target in www.example.test evil.example 203.0.113.9; do
                code=0
                http=$(curl -s -o /dev/null -m 10 -w "%{http_code}" "http://$target/") || code=$?
                echo "curl http://$target/  ->  HTTP $http, curl ended with $code"
        done' > "$WORK/out" 2> "$WORK/agentd.log" || wrong "the command failed"
show < "$WORK/out"
echo "    (what agentd itself printed:)"
show < "$WORK/agentd.log"
grep -q 'www.example.test/  ->  HTTP 200, curl ended with 0' "$WORK/out" || wrong "the allowed name must be reached"
grep -q 'evil.example/  ->  HTTP 000, curl ended with 6' "$WORK/out" || wrong "the denied name must not resolve"
grep -q '203.0.113.9/  ->  HTTP 000, curl ended with 7' "$WORK/out" || wrong "the denied address must not be reached"

say "What arrived beyond the link, as a packet recorder saw it:"
recorded 'dst=(198\.51\.100\.10|2001:db8:1::10|203\.0\.113\.9|2001:db8:bad::9) |name=' > "$WORK/arrived" || true
sed 's/ sport=.*name=/ name=/; s/ sport=.*//' "$WORK/arrived" | sort | uniq -c | show
grep -qE 'dst=(198\.51\.100\.10|2001:db8:1::10) proto=tcp dport=80' "$WORK/arrived" || wrong "the allowed connection must arrive"
! grep -qE 'dst=(203\.0\.113\.9|2001:db8:bad::9) |evil\.example' "$WORK/arrived" || wrong "a denied packet or look-up arrived"
echo "    nothing to 203.0.113.9, and no look-up of evil.example"

say "The events:"
jq -c 'select(.type == "dns" or .type == "deny")' "$EVENTS" > "$WORK/shown"
cut -c1-400 "$WORK/shown" | show
event '.type == "deny" and .reason == "no_rule" and .dst.ip == "203.0.113.9" and .process.comm == "curl"' "$WORK/shown" \
        > /dev/null || wrong "the denied connection must be an event that names curl"
event '.type == "dns" and .reason == "name_not_allowed" and .dst.name == "evil.example"' "$WORK/shown" \
        > /dev/null || wrong "the refused look-up must be an event"

say "The explanation, from the file alone:"
for target in www.example.test:80 evil.example:80 203.0.113.9:80; do
        echo "    \$ agentctl explain --policy demo --config demo.yaml $target"
        code=0
        "$AGENTCTL" explain --policy demo --config "$file" "$target" > "$WORK/explained" 2>&1 || code=$?
        sed 's/^/  /' "$WORK/explained" | show
        case $target:$code in www*:0 | evil*:1 | 203*:1) ;; *) wrong "explain $target ended with $code" ;; esac
done

say "All as told. Everything the demo made is gone again."
