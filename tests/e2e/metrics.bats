#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Metrics: the contract's names, figures that are those of the kernel and of agentctl, a real Prometheus, health; who may
# read them, and that whoever asks cannot hurt the daemon.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        METRICS=127.0.0.1:9469
}
teardown() { test_end; }

policy() {
        config metrics.yaml <<YAML
policies:
  web:
    egress:
      - {name: lab, cidr: 10.20.0.0/16, ports: [80], budget: {bytes: 1MiB, per: day}}
      - {domain: www.example.test, ports: [80]}
    budget: [{bytes: 10MiB, per: day, direction: both}]
agents:
  claude-1: {cgroup: $AGENT_CGROUP, policy: web}
YAML
}

get() { # PATH [OPTION...]
        local path=$1
        shift
        in_ns host curl -sS -m 10 "$@" "http://127.0.0.1:9469$path"
}
# The value of one sample.
sample() { # LABELED-NAME
        get /metrics | awk -v "name=$1" 'index($0, name " ") == 1 { print substr($0, length(name) + 2) }'
}
status_of() { get "$1" -o /dev/null -w '%{http_code}'; }

@test "every name of the contract is there, and promtool has nothing to say" {
        start_daemon "$(policy)"
        in_agent curl -sS -m 5 http://www.example.test/ > /dev/null
        run in_agent curl -s -m 1 http://203.0.113.9/
        agentctl reload > /dev/null
        # The worker tells its figures once a second.
        wait_counted
        get /metrics > "$BATS_TEST_TMPDIR/page"
        for name in agentd_build_info agentd_agents agentd_verdicts_total agentd_bytes_total agentd_budget_limit_bytes \
                agentd_budget_used_bytes agentd_dns_queries_total agentd_dns_duration_seconds agentd_learned_addresses \
                agentd_map_entries agentd_map_capacity agentd_events_total agentd_events_lost_total agentd_policy_generation \
                agentd_reloads_total agentd_enforcement_verified_timestamp_seconds agentd_drift_total; do
                grep -q "^# TYPE $name " "$BATS_TEST_TMPDIR/page" || { echo "no $name"; return 1; }
                grep -qE "^$name(_bucket)?[{ ]" "$BATS_TEST_TMPDIR/page" || { echo "no sample of $name"; return 1; }
        done
        command -v promtool > /dev/null || skip "promtool is not here"
        promtool check metrics < "$BATS_TEST_TMPDIR/page"
}

# Until the look-ups' figures have come from the worker.
wait_counted() {
        local tries
        for tries in $(seq 100); do
                [ "$(sample 'agentd_dns_duration_seconds_count')" = 0 ] || return 0
                timeout 0.1 tail -f /dev/null || true
        done
        return 1
}

@test "figures are those of the kernel, and outlive the daemon" {
        CONFIG=$(policy)
        start_daemon "$CONFIG"
        in_agent curl -sS -m 5 http://10.20.0.7/ > /dev/null
        run in_agent curl -s -m 1 http://203.0.113.9/
        run in_agent curl -s -m 1 http://203.0.113.9/
        agents=$(agentctl agents -o json | jq '.agents[0].counters // .[0].counters')
        assert_equal "$(sample 'agentd_bytes_total{agent="claude-1",direction="egress"}')" "$(jq .allowed.egress.bytes <<< "$agents")"
        assert_equal "$(sample 'agentd_verdicts_total{agent="claude-1",verdict="deny",reason="no_rule"}')" "$(jq .denied.by_reason.no_rule <<< "$agents")"
        used=$(agentctl budget show claude-1 -o json | jq '.[] | select(.scope == "lab/day") | .used')
        [ "$used" -gt 0 ]
        assert_equal "$(sample 'agentd_budget_used_bytes{agent="claude-1",scope="lab/day"}')" "$used"
        assert_equal "$(sample 'agentd_budget_limit_bytes{agent="claude-1",scope="lab/day"}')" 1048576
        denied=$(sample 'agentd_verdicts_total{agent="claude-1",verdict="deny",reason="no_rule"}')
        daemon_stop KILL
        start_daemon "$CONFIG"
        assert_equal "$(sample 'agentd_verdicts_total{agent="claude-1",verdict="deny",reason="no_rule"}')" "$denied"
}

