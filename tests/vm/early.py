#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""An agent from its first instruction on: sends to where its policy forbids and to where it allows, and notes what the
kernel said. early.py FILE gets "ERRNO-NAME|sent DESTINATION" for each try; it ends when the allowed one has gone out.
"""
import errno
import socket
import sys

FORBIDDEN, ALLOWED = ("203.0.113.9", 9), ("10.20.0.7", 9)


def send(sock, destination):
    try:
        sock.sendto(b"early", destination)
        return "sent"
    except OSError as error:
        return errno.errorcode[error.errno]


def main():
    with open(sys.argv[1], "w", buffering=1, encoding="ascii") as out:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        while True:
            out.write(f"{send(sock, FORBIDDEN)} forbidden\n")
            result = send(sock, ALLOWED)
            out.write(f"{result} allowed\n")
            if result == "sent":
                out.write(f"{send(sock, FORBIDDEN)} forbidden\n")
                out.write("done\n")
                return
            sock.close()
            sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)


main()
