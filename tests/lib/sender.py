#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Senders and receivers whose bytes are known at IP level.

    sender.py udp|icmp|gso ADDRESS SIZE[xCOUNT][,...]   one connected socket; packets of SIZE bytes, IP header included
    sender.py unconnected ADDRESS SIZE[xCOUNT],...      the same by sendto()
    sender.py flows COUNT ADDRESS...                    a new socket for each datagram, to each address in turn
    sender.py connects COUNT ADDRESS...                 TCP connections, closed at once
    sender.py fastopen COUNT ADDRESS...                 the same by sendto(MSG_FASTOPEN)
    sender.py closes COUNT ADDRESS...                   TCP connections that send and close, and are not there for the
                                                        other's end: the kernel answers it
    sender.py rounds COUNT ADDRESS...                   datagrams of one connected socket by sendto() to each address in turn
    sender.py anew HOW COUNT ADDRESS                    one socket, a new port for each datagram: connects and sends, then
                                                        disconnects; HOW: connect, sendto, both (connects, sends by sendto), bind
                                                        (binds itself in between), kept (bound once: the port stays)
    sender.py tries SECONDS ADDRESS                     flows as fast as they go; "ok=N refused=N seconds=S"
    sender.py tcp ADDRESS BYTES                         bulk: connects, sends, half-closes, waits for the other's end
    sender.py fetch ADDRESS BYTES                       bulk the other way: asks the sink for so many bytes
    sender.py listen ADDRESS SIZE COUNT                 UDP: says hello, counts what comes back until COUNT or a second of quiet
    sender.py soak KIND ADDRESS SEED                    sends in bursts until SIGTERM, whatever is refused, and ends with every
                                                        connection finished; KIND: tcp, udp, icmp or mix
    sender.py sink                                      the far end: TCP on 7100 (swallows; "send N\n" is answered with N
                                                        bytes), UDP on 7100 ("send SIZE COUNT")

