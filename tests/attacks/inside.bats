#!/usr/bin/env bats
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Attacks on what is around the sockets: inbound, other agents' names, tunnels in labels, the pins, the control socket.

load ../lib/net
load attack

setup_file() { net_up; }
teardown_file() { net_down; }
setup() {
        test_begin
        AGENT_CGROUP=$(cgroup_make one)
        OTHER_CGROUP=$(cgroup_make two)
}
teardown() { test_end; }

in_other() {
        in_cgroup "$OTHER_CGROUP" agent "$@"
}

two_agents() {
        config two.yaml <<YAML
policies:
  main: {egress: [{cidr: 10.20.0.0/16}, {domain: "*.wild.test"}]}
  other: {egress: [{domain: four.example.test}, {domain: "*.label.test"}]}
agents:
  one: {cgroup: $AGENT_CGROUP, policy: main}
  two: {cgroup: $OTHER_CGROUP, policy: other}
YAML
}

# A server in the agent's namespace; says what it got.
SERVER='
import socket, sys
kind, port, out = sys.argv[1], int(sys.argv[2]), sys.argv[3]
sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
sock.bind(("::", port))
if kind == "fastopen":
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
if kind != "udp":
    sock.listen()
open(out, "a").write("up\n")
while True:
    if kind != "udp":
        connection, peer = sock.accept()
        connection.sendall(b"from inside\n")
        open(out, "a").write("accepted " + peer[0] + "\n")
        connection.close()
    else:
        data, peer = sock.recvfrom(2000)
        sock.sendto(b"from inside", peer)
        open(out, "a").write("received " + peer[0] + "\n")
'

@test "a listening agent without an ingress rule accepts nothing from outside" {
        file=$(config inbound.yaml <<< 'policies: {main: {egress: [{cidr: 10.20.0.0/16}]}}')
        # Fast Open: a SYN brings data, and an answer leaves before the handshake ends.
        in_ns agent sysctl -qw net.ipv4.tcp_fastopen=0x207
        in_ns outside sysctl -qw net.ipv4.tcp_fastopen=0x5
        for kind in tcp fastopen udp; do
                for way in unconfined confined; do
                        out=$TEST_DIR/$kind.$way
                        : > "$out"
                        recorder_mark agent
                        if [ "$way" = confined ]; then
                                background nsenter --net="/run/netns/$ID-agent" "$AGENTD" run --config "$file" --name inbound \
                                        --events "$EVENTS" -- "$PYTHON" -c "$SERVER" "$kind" 7777 "$out" > "$TEST_DIR/run.log" 2>&1
                        else
                                background nsenter --net="/run/netns/$ID-agent" "$PYTHON" -c "$SERVER" "$kind" 7777 "$out"
                        fi
                        server=$!
                        wait_for "$out" up
                        for address in 10.200.1.20 2001:db8:200:1::20; do
                                # shellcheck disable=SC2016
                                in_ns outside "$PYTHON" -c '
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET
sock = socket.socket(family, socket.SOCK_DGRAM if sys.argv[1] == "udp" else socket.SOCK_STREAM)
sock.settimeout(0.5)
try:
    if sys.argv[1] == "fastopen":
        sock.sendto(b"let me in", socket.MSG_FASTOPEN, (sys.argv[2], 7777))
    else:
        sock.connect((sys.argv[2], 7777))
        sock.send(b"let me in")
    print(sock.recv(100).decode())
except OSError as error:
    print(type(error).__name__)
' "$kind" "$address" >> "$TEST_DIR/client.$kind.$way"
                        done
                        kill "$server"
                        wait "$server" || true
                        recorded "^dst=(10\.200\.1\.1|2001:db8:200:1::1) .*sport=7777" > "$TEST_DIR/replies.$kind.$way" || true
                done
                assert_equal "$(grep -c 'from inside' "$TEST_DIR/client.$kind.unconfined")" 2
                [ -s "$TEST_DIR/replies.$kind.unconfined" ]
                assert_equal "$(grep -c 'from inside' "$TEST_DIR/client.$kind.confined")" 0
                assert_equal "$(cat "$TEST_DIR/$kind.confined")" up
                assert_equal "$(cat "$TEST_DIR/replies.$kind.confined")" ''
        done
        event '.type == "deny" and .reason == "ingress" and .direction == "ingress"'
}

