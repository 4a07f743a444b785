# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# The guest as tests/vm/prepare.sh has left it, joined to the far end of tests/lib/net.bash: agents live in the guest's
# own network namespace, the far end is a namespace behind far0.

load_world() {
        if [ ! -e /run/early ]; then
                echo "not in a guest of tests/vm/systemd.sh" >&2
                return 1
        fi
}

# As setup_file: what came before this, by the far end's device, is kept in $BATS_FILE_TMPDIR/before.
world_up() {
        load_world || return 1
        wait_for /run/early/log '^done'
        cat /sys/class/net/far1/statistics/rx_packets > "$BATS_FILE_TMPDIR/before"
        net_up agent
        ip link set far1 netns "$ID-outside"
        ip -n "$ID-outside" addr add 10.210.0.1/24 dev far1
        ip -n "$ID-outside" link set far1 up
        ip route del unreachable 198.51.100.0/24
        # A name for the guest's own namespace, so that the recorder's markers come from there.
        ip netns attach "$ID-guest" $$
        recorder_mark guest
}

# arrived_from_guest ADDRESS PROTO PORT: how many, since the mark.
arrived_from_guest() {
        sync_recorder guest
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" |
                grep -c -E -- "^dst=$(exactly "$1") proto=$2 dport=$3( |\$)" || true
}

none_leaked() {
        assert_equal "$(arrived_from_guest 203.0.113.9 '[a-z]+' '[0-9]+')" 0
}

# until_true COMMAND...: within WAIT_SECONDS.
until_true() {
        local end=$((SECONDS + WAIT_SECONDS))
        until "$@" > "$BATS_TEST_TMPDIR/until" 2>&1; do
                if [ "$SECONDS" -ge "$end" ]; then
                        echo "never true: $*" >&2
                        cat "$BATS_TEST_TMPDIR/until" >&2
                        return 1
                fi
                read -r -t 0.2 <> <(:) || true
        done
}

# unit_of NAME PROPERTY
unit_of() {
        systemctl show -P "$2" "$1"
}

# agent NAME COMMAND...: as a service of systemd's in agents.slice; its output and status.
agent() {
        local name=$1
        shift
        systemd-run --quiet --wait --pipe --collect --unit="$name" --slice=agents.slice -p Environment=LC_ALL=C.UTF-8 "$@"
}
