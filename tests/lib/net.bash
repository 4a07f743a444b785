# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# The tests' world: network namespaces joined by veth, servers and a recorder at the far end, cgroups, and the programs
# under test. Sourced by bats files.
#
#     setup_file    net_up [CLIENT...]     namespaces CLIENT... (default: agent host), each linked to `outside`
#     teardown_file net_down
#     setup         test_begin             a bpffs, a socket path and a cgroup of this test's own
#     teardown      test_end               ends every process, unmounts, removes
#
# What is denied is judged by what the recorder saw, never by an errno alone. Order is known by markers: a datagram sent
# last over an allowed path, outside any agent; when it is recorded, so is all that was sent before.

TESTS_TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-build}
case $BUILD in /*) ;; *) BUILD=$TESTS_TOP/$BUILD ;; esac
AGENTD=${AGENTD_PROGRAM:-$BUILD/agentd}
AGENTCTL=${AGENTCTL_PROGRAM:-$BUILD/agentctl}
PYTHON=/usr/bin/python3
WAIT_SECONDS=${WAIT_SECONDS:-10}

export LC_ALL=C.UTF-8
# Descriptor 3 is bats' own: whoever inherits it keeps bats waiting.
background() {
        "$@" 3>&- 4>&- </dev/null &
}

cgroup_root() {
        awk '{ for (i = 1; i <= NF; i++) if ($i == "-" && $(i + 1) == "cgroup2") { print $5; exit } }' /proc/self/mountinfo
}

# --- waiting for events ----------------------------------------------------------------------------------------------

# wait_for FILE PATTERN [PID]: until a line of FILE matches; fails after WAIT_SECONDS. tail sleeps on inotify.
wait_for() {
        local file=$1 pattern=$2
        if ! (
                set +o pipefail # tail ends by SIGPIPE
                timeout "$WAIT_SECONDS" tail -n +1 -F "$file" 2>/dev/null | grep -q -m1 -E -- "$pattern"
        ); then
                echo "nothing in $file matched /$pattern/ within $WAIT_SECONDS s; it holds:" >&2
                tail -n 40 "$file" >&2 || true
                return 1
        fi
}

# wait_count FILE PATTERN N: until N lines match.
wait_count() {
        local file=$1 pattern=$2 count=$3
        (
                set +o pipefail
                timeout "$WAIT_SECONDS" tail -n +1 -F "$file" 2>/dev/null | grep --line-buffered -m"$count" -E -- "$pattern" >/dev/null
        )
        [ "$(grep -c -E -- "$pattern" "$file")" -ge "$count" ]
}

# wait_gone PID: until the process has ended (a pidfd, so that no time is guessed).
wait_gone() {
        timeout "$WAIT_SECONDS" tail -f /dev/null --pid="$1" -s 0.02
}

# --- namespaces ------------------------------------------------------------------------------------------------------

# In namespace NAME, in the cgroup of the caller: nobody's agent.
in_ns() {
        local name=$1
        shift
        nsenter --net="/run/netns/$ID-$name" "$@"
}

# The outside's addresses. Whole ranges are local there, so that any address of them answers.
NET_RANGES4="10.9.0.0/16 10.20.0.0/16 169.254.169.254/32 192.0.2.0/24 198.18.0.0/16 198.51.100.0/24 203.0.113.0/24 172.16.5.0/24 100.64.0.0/16"
NET_RANGES6="2001:db8:1::/48 2001:db8:2::/48 2001:db8:53::/48 2001:db8:bad::/48 fd00:ec2::254/128 64:ff9b::/96 2002::/16"
DNS_SERVER=198.51.100.53    # the test world's own, which agentd asks
DNS_FORBIDDEN=203.0.113.53  # another one, which no policy allows

net_up() {
        local name index=0 range
        # shellcheck disable=SC2154
        ID="age2e-${AGENTD_TEST_RUN:-$PPID}-$(basename "$BATS_TEST_FILENAME" .bats)"
        NET_DIR=$BATS_FILE_TMPDIR
        NET_CLIENTS=("${@:-agent}")
        [ $# -gt 0 ] || NET_CLIENTS=(agent host)
        CGROUP_ROOT=$(cgroup_root)
        export ID NET_DIR CGROUP_ROOT
        chmod 0755 "$BATS_RUN_TMPDIR" "$BATS_FILE_TMPDIR" 2>/dev/null || true

        ip netns add "$ID-outside"
        ip -n "$ID-outside" link set lo up
        for range in $NET_RANGES4; do
                ip -n "$ID-outside" route add local "$range" dev lo
        done
        for range in $NET_RANGES6; do
                ip -n "$ID-outside" -6 route add local "$range" dev lo
        done
        for name in "${NET_CLIENTS[@]}"; do
                index=$((index + 1))
                ip netns add "$ID-$name"
                ip -n "$ID-$name" link set lo up
                ip -n "$ID-outside" link add "$name" type veth peer name eth0 netns "$ID-$name"
                in_ns outside sysctl -qw "net.ipv6.conf.$name.accept_dad=0"
                in_ns "$name" sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.eth0.router_solicitations=0 \
                        net.ipv4.ping_group_range="0 2147483647"
                ip -n "$ID-outside" addr add "10.200.$index.1/24" dev "$name"
                ip -n "$ID-outside" addr add "2001:db8:200:$index::1/64" dev "$name" nodad
                ip -n "$ID-$name" addr add "10.200.$index.20/24" dev eth0
                ip -n "$ID-$name" addr add "2001:db8:200:$index::20/64" dev eth0 nodad
                ip -n "$ID-outside" link set "$name" up
                ip -n "$ID-$name" link set eth0 up
                ip -n "$ID-$name" route add default via "10.200.$index.1"
                ip -n "$ID-$name" -6 route add default via "2001:db8:200:$index::1"
        done
        # Packet sockets also catch what is sent to no one: keep the routers quiet.
        in_ns outside sysctl -qw net.ipv4.ip_forward=0 net.ipv6.ip_nonlocal_bind=1

        mkdir -p "$CGROUP_ROOT/$ID/servers" "$NET_DIR/web"
        echo "served by the far end" > "$NET_DIR/web/index.html"
        : > "$NET_DIR/packets"
        openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=far.test \
                -keyout "$NET_DIR/key.pem" -out "$NET_DIR/cert.pem" 2>/dev/null
        background nsenter --net="/run/netns/$ID-outside" "$PYTHON" "$TESTS_TOP/tests/lib/recorder.py" "$NET_DIR/packets"
        echo $! > "$NET_DIR/pids"
        background nsenter --net="/run/netns/$ID-outside" "$PYTHON" "$TESTS_TOP/tests/lib/servers.py" "$NET_DIR/servers" "$NET_DIR/web" "$NET_DIR"
        echo $! >> "$NET_DIR/pids"
        names_up
        wait_for "$NET_DIR/packets" '^ready'
        wait_for "$NET_DIR/servers" '^ready'
        wait_for "$NET_DIR/nsd.log" 'nsd started'
}

# The zone's real server.
names_up() {
        awk -v server="$DNS_SERVER" -f "$TESTS_TOP/tests/lib/zone.awk" > "$NET_DIR/root.zone"
        cat > "$NET_DIR/nsd.conf" <<CONF
server:
        ip-address: $DNS_SERVER
        ip-address: $DNS_FORBIDDEN
        ip-address: 2001:db8:53::53
        ip-address: 2001:db8:bad::53
        ip-freebind: yes
        server-count: 1
        username: ""
        database: ""
        zonesdir: "$NET_DIR"
        pidfile: "$NET_DIR/nsd.pid"
        xfrdfile: "$NET_DIR/xfrd.state"
        zonelistfile: "$NET_DIR/zone.list"
        logfile: "$NET_DIR/nsd.log"
        log-only-syslog: no
        verbosity: 1
        rrl-ratelimit: 0
        ipv4-edns-size: 1232
        ipv6-edns-size: 1232
remote-control:
        control-enable: no
zone:
        name: .
        zonefile: root.zone
CONF
        : > "$NET_DIR/nsd.log"
        background nsenter --net="/run/netns/$ID-outside" nsd -d -c "$NET_DIR/nsd.conf" >/dev/null 2>&1
        echo $! >> "$NET_DIR/pids"
}

net_down() {
        local pid name
        [ -n "${ID:-}" ] || return 0
        while read -r pid; do
                kill "$pid" 2>/dev/null || true
        done < "$NET_DIR/pids"
        while read -r pid; do
                wait_gone "$pid" || true
        done < "$NET_DIR/pids"
        for name in /run/netns/"$ID"-*; do
                [ ! -e "$name" ] || ip netns del "$(basename "$name")"
        done
        cgroup_remove "$CGROUP_ROOT/$ID"
}

# Kills what still runs below a cgroup, and removes it bottom up.
cgroup_remove() {
        local path=$1 directory
        [ -d "$path" ] || return 0
        [ ! -w "$path/cgroup.kill" ] || echo 1 > "$path/cgroup.kill"
        find "$path" -depth -type d | while read -r directory; do
                cgroup_empty "$directory"
                rmdir "$directory"
        done
}

cgroup_empty() {
        # "populated 0" is announced by a modification of cgroup.events, which tail's inotify would miss on cgroupfs:
        # the processes are watched instead.
        local pid
        while read -r pid; do
                wait_gone "$pid" || true
        done < "$1/cgroup.procs"
}

# Ends what a test left running: all that has its directory in the environment.
processes_end() {
        local file pid
        for file in $(grep -l -s -z -x -F "AGENTD_TEST_DIR=$1" /proc/[0-9]*/environ); do
                pid=${file#/proc/}
                pid=${pid%/environ}
                if [ "$pid" != "$$" ] && [ "$pid" != "$BASHPID" ]; then
                        kill -9 "$pid" 2>/dev/null || true
                        wait_gone "$pid" || true
                fi
        done
}

