#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Both ends of flows that begin outside. What a word is answered with is the word.

The agent's end:
    inbound.py serve FILE PORT...       TCP and UDP, IPv4 and IPv6, on every address: "ready PID", then a line for each thing
                                        that comes: "tcp PORT from ADDRESS", "udp PORT from ADDRESS", "NS error ERRNO", "NS closed"
    inbound.py turn FILE PORT FROM TO FARPORT
                                        accepts one connection from FROM, then tries to make it, and its listener, into ones
                                        to FARPORT of TO, by each way that there is: a line "WAY RESULT" for each
    inbound.py reply PORT ADDRESS...    one UDP socket of that port: waits for "go", then a word to port 7200 of each ADDRESS
    inbound.py share FILE PORT          a listener of its own with SO_REUSEPORT: "ready", "tcp PORT from ADDRESS"
    inbound.py inherit FILE PORT CGROUP accepts one connection, in a process that has moved to CGROUP meanwhile

The other one:
    inbound.py knock SPEC...            all at once; "SPEC open", "SPEC silent", "SPEC refused" or an errno's name
    inbound.py hold FILE SPEC           "open" when the word has come back; then waits: "more", "closed" or an errno's name
    inbound.py flood COUNT TO PORT NETWORK   a datagram from each of COUNT addresses of NETWORK