@test "a real Prometheus scrapes it" {
        command -v prometheus > /dev/null || skip "prometheus is not here"
        start_daemon "$(policy)"
        run in_agent curl -s -m 1 http://203.0.113.9/
        cat > "$BATS_TEST_TMPDIR/prometheus.yml" <<'YAML'
global: {scrape_interval: 1s, scrape_timeout: 1s}
scrape_configs: [{job_name: agentd, static_configs: [{targets: ["127.0.0.1:9469"]}]}]
YAML
        background in_ns host prometheus --config.file="$BATS_TEST_TMPDIR/prometheus.yml" --storage.tsdb.path="$BATS_TEST_TMPDIR/tsdb" \
                --web.listen-address=127.0.0.1:9090 > "$BATS_TEST_TMPDIR/prometheus.log" 2>&1
        prometheus=$!
        for tries in $(seq 100); do
                run in_ns host curl -s -m 5 -G http://127.0.0.1:9090/api/v1/query \
                        --data-urlencode 'query=agentd_verdicts_total{verdict="deny",reason="no_rule",agent="claude-1"}'
                if jq -e '.data.result[0].value[1] | tonumber >= 1' <<< "$output" > /dev/null 2>&1; then break; fi
                timeout 0.2 tail -f /dev/null || true
        done
        kill "$prometheus"
        jq -e '.data.result[0].value[1] | tonumber >= 1' <<< "$output"
}

@test "healthz, readyz and health tell what agentctl health tells" {
        start_daemon "$(policy)"
        assert_equal "$(get /healthz)" ok
        agentctl wait claude-1 > /dev/null
        assert_equal "$(get /readyz)" ready
        get /health | jq -e '.healthy and .ready and (.problems == []) and (.components | map(select(.ok | not)) == [])'
        assert_equal "$(status_of /nothing)" 404
        assert_equal "$(get /metrics -X POST -o /dev/null -w '%{http_code}')" 405

        # Events that cannot be written are a problem of both.
        daemon_stop
        EVENTS=/dev/full
        start_daemon "$(policy)"
        run in_agent curl -s -m 1 http://203.0.113.9/
        for tries in $(seq 50); do
                if get /health | jq -e '.healthy | not' > /dev/null; then break; fi
                timeout 0.1 tail -f /dev/null || true
        done
        get /health | jq -e '(.healthy | not) and (.problems | length >= 1)'
        run agentctl health
        assert_equal "$status" 1
}

@test "a daemon that stands still is not alive" {
        start_daemon "$(policy)"
        assert_equal "$(get /healthz)" ok
        kill -STOP "$DAEMON"
        # Pages that are not older than 200 ms are shown again.
        for tries in $(seq 20); do
                code=$(status_of /healthz) || true
                [ "$code" = 200 ] || break
        done
        kill -CONT "$DAEMON"
        assert_equal "$code" 503
        for tries in $(seq 50); do
                [ "$(status_of /healthz)" != 200 ] || break
        done
        assert_equal "$(status_of /healthz)" 200
}

@test "the process is unprivileged, has nothing open, and is started again" {
        start_daemon "$(policy)"
        assert_equal "$(status_of /healthz)" 200
        worker=$(pgrep -P "$DAEMON" -f metrics-worker)
        grep -qE '^Uid:\s+[1-9]' "/proc/$worker/status"
        grep -qE '^CapBnd:\s+0+$' "/proc/$worker/status"
        grep -qE '^CapEff:\s+0+$' "/proc/$worker/status"
        grep -qE '^NoNewPrivs:\s+1$' "/proc/$worker/status"
        grep -qE '^Seccomp:\s+2$' "/proc/$worker/status"
        assert_equal "$(find "/proc/$worker/root/" -mindepth 1 2>/dev/null | wc -l)" 0
        kill -KILL "$worker"
        for tries in $(seq 50); do
                run get /healthz
                [ "$status" != 0 ] || break
                timeout 0.1 tail -f /dev/null || true
        done
        assert_equal "$output" ok
        [ "$(pgrep -P "$DAEMON" -f metrics-worker)" != "$worker" ]
}

@test "an address that is taken is told, and enforcement does not care" {
        background in_ns host socat TCP-LISTEN:9469,bind=127.0.0.1,reuseaddr,fork PIPE
        other=$!
        in_ns host timeout 10 bash -c 'until : < /dev/tcp/127.0.0.1/9469; do :; done' 2>/dev/null
        start_daemon "$(policy)"
        in_agent curl -sS -m 5 http://10.20.0.7/ > /dev/null
        run agentctl health
        assert_equal "$status" 1
        assert_match "$output" 'metrics cannot be served on 127.0.0.1:9469: Address already in use'
        grep "metrics cannot be served on 127.0.0.1:9469: Address already in use; set 'daemon: metrics'" "$TEST_DIR/daemon.log"
        kill "$other"
}

