#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Four senders, and an operator who changes everything at random: limits, names of rules, budgets that come and go, broken
# files, grants, agents, and the daemon's life. In the end every ledger is what arrived at the far end, to the byte.
#
# SOAK_SECONDS (8) says how long; SOAK_SEED repeats the choices (not the scheduler's). `make soak` is a minute of it.

load ../lib/net
load ../lib/budget

setup_file() {
        net_up agent other third
        budget_net_up
}
teardown_file() { net_down; }
setup() {
        test_begin
        far_clear
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
        THIRD_CGROUP=$(cgroup_make three)
}
teardown() {
        daemon_stop
        "$AGENTD" uninstall || true
        test_end
}

# The choices: LIMIT of each ledger, ICMP the name of a rule that is renamed, EXTRA and DAILY budgets that come and go.
declare -gA LIMIT
LEDGERS="tcp udp six agent month shared"
LARGE=100GB

soak_config() {
        config daemon.yaml <<YAML
policies:
  one:
    egress:
      - {name: tcp, cidr: 10.20.1.0/24, budget: {bytes: ${LIMIT[tcp]}, per: total}}
      - {name: udp, cidr: 10.20.2.0/24, budget: {bytes: ${LIMIT[udp]}, per: week}}
      - {name: $ICMP, cidr: 10.20.3.0/24, protocol: any${EXTRA:+, budget: $EXTRA}}
      - {name: six, cidr: "2001:db8:1::/48", protocol: any, budget: {bytes: ${LIMIT[six]}, per: total}}
    budget:
      - {bytes: ${LIMIT[agent]}, per: total}
      - {bytes: ${LIMIT[month]}, per: month}
      - {bytes: ${LIMIT[shared]}, per: total, shared: true}
      ${DAILY:+- $DAILY}
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: one}
  claude-2: {cgroup: $OTHER_CGROUP, policy: one}
YAML
}

scope_of() {
        case $1 in
        tcp | six) echo "$1/total" ;;
        udp) echo udp/week ;;
        agent) echo agent/total ;;
        month) echo agent/month ;;
        shared) echo shared/total ;;
        esac
}

owner_of() {
        case $1 in six) echo claude-2 ;; *) echo claude-1 ;; esac
}

# A number below $1. 15 bits of RANDOM at a time.
below() {
        echo $(((RANDOM << 15 | RANDOM) % $1))
}

# reload_now [STATUS]
reload_now() {
        soak_config > /dev/null
        run agentctl reload
        assert_equal "$status" "${1:-0}"
}

edit_limit() {
        local words name
        read -r -a words <<< "$LEDGERS"
        name=${words[RANDOM % ${#words[@]}]}
        # Mostly a little more than what is used, so that it is soon spent; sometimes less.
        LIMIT[$name]=$(($(budget "$(owner_of "$name")" "$(scope_of "$name")" .used) + $(below 3000000) - 200000))
        [ "${LIMIT[$name]}" -gt 0 ] || LIMIT[$name]=1
        reload_now
}

edit_names() {
        ICMP=icmp$((RANDOM % 3))
        case $((RANDOM % 3)) in 0) EXTRA= ;; 1) EXTRA="{bytes: 50MB, per: total}" ;; 2) EXTRA="{bytes: $((1 + $(below 100000))), per: day}" ;; esac
        reload_now
}

edit_budgets() {
        case $((RANDOM % 3)) in 0) DAILY= ;; 1) DAILY="{bytes: 10GB, per: day}" ;; 2) DAILY="{bytes: 10GB, per: day, direction: both}" ;; esac
        reload_now
}

edit_broken() {
        local keep=$DAILY
        DAILY="{bytes: 0, per: day}"
        reload_now 2
        DAILY=$keep
        soak_config > /dev/null
}

