#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""A crowd of bad HTTP clients: half requests that stay open, garbage, headers without end. Ends by itself."""
import socket
import sys

address = (sys.argv[1], int(sys.argv[2]))
half = []
for number in range(200):
    client = socket.socket()
    client.settimeout(5)
    try:
        client.connect(address)
        client.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nX-Slow: ")
        half.append(client)
    except OSError:
        client.close()
for number in range(50):
    client = socket.socket()
    client.settimeout(5)
    try:
        client.connect(address)
        client.sendall(bytes(range(256)) * 64 if number % 2 else b"GET /metrics HTTP/1.1\r\n" + b"X: y\r\n" * 20000)
        client.recv(4096)
    except OSError:
        pass
    client.close()
for client in half:
    client.close()
