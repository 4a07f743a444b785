#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What a revocation looks like from both ends, with the moments in nanoseconds of CLOCK_REALTIME.

    revoke.py reader FILE ADDRESS PORT [udp]    connects, waits in recv(): "connected", then "NS error ERRNO" or "NS closed"
    revoke.py ask FILE SOCKET JSON              one request to the daemon: "NS NS", when it was sent and when it was answered
    revoke.py sink FILE PORT                    a server that takes one connection and reads nothing: "ready", "accepted"
    revoke.py filler FILE ADDRESS PORT          sends until nothing more fits: "full N"; at a line on stdin it ends itself
"""
import json
import os
import socket
import sys
import time


def report(path, text):
    # One write: a reader of the file never sees half a line.
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def reader(path, address, port, kind="tcp"):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    sock.settimeout(20)
    sock.connect((address, int(port)))
    report(path, "connected")
    sock.settimeout(None)  # a real recv(), not poll()
    try:
        text = "data" if sock.recv(1) else "closed"
    except OSError as error:
        text = f"error {error.errno}"
    report(path, f"{time.time_ns()} {text}")


def ask(path, control, request):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.connect(control)
    line = json.dumps({"v": 1, "id": 1} | json.loads(request)).encode() + b"\n"
    sent = time.time_ns()
    sock.sendall(line)
    answer = sock.makefile("rb").readline()
    answered = time.time_ns()
    report(path, f"{sent} {answered}")
    if not json.loads(answer)["ok"]:
        sys.exit(answer.decode())


def sink(path, port):
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    listener.bind(("0.0.0.0", int(port)))
    listener.listen(1)
    report(path, "ready")
    connection, _ = listener.accept()
    report(path, "accepted")
    sys.stdin.readline()  # the go: from here on it takes what comes
    connection.settimeout(3)
    total = 0
    try:
        while data := connection.recv(65536):
            total += len(data)
        report(path, f"end {total}")
    except OSError:
        report(path, f"silent {total}")


def filler(path, address, port):
    sock = socket.create_connection((address, int(port)), 20)
    sock.settimeout(1)
    total = 0
    try:
        while True:
            total += sock.send(b"secret" * 1000)
    except TimeoutError:
        report(path, f"full {total}")
    sys.stdin.readline()


if __name__ == "__main__":
    {"reader": reader, "ask": ask, "sink": sink, "filler": filler}[sys.argv[1]](*sys.argv[2:])
