# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# Rounds of attacks. A list names a technique a line; each gets a destination of its own, so that what arrives names who
# sent it. A round sends all of them unconfined first: what does not arrive then proves nothing, and as root every line
# must. Then the same under agentd, and none may arrive.

# attack_build: once a file, in setup_file.
attack_build() {
        local program
        mkdir -p "$BATS_FILE_TMPDIR/bin"
        for program in tcp udp raw uring; do
                ${CC:-cc} -D_GNU_SOURCE -O1 -Wall -Wextra -Wno-psabi -Werror -o "$BATS_FILE_TMPDIR/bin/$program" \
                        "$TESTS_TOP/tests/attacks/$program.c"
        done
        chmod 0755 "$BATS_FILE_TMPDIR/bin"
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

# attack_list PREFIX4 PREFIX6 PORT < lines "PROGRAM TECHNIQUE 4|6 [ADDRESS]": prints "COMMAND LINE | ADDRESS".
attack_list() {
        local program technique family address number=0
        while read -r program technique family address; do
                [ -n "$program" ] || continue
                number=$((number + 1))
                if [ "$family" = 4 ]; then
                        address=${address:-$1.$((number + 10))}
                        echo "$BATS_FILE_TMPDIR/bin/$program $technique $address $3 10.20.0.7|$address"
                else
                        address=${address:-$2:$(printf %x $((number + 0x10)))}
                        echo "$BATS_FILE_TMPDIR/bin/$program $technique $address $3 2001:db8:1::7|$address"
                fi
        done
}

# attack_round LEVEL LIST_FILE [void]: "void": lines that do not arrive unconfined are left out instead of failing.
attack_round() {
        local level=$1 list=$2 may_be_void=${3:-} commands=$TEST_DIR/commands file status=0 line address tried=0
        file=$(attack_policy)
        cut -d'|' -f1 "$list" > "$commands"
        chmod 0644 "$commands"

        recorder_mark agent
        # shellcheck disable=SC2046
        in_ns agent $(at "$level") xargs -a "$commands" -L 1 -P 8 timeout 10 > "$TEST_DIR/unconfined.$level" 2>&1 || true
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$TEST_DIR/arrived.unconfined"

        recorder_mark agent
        # shellcheck disable=SC2046
        agentd_run --config "$file" -- $(at "$level") xargs -a "$commands" -L 1 -P 8 timeout 10 > "$TEST_DIR/confined.$level" 2>&1 || true
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$TEST_DIR/arrived.confined"

        while IFS='|' read -r line address; do
                if ! grep -q -F -- "dst=$address " "$TEST_DIR/arrived.unconfined"; then
                        [ -n "$may_be_void" ] && continue
                        echo "void: as $level, without agentd, nothing arrives from: ${line##*/}" >&2
                        status=1
                        continue
                fi
                tried=$((tried + 1))
                if grep -F -- "dst=$address " "$TEST_DIR/arrived.confined" >&2; then
                        echo "leaked: as $level: ${line##*/}" >&2
                        status=1
                fi
        done < "$list"
        [ "$tried" -gt 0 ] || { echo "void: nothing of this list arrives as $level" >&2; status=1; }
        [ "$status" = 0 ] || head -n 20 "$TEST_DIR/confined.$level" >&2
        # The program must have run at all: what never started leaks nothing.
        [ -s "$EVENTS" ] || { echo "no event: did the round run?" >&2; cat "$TEST_DIR/confined.$level" >&2; status=1; }
        return "$status"
}

rounds() {
        local list=$1 level
        attack_round root "$list"
        for level in docker user; do
                attack_round "$level" "$list" void
        done
}