# --- the recorder ----------------------------------------------------------------------------------------------------

# Sends a marker out of CLIENT (default: every client) and waits until it is recorded; prints how many lines stand there.
sync_recorder() {
        local name nonce
        for name in "${@:-agent}"; do
                nonce=$name-$BASHPID-$RANDOM$RANDOM
                # shellcheck disable=SC2016
                in_ns "$name" bash -c 'exec 9> "/dev/udp/$1/9" && printf %s "marker:$2" >&9' - "$(gateway_of "$name")" "$nonce"
                wait_for "$NET_DIR/packets" "marker=$nonce( |\$)" || return 1
        done
}

gateway_of() {
        ip -n "$ID-$1" -4 route show default | awk '{ print $3 }'
}

# From here on: packets recorded earlier no longer count.
recorder_mark() {
        sync_recorder "$@"
        wc -l < "$NET_DIR/packets" > "$NET_DIR/mark"
}

# recorded PATTERN [CLIENT...]: prints the lines since the mark that match, after all that was sent has arrived.
recorded() {
        local pattern=$1
        shift
        sync_recorder "$@" || return 2
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" | grep -E -- "$pattern"
}

# Escapes an address for a pattern.
exactly() {
        printf '%s' "$1" | sed 's/[.[\*^$+?(){|]/\\&/g'
}

