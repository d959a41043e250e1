#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""cases.py QEMU GUEST [PART-OF-A-NAME|--unpatched]: the quota when things happen

Each function is a case: guests of its own, a line of TAP. --unpatched is for
kernels that have no dirty quota.
"""
import json
import os
import re
import subprocess
import sys
import threading
import time

import vm
from vm import COMPUTES, HALTED, MIB, expect

# What a guest may dirty, all vCPUs together: pages of 4 KiB and 8 bytes that 30 % of
# 8 MiB/s is
QUOTA = 8 * MIB // 4104 * 30 // 100


def small(*vcpus, **options):
    """A writer that no link of 8 MiB/s keeps up with, and others"""
    return vm.Guest(vm.writer(25, 4), *(vcpus or (COMPUTES,)), **options)


def no_limit(source, before):
    """Nobody is held any more: as fast as before"""
    now = vm.parts(source.rates(), before)
    expect(min(now) >= 95, f"progress in percent: {now}")


def arrives(source, target, before):
    """The migration ends well, and the guest goes on as before: query-migrate"""
    info = vm.completed(source)
    vm.same_memory(source, target)
    vm.goes_on(target, before)
    return info


def migrated(source, before, uri=None):
    """To a new QEMU and compared, which goes on: (it, query-migrate)"""
    target, uri = vm.destination(source.guest, uri)
    source.ask("migrate", uri=uri)
    info = vm.until(lambda: source.migration().get("dirty-quota"), "its begin")
    expect(not any(info.values()), f"before anything has been sent: {info}")
    return target, arrives(source, target, before)


def several():
    """Three migrations, one after the other"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    for _ in range(3):
        target, info = migrated(source, before)
        expect(0 < info["dirty-quota"]["exits"] < 5000, f"{info}")
        expect(info["dirty-quota"]["throttle-time"] > 0, f"{info}")
        source.end()
        source = target
        vm.prepare(source)


def cancelled():
    """Cancelled, and once more"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    target, uri = vm.destination(source.guest)
    source.ask("migrate", uri=uri)
    vm.limited(source)
    source.ask("migrate_cancel")
    info = vm.until(lambda: vm.ended(source), "the end")
    expect(info["status"] == "cancelled", f"{info}")
    no_limit(source, before)
    target.end()
    migrated(source, before)


def destination_killed():
    """The destination dies: the source goes on, and migrates to another"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    target, uri = vm.destination(source.guest)
    source.ask("migrate", uri=uri)
    vm.limited(source)
    target.end()
    info = vm.until(lambda: vm.ended(source), "the end")
    expect(info["status"] == "failed", f"{info}")
    no_limit(source, before)
    migrated(source, before)


def tcp():
    """Over TCP"""
    source = vm.source(small(), "dirty-quota")
    _, info = migrated(source, source.rates(), uri="tcp:127.0.0.1:4444")
    expect(info["dirty-quota"]["exits"], f"{info}")


def multifd():
    """With multifd"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    source.capability("multifd")
    target, uri = vm.destination(source.guest, "defer")
    target.capability("multifd")
    uri = f"unix:{vm.directory}/multifd"
    target.ask("migrate-incoming", uri=uri)
    source.ask("migrate", uri=uri)
    quota = vm.limited(source)["dirty-quota"]["pages-per-second"]
    # It sends 128 pages at once, and so goes beyond the limit.
    expect(0.8 < quota / QUOTA < 1.5, f"{quota} pages a second")
    arrives(source, target, before)


def postcopy():
    """Postcopy after the quota: nobody is held there"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    target, uri = vm.destination(source.guest)
    for each in source, target:
        each.capability("postcopy-ram")
    source.ask("migrate", uri=uri)
    vm.limited(source)
    source.ask("migrate-start-postcopy")
    vm.completed(source)
    vm.until(lambda: target.migration().get("status") == "completed", "its end")
    vm.same_memory(source, target)
    vm.goes_on(target, before)


def quota_now(source, after_s=0):
    time.sleep(after_s)
    return source.migration()["dirty-quota"]["pages-per-second"]


def is_quota(source, pages, what):
    """The quota becomes so many pages a second, more or less"""
    last = []

    def near():
        info = source.migration()
        expect(info["status"] == "active", f"{what}: {info}")
        last.append(info["dirty-quota"]["pages-per-second"])
        return 0.8 < last[-1] / pages < 1.2
    try:
        vm.until(near, what, 3)
    except vm.Failure:
        raise vm.Failure(f"{what}: {pages} pages a second expected, "
                         f"last seen: {last[-5:]}") from None


