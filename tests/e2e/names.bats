#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Names: real resolvers and clients, whichever server they ask; what leaves is judged at the upstream's link.

load ../lib/net

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        # Clients ask a server that no policy allows, twice: nothing of theirs may reach it.
        printf 'nameserver %s\nnameserver 2001:db8:bad::53\noptions timeout:3 attempts:2\n' "$DNS_FORBIDDEN" > "$TEST_DIR/resolv.conf"
}
teardown() { test_end; }

names_config() {
        config names.yaml <<'YAML'
policies:
  main:
    egress:
      - {name: www, domain: www.example.test, ports: [80, 443, 8443, 9000]}
      - {domain: four.example.test}
      - {domain: six.example.test}
      - {domain: git.example.test, ports: [80]}
      - {domain: alias.example.test, ports: [80]}
      - {domain: many.example.test, ports: [80]}
      - {domain: private.example.test}
      - {domain: mixed.example.test}
      - {domain: linklocal.example.test}
      - {domain: embedded.example.test}
      - {domain: meta.example.test}
      - {domain: text.example.test}
      - {domain: https.example.test}
      - {domain: _sip._tcp.example.test}
      - {domain: "*.wild.test", ports: [80]}
      - {domain: "api-*.label.test", ports: [80]}
      - {domain: exact.test}
      - {domain: nowhere.test}
    deny:
      - {domain: secret.wild.test}
YAML
}

# client SCRIPT: runs it by bash in the agent, with the test's resolv.conf in a mount namespace of its own.
client() {
        local file=$1 script=$2
        # shellcheck disable=SC2016
        confined "$file" unshare -m bash -euc '
                mount --make-rprivate / && mount --bind "$1" /etc/resolv.conf && shift && script=$1 && shift
                eval "$script"' - "$TEST_DIR/resolv.conf" "$script"
}

@test "without agentd the look-ups that must not leave do leave" {
        for server in "$DNS_FORBIDDEN" 2001:db8:bad::53; do
                for transport in +notcp +tcp; do
                        in_ns agent dig +time=5 +tries=1 "$transport" "@$server" evil.example +short
                done
        done
        assert_arrived "$DNS_FORBIDDEN" udp 53
        assert_arrived "$DNS_FORBIDDEN" tcp 53
        assert_arrived 2001:db8:bad::53 udp 53
        assert_arrived 2001:db8:bad::53 tcp 53
        assert_equal "$(recorded 'name=evil\.example( |$)' | wc -l)" 4
}

@test "curl reaches an allowed name and no other, over both families" {
        file=$(names_config)
        client "$file" '
                curl -sS -4 -m 10 http://www.example.test/
                curl -sS -6 -m 10 http://www.example.test/
                curl -sSk -m 10 https://www.example.test:8443/
                for name in evil.example sub.exact.test wild.test denied.test; do
                        code=0
                        curl -s -m 10 "http://$name/" || code=$?
                        echo "$name $code"
                done' > "$TEST_DIR/out"
        assert_equal "$(grep -c 'served by the far end' "$TEST_DIR/out")" 3
        # 6: could not resolve host
        assert_equal "$(grep -v served "$TEST_DIR/out" | tr '\n' ';')" 'evil.example 6;sub.exact.test 6;wild.test 6;denied.test 6;'
        assert_arrived 198.51.100.10 tcp 80
        assert_arrived 2001:db8:1::10 tcp 80
        refute_arrived 203.0.113.9
        refute_arrived "$DNS_FORBIDDEN"
        refute_arrived 2001:db8:bad::53
        recorded 'name=www\.example\.test'
        run recorded 'name=(evil\.example|sub\.exact\.test|wild\.test|denied\.test)( |$)'
        assert_equal "$status" 1
        event '.type == "dns" and .reason == "name_not_allowed" and .dst.name == "evil.example"'
}

