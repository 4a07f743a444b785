#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The witness on a link: one line for each frame that got past the host end of the agent's veth.

    witness.py FILE INTERFACE

It stands on the bridge's own device, behind the programs of its ports, and knows frames whole: to whom, from whom, tags,
types, address resolution, what stands behind the packet. IP packets are told as tests/lib/recorder.py tells them. Of what
is no IP packet, a packet is sought in it, so that the line names the destination all the same.
"""
import ipaddress
import os
import socket
import struct
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "lib"))
import recorder  # noqa: E402

SOL_PACKET, PACKET_ADD_MEMBERSHIP, PACKET_MR_PROMISC, PACKET_AUXDATA = 263, 1, 1, 8


def mac(data):
    return data.hex(":")


def arp(data):
    if len(data) < 28:
        return f"malformed={data.hex()}"
    words = [f"dst={ipaddress.IPv4Address(data[24:28])}", "proto=arp", f"operation={data[7]}"]
    hidden = data[28:]
    if data[7] == 1 and any(data[18:24]):
        hidden = data[18:24] + hidden
    return " ".join(words + ([f"hidden={hidden.hex()}"] if hidden else []))


def discovery(data):
    """Neighbour discovery, named by the address that it speaks of."""
    kind, body = data[40], data[48:]
    words = [f"dst={ipaddress.IPv6Address(body[:16])}", "proto=discovery", f"type={kind}"]
    options, sender = body[16:], data[8:24]
    if options and not (options[0] in (1, 2) and len(options) == 8 and kind in (135, 136) and options[2:8] == LINK["source"]):
        words.append(f"hidden={options.hex()}")
    return " ".join(words + [f"src={ipaddress.IPv6Address(sender)}"])


LINK = {"source": b""}


def packet(data):
    """An IP packet at the beginning of data, or None."""
    try:
        if len(data) >= 20 and data[0] >> 4 == 4 and data[0] & 15 >= 5:
            size = struct.unpack("!H", data[2:4])[0]
            line = recorder.line_of_ipv4(data[:size])
        elif len(data) >= 40 and data[0] >> 4 == 6:
            size = struct.unpack("!H", data[4:6])[0] + 40
            if data[6] == 58 and len(data) >= 64 and 133 <= data[40] <= 137:
                return discovery(data)
            line = recorder.line_of_ipv6(data[:size])
        else:
            return None
    except (struct.error, IndexError):
        return None
    return line + (f" trailer={data[size:].hex()}" if len(data) > size else "")


def line_of(frame, vlan):
    kind = struct.unpack("!H", frame[12:14])[0]
    data = frame[14:]
    LINK["source"] = frame[6:12]
    words = [f"to={mac(frame[:6])}", f"from={mac(frame[6:12])}", f"type={kind:04x}"]
    if vlan is not None:
        words.append(f"vlan={vlan}")
    if kind in (0x0806, 0x8035):
        line = arp(data)
    else:
        line = None
        for offset in (0, 3, 4, 8):
            line = line or packet(data[offset:])
    return " ".join([line or f"unknown={data[:64].hex()}"] + words)


def main():
    out = open(sys.argv[1], "w", buffering=1, encoding="ascii", errors="backslashreplace")
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE
    link.bind((sys.argv[2], 3))
    link.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
    request = struct.pack("iHH8s", socket.if_nametoindex(sys.argv[2]), PACKET_MR_PROMISC, 0, b"")
    link.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
    out.write("ready\n")
    while True:
        frame, ancillary, _, address = link.recvmsg(65535, 256)
        if address[2] == recorder.PACKET_OUTGOING or len(frame) < 14:
            continue
        vlan = None
        for _, kind, value in ancillary:
            if kind == PACKET_AUXDATA and len(value) >= 20:
                status, tci = struct.unpack("=I12xH", value[:18])
                vlan = tci if status & 0x10 else None
        out.write(line_of(frame, vlan) + "\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