@test "a socket that was connected before attach is judged like any other" {
        file=$(two_agents)
        mkfifo "$TEST_DIR/go"
        # shellcheck disable=SC2016
        background in_agent "$PYTHON" -c '
import socket, sys
live = socket.create_connection(("203.0.113.9", 9000), 5)
assert live.recv(16) == b"hello\n"
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.connect(("203.0.113.9", 9000))
datagrams.send(b"before")
open(sys.argv[2], "w").write("connected\n")
open(sys.argv[1]).read()
for sock in (live, datagrams):
    try:
        sock.send(b"after attach")
    except OSError:
        pass
open(sys.argv[3], "w").write("sent\n")
' "$TEST_DIR/go" "$TEST_DIR/connected" "$TEST_DIR/sent"
        wait_for "$TEST_DIR/connected" connected
        assert_arrived 203.0.113.9 udp 9000
        start_daemon "$file"
        recorder_mark agent
        echo go > "$TEST_DIR/go"
        wait_for "$TEST_DIR/sent" sent
        refute_arrived 203.0.113.9
}

@test "the listener of another agent answers nobody else" {
        start_daemon "$(two_agents)"
        # Both have listeners in this namespace now.
        in_agent dig +time=5 +tries=1 x.wild.test +short
        in_other dig +time=5 +tries=1 four.example.test +short | grep -q -x 198.51.100.16
        # shellcheck disable=SC2016
        in_agent "$PYTHON" - > "$TEST_DIR/answers" <<'PY'
import socket, struct
query = struct.pack("!HHHHHH", 7, 0x100, 1, 0, 0, 0) + b"\x08api-east\x05label\x04test\x00" + struct.pack("!HH", 1, 1)
def ports(name):
    lines = open("/proc/self/net/" + name).read().splitlines()[1:]
    return sorted({int(line.split()[1].rsplit(":", 1)[1], 16) for line in lines})
print("ports", len(ports("udp")) + len(ports("udp6")))
for family, table, address in ((socket.AF_INET, "udp", "127.0.0.1"), (socket.AF_INET6, "udp6", "::1")):
    for port in ports(table):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        sock.settimeout(0.5)
        try:
            sock.sendto(query, (address, port))
            answer = sock.recv(2000)
            print("answer", port, "rcode", answer[3] & 15, "answers", answer[7])
        except OSError as error:
            print("none", port, type(error).__name__)
for family, table, address in ((socket.AF_INET, "tcp", "127.0.0.1"), (socket.AF_INET6, "tcp6", "::1")):
    for port in ports(table):
        sock = socket.socket(family, socket.SOCK_STREAM)
        sock.settimeout(0.5)
        try:
            sock.connect((address, port))
            sock.sendall(struct.pack("!H", len(query)) + query)
            answer = sock.recv(2000)
            print("answer", port, "rcode", answer[5] & 15 if len(answer) > 9 else "-", "answers", answer[9] if len(answer) > 9 else 0)
        except OSError as error:
            print("none", port, type(error).__name__)
PY
        cat "$TEST_DIR/answers"
        [ "$(sed -n 's/^ports //p' "$TEST_DIR/answers")" -ge 2 ]
        run grep 'answers [1-9]' "$TEST_DIR/answers"
        assert_equal "$status" 1
        run recorded 'name=api-east\.label\.test' agent host
        assert_equal "$status" 1
}

