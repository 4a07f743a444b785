#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""The far end's witness: one line for each IP packet that arrives in this network namespace.

    dst=203.0.113.9 proto=udp dport=53 src=10.200.1.20 sport=40000 len=60 name=evil.example

It reads from a packet socket, before any socket or firewall of the namespace, so that a packet counts as arrived even
where nobody listens. A UDP payload that begins with "marker:" is recorded as marker=TEXT: what was sent before a marker
over the same link stands above it. The first line, "ready", is written when the packet socket holds.
"""
import ipaddress
import os
import re
import socket
import struct
import sys

PACKET_OUTGOING = 4
NAMES = {1: "icmp", 6: "tcp", 17: "udp", 58: "icmp", 136: "udplite", 132: "sctp"}


def dns_name(payload):
    """The question's name in a DNS message, or None: what left the agent's host as a look-up."""
    if len(payload) < 17 or struct.unpack("!H", payload[4:6])[0] < 1:
        return None
    labels, at = [], 12
    while at < len(payload) and payload[at]:
        size = payload[at]
        if size > 63:
            return None
        labels.append(payload[at + 1:at + 1 + size].decode("ascii", "backslashreplace"))
        at += 1 + size
    return ".".join(labels).lower()


def transport(proto, payload):
    words = []
    if proto in (6, 17, 136) and len(payload) >= 4:
        sport, dport = struct.unpack("!HH", payload[:4])
        words += [f"dport={dport}", f"sport={sport}"]
        if proto == 17:
            body = payload[8:]
            if body.startswith(b"marker:"):
                words.append("marker=" + body[7:].decode("ascii", "replace").strip())
            elif dport == 53:
                words.append(f"name={dns_name(body)}")
        elif proto == 6:
            if len(payload) >= 20:
                body = payload[(payload[12] >> 4) * 4:]
                words += [f"flags={payload[13]:02x}", f"data={len(body)}"]
                if dport == 53 and len(body) > 2:
                    words.append(f"name={dns_name(body[2:])}")
    elif proto in (1, 58) and payload:
        words.append(f"type={payload[0]}")
    return words


def line_of_ipv4(packet):
    header = (packet[0] & 15) * 4
    proto = packet[9]
    offset = struct.unpack("!H", packet[6:8])[0]
    words = [f"dst={ipaddress.IPv4Address(packet[16:20])}", f"proto={NAMES.get(proto, proto)}"]
    if offset & 0x1fff:
        words.append(f"fragment={(offset & 0x1fff) * 8}")
    else:
        words += transport(proto, packet[header:])
    words += [f"src={ipaddress.IPv4Address(packet[12:16])}", f"len={struct.unpack('!H', packet[2:4])[0]}"]
    if header > 20:
        words.append(f"options={packet[20:header].hex()}")
    return " ".join(words)


def line_of_ipv6(packet):
    proto, at, extensions, fragment = packet[6], 40, [], 0
    while proto in (0, 43, 44, 60) and at + 8 <= len(packet):
        extensions.append(str(proto))
        if proto == 44:
            fragment = struct.unpack("!H", packet[at + 2:at + 4])[0] & 0xfff8
            size = 8
        else:
            size = (packet[at + 1] + 1) * 8
        proto, at = packet[at], at + size
        if fragment:
            break
    words = [f"dst={ipaddress.IPv6Address(packet[24:40])}", f"proto={NAMES.get(proto, proto)}"]
    words += [f"fragment={fragment}"] if fragment else transport(proto, packet[at:])
    words += [f"src={ipaddress.IPv6Address(packet[8:24])}", f"len={struct.unpack('!H', packet[4:6])[0] + 40}"]
    if extensions:
        words.append("extensions=" + ",".join(extensions))
    return " ".join(words)


def main():
    out = open(sys.argv[1], "w", buffering=1, encoding="ascii", errors="backslashreplace")
    recorder = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    recorder.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else 33, 1 << 24)
    out.write("ready\n")
    while True:
        packet, address = recorder.recvfrom(65535)
        if address[2] == PACKET_OUTGOING or address[0] == "lo":
            continue
        try:
            if address[1] == 0x0800 and len(packet) >= 20:
                out.write(line_of_ipv4(packet) + "\n")
            elif address[1] == 0x86DD and len(packet) >= 40:
                line = line_of_ipv6(packet)
                # Neighbour discovery (133 to 137) is the link's own talk.
                if not re.search(r" proto=icmp type=13[3-7] ", line):
                    out.write(line + "\n")
            elif address[1] != 0x0806:
                out.write(f"ethertype={address[1]:04x} len={len(packet)}\n")
        except (struct.error, IndexError):
            out.write(f"malformed={packet[:64].hex()}\n")


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
