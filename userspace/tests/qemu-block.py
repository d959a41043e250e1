#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""usage: qemu-block.py BUILD-DIR QEMU ROOT

kvm-stats-export,block=on of our QEMU with a Linux guest and kvmstatd, on this
machine's /dev/kvm: TAP. ROOT is what scripts/fetch-guest has made. All cases
are of one guest, one after the other.
"""
import contextlib
import ctypes
import glob
import json
import os
import re
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

LIMIT_S = 120
PTRACE_SEIZE, PTRACE_INTERRUPT, PTRACE_DETACH = 0x4206, 0x4207, 17	# Linux' uapi
MODULES = ("virtio/virtio_ring", "virtio/virtio", "virtio/virtio_pci_legacy_dev",
           "virtio/virtio_pci_modern_dev", "virtio/virtio_pci", "block/virtio_blk")
# The guest does what the serial line says, a line each, and says "done STATUS".
INIT = """#!/bin/busybox sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
for module in %s; do insmod /$module.ko; done
stty -echo </dev/ttyS0
exec </dev/ttyS0 >/dev/ttyS0 2>&1
echo "done 0"
while read -r line; do eval "$line"; echo "done $?"; done
"""
OPERATIONS = {"read": "rd", "write": "wr", "flush": "flush", "discard": "unmap"}

build, qemu_path, root = map(os.path.abspath, sys.argv[1:4])
tmp = tempfile.mkdtemp(prefix="kvmstats-")
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def path(name):
    return os.path.join(tmp, name)


def until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not (result := condition()):
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)
    return result


def make_initrd():
    top = path("initrd")
    kernel = glob.glob(f"{root}/boot/vmlinuz-*")[0]
    drivers = f"{root}/lib/modules/{kernel.split('vmlinuz-')[1]}/kernel/drivers"
    for name in "bin", "dev", "proc", "sys":
        os.makedirs(f"{top}/{name}")
    shutil.copy(f"{root}/bin/busybox", f"{top}/bin/busybox")
    for module in MODULES:
        shutil.copy(f"{drivers}/{module}.ko", top)
    with open(f"{top}/init", "w") as file:
        file.write(INIT % " ".join(map(os.path.basename, MODULES)))
    os.chmod(f"{top}/init", 0o755)
    subprocess.run(f"cd {top} && find . | cpio -o -H newc --quiet >{path('initrd.cpio')}",
                   shell=True, check=True)
    return kernel


class Agent:
    def __init__(self):
        with open(path("agent.err"), "w") as err:
            self.process = subprocess.Popen(
                [f"{build}/kvmstatd/kvmstatd", "--socket", path("socket"),
                 "--listen", "127.0.0.1:0"], stderr=err)
        self.url = until(self.find_url, "kvmstatd serves")

    @staticmethod
    def find_url():
        with open(path("agent.err")) as file:
            found = re.search(r"serving (http://\S+/metrics)", file.read())
        return found and found[1]

    def disks(self):
        """{device: {metric: value}}"""
        disks = {}
        text = http.open(self.url, timeout=20).read().decode()
        for name, device, value in re.findall(
                r'^kvm_block_(\w+)\{vm="q",device="([^"]+)"\} (\S+)$', text, re.M):
            disks.setdefault(device, {})[name] = float(value)
        return disks


class Qemu:
    def __init__(self, kernel):
        ours, theirs = socket.socketpair()
        self.serial, guests = socket.socketpair()
        os.truncate(os.open(path("disk"), os.O_CREAT | os.O_RDWR), 64 << 20)
        with open(path("qemu.err"), "w") as err:
            self.process = subprocess.Popen(
                [qemu_path, "-nodefaults", "-no-user-config", "-display", "none",
                 "-machine", "pc,accel=kvm", "-cpu", "qemu64", "-m", "256", "-name", "q",
                 "-kernel", kernel, "-initrd", path("initrd.cpio"),
                 "-append", "console=ttyS0 quiet panic=-1",
                 "-object", "iothread,id=io",
                 "-object", f"kvm-stats-export,id=s,socket={path('socket')},block=on",
                 "-blockdev", json.dumps({
                     "driver": "blkdebug", "node-name": "disk", "discard": "unmap",
                     "image": {"driver": "file", "filename": path("disk"),
                               "discard": "unmap"},
                     # the sector at 32 MiB can be read and not written
                     "inject-error": [
                         {"event": "none", "iotype": "write", "sector": 65536}]}),
                 "-device", "virtio-blk-pci,id=d0,drive=disk,iothread=io,"
                            "werror=report,stats-intervals=1",
                 "-chardev", f"socket,id=serial,fd={guests.fileno()}",
                 "-serial", "chardev:serial",
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
                 "-mon", "chardev=qmp,mode=control"],
                stdin=subprocess.DEVNULL, stderr=err,
                pass_fds=(theirs.fileno(), guests.fileno()))
        theirs.close()
        guests.close()
        ours.settimeout(LIMIT_S)
        self.socket, self.file = ours, ours.makefile("r")
        self.said = b""
        self.file.readline()
        self.do("qmp_capabilities")

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": {
            name.replace("_", "-"): value
            for name, value in arguments.items()}}).encode())

    def answer(self):
        while True:
            line = self.file.readline()
            if not line:
                with open(path("qemu.err")) as file:
                    raise AssertionError(f"QEMU has ended: {file.read()}")
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def do(self, command, **arguments):
        self.ask(command, **arguments)
        return self.answer()

    def hmp(self, line):
        return self.do("human-monitor-command", command_line=line)

    def guest_says(self):
        """(what it said, exit status) of the command that it has done"""
        end = time.monotonic() + LIMIT_S
        while not (found := re.search(rb"done (\d+)\r?\n", self.said)):
            assert select.select([self.serial], [], [], end - time.monotonic())[0], self.said
            self.said += self.serial.recv(4096)
        text, self.said = self.said[:found.start()], self.said[found.end():]
        return text.decode(errors="replace"), int(found[1])

    def tell(self, line):
        self.serial.sendall(line.encode() + b"\n")

    def guest(self, line):
        self.tell(line)
        return self.guest_says()

    def guest_stat(self):
        """{operation: (requests, bytes)} as the guest's kernel has counted them"""
        fields = [int(field) for field in
                  self.guest("cat /sys/block/vda/stat")[0].split()]
        # a flush is counted as a write of nothing, too
        return {"read": (fields[0], 512 * fields[2]),
                "write": (fields[4] - fields[15], 512 * fields[6]),
                "discard": (fields[11], 512 * fields[13]),
                "flush": (fields[15], 0)}

    def stats(self):
        [disk] = [entry for entry in self.do("query-blockstats")
                  if "/d0/" in entry["qdev"]]
        return disk["stats"]


