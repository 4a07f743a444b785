#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Frames of packet sockets: what a container with CAP_NET_RAW sends past every hook of its own sockets.

    frames.py spy FILE                        writes each frame that arrives on eth0 as hex, after "ready"
    frames.py list                            the attacks: NAME WHERE NEEDLE
    frames.py send INTERFACE KEY=VALUE...     sends all of them, then nothing; prints one line for each that could not go
    frames.py legal INTERFACE KEY=VALUE...    sends what must pass: ARP, discovery, a datagram to an allowed address
    frames.py mark INTERFACE KEY=VALUE...     sends two last ones: a datagram to `allowed` that carries `marker`, and an
                                              ARP announcement, so that either witness knows that all has come

WHERE is "link": a neighbour on the same bridge would see it, and recognises it by NEEDLE (hex), or "far": the recorder
behind the router sees a packet to the address NEEDLE.
KEYs: mac, gateway_mac, ip, gateway, ip6, gateway6, allowed, allowed6, and the neighbour's mac and ip as spy_mac, spy_ip.
"""
import ipaddress
import os
import socket
import struct
import sys

ETH_IP, ETH_ARP, ETH_IP6 = 0x0800, 0x0806, 0x86DD
BROADCAST = b"\xff" * 6


def mac(text):
    return bytes.fromhex(text.replace(":", ""))


def address(text):
    return ipaddress.ip_address(text).packed


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


class World:
    def __init__(self, words):
        self.__dict__.update(word.split("=", 1) for word in words if "=" in word)
        for name in ("mac", "gateway_mac", "spy_mac"):
            setattr(self, name, mac(getattr(self, name, "00:00:00:00:00:00")))

    def frame(self, payload, kind=ETH_IP, to=None, source=None):
        return (to or self.gateway_mac) + (source or self.mac) + struct.pack("!H", kind) + payload

    def packet4(self, to, payload, proto=17, source=None, options=b"", fragment=0):
        words = 5 + len(options) // 4
        header = struct.pack("!BBHHHBBH4s4s", 0x40 | words, 0, words * 4 + len(payload), 77, fragment, 64, proto, 0,
                             address(source or self.ip), address(to)) + options
        return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload

    def packet6(self, to, payload, proto=17, source=None, hops=64):
        return struct.pack("!IHBB16s16s", 0x60000000, len(payload), proto, hops, address(source or self.ip6),
                           address(to)) + payload

    def udp(self, port, data, source=7000):
        return struct.pack("!HHHH", source, port, 8 + len(data), 0) + data

    def udp6(self, to, port, data, source=None):
        pseudo = address(source or self.ip6) + address(to) + struct.pack("!II", 8 + len(data), 17)
        body = self.udp(port, data)
        return body[:6] + struct.pack("!H", checksum(pseudo + body)) + body[8:]

    def tcp(self, port, flags):
        return struct.pack("!HHIIBBHHH", 7001, port, 1, 0, 0x50, flags, 1000, 0, 0)

    def arp(self, operation, sender, target, target_mac=b"\0" * 6, to=BROADCAST, more=b"", sender_mac=None):
        body = struct.pack("!HHBBH", 1, ETH_IP, 6, 4, operation) + (sender_mac or self.mac) + address(sender)
        return self.frame(body + target_mac + address(target) + more, ETH_ARP, to)

    def discovery(self, kind, to, target, rest=b"", source=None, reserved=0):
        source = source or self.ip6
        body = struct.pack("!BBHI", kind, 0, 0, reserved) + (address(target) if target else b"") + rest
        pseudo = address(source) + address(to) + struct.pack("!II", len(body), 58)
        body = body[:2] + struct.pack("!H", checksum(pseudo + body)) + body[4:]
        group = address(to)
        towards = b"\x33\x33" + group[12:] if group[0] == 0xff else self.gateway_mac
        return self.frame(self.packet6(to, body, 58, source, 255), ETH_IP6, towards)


def needle(number):
    """Bytes that only this attack sends."""
    return b"leak" + struct.pack("!H", 0xa000 + number)


def attacks(w):
    """(name, where, needle, frame). A neighbour sees all that the bridge does not know where to send, and all groups."""
    table = []

    def link(name, build):
        mark = needle(len(table))
        table.append((name, "link", mark.hex(), build(mark)))

    def far(name, to, frame):
        table.append((name, "far", to, frame))

    unknown = mac("02:99:00:00:00:01")
    link("another ether type, to all", lambda m: w.frame(m * 4, 0x88B5, BROADCAST))
    link("another ether type, to a neighbour", lambda m: w.frame(m * 4, 0x88B5, w.spy_mac))
    link("LLDP", lambda m: w.frame(m * 4, 0x88CC, mac("01:80:c2:00:00:77")))
    link("802.3 with LLC", lambda m: w.frame(b"\xaa\xaa\x03" + m * 4, 43, BROADCAST))
    link("a VLAN tag", lambda m: w.frame(struct.pack("!HH", 7, ETH_IP) + w.packet4(w.allowed, w.udp(443, m)), 0x8100,
                                         w.spy_mac))
    link("two VLAN tags", lambda m: w.frame(struct.pack("!HHHH", 7, 0x8100, 8, ETH_IP) +
                                            w.packet4(w.allowed, w.udp(443, m)), 0x88A8, w.spy_mac))
    link("an allowed packet to a neighbour's MAC", lambda m: w.frame(w.packet4(w.allowed, w.udp(443, m)), to=w.spy_mac))
    link("an allowed packet to an unknown MAC", lambda m: w.frame(w.packet4(w.allowed, w.udp(443, m)), to=unknown))
    link("an allowed packet to all", lambda m: w.frame(w.packet4(w.allowed, w.udp(443, m)), to=BROADCAST))
    link("a packet to the neighbour", lambda m: w.frame(w.packet4(w.spy_ip, w.udp(443, m)), to=w.spy_mac))
    link("the same from another MAC", lambda m: w.frame(w.packet4(w.spy_ip, w.udp(443, m)), to=w.spy_mac,
                                                        source=mac("02:77:00:00:00:01")))
    link("IPv6 to a neighbour's MAC", lambda m: w.frame(w.packet6(w.allowed6, w.udp6(w.allowed6, 443, m)), ETH_IP6,
                                                        w.spy_mac))
    link("a multicast group", lambda m: w.frame(w.packet4("224.0.0.251", w.udp(5353, m)), to=mac("01:00:5e:00:00:fb")))
    link("an IPv6 group", lambda m: w.frame(w.packet6("ff02::fb", w.udp6("ff02::fb", 5353, m)), ETH_IP6,
                                            mac("33:33:00:00:00:fb")))
    link("a broadcast", lambda m: w.frame(w.packet4("255.255.255.255", w.udp(67, m)), to=BROADCAST))
    link("ARP with data behind it", lambda m: w.arp(1, w.ip, w.gateway, more=m))
    link("ARP with data as hardware address", lambda m: w.arp(1, w.ip, w.gateway, target_mac=m))
    link("discovery with another option", lambda m: w.discovery(135, solicited(w.gateway6), w.gateway6,
                                                                bytes([14, 1]) + m))
    link("an advertisement with data", lambda m: w.discovery(136, "ff02::1", w.ip6, bytes([2, 1]) + w.mac + bytes([9, 1]) + m))
    for name, frame, seen in (
            ("ARP for an address that is data", w.arp(1, w.ip, "10.201.76.69"), address("10.201.76.69")),
            ("ARP from an address that is data", w.arp(1, "10.201.77.69", w.gateway), address("10.201.77.69")),
            ("ARP as the gateway", w.arp(2, w.gateway, w.spy_ip, w.spy_mac, w.spy_mac),
             w.mac + address(w.gateway) + w.spy_mac),
            ("ARP reply to a neighbour", w.arp(2, w.ip, w.spy_ip, w.spy_mac, w.spy_mac),
             w.mac + address(w.ip) + w.spy_mac),
            ("RARP", w.arp(3, w.ip, w.gateway), struct.pack("!H", 3) + w.mac),
            ("solicitation for an address that is data", w.discovery(135, solicited("2001:db8:201::6c65:616b"),
                                                                     "2001:db8:201::6c65:616b"),
             address("2001:db8:201::6c65:616b")),
            ("advertisement for somebody else", w.discovery(136, "ff02::1", "2001:db8:201::6c65:616c"),
             address("2001:db8:201::6c65:616c")),
            ("a router's advertisement", w.discovery(134, "ff02::1", None, b"\0" * 8 + bytes([1, 1]) + w.mac,
                                                     "fe80::6c65:616d"), address("fe80::6c65:616d")),
            ("an MLD report", w.frame(w.packet6("ff02::16", bytes([58, 0, 5, 2, 0, 0, 1, 0]) + struct.pack(
                "!BBHHHBBH16s", 143, 0, 0, 0, 1, 4, 0, 0, address("ff05::6c65:616e")), 0, "fe80::1"), ETH_IP6,
                mac("33:33:00:00:00:16")), address("ff05::6c65:616e")),
            ("an IGMP report", w.frame(w.packet4("239.76.65.75", bytes([0x16, 0, 0, 0]) + address("239.76.65.75"), 2),
                                       to=mac("01:00:5e:4c:41:4b")), address("239.76.65.75"))):
        table.append((name, "link", seen.hex(), frame))

    far("a forbidden address", "203.0.113.101", w.frame(w.packet4("203.0.113.101", w.udp(443, b"x"))))
    far("a forbidden IPv6 address", "2001:db8:2::101", w.frame(w.packet6("2001:db8:2::101", w.udp6("2001:db8:2::101", 443,
                                                                                              b"x")), ETH_IP6))
    far("a SYN to a forbidden address", "203.0.113.102", w.frame(w.packet4("203.0.113.102", w.tcp(443, 2), 6)))
    far("an ACK to a forbidden address", "203.0.113.103", w.frame(w.packet4("203.0.113.103", w.tcp(443, 16), 6)))
    far("SCTP", "10.20.0.104", w.frame(w.packet4("10.20.0.104", w.udp(443, b"xxxx"), 132)))
    far("an unknown protocol", "10.20.0.105", w.frame(w.packet4("10.20.0.105", b"x" * 20, 253)))
    far("IP in IP", "10.20.0.106", w.frame(w.packet4("10.20.0.106", w.packet4("203.0.113.1", w.udp(1, b"x")), 4)))
    far("GRE", "10.20.0.107", w.frame(w.packet4("10.20.0.107", b"\0\0\x08\0" + w.packet4("203.0.113.1", b""), 47)))
    far("ICMP that no rule allows", "10.20.0.108", w.frame(w.packet4("10.20.0.108", b"\x08\0\xf7\xff\0\0\0\0", 1)))
    far("a port that no rule allows", "10.20.0.109", w.frame(w.packet4("10.20.0.109", w.udp(444, b"x"))))
    far("a name server", "10.20.0.110", w.frame(w.packet4("10.20.0.110", w.udp(53, b"x" * 30))))
    far("a spoofed source", "10.20.0.111", w.frame(w.packet4("10.20.0.111", w.udp(443, b"x"), source="10.201.0.99")))
    far("IP options", "10.20.0.112", w.frame(w.packet4("10.20.0.112", w.udp(443, b"x"), options=b"\x94\x04\0\0")))
    far("a later fragment", "10.20.0.113", w.frame(w.packet4("10.20.0.113", b"x" * 32, fragment=2)))
    far("metadata", "169.254.169.254", w.frame(w.packet4("169.254.169.254", w.tcp(80, 2), 6)))
    far("an extension header", "2001:db8:1::114", w.frame(w.packet6("2001:db8:1::114", bytes([17, 0, 5, 2, 0, 0, 1, 0]) +
                                                               w.udp6("2001:db8:1::114", 443, b"x"), 0), ETH_IP6))
    return table


def solicited(text):
    return str(ipaddress.IPv6Address(address("ff02::1:ff00:0")[:13] + address(text)[13:]))


def link_socket(interface):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
    link.bind((interface, 0))
    return link


def spy(path):
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    link.bind(("eth0", 3))
    out = open(path, "w", buffering=1, encoding="ascii")
    out.write("ready\n")
    while True:
        frame, where = link.recvfrom(65535)
        if where[2] != socket.PACKET_OUTGOING:
            out.write(frame.hex() + "\n")


def main():
    # Frames of one CPU stay in their order.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    verb = sys.argv[1]
    if verb == "spy":
        spy(sys.argv[2])
    interface, w = (sys.argv[2], World(sys.argv[3:])) if verb != "list" else (None, World(sys.argv[2:]))
    if verb == "list":
        for name, where, seen, _ in attacks(w):
            print(where, seen, name)
        return
    link = link_socket(interface)
    if verb == "send":
        for name, _, _, frame in attacks(w):
            try:
                link.send(frame)
            except OSError as error:
                print(f"{name}: {error}")
    elif verb == "legal":
        for frame in (w.arp(1, w.ip, w.gateway), w.arp(2, w.ip, w.gateway, w.gateway_mac, w.gateway_mac),
                      w.discovery(135, solicited(w.gateway6), w.gateway6, bytes([1, 1]) + w.mac),
                      w.discovery(136, w.gateway6, w.ip6, bytes([2, 1]) + w.mac),
                      w.frame(w.packet4(w.allowed, w.udp(443, b"legal" * 20))),
                      w.frame(w.packet6(w.allowed6, w.udp6(w.allowed6, 443, b"legal" * 20)), ETH_IP6)):
            link.send(frame)
    elif verb == "mark":
        link.send(w.frame(w.packet4(w.allowed, w.udp(443, ("marker:" + w.marker).encode()))))
        link.send(w.arp(1, w.ip, w.ip))


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        os._exit(0)
