#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""agent-cost.py BUILD-DIR [VMS]: what one scrape costs, in CPU time.

The same VMs (of four vCPUs each, stopped) through kvmstatd, the CPU time of
that process for a whole HTTP answer, and through debugfs, the CPU time of a
cat that reads every file of theirs. With ICOUNT=1 a nanosecond is an
instruction.
"""
import glob
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

SCRAPES = 20
URL = "http://127.0.0.1:9977/metrics"

build, count = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 8
subprocess.run("ip link set lo up 2>/dev/null || ifconfig lo up", shell=True,
               check=True)
directory = tempfile.mkdtemp()
sock = directory + "/socket"
quiet = {"stderr": subprocess.DEVNULL}
agent = subprocess.Popen([build + "/kvmstatd/kvmstatd", "--socket", sock,
                          "--listen", "127.0.0.1:9977"], **quiet)
vmms = [subprocess.Popen([build + "/demo/demo-vmm", "--socket", sock, "--name",
                          f"vm{i}", "--seconds", "36000"], **quiet)
        for i in range(count)]


def scrape():
    with urllib.request.urlopen(URL) as answer:
        return answer.read()


def wait_for_all():
    while True:
        try:
            if b"kvmstatd_vms %d\n" % count in scrape():
                return
        except OSError:
            pass
        time.sleep(0.2)


def agent_ns():
    """The CPU clock of another process: clock_getcpuclockid(3)"""
    return time.clock_gettime_ns((~agent.pid) << 3 | 2)


def scrapes_ns():
    scrape()
    before = agent_ns()
    for _ in range(SCRAPES):
        text = scrape()
    return (agent_ns() - before) // SCRAPES, len(text)


def peak_kib():
    with open(f"/proc/{agent.pid}/status", encoding="ascii") as status:
        return next(line.split()[1] for line in status
                    if line.startswith("VmHWM:"))


def descriptors():
    return next(int(line.split()[1]) for line in scrape().split(b"\n")
                if line.startswith(b"kvmstatd_descriptors "))


def children_ns():
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return int((usage.ru_utime + usage.ru_stime) * 1e9)


def cat_ns(files):
    """Without what it takes to start cat"""
    before = children_ns()
    subprocess.run(["cat", "/dev/null"], check=True)
    start = children_ns() - before
    before = children_ns()
    for _ in range(SCRAPES):
        subprocess.run(["cat"] + files, check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    return (children_ns() - before) // SCRAPES - start


def measure():
    wait_for_all()
    for vmm in vmms:
        vmm.send_signal(signal.SIGSTOP)
    files = [f for vmm in vmms for f in glob.glob(
        f"/sys/kernel/debug/kvm/{vmm.pid}-*/**", recursive=True)
        if os.path.isfile(f)]
    http, size = scrapes_ns()
    print(f"{count} VMs of 4 vCPUs, {SCRAPES} scrapes each, per scrape:")
    print(f"kvmstatd: {http} ns, {size} bytes, {descriptors()} descriptors, "
          f"at most {peak_kib()} KiB of memory")
    assert files, "no debugfs"
    debugfs = cat_ns(files)
    print(f"debugfs: {debugfs} ns, {len(files)} files")
    print(f"ratio: {debugfs / http:.1f}")


try:
    measure()
finally:
    for process in vmms + [agent]:
        process.kill()
        process.wait()