def qmp_counts(stats):
    return {op: (stats[f"{name}_operations"], stats.get(f"{name}_bytes", 0))
            for op, name in OPERATIONS.items()}


def agents_counts(disk):
    return {op: (disk[f"{op}_ios_total"], disk.get(f"{op}_bytes_total", 0))
            for op in OPERATIONS}


def same_as_qmp(qemu, agent):
    """Once the tick of a second has come by"""
    stats = qemu.stats()

    def wrong():
        disk = agent.disks()["d0"]
        pairs = {op: (agents_counts(disk)[op], qmp_counts(stats)[op]) for op in OPERATIONS}
        for op, name in OPERATIONS.items():
            for kind in "failed", "invalid":
                pairs[kind, op] = (disk[f"{op}_{kind}_total"],
                                   stats[f"{kind}_{name}_operations"])
            pairs["in flight", op] = (disk[f"{op}_in_flight"], 0)
        return {key: pair for key, pair in pairs.items() if pair[0] != pair[1]}

    end = time.monotonic() + 5
    while (difference := wrong()) and time.monotonic() < end:
        time.sleep(0.1)
    assert not difference, difference
    return agent.disks()["d0"]


def a_known_load_is_counted_alike_by_all(qemu, agent):
    before, stats = qemu.guest_stat(), qmp_counts(qemu.stats())
    for line in ("dd if=/dev/zero of=/dev/vda bs=4k count=300 oflag=direct",
                 "dd if=/dev/zero of=/dev/vda bs=64k count=40 seek=50 oflag=direct",
                 "dd if=/dev/vda of=/dev/null bs=8k count=500 iflag=direct",
                 "for i in 1 2 3 4 5; do dd if=/dev/zero of=/dev/vda bs=512 count=1 "
                 "seek=$i conv=fsync || break; done",
                 "blkdiscard -o 1M -l 2M /dev/vda"):
        said, status = qemu.guest(line)
        assert status == 0, said
    after, disk = qemu.guest_stat(), same_as_qmp(qemu, agent)
    for op, (ios, size) in after.items():
        guests = (ios - before[op][0], size - before[op][1])
        ours = tuple(now - then for now, then in zip(agents_counts(disk)[op], stats[op]))
        assert guests == ours and guests[0] > 0, (op, guests, ours)


