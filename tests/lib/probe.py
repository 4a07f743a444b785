#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Tries destinations one after the other and prints one line each: SPEC RESULT.

    probe.py tcp/10.20.0.7/5432 udp/10.20.0.7/8000 icmp/192.0.2.7 ...

RESULT: ok (the far end answered), denied (EPERM), refused, timeout, or another errno's name.
"""
import errno
import ipaddress
import os
import socket
import struct
import sys

SECONDS = float(os.environ.get("PROBE_SECONDS", "2"))


def probe_tcp(family, address, port):
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(SECONDS)
        sock.connect((address, port))
        # A byte must come back: a handshake alone is no conversation.
        sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        return "ok" if sock.recv(1) else "closed"


def probe_udp(family, address, port):
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(SECONDS)
        sock.sendto(b"probe", (address, port))
        return "ok" if sock.recvfrom(1024)[0] else "closed"


def probe_icmp(family, address, _):
    echo = 8 if family == socket.AF_INET else 128
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    with socket.socket(family, socket.SOCK_DGRAM, protocol) as sock:
        sock.settimeout(SECONDS)
        sock.sendto(struct.pack("!BBHHH", echo, 0, 0, 0, 1) + b"probe", (address, 0))
        return "ok" if sock.recvfrom(1024)[0] else "closed"


def probe(spec):
    protocol, address, *port = spec.split("/")
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    try:
        return {"tcp": probe_tcp, "udp": probe_udp, "icmp": probe_icmp}[protocol](family, address, int(port[0]) if port else 0)
    except (TimeoutError, socket.timeout):
        return "timeout"
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES):
            return "denied"
        if error.errno == errno.ECONNREFUSED:
            return "refused"
        return errno.errorcode.get(error.errno, str(error))


for argument in sys.argv[1:]:
    print(argument, probe(argument), flush=True)