@test "a wildcard is no tunnel: long and random labels stay here, and a flood is slowed" {
        start_daemon "$(two_agents)"
        recorder_mark agent host
        # shellcheck disable=SC2016
        in_agent "$PYTHON" - <<'PY'
import random, socket, struct
random.seed(1)
def ask(sock, name):
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    sock.sendto(struct.pack("!HHHHHH", random.randrange(65536), 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 1, 1),
                ("203.0.113.53", 53))
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.settimeout(3)
alphabet = "abcdefghijklmnopqrstuvwxyz234567"
for _ in range(50):
    ask(sock, "".join(random.choice(alphabet) for _ in range(60)) + ".wild.test")
    sock.recv(1000)
# Shorter than the bound on length: what tells these is their entropy.
for _ in range(50):
    ask(sock, "".join(random.choice(alphabet + "0189") for _ in range(40)) + ".q.wild.test")
    sock.recv(1000)
# The same by TCP, several in one connection.
stream = socket.create_connection(("203.0.113.53", 53), 3)
for _ in range(20):
    name = "".join(random.choice(alphabet) for _ in range(58)) + ".stream.wild.test"
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack("!HHHHHH", random.randrange(65536), 0x100, 1, 0, 0, 0) + labels + b"\0" + struct.pack("!HH", 16, 1)
    stream.sendall(struct.pack("!H", len(query)) + query)
    stream.recv(1000)
for n in range(1000):
    ask(sock, f"n{n}.flood.wild.test")
PY
        assert_equal "$(recorded 'name=[a-z2-7]{60}\.wild\.test' agent host | wc -l)" 0
        assert_equal "$(recorded 'stream\.wild\.test' agent host | wc -l)" 0
        leaked=$(recorded 'name=[a-z0-9]{40}\.q\.wild\.test' agent host | wc -l)
        echo "random labels of 40 that left: $leaked of 50"
        [ "$leaked" -le 10 ]
        flood=$(recorded 'name=n[0-9]+\.flood\.wild\.test' agent host | wc -l)
        [ "$flood" -le 400 ]
        [ "$flood" -ge 1 ]
}