# arrived ADDRESS [PROTO [PORT]]: has such a packet come since the mark?
arrived() {
        local pattern
        pattern="^dst=$(exactly "$1") proto=${2:-[a-z0-9]+}( |\$)"
        [ -z "${3:-}" ] || pattern="^dst=$(exactly "$1") proto=$2 dport=$3( |\$)"
        recorded "$pattern" >/dev/null
}

assert_arrived() {
        arrived "$@" && return 0
        echo "did not arrive: $*; since the mark:" >&2
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" | tail -n 20 >&2
        return 1
}

# Missing is proven by the marker that did come (a recorder that has died fails here).
refute_arrived() {
        local lines status=0
        local pattern
        pattern="^dst=$(exactly "$1") proto=${2:-[a-z0-9]+}( |\$)"
        [ -z "${3:-}" ] || pattern="^dst=$(exactly "$1") proto=$2 dport=$3( |\$)"
        lines=$(recorded "$pattern") || status=$?
        [ "$status" = 1 ] && return 0
        echo "leaked: $* (status $status):" >&2
        echo "$lines" >&2
        return 1
}

# --- one test's own things -------------------------------------------------------------------------------------------

test_begin() {
        TEST_DIR=$BATS_TEST_TMPDIR
        chmod 0755 "$TEST_DIR"
        TEST_CGROUP=$ID/t$BATS_TEST_NUMBER
        mkdir -p "$TEST_DIR/bpf" "$TEST_DIR/state" "$CGROUP_ROOT/$TEST_CGROUP"
        mount -t bpf bpf "$TEST_DIR/bpf"
        export AGENTD_BPFFS=$TEST_DIR/bpf AGENTD_SOCKET=$TEST_DIR/agentd.sock AGENTD_TEST_DIR=$TEST_DIR
        # What a sanitizer has to say must not be lost in a process that nobody looks at.
        export ASAN_OPTIONS=log_path=$TEST_DIR/sanitizer UBSAN_OPTIONS=log_path=$TEST_DIR/sanitizer:print_stacktrace=1
        EVENTS=$TEST_DIR/events.jsonl
        recorder_mark agent
}

test_end() {
        [ -n "${TEST_CGROUP:-}" ] || return 0
        daemon_stop
        cgroup_remove "$CGROUP_ROOT/$TEST_CGROUP"
        processes_end "$TEST_DIR"
        if mountpoint -q "$TEST_DIR/bpf"; then
                umount "$TEST_DIR/bpf"
        fi
        unset AGENTD_TEST_DIR
        sanitizers_quiet
}

