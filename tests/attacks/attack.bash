# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# The attack programs and their rounds (see rounds.py, which reads lists/*.list and judges). Needs net.bash.

ATTACKS=$TESTS_TOP/tests/attacks
ATTACK_LEVELS=${ATTACK_LEVELS:-root docker user}

# What a run found, for docs/attacks.md.
ATTACK_RESULTS=${ATTACK_RESULTS:-$BUILD/attacks}

# attack_build: once a file, in setup_file.
attack_build() {
        local program compilers=()
        mkdir -p "$BATS_FILE_TMPDIR/bin"
        for program in "$ATTACKS"/*.c; do
                ${CC:-cc} -D_GNU_SOURCE -O1 -Wall -Wextra -Wno-psabi -Werror -pthread -o "$BATS_FILE_TMPDIR/bin/$(basename "$program" .c)" "$program" &
                compilers+=($!)
        done
        for program in "${compilers[@]}"; do wait "$program"; done
        cp "$ATTACKS"/*.sh "$BATS_FILE_TMPDIR/bin"
        chmod 0755 "$BATS_FILE_TMPDIR/bin"
}

# What the lists need of the world: addresses of the link, one for each round.
attack_net() {
        local place device=$1 name=$2
        for place in $("$ATTACKS/rounds.py" places "$ATTACKS/lists" datagrams); do
                echo "addr add fe80::$place:77/64 dev $device nodad"
        done | ip -n "$ID-$name" -batch -
        ATTACK_GATEWAY_MAC=$(ip -n "$ID-$name" -j link show dev "$device" | jq -r '.[0].address')
        export ATTACK_GATEWAY_MAC
}

# The words before a command that give it the privileges of an agent of that kind.
at() {
        case $1 in
        root) ;;
        docker)
                echo setpriv --inh-caps=-all --bounding-set=-all,+chown,+dac_override,+fowner,+fsetid,+kill,+setgid,+setuid,+setpcap,+net_bind_service,+net_raw,+sys_chroot,+mknod,+audit_write,+setfcap
                ;;
        user) echo setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all ;;
        esac
}

# attack_send WAY LEVEL: sends all of a round and waits for its end.
attack_send() {
        local way=$1 level=$2 name=$NET_DIR/$1.$2 enter=in_agent free=$NET_DIR/arrived.free
        [ "$way" != free ] || free='' enter='in_ns agent'
        "$ATTACKS/rounds.py" commands "$ATTACKS/lists" "$way" "$level" ${free:+"$free"} > "$name.commands"
        # What changes the namespace goes last: connection tracking, which it may call up, holds single fragments back.
        grep -v '^device' "$name.commands" > "$name.programs" || true
        grep '^device' "$name.commands" > "$name.devices" || true
        # shellcheck disable=SC2046
        (cd "$BATS_FILE_TMPDIR/bin" && PATH=$BATS_FILE_TMPDIR/bin:$PATH && export PATH &&
                $enter $(at "$level") xargs -a "$name.programs" -r -L 1 -P 24 env
                $enter $(at "$level") xargs -a "$name.devices" -r -L 1 -P 8 env) > "$name.output" 2>&1 < /dev/null || true
        echo sent >> "$name.output"
}

# attack_way WAY: at all privileges at once. What arrived: $NET_DIR/arrived.WAY
attack_way() {
        local way=$1 level senders=()
        recorder_mark agent
        for level in $ATTACK_LEVELS; do
                attack_send "$way" "$level" 3>&- &
                senders+=($!)
        done
        for level in "${senders[@]}"; do wait "$level"; done
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$NET_DIR/arrived.$way"
}

# attack_again: once more, one by one, what did not arrive unconfined: a busy host is no proof.
attack_again() {
        local missing=$NET_DIR/missing
        "$ATTACKS/rounds.py" missing "$ATTACKS/lists" "$NET_DIR/arrived.free" > "$missing"
        [ -s "$missing" ] || return 0
        (cd "$BATS_FILE_TMPDIR/bin" && PATH=$BATS_FILE_TMPDIR/bin:$PATH && export PATH &&
                in_ns agent xargs -a "$missing" -L 1 env) > "$missing.output" 2>&1 < /dev/null || true
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$NET_DIR/arrived.free"
}

# attack_judge LIST: all that the rounds told of a list.
attack_judge() {
        local way ways=()
        for way in free 1 2 3 4 all; do
                [ ! -e "$NET_DIR/arrived.$way" ] || ways+=("$way")
        done
        "$ATTACKS/rounds.py" judge "$ATTACKS/lists" "$NET_DIR" "$1" "${ways[@]}" >&3
        mkdir -p "$ATTACK_RESULTS"
        cp "$NET_DIR/$1.tsv" "$ATTACK_RESULTS/"
}
