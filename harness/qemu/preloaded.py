#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""preloaded.py QEMU GUEST KVMSTAT: dirty quota for a QEMU that knows nothing of it

"kvmstat run --dirty-quota" becomes QEMU, with its library in it.
"""
import sys
import time

import vm
from vm import MIB, expect

RATE = 8 * MIB * 30 // 100      # what QEMU's own lets a guest dirty on such a link
kvmstat = None


def source(rate=RATE):
    """A writer that no link of 8 MiB/s keeps up with, and two others"""
    guest = vm.Guest(vm.writer(25, 16), vm.COMPUTES, vm.COMPUTES)
    return vm.source(guest, under=(kvmstat, "run", "--agent", "--dirty-quota",
                                   str(rate), "--"))


def begun(vm_):
    """It migrates, and is held in the first of two seconds that its memory takes"""
    target, uri = vm.destination(vm_.guest)
    before = vm_.rates()
    vm_.ask("migrate", uri=uri)
    time.sleep(0.3)
    now = vm.parts(vm_.rates(), before)
    expect(now[0] < 50 and min(now[1:]) > 95, f"progress in percent: {now}")
    return target, before


def converges():
    """A guest that dirties three times what the link carries; only its writer waits"""
    one = source()
    target, before = begun(one)
    info = vm.completed(one, 20)
    expect(info["total-time"] < 6000, f"{info}")
    vm.same_memory(one, target)
    vm.goes_on(target, before)


def without_it():
    """The same guest does not without"""
    one = vm.source(vm.Guest(vm.writer(25, 16), vm.COMPUTES, vm.COMPUTES))
    _, uri = vm.destination(one.guest)
    one.ask("migrate", uri=uri)
    time.sleep(8)
    expect(one.migration()["status"] == "active", f"{one.migration()}")


def twice():
    """A migration that is cancelled leaves no limit, and the next one has one"""
    one = source()
    target, before = begun(one)
    one.ask("migrate_cancel")
    vm.until(lambda: vm.ended(one), "the end")
    now = vm.parts(one.rates(), before)
    expect(min(now) > 95, f"progress in percent: {now}")
    target.end()
    target, before = begun(one)
    vm.completed(one, 20)
    vm.same_memory(one, target)
    vm.goes_on(target, before)


def paused():
    """A vCPU that waits can be stopped at once, and goes on"""
    one = source(65536)         # it waits nearly all the time
    _, _ = begun(one)
    for _ in range(20):
        begin = time.monotonic()
        one.ask("stop")
        took = time.monotonic() - begin
        expect(took < 0.1, f"stopped after {took:.3f} s")
        one.ask("cont")
    one.ask("migrate_cancel")
    vm.until(lambda: vm.ended(one), "the end")
    one.runs()


def main():
    global kvmstat
    vm.setup(*sys.argv[1:3])
    kvmstat = sys.argv[3]
    vm.run([converges, without_it, twice, paused])


main()
