#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Takes a cgroup's egress hook for itself alone, so that nobody else can attach there: exclusive.py attach|detach CGROUP

Attached the old way, without BPF_F_ALLOW_MULTI, the program stays after this process has ended.
"""
import ctypes
import os
import struct
import sys

BPF_PROG_LOAD, BPF_PROG_ATTACH, BPF_PROG_DETACH = 5, 8, 9
CGROUP_SKB, INET_EGRESS = 8, 1
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, 128)
    result = libc.syscall(SYS_BPF, command, buffer, 128)
    if result < 0:
        sys.exit(f"exclusive.py: bpf({command}): {os.strerror(ctypes.get_errno())}")
    return result


def main():
    cgroup = os.open(sys.argv[2], os.O_RDONLY | os.O_DIRECTORY)
    if sys.argv[1] == "detach":
        bpf(BPF_PROG_DETACH, struct.pack("IIII", cgroup, 0, INET_EGRESS, 0))
        return
    # r0 = 1; exit
    program = ctypes.create_string_buffer(struct.pack("<BBhiBBhi", 0xB7, 0, 0, 1, 0x95, 0, 0, 0))
    licence = ctypes.create_string_buffer(b"GPL")
    fd = bpf(BPF_PROG_LOAD, struct.pack("IIQQ", CGROUP_SKB, 2, ctypes.addressof(program), ctypes.addressof(licence)))
    bpf(BPF_PROG_ATTACH, struct.pack("IIII", cgroup, fd, INET_EGRESS, 0))


main()