@test "an ordinary user inside cannot detach the programs nor reach the pins" {
        start_daemon "$(two_agents)"
        chmod 0755 "$TEST_DIR/bpf"
        # shellcheck disable=SC2016
        run in_agent setpriv --reuid 65534 --regid 65534 --clear-groups --inh-caps=-all --bounding-set=-all bash -c '
                rm -rf "$1"/* 2>/dev/null
                find "$1" -mindepth 2 2>/dev/null | head -n 1
                for type in connect4 egress ingress sock_create sendmsg4; do
                        for id in $(bpftool cgroup show "$2" 2>/dev/null | awk "NR > 1 { print \$1 }"); do
                                bpftool cgroup detach "$2" "$type" id "$id" 2>/dev/null && echo detached
                        done
                done
                echo $$ > "$3/cgroup.procs" && echo left
                curl -s -m 3 http://203.0.113.9/ && echo out' - "$AGENTD_BPFFS" "$CGROUP_ROOT$AGENT_CGROUP" "$CGROUP_ROOT"
        refute_match "$output" 'detached|left$|out$|/bpf/'
        refute_arrived 203.0.113.9
        agentctl wait one --timeout 2s
}

@test "root in Docker's set who reaches the pins ends nothing by unlinking them, and reads no table" {
        start_daemon "$(two_agents)"
        recorder_mark agent
        # shellcheck disable=SC2016,SC2046
        run in_agent $(at docker) bash -c '
                for map in "$1"/agentd/v*/agents "$1"/agentd/v*/cidrs; do
                        bpftool map dump pinned "$map" > /dev/null 2>&1 && echo "read $map"
                done
                for type in connect4 egress sock_create; do
                        for id in $(bpftool cgroup show "$2" 2>/dev/null | awk "NR > 1 { print \$1 }"); do
                                bpftool cgroup detach "$2" "$type" id "$id" 2>/dev/null && echo detached
                        done
                done
                rm -rf "$1"/agentd/v*/links/* && echo unlinked
                for _ in 1 2 3 4 5 6 7 8 9 10; do
                        echo out > /dev/udp/203.0.113.9/9000
                done 2>/dev/null
                curl -s -m 2 http://203.0.113.9/ && echo out' - "$AGENTD_BPFFS" "$CGROUP_ROOT$AGENT_CGROUP"
        refute_match "$output" 'detached|read |out$'
        assert_match "$output" unlinked
        refute_arrived 203.0.113.9
        wait_event '"type":"drift"'
        # They are made again, and hold.
        agentctl wait one --timeout 10s
        in_agent bash -c 'echo out > /dev/udp/203.0.113.9/9000' 2>/dev/null || true
        refute_arrived 203.0.113.9
}

@test "a child cgroup, a thread and a socket passed around are no way out" {
        file=$(config child.yaml <<< 'policies: {main: {egress: [{cidr: 10.20.0.0/16}]}}')
        # shellcheck disable=SC2016
        attack='
import array, os, socket, sys, threading
own = sys.argv[1] + open("/proc/self/cgroup").read().split("0::", 1)[1].split("\n")[0]
deep = own
made = []
for level in range(5):
    deep += "/c"
    os.mkdir(deep)
    made.append(deep)
left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
child = os.fork()
if child == 0:
    open(deep + "/cgroup.procs", "w").write("0")
    def send():
        try:
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"thread", ("203.0.113.31", 9000))
        except OSError:
            pass
    thread = threading.Thread(target=send)
    thread.start()
    thread.join()
    born_deep = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    socket.send_fds(left, [b"x"], [born_deep.fileno()])
    os._exit(0)
_, fds, _, _ = socket.recv_fds(right, 10, 1)
passed = socket.socket(fileno=fds[0])
try:
    passed.sendto(b"passed", ("203.0.113.32", 9000))
except OSError:
    pass
os.waitpid(child, 0)
for path in reversed(made):
    os.rmdir(path)
print("done")
'
        recorder_mark agent
        in_cgroup "$OTHER_CGROUP" agent "$PYTHON" -c "$attack" "$CGROUP_ROOT" | grep -q done
        assert_arrived 203.0.113.31 udp 9000
        assert_arrived 203.0.113.32 udp 9000
        recorder_mark agent
        agentd_run --config "$file" -- "$PYTHON" -c "$attack" "$CGROUP_ROOT" > "$TEST_DIR/out"
        grep -q done "$TEST_DIR/out"
        refute_arrived 203.0.113.31
        refute_arrived 203.0.113.32
}

@test "rebinding: a name that turns to a private address opens nothing" {
        # The first answer is public, the next one private: only the public one is ever learned.
        file=$(config rebind.yaml <<< 'policies: {main: {egress: [{domain: "*.example.test"}]}}')
        # shellcheck disable=SC2016
        agentd_run --config "$file" -- bash -c '
                getent ahosts mixed.example.test
                getent ahosts private.example.test
                getent ahosts meta.example.test
                for address in 10.9.9.9 169.254.169.254; do curl -s -m 3 "http://$address/" && echo out; done
                true' > "$TEST_DIR/out" 2>/dev/null
        refute_match "$(cat "$TEST_DIR/out")" '10\.9\.9\.9|169\.254|out'
        refute_arrived 10.9.9.9
        refute_arrived 169.254.169.254
}

@test "an allowed server that names a second path of MPTCP leads nowhere: the kernel itself connects for the agent" {
        file=$(config paths.yaml <<< 'policies: {main: {egress: [{cidr: 10.20.0.0/16}]}}')
        for name in agent outside; do ip -n "$ID-$name" mptcp limits set subflow 8 add_addr_accepted 8; done
        ip -n "$ID-outside" mptcp endpoint add 198.18.5.5 signal
        # shellcheck disable=SC2016
        background nsenter --net="/run/netns/$ID-outside" "$PYTHON" -c '
import socket, sys
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.bind(("0.0.0.0", 9100))
listener.listen()
open(sys.argv[1], "w").write("up\n")
while True:
    connection, _ = listener.accept()
    connection.sendall(b"hello")
    while connection.recv(65536):
        pass
' "$TEST_DIR/server"
        server=$!
        wait_for "$TEST_DIR/server" up
        client='
import select, socket, time
sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
sock.connect(("10.20.0.1", 9100))
print(sock.recv(10))
end = time.monotonic() + 1
while time.monotonic() < end:
    sock.send(bytes(1000))
    select.select([], [], [], 0.05)
'
        recorder_mark agent
        in_ns agent "$PYTHON" -c "$client"
        assert_arrived 198.18.5.5 tcp 9100
        # Another one, since the first connection may still say goodbye.
        ip -n "$ID-outside" mptcp endpoint flush
        ip -n "$ID-outside" mptcp endpoint add 198.18.5.6 signal
        recorder_mark agent
        agentd_run --config "$file" -- "$PYTHON" -c "$client" | grep hello
        refute_arrived 198.18.5.6
        event '.type == "deny" and .reason == "no_rule" and .dst.ip == "198.18.5.6"'
        ip -n "$ID-outside" mptcp endpoint flush
        kill "$server"
}