@test "git, python, openssl and getent work unchanged" {
        git init -q --bare "$NET_DIR/web/repository.git"
        commit=$(git -C "$NET_DIR/web/repository.git" -c user.name=t -c user.email=t@example.test \
                commit-tree -m x "$(git -C "$NET_DIR/web/repository.git" hash-object -wt tree /dev/null)")
        git -C "$NET_DIR/web/repository.git" update-ref refs/heads/main "$commit"
        git -C "$NET_DIR/web/repository.git" update-server-info
        file=$(names_config)
        client "$file" '
                git ls-remote http://git.example.test/repository.git
                /usr/bin/python3 -c "import urllib.request; print(urllib.request.urlopen(\"http://www.example.test/\", timeout=10).read())"
                openssl s_client -connect www.example.test:8443 -brief </dev/null 2>&1 | grep -i "^connection established"
                getent ahosts www.example.test
                getent ahosts evil.example || echo "getent refused"
                git ls-remote http://evil.example/repository.git 2>/dev/null || echo "git refused"' > "$TEST_DIR/out"
        grep -q "^$commit.*refs/heads/main" "$TEST_DIR/out"
        grep -q 'served by the far end' "$TEST_DIR/out"
        grep -qi '^connection established' "$TEST_DIR/out"
        grep -q '^198.51.100.10 ' "$TEST_DIR/out"
        grep -q '^2001:db8:1::10 ' "$TEST_DIR/out"
        grep -q -x 'getent refused' "$TEST_DIR/out"
        grep -q -x 'git refused' "$TEST_DIR/out"
        refute_arrived 203.0.113.9
}

@test "a static musl client resolves and connects" {
        musl-gcc -static -O1 -o "$TEST_DIR/resolve" "$TESTS_TOP/tests/e2e/resolve.c"
        file=$(names_config)
        client "$file" "
                $TEST_DIR/resolve www.example.test 80
                $TEST_DIR/resolve evil.example 80 2>/dev/null || echo refused" > "$TEST_DIR/out"
        grep -q -x 198.51.100.10 "$TEST_DIR/out"
        grep -q -x 2001:db8:1::10 "$TEST_DIR/out"
        grep -q -x refused "$TEST_DIR/out"
        assert_arrived 198.51.100.10 tcp 80
        refute_arrived "$DNS_FORBIDDEN"
}

@test "dig is answered whichever server it asks, over UDP and TCP, IPv4 and IPv6" {
        file=$(names_config)
        client "$file" '
                for server in 203.0.113.53 2001:db8:bad::53 192.0.2.200 127.0.0.11 127.0.0.53 ::1 169.254.169.254; do
                        for transport in +notcp +tcp; do
                                dig +time=5 +tries=1 $transport @$server four.example.test A +short | sed "s/^/$server $transport /"
                        done
                done' > "$TEST_DIR/out"
        assert_equal "$(grep -c ' 198.51.100.16$' "$TEST_DIR/out")" 14
        for address in 203.0.113.53 2001:db8:bad::53 192.0.2.200 169.254.169.254; do
                refute_arrived "$address"
        done
}

