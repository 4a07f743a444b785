# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# Rounds of attacks. A list (lists/NAME.list) names a technique a line. Each line gets a destination of its own in each
# round, so that what arrives names who sent it, and when: what the kernel still sends for an earlier round counts in no
# later one. All lines are first sent unconfined: what does not arrive then proves nothing, and as root every line must.
# Then the same under agentd, and none may arrive.
#
#     @ PREFIX4 PREFIX6 PORT [MARK]            for the lines below; % stands for the round; MARK: what else a line of the
#                                              recorder must match to be a leak (where the plain packet is allowed)
#     PROGRAM TECHNIQUE 4|6 [ADDRESS] [FLAG]   ?: not every kernel has it; void is no failure then, and is told
#                                              open: is known to get out (docs/threat-model.md says why)
#
# With ATTACK_TABLE=FILE every result is added there, for table.sh.

ATTACKS=$TESTS_TOP/tests/attacks
ATTACK_LEVELS="root docker user"

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

# What the lists need of the world: an address of the link for each round.
attack_net() {
        local round device=${1:-agent} name=${2:-outside}
        for round in {1..15}; do
                echo "addr add fe80::$round:77/64 dev $device nodad"
        done | ip -n "$ID-$name" -batch -
        ATTACK_GATEWAY_MAC=$(ip -n "$ID-$name" -j link show dev "$device" | jq -r '.[0].address')
        export ATTACK_GATEWAY_MAC
}

attack_policy() {
        config attack.yaml <<'YAML'
policies:
  main:
    egress:
      - cidr: 10.20.0.0/16
      - cidr: 2001:db8:1::/48
YAML
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

# attack_list NAME ROUND: prints "COMMAND LINE|ADDRESS|MARK|TECHNIQUE|FAMILY|FLAGS".
attack_list() {
        local round=$2 word technique family address flags prefix4='' prefix6='' port='' mark='' number=0 allowed
        while read -r word technique family address flags; do
                case $word in
                '' | '#'*) continue ;;
                @)
                        prefix4=$technique prefix6=$family port=$address mark=$flags number=0
                        continue
                        ;;
                esac
                number=$((number + 1))
                case $address in '?' | open) flags=$address address= ;; esac
                if [ "$family" = 4 ]; then
                        address=${address:-$prefix4.$((number + 10))}
                        allowed=10.20.%.$((number + 10))
                else
                        address=${address:-$prefix6:$(printf %x $((number + 0x10)))}
                        allowed=2001:db8:1:%::$(printf %x $((number + 0x10)))
                fi
                address=${address//'%%'/^}
                address=${address//%/$round}
                address=${address//^/%}
                echo "$BATS_FILE_TMPDIR/bin/$word $technique $address $port ${allowed//%/$round}|${address%%%*}|$mark|$technique|$family|$flags"
        done < "$ATTACKS/lists/$1.list"
}

# Rounds are numbered: unconfined 1 to 3, confined 4 to 6, and on.
attack_round_of() {
        local level=$1 way=$2 n=0 word
        for word in unconfined confined tier1 tier2 tier3; do
                [ "$word" != "$way" ] || break
                n=$((n + 3))
        done
        case $level in root) echo $((n + 1)) ;; docker) echo $((n + 2)) ;; user) echo $((n + 3)) ;; esac
}

# attack_send LIST LEVEL WAY: sends all of it and waits for its end.
attack_send() {
        local level=$2 way=$3 list=$TEST_DIR/$1.$2.$3
        attack_list "$1" "$(attack_round_of "$level" "$way")" > "$list"
        cut -d'|' -f1 "$list" > "$list.commands"
        chmod 0644 "$list.commands"
        # shellcheck disable=SC2046
        if [ "$way" = unconfined ]; then
                in_ns agent $(at "$level") xargs -a "$list.commands" -L 1 -P 8 timeout 10
        else
                attack_confined "$level" $(at "$level") xargs -a "$list.commands" -L 1 -P 8 timeout 10
        fi > "$list.output" 2>&1 < /dev/null || true
}

# Under `agentd run`; packets.bats has its own.
attack_confined() {
        local level=$1
        shift
        EVENTS=$TEST_DIR/events.$level agentd_run --name "attack-$level" --config "$TEST_DIR/attack.yaml" -- "$@"
}

# attack_way LIST WAY LEVELS: at all privileges at once. What arrived: $TEST_DIR/arrived.WAY
attack_way() {
        local list=$1 way=$2 level senders=()
        recorder_mark agent
        for level in $3; do
                attack_send "$list" "$level" "$way" 3>&- &
                senders+=($!)
        done
        for level in "${senders[@]}"; do wait "$level"; done
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$TEST_DIR/arrived.$way"
}

attack_arrived() {
        grep -F -- "dst=$2 " "$TEST_DIR/arrived.$1" | grep -E -- "${3:-.}"
}

attack_note() {
        [ -z "${ATTACK_TABLE:-}" ] || printf '%s\t%s\t%s\t%s\t%s\n' "$@" >> "$ATTACK_TABLE"
}

# attack_judge LIST LEVEL WAY: "confined": a leak fails. Other ways only tell. Void lines were told by the first round.
attack_judge() {
        local list=$1 level=$2 way=$3 status=0 command address mark technique family flags tried=0 round result void=
        round=$(attack_round_of "$level" "$way")
        while IFS='|' read -r command address mark technique family flags <&8 && IFS='|' read -r _ free _ <&9; do
                if ! attack_arrived unconfined "$free" "$mark" > /dev/null; then
                        [ "$way" != confined ] || attack_note "$technique" "$family" "$level" all void
                        [ "$level" = root ] && [ "$way" = confined ] || continue
                        void="$void $technique/$family"
                        [ "$flags" = '?' ] && continue
                        echo "void: as $level, without agentd, nothing arrives from: ${command##*/}" >&2
                        status=1
                        continue
                fi
                tried=$((tried + 1))
                result=stopped
                if attack_arrived "$way" "$address" "$mark" > "$TEST_DIR/leak"; then
                        result=leaked
                        if [ "$way" = confined ] && [ "$flags" != open ]; then
                                echo "leaked: as $level: ${command##*/}" >&2
                                cat "$TEST_DIR/leak" >&2
                                status=1
                        fi
                fi
                attack_note "$technique" "$family" "$level" "$way" "$result"
        done 8< <(attack_list "$list" "$round") 9< <(attack_list "$list" "$(attack_round_of "$level" unconfined)")
        [ -z "$void" ] || echo "# void on this kernel:$void" >&3
        if [ "$tried" = 0 ] && [ "$level" = root ]; then
                echo "void: nothing of $list arrives as $level" >&2
                status=1
        fi
        [ "$status" = 0 ] || head -n 20 "$TEST_DIR/$list.$level.$way.output" >&2
        return "$status"
}

# rounds LIST [LEVELS]
rounds() {
        local list=$1 levels=${2:-$ATTACK_LEVELS} level status=0
        attack_policy > /dev/null
        attack_way "$list" unconfined "$levels"
        attack_way "$list" confined "$levels"
        for level in $levels; do
                attack_judge "$list" "$level" confined || status=1
                # The program must have run at all: what never started leaks nothing.
                [ -s "$TEST_DIR/events.$level" ] || { echo "no event: did the round run as $level?" >&2; status=1; }
        done
        cat "$TEST_DIR"/events.* > "$EVENTS"
        return "$status"
}