def bandwidth_changes():
    """Another bandwidth while memory is copied"""
    guest = vm.Guest(vm.writer(50, 16), COMPUTES)
    source = vm.source(guest, "dirty-quota")
    before = source.rates()
    target, uri = vm.destination(guest)
    source.ask("migrate", uri=uri)
    vm.limited(source)
    is_quota(source, QUOTA, "8 MiB/s")
    source.ask("migrate-set-parameters", max_bandwidth=4 * MIB)
    is_quota(source, QUOTA / 2, "4 MiB/s")
    source.ask("migrate-set-parameters", max_bandwidth=16 * MIB)
    is_quota(source, QUOTA * 2, "16 MiB/s")
    arrives(source, target, before)


class Link(threading.Thread):
    """Between two sockets, as slow as a link; wait() holds everything up"""
    def __init__(self, to, mib_per_s):
        super().__init__(daemon=True)
        self.uri = f"{vm.directory}/link"
        self.to, self.step = to.removeprefix("unix:"), mib_per_s * MIB // 100
        self.server = vm.socket.socket(vm.socket.AF_UNIX)
        self.server.bind(self.uri)
        self.server.listen()
        self.open = threading.Event()
        self.open.set()
        self.start()

    def run(self):
        sender, _ = self.server.accept()
        receiver = vm.socket.socket(vm.socket.AF_UNIX)
        receiver.connect(self.to)
        due = time.monotonic()
        while True:
            self.open.wait()
            data = sender.recv(self.step)
            if not data:
                break
            receiver.sendall(data)
            due = max(due, time.monotonic() - 0.05) + 0.01 * len(data) / self.step
            time.sleep(max(0, due - time.monotonic()))
        receiver.close()


def slow_link():
    """The link, not a limit, is what holds the stream up; then it stops"""
    guest = vm.Guest(vm.writer(50, 16), COMPUTES)
    source = vm.source(guest, "dirty-quota", 1000 * MIB)
    before = source.rates()
    target, uri = vm.destination(guest)
    link = Link(uri, 8)
    source.ask("migrate", uri=f"unix:{link.uri}")
    vm.limited(source)
    is_quota(source, QUOTA, "a link of 8 MiB/s")
    link.step //= 2
    is_quota(source, QUOTA / 2, "a link of 4 MiB/s")
    link.open.clear()
    time.sleep(0.5)     # until the sockets are full
    stopped = source.rates(1)
    link.step *= 2
    link.open.set()
    expect(stopped[0] >= QUOTA / 4, "pages a second that the guest writes "
           f"while nothing goes over the link: {stopped[0]}")
    least = min(quota_now(source, 0.02) for _ in range(25))
    expect(least >= QUOTA / 16, f"pages a second after it: {least}")
    is_quota(source, QUOTA, "a link of 8 MiB/s again")
    arrives(source, target, before)