@test "the asked server is what a program sees as its peer" {
        file=$(names_config)
        # shellcheck disable=SC2016
        client "$file" '/usr/bin/python3 -c "
import socket, struct
query = struct.pack(\"!HHHHHH\", 77, 0x100, 1, 0, 0, 0) + b\"\\x04four\\x07example\\x04test\\x00\" + struct.pack(\"!HH\", 1, 1)
for family, server in ((socket.AF_INET, \"203.0.113.53\"), (socket.AF_INET6, \"2001:db8:bad::53\")):
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.sendto(query, (server, 53))
    answer, peer = sock.recvfrom(4096)
    print(peer[0], peer[1], answer[:2] == query[:2], answer[3] & 15)
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.connect((server, 53))
    print(sock.getpeername()[0], sock.getpeername()[1])
    sock.send(query)
    print(len(sock.recv(4096)) > len(query))
"' > "$TEST_DIR/out"
        assert_equal "$(tr '\n' ';' < "$TEST_DIR/out")" \
                '203.0.113.53 53 True 0;203.0.113.53 53;True;2001:db8:bad::53 53 True 0;2001:db8:bad::53 53;True;'
}

@test "150 addresses: truncated over UDP, whole over TCP and EDNS, the last one can be connected to" {
        file=$(names_config)
        client "$file" '
                dig +time=5 +tries=1 +noedns +ignore many.example.test | grep -c "flags:.* tc[ ;]" | sed "s/^/truncated /"
                dig +time=5 +tries=1 +tcp many.example.test +short | wc -l | sed "s/^/tcp /"
                dig +time=5 +tries=1 many.example.test +short | wc -l | sed "s/^/retried /"
                dig +time=5 +tries=1 +bufsize=1232 +ignore many.example.test | grep "flags:.* tc[ ;]" | wc -l | sed "s/^/edns /"
                for last in 1 77 150; do curl -sS -m 5 http://198.18.0.$last/; done' > "$TEST_DIR/out"
        grep -q -x 'truncated 1' "$TEST_DIR/out"
        grep -q -x 'tcp 150' "$TEST_DIR/out"
        grep -q -x 'retried 150' "$TEST_DIR/out"
        grep -q -x 'edns 1' "$TEST_DIR/out"
        assert_equal "$(grep -c served "$TEST_DIR/out")" 3
        assert_arrived 198.18.0.150 tcp 80
}

@test "a CNAME chain through names that are not allowed leads to its address" {
        file=$(names_config)
        client "$file" '
                dig +time=5 +tries=1 alias.example.test +short
                curl -sS -m 5 http://alias.example.test/
                dig +time=5 +tries=1 edge.cdn.test | grep -o "status: [A-Z]*"' > "$TEST_DIR/out"
        grep -q -x 198.51.100.12 "$TEST_DIR/out"
        grep -q served "$TEST_DIR/out"
        grep -q -x 'status: NXDOMAIN' "$TEST_DIR/out"
        event '.type == "dns" and .dst.name == "edge.cdn.test"'
}

@test "wildcards: every depth below, never the name itself, and one label where they stand inside it" {
        file=$(names_config)
        client "$file" '
                status() { dig +time=5 +tries=1 "$1" | sed -n "s/.*status: \([A-Z]*\).*/\1/p"; }
                for name in a.wild.test b.c.d.wild.test A.WiLd.TeSt. wild.test secret.wild.test \
                            api-east.label.test a.api-east.label.test WWW.EXAMPLE.TEST exact.test sub.exact.test; do
                        echo "$name $(status "$name")"
                done
                curl -sS -m 5 http://deep.er.wild.test/' > "$TEST_DIR/out"
        while read -r name expected; do
                assert_equal "$(awk -v name="$name" '$1 == name { print $2 }' "$TEST_DIR/out")" "$expected"
        done <<'TABLE'
a.wild.test NOERROR
b.c.d.wild.test NOERROR
A.WiLd.TeSt. NOERROR
wild.test NXDOMAIN
secret.wild.test NXDOMAIN
api-east.label.test NOERROR
a.api-east.label.test NXDOMAIN
WWW.EXAMPLE.TEST NOERROR
exact.test NOERROR
sub.exact.test NXDOMAIN
TABLE
        grep -q served "$TEST_DIR/out"
        run recorded 'name=(wild\.test|secret\.wild\.test|a\.api-east\.label\.test|sub\.exact\.test)( |$)'
        assert_equal "$status" 1
        event '.type == "dns" and .dst.name == "secret.wild.test" and .reason == "deny_rule"'
}

@test "private, link-local, metadata and embedded private addresses are withheld and reported" {
        file=$(names_config)
        client "$file" '
                for name in private.example.test mixed.example.test meta.example.test; do
                        echo "$name: $(dig +time=5 +tries=1 $name A +short | tr "\n" " ")"
                done
                for name in linklocal.example.test embedded.example.test; do
                        echo "$name: $(dig +time=5 +tries=1 $name AAAA +short | tr "\n" " ")"
                done
                curl -s -m 3 http://10.9.9.9/ || true
                curl -sS -m 5 http://mixed.example.test/' > "$TEST_DIR/out"
        grep -q -x 'private.example.test: ' "$TEST_DIR/out"
        grep -q -x 'mixed.example.test: 198.51.100.13 ' "$TEST_DIR/out"
        grep -q -x 'meta.example.test: ' "$TEST_DIR/out"
        grep -q -x 'linklocal.example.test: ' "$TEST_DIR/out"
        grep -q -x 'embedded.example.test: ' "$TEST_DIR/out"
        grep -q served "$TEST_DIR/out"
        refute_arrived 10.9.9.9
        event '.type == "dns" and .reason == "private_address" and .dst.name == "private.example.test" and .dst.ip == "10.9.9.9"'
        event '.type == "dns" and .reason == "private_address" and .dst.name == "linklocal.example.test"'
        event '.type == "dns" and .reason == "metadata" and .dst.name == "meta.example.test"'
}

@test "allow_private lets names open private space, never metadata" {
        file=$(config private.yaml <<'YAML'
policies:
  main:
    allow_private: true
    egress: [{domain: private.example.test}, {domain: meta.example.test}]
YAML
        )
        client "$file" '
                curl -sS -m 5 http://private.example.test/
                echo "meta: $(dig +time=5 +tries=1 meta.example.test +short)"' > "$TEST_DIR/out"
        grep -q served "$TEST_DIR/out"
        grep -q -x 'meta: ' "$TEST_DIR/out"
        assert_arrived 10.9.9.9 tcp 80
}

@test "query types: TXT, MX and SRV of allowed names pass, HTTPS is empty, the rest is refused" {
        file=$(names_config)
        client "$file" '
                dig +time=5 +tries=1 text.example.test TXT +short
                dig +time=5 +tries=1 text.example.test MX +short
                dig +time=5 +tries=1 _sip._tcp.example.test SRV +short
                echo "https: $(dig +time=5 +tries=1 https.example.test TYPE65 +short)"
                echo "null: $(dig +time=5 +tries=1 www.example.test NULL +short)"
                echo "axfr: $(dig +time=5 +tries=1 +tcp www.example.test AXFR +short | grep -c SOA)"
                dig +time=5 +tries=1 evil.example TXT | grep -o "status: [A-Z]*"' > "$TEST_DIR/out"
        grep -q 'hello from far away' "$TEST_DIR/out"
        grep -q -x '10 www.example.test.' "$TEST_DIR/out"
        grep -q -x '1 1 5060 www.example.test.' "$TEST_DIR/out"
        grep -q -x 'https: ' "$TEST_DIR/out"
        grep -q -x 'null: ' "$TEST_DIR/out"
        grep -q -x 'axfr: 0' "$TEST_DIR/out"
        grep -q -x 'status: NXDOMAIN' "$TEST_DIR/out"
}

@test "blocked: nxdomain, refused and nodata, each with the extended error Blocked" {
        for mode in nxdomain refused nodata; do
                DNS_EXTRA="blocked: $mode"
                file=$(names_config)
                client "$file" 'dig +time=5 +tries=1 evil.example' > "$TEST_DIR/$mode"
                grep -q 'EDE: 15' "$TEST_DIR/$mode"
        done
        grep -q 'status: NXDOMAIN' "$TEST_DIR/nxdomain"
        grep -q 'status: REFUSED' "$TEST_DIR/refused"
        grep -q 'status: NOERROR' "$TEST_DIR/nodata"
        grep -q 'ANSWER: 0' "$TEST_DIR/nodata"
}

@test "an allowed name that does not exist is NXDOMAIN without the extended error" {
        file=$(names_config)
        client "$file" 'dig +time=5 +tries=1 nowhere.test' > "$TEST_DIR/out"
        grep -q 'status: NXDOMAIN' "$TEST_DIR/out"
        refute_match "$(cat "$TEST_DIR/out")" 'EDE: 15'
        recorded 'name=nowhere\.test'
}

@test "as-asked: the server that the agent named is asked, and only for allowed names" {
        file=$(DNS_SERVER=as-asked names_config)
        client "$file" '
                dig +time=5 +tries=1 @203.0.113.53 four.example.test +short
                dig +time=5 +tries=1 @203.0.113.53 evil.example | grep -o "status: [A-Z]*"
                curl -sS -m 5 http://four.example.test/' > "$TEST_DIR/out"
        grep -q -x 198.51.100.16 "$TEST_DIR/out"
        grep -q -x 'status: NXDOMAIN' "$TEST_DIR/out"
        grep -q served "$TEST_DIR/out"
        recorded "^dst=203\.0\.113\.53 .*name=four\.example\.test"
        run recorded 'name=evil\.example'
        assert_equal "$status" 1
}

@test "an upstream that is silent is answered SERVFAIL, not left hanging" {
        file=$(DNS_SERVER=198.51.100.99 names_config)
        client "$file" 'dig +time=20 +tries=1 a.wild.test | grep -o "status: [A-Z]*"' > "$TEST_DIR/out"
        grep -q -x 'status: SERVFAIL' "$TEST_DIR/out"
}

@test "DNS over TLS: names leave encrypted, and only to a server whose certificate holds" {
        background nsenter --net="/run/netns/$ID-outside" socat -d -d \
                "OPENSSL-LISTEN:8853,bind=198.51.100.54,cert=$NET_DIR/cert.pem,key=$NET_DIR/key.pem,verify=0,fork,reuseaddr" \
                "TCP:$DNS_SERVER:53" 2> "$TEST_DIR/socat"
        wait_for "$TEST_DIR/socat" 'listening on'
        # The test's certificate stands for the host's CA bundle, in a mount namespace of agentd's own.
        cp "$NET_DIR/cert.pem" "$TEST_DIR/trusted"
        cp /dev/null "$TEST_DIR/nobody"
        while read -r bundle name expected; do
                file=$(DNS_SERVER="\"tls://198.51.100.54@8853#$name\"" config "tls.yaml" <<< 'policies: {main: {egress: [{domain: "*.wild.test"}]}}')
                # shellcheck disable=SC2016
                in_ns agent timeout 60 unshare -m bash -c '
                        mount --make-rprivate / && mount --bind "$1" /etc/ssl/certs/ca-certificates.crt && shift && exec "$@"' - \
                        "$TEST_DIR/$bundle" "$AGENTD" run --events "$EVENTS" --config "$file" -- \
                        dig +time=20 +tries=1 x.wild.test > "$TEST_DIR/out" 2>&1 || true
                if [ "$expected" = answer ]; then
                        grep -q '198\.51\.100\.20' "$TEST_DIR/out" || { cat "$TEST_DIR/out"; return 1; }
                else
                        refute_match "$(cat "$TEST_DIR/out")" '198\.51\.100\.20'
                fi
        done <<'TABLE'
trusted far.test answer
trusted other.test refused
nobody far.test refused
TABLE
        assert_arrived 198.51.100.54 tcp 8853
        run recorded 'name='
        assert_equal "$status" 1
}

@test "an address can be connected to only after its name was looked up" {
        file=$(names_config)
        client "$file" '
                curl -s -m 3 http://198.51.100.20/ || echo "before $?"
                getent ahosts x.wild.test
                curl -sS -m 5 http://198.51.100.20/
                curl -s -m 3 http://198.51.100.20:443/ || echo "port $?"' > "$TEST_DIR/out"
        grep -q -x 'before 7' "$TEST_DIR/out"
        grep -q served "$TEST_DIR/out"
        grep -q -x 'port 7' "$TEST_DIR/out"
        refute_arrived 198.51.100.20 tcp 443
}

@test "exact names are enforceable from the start, before any look-up" {
        file=$(names_config)
        confined "$file" curl -sS -m 5 http://198.51.100.16/
        assert_arrived 198.51.100.16 tcp 80
}

@test "a learned address expires: new connections end, the live flow goes on" {
        DNS_EXTRA='min_ttl: 1s, grace: 0s'
        file=$(config short.yaml <<< 'policies: {main: {egress: [{domain: "*.example.test", ports: [9000]}]}}')
        # shellcheck disable=SC2016
        client "$file" '/usr/bin/python3 -c "
import select, socket, time
address = socket.getaddrinfo(\"short.example.test\", 9000, socket.AF_INET, socket.SOCK_STREAM)[0][4]
live = socket.create_connection(address, 5)
live.recv(16)
end = time.monotonic() + 9
while time.monotonic() < end:
    try:
        socket.create_connection(address, 5).close()
    except PermissionError:
        print(\"expired\")
        break
    select.select([], [], [], 0.1)
live.sendall(b\"still here\")
print(live.recv(64).decode())
"' > "$TEST_DIR/out"
        grep -q -x expired "$TEST_DIR/out"
        grep -q -x 'still here' "$TEST_DIR/out"
        event '.type == "deny" and .reason == "expired" and .dst.ip == "198.51.100.14"'
}

@test "fifty clients at once are all answered" {
        file=$(names_config)
        client "$file" '
                for n in $(seq 50); do getent ahosts n$n.wild.test >> '"$TEST_DIR"'/answers.$n & done
                wait' || true
        assert_equal "$(grep -l 198.51.100.20 "$TEST_DIR"/answers.* | wc -l)" 50
}

@test "look-ups are not events of the connection kind, and count no deny" {
        file=$(names_config)
        client "$file" 'curl -sS -m 5 http://www.example.test/' >/dev/null
        run event '.type == "deny"'
        assert_equal "$output" ""
}
