#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Sends datagrams of 1000 bytes until COUNT have gone out or, once one has, the kernel refuses; prints how many went.

    spend.py ADDRESS PORT COUNT
"""
import socket
import sys


def main():
    destination, count, sent = (sys.argv[1], int(sys.argv[2])), int(sys.argv[3]), 0
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        while sent < count:
            try:
                sock.sendto(b"x" * 1000, destination)
                sent += 1
            except PermissionError:
                # Not an agent yet: a cgroup is denied from birth.
                if sent > 0:
                    break
    print(sent)


main()