def errors_are_counted_apart(qemu, agent):
    said, status = qemu.guest("dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=8192 "
                              "oflag=direct")
    assert status != 0, said
    disk = same_as_qmp(qemu, agent)
    assert disk["write_failed_total"] >= 1, disk


def a_request_that_hangs_is_in_flight(qemu, agent):
    qemu.hmp('qemu-io disk "break pwritev A"')
    qemu.tell("dd if=/dev/zero of=/dev/vda bs=4k count=1 seek=9 oflag=direct")
    until(lambda: agent.disks()["d0"]["write_in_flight"] == 1, "in flight")
    first = agent.disks()["d0"]
    time.sleep(3.2)
    disk = agent.disks()["d0"]
    grown = disk["write_queue_time_seconds_total"] - first["write_queue_time_seconds_total"]
    assert disk["write_in_flight"] == 1 and 2 < grown < 5, grown
    assert 0.99 < disk["write_depth_1s"] < 1.01, disk["write_depth_1s"]
    timed = qemu.stats()["timed_stats"][0]
    assert timed["avg_wr_queue_depth"] == 0, f"QEMU sees it, too: {timed}"
    qemu.hmp('qemu-io disk "resume A"')
    said, status = qemu.guest_says()
    assert status == 0, said
    same_as_qmp(qemu, agent)


@contextlib.contextmanager
def stopped(thread):
    """As a debugger stops it, and no other thread of its process"""
    ptrace = ctypes.CDLL(None, use_errno=True).ptrace
    ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
    for request in PTRACE_SEIZE, PTRACE_INTERRUPT:
        assert ptrace(request, thread, None, None) == 0, os.strerror(ctypes.get_errno())
    assert os.WIFSTOPPED(os.waitpid(thread, 0)[1])
    yield
    assert ptrace(PTRACE_DETACH, thread, None, None) == 0, os.strerror(ctypes.get_errno())


def the_counters_move_on_while_the_main_loop_is_stopped(qemu, agent):
    qemu.guest(": >/load; { while [ -e /load ]; do "
               "dd if=/dev/zero of=/dev/vda bs=4k oflag=direct count=20; "
               "done; : >/over; } >/dev/null 2>&1 &")
    with stopped(qemu.process.pid):
        qemu.ask("query-status")
        time.sleep(1)
        first = agent.disks()["d0"]["write_ios_total"]
        time.sleep(1)
        second = agent.disks()["d0"]["write_ios_total"]
        answered = select.select([qemu.socket], [], [], 0)[0]
    qemu.answer()
    qemu.guest("rm /load; while ! [ -e /over ]; do sleep 0.1; done")
    assert not answered, "the main loop is not stopped"
    assert second > first, (first, second)
    same_as_qmp(qemu, agent)


def disks_come_and_go(qemu, agent):
    before = agent.disks()
    assert list(before) == ["d0"], list(before)
    qemu.do("blockdev-add", driver="null-co", node_name="second", size=1 << 20)
    qemu.do("device_add", driver="virtio-blk-pci", id="d1", drive="second")
    qemu.guest("while ! [ -b /dev/vdb ]; do sleep 0.1; done")
    said, status = qemu.guest("dd if=/dev/vdb of=/dev/null bs=4k count=8 iflag=direct")
    assert status == 0, said
    until(lambda: agent.disks().get("d1", {}).get("read_ios_total", 0) >= 8, "d1")
    qemu.do("device_del", id="d1")
    until(lambda: list(agent.disks()) == ["d0"], "d1 is gone")
    disk = same_as_qmp(qemu, agent)
    assert disk["write_ios_total"] >= before["d0"]["write_ios_total"]