SPEC is tcp/FROM/TO/PORT, udp/FROM/TO/PORT or icmp/FROM/TO. FROM may end in "#PORT".
"""
import concurrent.futures
import ctypes
import errno
import ipaddress
import os
import socket
import struct
import sys
import threading
import time

SECONDS = float(os.environ.get("KNOCK_SECONDS", "0.7"))
WORD = b"a word in, a word out"


def report(path, text):
    # One write: a reader of the file never sees half a line.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def name_of(error):
    if isinstance(error, (TimeoutError, socket.timeout)) and not error.errno:
        return "silent"
    return {errno.ECONNREFUSED: "refused", errno.ETIMEDOUT: "silent"}.get(error.errno, errno.errorcode.get(error.errno, str(error)))


def plain(address):
    return address.removeprefix("::ffff:")


def socket_from(kind, spec, timeout):
    protocol, source, *_ = spec.split("/")
    source, _, port = source.partition("#")
    sock = socket.socket(family_of(source), kind, protocol)
    sock.settimeout(timeout)
    sock.bind((source, int(port or 0)))
    return sock


# --- the other end ---------------------------------------------------------------------------------------------------

def knock(spec):
    protocol, source, to, *port = spec.split("/")
    family = family_of(to)
    source, _, source_port = source.partition("#")
    kinds = {"tcp": (socket.SOCK_STREAM, 0), "udp": (socket.SOCK_DGRAM, 0),
             "icmp": (socket.SOCK_DGRAM, socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP)}
    with socket.socket(family, *kinds[protocol]) as sock:
        sock.settimeout(SECONDS)
        sock.bind((source, int(source_port or 0)))
        try:
            if protocol == "icmp":
                sock.connect((to, 0))
                sock.send(struct.pack("!BBHHH", 128 if family == socket.AF_INET6 else 8, 0, 0, 0, 1) + WORD)
                return "open" if sock.recv(2000)[8:] == WORD else "garbled"
            sock.connect((to, int(port[0])))
            sock.send(WORD)
            return "open" if sock.recv(2000) == WORD else "garbled"
        except OSError as error:
            return name_of(error)


def knocks(specs):
    with concurrent.futures.ThreadPoolExecutor(len(specs)) as pool:
        for spec, result in zip(specs, pool.map(knock, specs)):
            print(spec, result, flush=True)


def hold(path, spec):
    protocol, source, to, port = spec.split("/")
    source, _, source_port = source.partition("#")
    sock = socket.socket(family_of(to), socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM)
    sock.settimeout(5)
    sock.bind((source, int(source_port or 0)))
    sock.connect((to, int(port)))
    sock.send(WORD)
    report(path, "open" if sock.recv(2000) == WORD else "garbled")
    sock.settimeout(None)
    try:
        report(path, "more" if sock.recv(2000) else "closed")
    except OSError as error:
        report(path, name_of(error))


def flood(count, to, port, network):
    hosts = ipaddress.ip_network(network)
    for i in range(count):
        with socket.socket(family_of(to), socket.SOCK_DGRAM) as sock:
            sock.bind((str(hosts[i + 10]), 7200))
            sock.sendto(WORD, (to, port))


# --- the agent's end -------------------------------------------------------------------------------------------------

def listener_of(port, share=False):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_STREAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT if share else socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    sock.listen(64)
    return sock


def converse(path, connection):
    with connection:
        try:
            while data := connection.recv(2000):
                connection.sendall(data)
            report(path, f"{time.time_ns()} closed")
        except OSError as error:
            report(path, f"{time.time_ns()} error {error.errno}")


def accept_all(path, listener, port):
    while True:
        connection, peer = listener.accept()
        report(path, f"tcp {port} from {plain(peer[0])}")
        threading.Thread(target=converse, args=(path, connection), daemon=True).start()


def answer_all(path, port):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", port))
    while True:
        try:
            data, peer = sock.recvfrom(2000)
            report(path, f"udp {port} from {plain(peer[0])}")
            sock.sendto(data, peer)
        except OSError as error:
            report(path, f"{time.time_ns()} error {error.errno}")


def serve(path, ports):
    for port in ports:
        threading.Thread(target=accept_all, args=(path, listener_of(port), port), daemon=True).start()
        threading.Thread(target=answer_all, args=(path, port), daemon=True).start()
    report(path, f"ready {os.getpid()}")
    threading.Event().wait()


def disconnect(sock):
    if ctypes.CDLL(None, use_errno=True).connect(sock.fileno(), bytes(16), 16) != 0:
        raise OSError(ctypes.get_errno(), "disconnect")


def attempt(path, way, action):
    try:
        action()
        result = "done"
    except OSError as error:
        result = name_of(error)
    report(path, f"{way} {result}")


def turn(path, port, source, to, far_port):
    listener = listener_of(port)
    far = ("::ffff:" + to, far_port)
    report(path, f"ready {os.getpid()}")

    def accepted():
        while True:
            sock, peer = listener.accept()
            if plain(peer[0]) == source:
                sock.settimeout(SECONDS)
                return sock

    def send_to(sock):
        disconnect(sock)
        sock.connect(far)
        sock.sendall(b"out by the way in")

    def send_fast(sock):
        disconnect(sock)
        sock.settimeout(None)  # a real Fast Open
        sock.sendto(b"out by the way in", socket.MSG_FASTOPEN, far)

    def repaired(sock):
        disconnect(sock)
        sock.setsockopt(socket.IPPROTO_TCP, 19, 1)  # TCP_REPAIR
        sock.connect(far)
        sock.setsockopt(socket.IPPROTO_TCP, 19, 0)
        sock.sendall(b"out by the way in")

    def relisten(sock):
        disconnect(sock)
        listener.close()
        sock.bind(("::", port))
        sock.listen(8)
        sock.shutdown(socket.SHUT_RDWR)
        sock.connect(far)
        sock.sendall(b"out by the way in")

    def by_listener(sock):
        listener.shutdown(socket.SHUT_RDWR)
        listener.settimeout(SECONDS)
        listener.connect(far)
        listener.sendall(b"out by the way in")

    for way, action in (("disconnected", send_to), ("fast", send_fast), ("repaired", repaired), ("listener", by_listener)):
        sock = accepted()
        attempt(path, way, lambda action=action, sock=sock: action(sock))
        if way == "listener":
            listener.close()
        sock.close()
    listener = listener_of(port)
    report(path, "again")
    sock = accepted()
    attempt(path, "relisten", lambda: relisten(sock))


def reply(port, addresses):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("0.0.0.0", port))
    print("ready", flush=True)
    while line := sys.stdin.readline():
        tally = {}
        for address in line.split() or addresses:
            try:
                sock.sendto(b"unasked", (address, 7200))
                result = "sent"
            except OSError as error:
                result = name_of(error)
            tally[result] = tally.get(result, 0) + 1
        print(" ".join(f"{name}={n}" for name, n in sorted(tally.items())), flush=True)


def share(path, port):
    listener = listener_of(port, share=True)
    report(path, f"ready {os.getpid()}")
    accept_all(path, listener, port)


def inherit(path, port, cgroup):
    listener = listener_of(port)
    with open(os.path.join(cgroup, "cgroup.procs"), "w", encoding="ascii") as procs:
        procs.write(str(os.getpid()))
    report(path, f"ready {os.getpid()}")
    accept_all(path, listener, port)


def main():
    action, *words = sys.argv[1:]
    if action == "serve":
        serve(words[0], [int(port) for port in words[1:]])
    elif action == "knock":
        knocks(words)
    elif action == "hold":
        hold(*words)
    elif action == "flood":
        flood(int(words[0]), words[1], int(words[2]), words[3])
    elif action == "turn":
        turn(words[0], int(words[1]), words[2], words[3], int(words[4]))
    elif action == "reply":
        reply(int(words[0]), words[1:])
    elif action == "share":
        share(words[0], int(words[1]))
    elif action == "inherit":
        inherit(words[0], int(words[1]), words[2])
    else:
        sys.exit(__doc__)


main()