sanitizers_quiet() {
        local found
        found=$(cat "$TEST_DIR"/sanitizer.* 2>/dev/null
                grep -s -A 30 -E 'ERROR: (Address|Leak)Sanitizer|runtime error:' "$TEST_DIR/daemon.log") || true
        [ -n "$found" ] || return 0
        echo "$found" >&2
        return 1
}

cgroup_make() {
        mkdir -p "$CGROUP_ROOT/$TEST_CGROUP/$1"
        echo "/$TEST_CGROUP/$1"
}

# in_cgroup PATH NAMESPACE COMMAND...: enters the cgroup first, so that every socket of COMMAND is born in it.
in_cgroup() {
        local path=$1 name=$2
        shift 2
        # shellcheck disable=SC2016
        bash -c 'echo $$ > "$1/cgroup.procs" && shift && exec "$@"' - "$CGROUP_ROOT$path" \
                nsenter --net="/run/netns/$ID-$name" "$@"
}

# in_agent COMMAND...: in the cgroup that the daemon's tests attach (AGENT_CGROUP), in the agent's namespace.
in_agent() {
        in_cgroup "$AGENT_CGROUP" agent "$@"
}

# config NAME: standard input with the head that every configuration of the tests needs.
config() {
        local file=$TEST_DIR/$1
        {
                printf 'version: 1\n'
                printf 'daemon: {socket: %s, state_dir: %s/state, metrics: "%s", events: %s%s}\n' \
                        "$AGENTD_SOCKET" "$TEST_DIR" "${METRICS:-off}" "$EVENTS" "${DAEMON_EXTRA:+, $DAEMON_EXTRA}"
                printf 'dns: {upstream: [%s]%s}\n' "$DNS_SERVER" "${DNS_EXTRA:+, $DNS_EXTRA}"
                cat
        } > "$file"
        echo "$file"
}

# agentd_run OPTIONS... -- COMMAND...: agentd run in the agent's namespace; events in $EVENTS.
agentd_run() {
        in_ns agent timeout 60 "$AGENTD" run --events "$EVENTS" "$@"
}

# confined CONFIG COMMAND...: the same, short: the only policy of the file.
confined() {
        local file=$1
        shift
        agentd_run --config "$file" -- "$@"
}

# --- the daemon ------------------------------------------------------------------------------------------------------

# start_daemon CONFIG [NAMESPACE]: returns when it has told READY=1 (sd_notify), or fails with its output.
start_daemon() {
        local config=$1 name=${2:-host}
        : > "$TEST_DIR/notify"
        background nsenter --net="/run/netns/$ID-$name" "$PYTHON" "$TESTS_TOP/tests/lib/notify.py" "$TEST_DIR/notify" \
                "$AGENTD" serve --config "$config" >> "$TEST_DIR/daemon.log" 2>&1
        NOTIFIER=$!
        wait_for "$TEST_DIR/notify" 'READY=1|EXITED=' || { cat "$TEST_DIR/daemon.log" >&2; return 1; }
        DAEMON=$(sed -n 's/^PID=//p' "$TEST_DIR/notify")
        if grep -q EXITED= "$TEST_DIR/notify"; then
                echo "the daemon ended instead of becoming ready:" >&2
                cat "$TEST_DIR/daemon.log" >&2
                return 1
        fi
}

# daemon_stop [SIGNAL]: ends it and waits; daemon_status is how it ended.
daemon_stop() {
        [ -n "${DAEMON:-}" ] || return 0
        kill -"${1:-TERM}" "$DAEMON" 2>/dev/null || true
        wait_gone "$NOTIFIER" || kill -9 "$DAEMON" "$NOTIFIER" 2>/dev/null || true
        wait "$NOTIFIER" 2>/dev/null || true
        daemon_status=$(sed -n 's/^EXITED=//p' "$TEST_DIR/notify")
        DAEMON=
}

agentctl() {
        timeout 30 "$AGENTCTL" "$@"
}

# --- judging ---------------------------------------------------------------------------------------------------------

# event FILTER [FILE]: the events of this test that a jq filter selects, one a line; fails when there is none.
event() {
        jq -c "select($1)" "${2:-$EVENTS}" | grep .
}

wait_event() {
        wait_for "$EVENTS" "$1"
}

assert_equal() {
        [ "$1" = "$2" ] && return 0
        printf 'expected: %s\nbut got:  %s\n' "$2" "$1" >&2
        return 1
}

assert_match() {
        [[ $1 =~ $2 ]] && return 0
        printf 'does not match /%s/:\n%s\n' "$2" "$1" >&2
        return 1
}

refute_match() {
        [[ ! $1 =~ $2 ]] && return 0
        printf 'matches /%s/:\n%s\n' "$2" "$1" >&2
        return 1
}
