#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""bench-slots.py QEMU VCPUS: time that a boot spends on changes of memory slots

QEMU is what scripts/build-qemu --bench has made. SeaBIOS with a VGA starts a
boot sector, which sets two video modes and then resets the machine. Each line:
way, vCPUs, and of the time that the VM runs: changes (transactions of either
address space), those for which all vCPUs were stopped, nanoseconds in all, and
of the longest one.
"""
import os
import re
import subprocess
import sys
import tempfile

BOOT_SECTOR = bytes.fromhex(
    "31c0"          # xor ax, ax
    "8ed8"          # mov ds, ax
    "b81300cd10"    # mov ax, 0x13; int 0x10: graphics
    "b80300cd10"    # mov ax, 3; int 0x10: text
    "0f011e207c"    # lidt [0x7c20]: no interrupt vector any more,
    "cc"            # int3: so that this resets the machine
).ljust(510, b"\0") + b"\x55\xaa"
WAYS = {"plain": ("off", {}), "list": ("on", {}),
        "stopped": ("off", {"BENCH_SLOTS_STOP": "1"})}


def boot(qemu, disk, vcpus, way):
    lists, environment = WAYS[way]
    ended = subprocess.run(
        [qemu, "-nodefaults", "-no-user-config", "-display", "none",
         "-no-reboot", "-machine", "pc", "-cpu", "qemu64", "-m", "128",
         "-accel", f"kvm,memslot-lists={lists}", "-smp", vcpus,
         "-device", "VGA", "-drive", f"file={disk},format=raw,if=virtio"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600,
        env=os.environ | environment)
    found = re.search(r"^bench-slots running (.*)$", ended.stderr, re.M)
    if ended.returncode or not found:
        sys.exit(f"{way}: status {ended.returncode}: {ended.stderr}")
    print(way, vcpus, found[1], flush=True)


def main():
    qemu, vcpus = sys.argv[1:]
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(BOOT_SECTOR.ljust(1 << 20, b"\0"))
        disk.flush()
        for way in WAYS:
            boot(qemu, disk.name, vcpus, way)


main()
