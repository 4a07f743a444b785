# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# shellcheck shell=bash
#
# Tables of destinations, judged three ways. Each line of standard input is "SPEC EXPECTED [ADDRESS]":
#
#     tcp/10.20.0.7/5432   ok
#     udp/203.0.113.9/8000 denied
#     tcp/::ffff:10.20.0.7/5432 ok 10.20.0.7      (ADDRESS: as what it arrives, where that differs)
#
# judge_table COMMAND...: runs the probes unconfined first: every one must be answered, else its line proves nothing.
# Then by COMMAND (confined): the program's answer must be as expected, what is allowed must arrive at the far end, and
# of what is denied no packet may.

judge_table() {
        local table specs=() spec expected address protocol port got status=0
        table=$(sed -e 's/#.*//' -e '/^ *$/d')
        while read -r spec expected address; do
                specs+=("$spec")
        done <<< "$table"

        recorder_mark agent
        in_ns agent "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" "${specs[@]}" > "$TEST_DIR/unconfined"
        while read -r spec got; do
                [ "$got" = ok ] || { echo "void: $spec is not answered without agentd ($got)" >&2; status=1; }
        done < "$TEST_DIR/unconfined"
        [ "$status" = 0 ] || return 1

        recorder_mark agent
        "$@" "$PYTHON" "$TESTS_TOP/tests/lib/probe.py" "${specs[@]}" > "$TEST_DIR/confined" || status=1
        sync_recorder agent
        tail -n +"$(($(cat "$NET_DIR/mark") + 1))" "$NET_DIR/packets" > "$TEST_DIR/arrived"
        assert_equal "$(wc -l < "$TEST_DIR/confined")" "${#specs[@]}" || status=1
        while read -r spec expected address; do
                got=$(awk -v spec="$spec" '$1 == spec { print $2 }' "$TEST_DIR/confined")
                IFS=/ read -r protocol _ port <<< "$spec"
                [ -n "${address:-}" ] || { address=${spec#*/}; address=${address%%/*}; }
                pattern="^dst=$(exactly "$address") proto=$protocol${port:+ dport=$port}( |\$)"
                case $expected in
                ok)
                        [ "$got" = ok ] || { echo "$spec: expected ok, got '$got'" >&2; status=1; }
                        grep -q -E -- "$pattern" "$TEST_DIR/arrived" || { echo "$spec: never arrived" >&2; status=1; }
                        ;;
                denied | timeout)
                        [ "$got" = "$expected" ] || { echo "$spec: expected $expected, got '$got'" >&2; status=1; }
                        ! grep -E -- "$pattern" "$TEST_DIR/arrived" >&2 || { echo "$spec: leaked" >&2; status=1; }
                        ;;
                *) echo "bad line: $spec $expected" >&2; status=1 ;;
                esac
                address=
        done <<< "$table"
        return "$status"
}

# explain_table CONFIG POLICY: the same table asked of `agentctl policy test`, which has neither daemon nor kernel.
explain_table() {
        local config=$1 policy=$2 table spec expected address protocol port destination status=0 code
        table=$(sed -e 's/#.*//' -e '/^ *$/d')
        while read -r spec expected address; do
                IFS=/ read -r protocol destination port <<< "$spec"
                case $destination in *:*) [ -z "$port" ] || destination="[$destination]" ;; esac
                destination=$destination${port:+:$port}/$protocol
                code=0
                "$AGENTCTL" policy test "$policy" "$destination" --config "$config" > "$TEST_DIR/explained" 2>&1 || code=$?
                case $expected:$code in
                ok:0 | denied:1 | timeout:1) ;;
                *)
                        echo "$spec: the kernel says $expected, policy test ended $code: $(cat "$TEST_DIR/explained")" >&2
                        status=1
                        ;;
                esac
        done <<< "$table"
        return "$status"
}
