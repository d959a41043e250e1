#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""bench-block.py QEMU GUEST BUILD-DIR: what looking at a VM's disks costs

A VM with 1 and with 9 disks, kvmstatd, which kvm-stats-export,block=on registers
them with. Each line: what, nanoseconds of CPU time of that process; with ICOUNT=1
these are instructions.
"""
import os
import re
import subprocess
import sys
import time
import urllib.request

import vm

DISKS = 1, 9
QUERIES, SCRAPES, ROUNDS = 100, 10, 5


def cpu_ns(pid):
    """The CPU clock of another process: clock_getcpuclockid(3)"""
    return time.clock_gettime_ns((~pid) << 3 | 2)


def cost_ns(pid, action, times):
    """Of one action, the least of some rounds"""
    action()
    rounds = []
    for _ in range(ROUNDS):
        before = cpu_ns(pid)
        for _ in range(times):
            action()
        rounds.append((cpu_ns(pid) - before) / times)
    return min(rounds)


class Agent:
    def __init__(self, build):
        self.socket = vm.directory + "/socket"
        self.errors = vm.directory + "/agent.log"
        with open(self.errors, "w") as errors:
            self.process = subprocess.Popen(
                [build + "/kvmstatd/kvmstatd", "--socket", self.socket,
                 "--listen", "127.0.0.1:0", "--no-cpu-time"], stderr=errors)
        self.http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        self.url = vm.until(self.find_url, "kvmstatd")[1]

    def find_url(self):
        with open(self.errors) as errors:
            return re.search(r"serving (http://\S+/metrics)", errors.read())

    def scrape(self):
        return self.http.open(self.url, timeout=60).read().decode()

    def disks(self):
        return self.scrape().count("\nkvm_block_idle_time_seconds_total{")


def measure(agent, disks):
    options = ["-object", f"kvm-stats-export,id=s,socket={agent.socket},block=on"]
    for n in range(disks):
        options += ["-blockdev", f"null-co,node-name=n{n},read-zeroes=on",
                    "-device", f"virtio-blk-pci,id=d{n},drive=n{n}"]
    qemu = vm.Qemu(vm.Guest(vm.COMPUTES), *options).runs()
    vm.until(lambda: agent.disks() == disks, "all disks are registered")
    qemu.ask("stop")
    assert len(qemu.ask("query-blockstats")) == disks
    query = cost_ns(qemu.process.pid, lambda: qemu.ask("query-blockstats"),
                    QUERIES)
    scrape = cost_ns(agent.process.pid, agent.scrape, SCRAPES)
    # what QEMU does while there is a scrape and no tick of a second: nothing
    in_qemu = cost_ns(qemu.process.pid, agent.scrape, 1)
    qemu.end()
    vm.until(lambda: agent.disks() == 0, "no disk is registered")
    return query, scrape, in_qemu


def main():
    vm.setup(*sys.argv[1:3])
    subprocess.run("ip link set lo up 2>/dev/null", shell=True)
    agent = Agent(sys.argv[3])
    try:
        few, many = [measure(agent, disks) for disks in DISKS]
    finally:
        agent.process.kill()
        vm.clean()
    more = DISKS[1] - DISKS[0]
    print(f"query-one {few[0]:.0f}")
    print(f"query-more {(many[0] - few[0]) / more:.0f}")
    print(f"scrape-in-qemu {max(few[2], many[2]):.0f}")
    print(f"scrape-one {few[1]:.0f}")
    print(f"scrape-more {(many[1] - few[1]) / more:.0f}")


main()