Without COUNT a size is sent until it is refused. A line for each thing done, as it is done: "SIZE sent=N refused=N",
"connected", "errno=NAME", "sent=N", "closed".
"""
import ctypes
import errno
import os
import random
import signal
import socket
import struct
import sys
import threading
import time

PORT = 7100
SILENT = 9  # nobody listens, nobody answers but by ICMP
UDP_SEGMENT = 103
REFUSED = (errno.EPERM, errno.EACCES)


def say(*words):
    print(*words, flush=True)


def family_of(address):
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def name_of(error):
    if isinstance(error, (TimeoutError, socket.timeout)) and not error.errno:
        return "timeout"
    return errno.errorcode.get(error.errno, str(error))


def headers(address):
    return 48 if ":" in address else 28


def steps(text):
    for step in text.split(","):
        size, _, count = step.partition("x")
        yield int(size), int(count) if count else None


def send_one(kind, sock, address, size, sequence):
    payload = size - headers(address)
    if kind == "icmp":
        echo = 128 if ":" in address else 8
        sock.send(struct.pack("!BBHHH", echo, 0, 0, 0, sequence & 0xffff) + bytes(payload))
    elif kind == "unconnected":
        sock.sendto(bytes(payload), (address, SILENT))
    elif kind == "gso":
        # Ten segments in one call, so that one packet of the stack becomes ten on the wire.
        sock.send(bytes(payload * 10))
    else:
        sock.send(bytes(payload))


def datagrams(kind, address, text):
    family = family_of(address)
    if kind == "icmp":
        protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
        sock = socket.socket(family, socket.SOCK_DGRAM, protocol)
    else:
        sock = socket.socket(family, socket.SOCK_DGRAM)
    if kind != "unconnected":
        sock.connect((address, SILENT))
    for size, count in steps(text):
        if kind == "gso":
            sock.setsockopt(socket.IPPROTO_UDP, UDP_SEGMENT, size - headers(address))
        sent = refused = 0
        while count is None or sent + refused < count:
            try:
                send_one(kind, sock, address, size, sent)
                sent += 1
            except OSError as error:
                if error.errno == errno.ECONNREFUSED:
                    continue  # the far end's ICMP, to an earlier one
                if error.errno not in REFUSED:
                    raise
                refused += 1
                if count is None:
                    break
        say(f"{size} sent={sent} refused={refused}")


def flows(count, addresses):
    tally = {}
    for i in range(count):
        address = addresses[i % len(addresses)]
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(b"flow", (address, SILENT))
                result = "ok"
            except OSError as error:
                result = name_of(error)
        tally[result] = tally.get(result, 0) + 1
    say(" ".join(f"{name}={n}" for name, n in sorted(tally.items())))


def closes(count, addresses):
    for i in range(count):
        address = addresses[i % len(addresses)]
        with socket.socket(family_of(address), socket.SOCK_STREAM) as sock:
            sock.connect((address, PORT))
            sock.sendall(bytes(1000))
    say("closed")


def rounds(count, addresses):
    tally = {}
    with socket.socket(family_of(addresses[0]), socket.SOCK_DGRAM) as sock:
        sock.connect((addresses[0], SILENT))
        for i in range(count):
            for attempt in (1, 2):  # the far end's ICMP to an earlier one comes first
                try:
                    sock.sendto(b"round", (addresses[i % len(addresses)], SILENT))
                    result = "ok"
                except OSError as error:
                    result = name_of(error)
                if result != "ECONNREFUSED":
                    break
            tally[result] = tally.get(result, 0) + 1
    say(" ".join(f"{name}={n}" for name, n in sorted(tally.items())))


def anew(how, count, address):
    libc = ctypes.CDLL(None, use_errno=True)
    tally = {}
    ports = set()
    here = ("::" if ":" in address else "0.0.0.0")
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        if how == "kept":
            sock.bind((here, 20001))  # bound to port 0 it would give back the one that it gets
        for i in range(count):
            try:
                if how != "sendto":
                    sock.connect((address, SILENT))
                if how in ("connect", "kept", "bind"):
                    sock.send(b"anew")
                if how == "bind":  # the port that the socket was given, and one of its own for the next datagram
                    ports.add(sock.getsockname()[1])
                    libc.connect(sock.fileno(), bytes(16), 16)
                    sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    sock.bind((here, 20002))
                if how in ("sendto", "both", "bind"):
                    sock.sendto(b"anew", (address, SILENT))
                ports.add(sock.getsockname()[1])
                result = "ok"
            except OSError as error:
                result = name_of(error)
            tally[result] = tally.get(result, 0) + 1
            if libc.connect(sock.fileno(), bytes(16), 16) != 0:
                raise OSError(ctypes.get_errno(), "disconnect")
            sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)  # the far end's ICMP
            if how == "bind":
                break  # a port that it was bound to it keeps
    say(" ".join(f"{name}={n}" for name, n in sorted(tally.items())), f"ports={len(ports)}")


def tries(seconds, address):
    start = time.clock_gettime(time.CLOCK_BOOTTIME)
    allowed = refused = 0
    while (elapsed := time.clock_gettime(time.CLOCK_BOOTTIME) - start) < seconds:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            try:
                sock.sendto(b"flow", (address, SILENT))
                allowed += 1
            except PermissionError:
                refused += 1
    say(f"ok={allowed} refused={refused} seconds={elapsed:.3f}")


def connects(count, addresses, fast):
    tally = {}
    for i in range(count):
        address = addresses[i % len(addresses)]
        with socket.socket(family_of(address), socket.SOCK_STREAM) as sock:
            sock.settimeout(5)
            try:
                if fast:
                    sock.settimeout(None)
                    sock.sendto(b"fast", socket.MSG_FASTOPEN, (address, PORT))
                else:
                    sock.connect((address, PORT))
                sock.shutdown(socket.SHUT_WR)
                sock.recv(1)
                result = "ok"
            except OSError as error:
                result = name_of(error)
        tally[result] = tally.get(result, 0) + 1
    say(" ".join(f"{name}={n}" for name, n in sorted(tally.items())))


def bulk(address, total):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.settimeout(float(os.environ.get("SENDER_SECONDS", "30")))
    sent = 0
    try:
        sock.connect((address, PORT))
        say("connected", sock.getsockname()[1])
        chunk = bytes(1 << 16)
        while sent < total:
            sent += sock.send(chunk[:total - sent])
        # Half-closed first: the last acknowledgements are this socket's own, and belong to its cgroup.
        sock.shutdown(socket.SHUT_WR)
        say(f"sent={sent}")
        while sock.recv(1 << 16):
            pass
        say("closed")
    except OSError as error:
        say(f"sent={sent}")
        say(f"errno={name_of(error)}")
    sock.close()


def fetch(address, total):
    sock = socket.socket(family_of(address), socket.SOCK_STREAM)
    sock.settimeout(float(os.environ.get("SENDER_SECONDS", "30")))
    got = 0
    try:
        sock.connect((address, PORT))
        sock.sendall(f"send {total}\n".encode())
        sock.shutdown(socket.SHUT_WR)
        while data := sock.recv(1 << 16):
            got += len(data)
        say(f"got={got}")
    except OSError as error:
        say(f"got={got}")
        say(f"errno={name_of(error)}")


def listen(address, size, count):
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        sock.settimeout(1)
        sock.connect((address, PORT))
        sock.send(f"send {size - headers(address)} {count}".encode())
        got = 0
        try:
            while got < count:
                sock.recv(65535)
                got += 1
        except TimeoutError:
            pass
        say(f"got={got}")


class Soak:
    """Traffic of one kind, of random sizes, with a pause of some milliseconds between bursts."""

    def __init__(self, kind, address, seed):
        self.kind, self.address = kind, address
        self.random = random.Random(seed)
        self.stopped = False
        self.sent = self.refused = 0
        # Blocked, and asked for in each pause.
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        self.sockets = {}

    def pause(self, milliseconds):
        if signal.sigtimedwait([signal.SIGTERM], milliseconds / 1000):
            self.stopped = True

    def socket(self, kind):
        if kind not in self.sockets:
            family = family_of(self.address)
            if kind == "icmp":
                protocol = socket.IPPROTO_ICMPV6 if family == socket.AF_INET6 else socket.IPPROTO_ICMP
                self.sockets[kind] = socket.socket(family, socket.SOCK_DGRAM, protocol)
            else:
                self.sockets[kind] = socket.socket(family, socket.SOCK_DGRAM)
        return self.sockets[kind]

    def datagrams(self, kind):
        sock = self.socket(kind)
        for sequence in range(self.random.randint(1, 30)):
            payload = self.random.choice((1, 100, 1000, 1400, self.random.randint(1, 6000)))
            head = b""
            if kind == "icmp":
                head = struct.pack("!BBHHH", 128 if ":" in self.address else 8, 0, 0, 0, sequence)
            try:
                sock.sendto(head + bytes(payload), (self.address, 0 if kind == "icmp" else SILENT))
                self.sent += 1
            except PermissionError:
                self.refused += 1

    def connection(self):
        with socket.socket(family_of(self.address), socket.SOCK_STREAM) as sock:
            sock.settimeout(60)
            try:
                sock.connect((self.address, PORT))
            except PermissionError:
                self.refused += 1
                return
            sock.sendall(bytes(self.random.randint(1, 1500000)))
            sock.shutdown(socket.SHUT_WR)
            while sock.recv(65536):
                pass
            self.sent += 1

    def run(self):
        while not self.stopped:
            kind = self.random.choice(("tcp", "udp", "udp", "icmp")) if self.kind == "mix" else self.kind
            if kind == "tcp":
                self.connection()
            else:
                self.datagrams(kind)
            self.pause(self.random.randint(1, 8))
        say(f"sent={self.sent} refused={self.refused}")


def swallow(connection):
    with connection:
        try:
            first = connection.recv(1 << 16)
            if first.startswith(b"send "):
                connection.sendall(bytes(int(first.split()[1])))
                return
            while first:
                first = connection.recv(1 << 16)
        except OSError:
            pass


def answer(sock):
    while True:
        data, ancillary, _, peer = sock.recvmsg(65535, 512)
        words = data.split()
        if len(words) != 3 or words[0] != b"send":
            continue
        reply = []
        for level, kind, value in ancillary:
            if (level, kind) == (socket.IPPROTO_IP, 8):
                reply = [(level, kind, struct.pack("=I4s4s", 0, value[8:12], bytes(4)))]
            elif (level, kind) == (socket.IPPROTO_IPV6, 50):
                reply = [(level, kind, value[:16] + bytes(4))]
        for _ in range(int(words[2])):
            try:
                sock.sendmsg([bytes(int(words[1]))], reply, 0, peer)
            except OSError:
                pass


def sink():
    for family in (socket.AF_INET, socket.AF_INET6):
        sock = socket.socket(family, socket.SOCK_DGRAM)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, 49, 1)
        else:
            sock.setsockopt(socket.IPPROTO_IP, 8, 1)
        sock.bind(("", PORT))
        threading.Thread(target=answer, args=(sock,), daemon=True).start()
    listener = socket.create_server(("::", PORT), family=socket.AF_INET6, dualstack_ipv6=True, backlog=1024)
    say("ready")
    while True:
        connection, _ = listener.accept()
        threading.Thread(target=swallow, args=(connection,), daemon=True).start()


def main():
    action, *words = sys.argv[1:]
    if action in ("udp", "icmp", "gso", "unconnected"):
        datagrams(action, words[0], words[1])
    elif action == "flows":
        flows(int(words[0]), words[1:])
    elif action in ("connects", "fastopen"):
        connects(int(words[0]), words[1:], action == "fastopen")
    elif action == "closes":
        closes(int(words[0]), words[1:])
    elif action == "rounds":
        rounds(int(words[0]), words[1:])
    elif action == "anew":
        anew(words[0], int(words[1]), words[2])
    elif action == "tries":
        tries(float(words[0]), words[1])
    elif action == "tcp":
        bulk(words[0], int(words[1]))
    elif action == "fetch":
        fetch(words[0], int(words[1]))
    elif action == "listen":
        listen(words[0], int(words[1]), int(words[2]))
    elif action == "soak":
        Soak(words[0], words[1], int(words[2])).run()
    elif action == "sink":
        sink()
    else:
        sys.exit(__doc__)


main()
