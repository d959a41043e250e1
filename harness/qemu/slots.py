#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""slots.py QEMU GUEST [--unpatched]: memory slots that change while vCPUs run in them

Each function is a case: guests of its own, a line of TAP. --unpatched is for
kernels that have no lists of memory slots.
"""
import subprocess
import sys

import vm
from vm import MIB, expect

STAY = [vm.stays(n * MIB) for n in (1, 2, 3)]
MOVES = 300             # without lists the first 10 or 20 are too many


def moves(qemu):
    return qemu.progress()[1][0]


def moved(qemu, times):
    """So often, or until the guest's end"""
    def enough():
        return moves(qemu) >= times or qemu.status() != "running"
    vm.until(enough, f"{times} moves", 120)


def updates(qemu):
    """Changes of memory slots that KVM has counted"""
    answer = qemu.ask("query-stats", target="vm")
    return {each["name"]: each["value"] for provider in answer
            for each in provider["stats"]}["memslot_updates"]


def unharmed(qemu):
    expect(qemu.status() == "running", f"{qemu.status()}: {qemu.said()}")
    expect(not any(qemu.differences()), f"differences: {qemu.differences()}")
    qemu.runs()


def stays():
    """Code and data in RAM of which the slot is resized stay"""
    qemu = vm.Qemu(vm.Guest(vm.RESIZER, *STAY))
    moved(qemu, MOVES)
    unharmed(qemu)
    # Each is one step in either of a PC's two address spaces.
    qemu.ask("stop")
    expect(0 <= updates(qemu) - 2 * moves(qemu) < 20,
           f"{moves(qemu)} moves were {updates(qemu)} updates of slots")


def off():
    """With memslot-lists=off they do not: what is tested does happen"""
    qemu = vm.Qemu(vm.Guest(vm.RESIZER, *STAY),
                   accel="kvm,memslot-lists=off")
    moved(qemu, 10 * MOVES)
    expect(qemu.status() != "running" or any(qemu.differences()),
           f"{moves(qemu)} moves, and no vCPU has seen one")
    print(f"# {moves(qemu)} moves, {qemu.status()}, "
          f"{qemu.differences()} differences")


def migrated():
    """The dirty log of what stays is complete: migrated, the memory is the same"""
    guest = vm.Guest(vm.RESIZER, vm.writer(25, 4), *STAY[:1])
    source = vm.source(guest, "dirty-quota",
                       options=("-trace", "kvm_slot_set_gone_dirty"))
    target, uri = vm.destination(guest)
    start = moves(source)
    source.ask("migrate", uri=uri)
    vm.completed(source)
    expect(moves(source) > start + 20, f"only {moves(source) - start} moves")
    vm.same_memory(source, target)
    expect("start=0xf0000 size=0x10000" in source.said(),
           "what left the RAM is not taken for dirty: " + source.said())
    expect("size=0x1f" not in source.said(),
           "what stayed is taken for dirty: " + source.said())
    vm.until(lambda: target.status() == "paused", "the destination's state")
    target.ask("cont")
    moved(target, moves(source) + 20)
    unharmed(target)


def does_not_start(options, why):
    """With such options of the accelerator, and says why"""
    ended = subprocess.run([vm.qemu, "-nodefaults", "-display", "none",
                            "-accel", "kvm," + options],
                           capture_output=True, text=True, timeout=60)
    expect(ended.returncode == 1 and why in ended.stderr, f"{ended}")


def refused():
    """What is no value of memslot-lists"""
    does_not_start("memslot-lists=perhaps", "does not accept value 'perhaps'")


def no_lists():
    """memslot-lists=on is refused where the kernel has none; auto does without"""
    does_not_start("memslot-lists=on", "memslot-lists=on: this kernel has no "
                   "lists of memory slots (KVM_CAP_MEMORY_REGION_LIST)")
    does_not_start("memslot-lists=on,dirty-ring-size=1024",
                   "memslot-lists=on: not with dirty-ring-size")
    for lists in "auto", "off":
        vm.Qemu(vm.Guest(*STAY), accel="kvm,memslot-lists=" + lists).runs()


vm.setup(*sys.argv[1:3])
if sys.argv[3:] == ["--unpatched"]:
    vm.run([no_lists])
else:
    vm.run([stays, off, migrated, refused])