def paused():
    """vCPUs that wait are stopped at once, and a guest that is paused migrates"""
    source = vm.source(small(), "dirty-quota")
    before = source.rates()
    target, uri = vm.destination(source.guest)
    source.ask("migrate", uri=uri)
    vm.limited(source)
    source.ask("migrate-set-parameters", max_bandwidth=MIB // 2)
    times = []
    for number in range(20):
        time.sleep(0.0137)
        start = time.monotonic()
        source.ask("stop")
        times.append(time.monotonic() - start)
        source.ask("cont")
    # The time of a machine whose clock counts instructions (ICOUNT=1)
    middle = sorted(times)[len(times) // 2]
    expect(middle < 0.02, f"stop takes {middle * 1000:.1f} ms")
    source.ask("stop")
    source.ask("migrate-set-parameters", max_bandwidth=64 * MIB)
    arrives(source, target, before)


def halted():
    """A vCPU that is halted, and one that computes, beside a writer"""
    source = vm.source(small(HALTED, COMPUTES), "dirty-quota")
    migrated(source, source.rates())


def needs_nothing():
    """A guest that converges by itself is never held"""
    guest = vm.Guest(vm.writer(2, 2), COMPUTES)
    source = vm.source(guest, "dirty-quota", 16 * MIB)
    before = source.rates(2)
    target, uri = vm.destination(guest)
    begin = source.progress()
    # Memory that the guest leaves alone makes it long enough to be judged.
    source.ask("migrate-set-parameters", max_bandwidth=MIB)
    source.ask("migrate", uri=uri)
    time.sleep(1.5)
    during = vm.parts(vm.per_second(begin, source.progress()), before)
    source.ask("migrate-set-parameters", max_bandwidth=16 * MIB)
    info = vm.completed(source)
    expect(info["dirty-quota"] == {"pages-per-second": 0, "exits": 0,
                                   "throttle-time": 0}, f"{info}")
    expect(min(during) >= 99, f"progress in percent: {during}")
    vm.same_memory(source, target)
    vm.goes_on(target, before)


def is_refused(source, capability, reason):
    try:
        source.capability(capability)
    except vm.Failure as failure:
        expect(reason in str(failure), f"the reason is: {failure}")
    else:
        raise vm.Failure(f"{capability} is not refused")
    on = [each["capability"] for each in source.ask("query-migrate-capabilities")
          if each["state"]]
    expect(capability not in on, f"{capability} is refused, and on")


def refused():
    """Refused with a reason: with auto-converge, and without KVM"""
    source = vm.Qemu(small(), "-S")
    source.capability("auto-converge")
    is_refused(source, "dirty-quota", "not compatible with auto-converge")
    source.capability("auto-converge", False)
    source.capability("dirty-quota")
    is_refused(source, "auto-converge", "not compatible with auto-converge")
    is_refused(vm.Qemu(small(), "-S", accel="qtest"), "dirty-quota",
               "requires KVM")


def documented():
    """What docs/qemu.md has operators type, and a property for libvirt's"""
    page = os.path.dirname(__file__) + "/../../docs/qemu.md"
    commands = re.findall("^-> (.*)$", open(page).read(), re.M)
    expect(len(commands) == 3, f"{page}: {commands}")
    source = vm.source(small())
    vm.destination(source.guest, "tcp:127.0.0.1:4444")
    for command in commands[:-1]:
        source.send(json.loads(command))
    vm.completed(source)
    info = source.send(json.loads(commands[-1]))
    expect(sorted(info["dirty-quota"]) == [
        "exits", "pages-per-second", "throttle-time"], f"{info}")
    other = vm.Qemu(small(), "-S", "-global", "migration.x-dirty-quota=on")
    is_refused(other, "auto-converge", "not compatible with auto-converge")


def no_capability():
    """Refused with a reason by a kernel that has no dirty quota"""
    source = vm.Qemu(small(), "-S")
    is_refused(source, "dirty-quota", "requires a kernel with KVM_CAP_DIRTY_QUOTA")
    # All else is as ever.
    source.capability("auto-converge")


def job(qemu, command, **arguments):
    """A job of QEMU's, from its begin to its end"""
    def concluded():
        [one] = qemu.ask("query-jobs")
        expect("error" not in one, f"{command}: {one}")
        return one["status"] == "concluded"
    qemu.ask(command, job_id="job", **arguments)
    vm.until(concluded, command)
    qemu.ask("job-dismiss", id="job")


def snapshots():
    """Saved and loaded with the capability on, between migrations"""
    disk = vm.directory + "/snapshots.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "64M"],
                   check=True)
    snapshot = {"tag": "one", "vmstate": "disk", "devices": ["disk"]}
    source = vm.source(small(), "dirty-quota", options=(
        "-blockdev", f"qcow2,node-name=disk,file.driver=file,file.filename={disk}"))
    before = source.rates()
    _, uri = vm.destination(source.guest)
    source.ask("migrate", uri=uri)
    vm.limited(source)
    source.ask("migrate_cancel")
    vm.until(lambda: vm.ended(source), "the end")
    job(source, "snapshot-save", **snapshot)
    no_limit(source, before)
    after = source.progress()[1]
    source.ask("stop")
    job(source, "snapshot-load", **snapshot)
    loaded = source.progress()[1]
    expect(all(a < b for a, b in zip(loaded, after)), f"{loaded}, not before {after}")
    source.ask("cont")
    no_limit(source, before)
    migrated(source, before)


CASES = [several, cancelled, destination_killed, tcp, multifd, postcopy,
         bandwidth_changes, slow_link, paused, halted,
         needs_nothing, refused, documented, snapshots]


def main():
    vm.setup(*sys.argv[1:3])
    part = sys.argv[3] if len(sys.argv) > 3 else ""
    if part == "--unpatched":
        cases = [no_capability]
    else:
        cases = [case for case in CASES if part in case.__name__]
        subprocess.run("ip link set lo up || ifconfig lo up", shell=True, check=True)
    vm.run(cases)


main()