@test "a socket's path serves members of its group only" {
        METRICS=$BATS_TEST_TMPDIR/metrics.sock
        start_daemon "$(policy)"
        assert_equal "$(stat -c %a "$METRICS")" 660
        curl -sS -m 5 --unix-socket "$METRICS" http://localhost/metrics | grep -q '^agentd_agents 1$'
        run setpriv --reuid=65534 --regid=65534 --clear-groups curl -sS -m 5 --unix-socket "$METRICS" http://localhost/metrics
        [ "$status" != 0 ]
        daemon_stop
        [ ! -e "$METRICS" ]
}

@test "who is not on this host needs TLS, and a token or a certificate" {
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=agentd -addext subjectAltName=IP:127.0.0.1 \
                -keyout "$BATS_TEST_TMPDIR/key" -out "$BATS_TEST_TMPDIR/crt" 2>/dev/null
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=client -keyout "$BATS_TEST_TMPDIR/client.key" \
                -out "$BATS_TEST_TMPDIR/client.crt" 2>/dev/null
        openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=stranger -keyout "$BATS_TEST_TMPDIR/stranger.key" \
                -out "$BATS_TEST_TMPDIR/stranger.crt" 2>/dev/null
        chmod 0600 "$BATS_TEST_TMPDIR/key"
        echo secret-token > "$BATS_TEST_TMPDIR/token"
        chmod 0600 "$BATS_TEST_TMPDIR/token"
        METRICS=0.0.0.0:9469
        run "$AGENTD" check --config "$(policy)"
        assert_equal "$status" 2
        assert_match "$output" "metrics.yaml:2:[0-9]+: 'metrics: 0.0.0.0:9469' can be reached from elsewhere; add metrics_tls"
        DAEMON_EXTRA="metrics_tls: {certificate: $BATS_TEST_TMPDIR/crt, key: $BATS_TEST_TMPDIR/key}"
        run "$AGENTD" check --config "$(policy)"
        assert_equal "$status" 2
        assert_match "$output" "can be read by everybody who reaches it; add metrics_token: FILE or 'client_ca'"
        DAEMON_EXTRA="metrics_tls: {certificate: $BATS_TEST_TMPDIR/crt, key: $BATS_TEST_TMPDIR/key, client_ca: $BATS_TEST_TMPDIR/client.crt}, metrics_token: $BATS_TEST_TMPDIR/token"
        start_daemon "$(policy)"
        ask() { in_ns host curl -sS -m 10 --cacert "$BATS_TEST_TMPDIR/crt" -o /dev/null -w '%{http_code}' "$@" https://127.0.0.1:9469/metrics; }
        assert_equal "$(ask)" 401
        assert_equal "$(ask -H 'Authorization: Bearer secret-tokeN')" 401
        assert_equal "$(ask -H 'Authorization: Bearer ')" 401
        assert_equal "$(ask -H 'Authorization: Basic secret-token')" 401
        assert_equal "$(ask -H 'Authorization: Bearer secret-token')" 200
        assert_equal "$(ask --cert "$BATS_TEST_TMPDIR/client.crt" --key "$BATS_TEST_TMPDIR/client.key")" 200
        run ask --cert "$BATS_TEST_TMPDIR/stranger.crt" --key "$BATS_TEST_TMPDIR/stranger.key"
        [ "$output" != 200 ]
        # Plain text is no way in.
        run in_ns host curl -sS -m 10 http://127.0.0.1:9469/metrics
        [ "$status" != 0 ] || [[ $output != *agentd_agents* ]]
        # A token that others may read is no secret.
        daemon_stop
        chmod 0644 "$BATS_TEST_TMPDIR/token"
        start_daemon "$(policy)"
        run agentctl health
        assert_match "$output" 'token: others may read it; chmod 0600'
}

@test "a crowd that asks slowly, wrongly and without end costs the daemon nothing" {
        start_daemon "$(policy)"
        # 200 connections: half of a request each, kept open; then garbage; then a header without end.
        in_ns host "$PYTHON" "$TESTS_TOP/tests/lib/scrapers.py" 127.0.0.1 9469 &
        crowd=$!
        for tries in $(seq 20); do
                in_agent curl -sS -m 5 http://10.20.0.7/ > /dev/null
                agentctl status > /dev/null
        done
        wait "$crowd"
        for tries in $(seq 50); do
                run get /healthz
                [ "$status" != 0 ] || break
        done
        assert_equal "$output" ok
        [ "$(awk '/^VmRSS/ { print $2 }' "/proc/$(pgrep -P "$DAEMON" -f metrics-worker)/status")" -lt 40000 ]
}
