#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An agent that never rests: flood.py FILE sends datagrams to an allowed and to a forbidden place until it is ended, and
keeps FILE up to date: "ALLOWED-SENT ALLOWED-REFUSED FORBIDDEN-SENT FORBIDDEN-REFUSED ECHOES". One TCP connection to the
allowed place is held all the time; "broken" behind the numbers says that it has ended.
"""
import os
import select
import socket
import sys
import time

FORBIDDEN, ALLOWED, ECHO = ("203.0.113.9", 9), ("10.20.0.7", 9), ("10.20.0.7", 7000)
ROUND = 0.1


def main():
    out = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    counts = [0, 0, 0, 0, 0]
    broken = ""
    udp = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
    stream = socket.create_connection(ECHO, 30)
    stream.recv(64)
    stream.setblocking(False)
    clock = time.monotonic()
    while True:
        for place, sock, destination in ((0, udp[0], ALLOWED), (2, udp[1], FORBIDDEN)):
            try:
                sock.sendto(b"flood", destination)
                counts[place] += 1
            except OSError:
                counts[place + 1] += 1
        try:
            if not broken:
                stream.send(b"x")
                counts[4] += len(stream.recv(4096)) if select.select([stream], [], [], 0)[0] else 0
        except BlockingIOError:
            pass
        except OSError as error:
            broken = f" broken {error}"
        os.pwrite(out, f"{' '.join(map(str, counts))}{broken}\n".encode(), 0)
        # Paced: an emulated CPU is soon full, and the rest of the guest wants some of it.
        clock = max(clock + ROUND, time.monotonic())
        select.select([], [], [], max(clock - time.monotonic(), 0))


main()