grant_some() {
        local words name
        read -r -a words <<< "$LEDGERS"
        name=${words[RANDOM % ${#words[@]}]}
        agentctl budget grant "$(owner_of "$name")" "$(scope_of "$name")" $((1 + $(below 1000000))) > /dev/null
}

# Shares `shared` while it is there.
third_agent() {
        agentctl attach claude-3 --cgroup "$THIRD_CGROUP" --policy one > /dev/null
        AGENT_CGROUP=$THIRD_CGROUP SENDER_NS=third sender_start third soak mix 2001:db8:1::3 "$RANDOM"
        agentctl budget grant claude-1 shared/total 100000 > /dev/null
        until_true eval '[ "$(far third)" -gt 0 ] || event ".agent == \"claude-3\" and .reason == \"budget_exhausted\""'
        lift_all
        kill "$SENDER_PID"
        wait_gone "$SENDER_PID"
        agentctl detach claude-3 > /dev/null
}

restart() {
        daemon_stop "$1"
        WAIT_SECONDS=60 budget_daemon "$(soak_config)"
}

lift_all() {
        for name in $LEDGERS; do LIMIT[$name]=$LARGE; done
        EXTRA=
        reload_now
}

# told COMMAND...: what the ledgers are when it fails.
told() {
        "$@" && return 0
        {
                agentctl budget show
                for name in tcp udp one six third every; do echo "$name at the far end: $(far "$name")"; done
                cat "$TEST_DIR/choices" "$TEST_DIR"/{tcp,udp,icmp,six}
                tail -n 3 "$EVENTS"
        } >&2
        return 1
}

# tally NAME: of the far end, and how far all ledgers are from it.
ledgers_agree() {
        equal_far claude-1 tcp/total tcp && equal_far claude-1 udp/week udp && equal_far claude-1 agent/total one &&
                equal_far claude-1 agent/month one && equal_far claude-2 six/total six && equal_far claude-2 agent/total six &&
                equal_far claude-1 shared/total every && equal_far claude-2 shared/total every
}

@test "soak: random edits under traffic, and every ledger equals what arrived" {
        RANDOM=${SOAK_SEED:=$(date +%s)}
        echo "# soak: SOAK_SEED=$SOAK_SEED, ${SOAK_SECONDS:=8} s" >&3
        DAEMON_NS=outside
        ICMP=icmp EXTRA='' DAILY=''
        for name in $LEDGERS; do LIMIT[$name]=2MB; done
        far_watch tcp 10.20.1.1
        far_watch udp 10.20.2.1
        far_watch one 10.20.1.1 10.20.2.1 10.20.3.1
        far_watch six 2001:db8:1::2
        far_watch third 2001:db8:1::3
        far_watch every 10.20.1.1 10.20.2.1 10.20.3.1 2001:db8:1::2 2001:db8:1::3
        WAIT_SECONDS=60 budget_daemon "$(soak_config)"

        pids=
        sender_start tcp soak tcp 10.20.1.1 "$RANDOM" && pids="$pids $SENDER_PID"
        sender_start udp soak udp 10.20.2.1 "$RANDOM" && pids="$pids $SENDER_PID"
        sender_start icmp soak icmp 10.20.3.1 "$RANDOM" && pids="$pids $SENDER_PID"
        one=$AGENT_CGROUP AGENT_CGROUP=$OTHER_CGROUP
        SENDER_NS=other sender_start six soak mix 2001:db8:1::2 "$RANDOM" && pids="$pids $SENDER_PID"
        AGENT_CGROUP=$one

        edits=0 end=$((SECONDS + SOAK_SECONDS))
        while [ "$SECONDS" -lt "$end" ]; do
                edits=$((edits + 1))
                choice=$((RANDOM % 100))
                echo "$edits: $choice" >> "$TEST_DIR/choices"
                case $choice in
                [0-9] | [1-3][0-9]) edit_limit ;;
                4[0-9]) edit_names ;;
                5[0-9]) edit_budgets ;;
                6[0-9]) edit_broken ;;
                [7-8][0-9]) grant_some ;;
                9[0-4]) third_agent ;;
                9[5-6]) restart KILL ;;
                9[7]) restart TERM ;;
                9[8-9]) lift_all ;;
                esac
        done

        # One that is spent while it is watched: what arrived has not passed it. It is spent before it is raised, so that
        # nothing leaves between the figures and the reload that follows from them.
        lift_all
        LIMIT[agent]=1
        reload_now
        told until_true budget claude-1 agent/total '.left < 3000'
        LIMIT[agent]=$(budget claude-1 agent/total '.used - .granted + 2000000')
        reload_now
        at=$(budget claude-1 agent/total '.limit + .granted')
        told until_true budget claude-1 agent/total '.left < 3000'
        at_most "$(far one)" "$at" 'of agent/total'

        lift_all
        for pid in $pids; do kill "$pid"; done
        for pid in $pids; do WAIT_SECONDS=60 wait_gone "$pid"; done
        told until_true ledgers_agree
        echo "# soak: $edits edits; arrived: $(far tcp) of TCP, $(far udp) of UDP, $(far one) of claude-1," \
                "$(far six) of claude-2, $(far every) of all, $(far_packets every) packets" >&3
        cat "$TEST_DIR"/{tcp,udp,icmp,six}
        # Something was sent, and something refused: else nothing was shown.
        for name in tcp udp one six; do at_least "$(far "$name")" 100000 "$name"; done
        agentctl agents -o json | jq -e '[.agents[].counters.denied.by_reason.budget_exhausted // 0] | add > 0'
        refute_match "$(cat "$TEST_DIR"/{tcp,udp,icmp,six})" Traceback
}