def wait_for_job(qemu, status):
    def jobs():
        found = qemu.do("query-jobs")
        assert not any("error" in job for job in found), found
        return [job["status"] for job in found]

    until(lambda: jobs() == ([status] if status else []), f"a job is {status}")


def counted_on(qemu, agent, before):
    """7 writes more on what the same device has now"""
    said, status = qemu.guest("dd if=/dev/zero of=/dev/vda bs=4k count=7 oflag=direct")
    assert status == 0, said
    disk = same_as_qmp(qemu, agent)
    assert list(agent.disks()) == ["d0"], list(agent.disks())
    assert disk["write_ios_total"] == before["write_ios_total"] + 7, (before, disk)
    return disk


def a_mirror_and_a_snapshot_change_neither_name_nor_counters(qemu, agent):
    disk = same_as_qmp(qemu, agent)
    for name in "copy", "overlay":
        os.truncate(os.open(path(name), os.O_CREAT | os.O_RDWR), 64 << 20)
        qemu.do("blockdev-add", driver="file", node_name=name, filename=path(name))
    qemu.do("blockdev-mirror", job_id="m", device="disk", target="copy", sync="full")
    wait_for_job(qemu, "ready")
    qemu.do("job-complete", id="m")
    wait_for_job(qemu, None)
    disk = counted_on(qemu, agent, disk)
    qemu.do("blockdev-create", job_id="c", options={
        "driver": "qcow2", "file": "overlay", "size": 64 << 20})
    wait_for_job(qemu, "concluded")
    qemu.do("job-dismiss", id="c")
    qemu.do("blockdev-add", driver="qcow2", node_name="top", file="overlay", backing=None)
    qemu.do("blockdev-snapshot", node="copy", overlay="top")
    counted_on(qemu, agent, disk)


def the_object_in_a_guest_that_runs(qemu, agent):
    qemu.do("object-del", id="s")
    until(lambda: not agent.disks(), "all are gone")
    qemu.do("object-add", qom_type="kvm-stats-export", id="s", socket=path("socket"),
            block=True)
    until(lambda: list(agent.disks()) == ["d0"], "d0 again")
    assert agent.disks()["d0"]["write_ios_total"] == 0
    qemu.guest("dd if=/dev/zero of=/dev/vda bs=4k count=7 oflag=direct")
    until(lambda: agent.disks()["d0"]["write_ios_total"] == 7, "7 writes")


def main():
    tests = [a_known_load_is_counted_alike_by_all, errors_are_counted_apart,
             a_request_that_hangs_is_in_flight,
             the_counters_move_on_while_the_main_loop_is_stopped, disks_come_and_go,
             a_mirror_and_a_snapshot_change_neither_name_nor_counters,
             the_object_in_a_guest_that_runs]
    bad = False
    agent = Agent()
    qemu = None
    try:
        qemu = Qemu(make_initrd())
        qemu.guest_says()
        until(lambda: "d0" in agent.disks(), "the disk is there")
        for number, test in enumerate(tests, 1):
            said = ""
            try:
                test(qemu, agent)
            except Exception:	# whatever it is, the next test is another one
                bad, said = True, traceback.format_exc()
                with open(path("qemu.err")) as file:
                    said += file.read()
            print(f"{'not ok' if said else 'ok'} {number} - "
                  f"{test.__name__.replace('_', ' ')}")
            for line in said.splitlines():
                print(f"# {line}")
            sys.stdout.flush()
        print(f"1..{len(tests)}")
    finally:
        if qemu:
            qemu.process.kill()
            qemu.process.wait()
        agent.process.kill()
        agent.process.wait()
        shutil.rmtree(tmp)
    return bad


sys.exit(main())
