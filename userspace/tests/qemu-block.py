#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""usage: qemu-block.py BUILD-DIR QEMU ROOT [PART-OF-A-NAME]

kvm-stats-export,block=on of our QEMU with a Linux guest and kvmstatd, on this
machine's /dev/kvm, and block-stats-export of the qemu-storage-daemon beside that
QEMU: TAP. ROOT is what scripts/fetch-guest has made. All cases are of two guests,
one after the other: one with a virtio-blk disk, one with disks of all other kinds.
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
           "virtio/virtio_pci_modern_dev", "virtio/virtio_pci", "block/virtio_blk",
           "scsi/scsi_common", "scsi/scsi_mod", "scsi/virtio_scsi", "scsi/sd_mod",
           "cdrom/cdrom", "scsi/sr_mod", "ata/libata", "ata/ata_piix")
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
MIB = 1 << 20
# Of the second guest: it knows a disk by its size, in MiB
SIZES = {"scsi0": 24, "ide0": 40, "nvme0": 48, "user0": 56}
OPERATIONS = {"read": "rd", "write": "wr", "flush": "flush", "discard": "unmap"}

build, qemu_path, root = map(os.path.abspath, sys.argv[1:4])
part = "".join(sys.argv[4:5])
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

    def disks(self, vm="q"):
        """{device: {metric: value}}"""
        disks = {}
        text = http.open(self.url, timeout=20).read().decode()
        for name, device, value in re.findall(
                rf'^kvm_block_(\w+)\{{vm="{vm}",device="([^"]+)"\}} (\S+)$', text, re.M):
            disks.setdefault(device, {})[name] = float(value)
        return disks


def new_file(name, size_mib):
    """A sparse one"""
    with open(path(name), "wb") as file:
        file.truncate(size_mib * MIB)
    return path(name)


class Monitor:
    """A process that has started, and the other end of its QMP socket"""
    def __init__(self, process, name, ours):
        self.process, self.errors = process, path(name + ".err")
        ours.settimeout(LIMIT_S)
        self.socket, self.file = ours, ours.makefile("r")
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
                raise AssertionError(f"it has ended: {self.said()}")
            answer = json.loads(line)
            assert "error" not in answer, answer
            if "return" in answer:
                return answer["return"]

    def do(self, command, **arguments):
        self.ask(command, **arguments)
        return self.answer()

    def stats(self, device):
        """What query-blockstats has of the device or export of that id"""
        [disk] = [entry for entry in self.do("query-blockstats")
                  if device in (*entry.get("qdev", "").split("/"),
                                entry.get("export-id"))]
        return disk["stats"]

    def said(self):
        with open(self.errors) as file:
            return file.read()

    def end(self):
        self.process.kill()
        self.process.wait()


class Qemu(Monitor):
    def __init__(self, kernel, name, *options, machine="pc"):
        ours, theirs = socket.socketpair()
        self.serial, guests = socket.socketpair()
        self.serial_said = b""
        with open(path(name + ".err"), "w") as err:
            process = subprocess.Popen(
                [qemu_path, "-nodefaults", "-no-user-config", "-display", "none",
                 "-machine", machine + ",accel=kvm", "-cpu", "qemu64", "-m", "256",
                 "-name", name, "-kernel", kernel, "-initrd", path("initrd.cpio"),
                 "-append", "console=ttyS0 quiet panic=-1",
                 "-object", f"kvm-stats-export,id=s,socket={path('socket')},block=on",
                 *options,
                 "-chardev", f"socket,id=serial,fd={guests.fileno()}",
                 "-serial", "chardev:serial",
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
                 "-mon", "chardev=qmp,mode=control"],
                stdin=subprocess.DEVNULL, stderr=err,
                pass_fds=(theirs.fileno(), guests.fileno()))
        theirs.close()
        guests.close()
        super().__init__(process, name, ours)
        self.name = name
        self.guest_says()

    def hmp(self, line):
        return self.do("human-monitor-command", command_line=line)

    def guest_says(self):
        """(what it said, exit status) of the command that it has done"""
        end = time.monotonic() + LIMIT_S
        while not (found := re.search(rb"done (\d+)\r?\n", self.serial_said)):
            left_s = max(0, end - time.monotonic())
            assert select.select([self.serial], [], [], left_s)[0], self.serial_said
            self.serial_said += self.serial.recv(4096)
        text = self.serial_said[:found.start()]
        self.serial_said = self.serial_said[found.end():]
        return text.decode(errors="replace"), int(found[1])

    def tell(self, line):
        self.serial.sendall(line.encode() + b"\n")

    def guest(self, line):
        self.tell(line)
        return self.guest_says()

    def does(self, *lines):
        for line in lines:
            said, status = self.guest(line)
            assert status == 0, f"{line}: {said}"

    def block_device(self, size_mib):
        """The guest's name of the disk of that size"""
        def find():
            return self.guest(f"cd /sys/block; for d in *; do [ $(cat $d/size) != "
                              f"{size_mib * 2048} ] || echo $d; done; cd /")[0].strip()
        return until(find, f"a disk of {size_mib} MiB")

    def guest_stat(self, device="vda"):
        """{operation: (requests, bytes)} as the guest's kernel has counted them"""
        fields = [int(field) for field in
                  self.guest(f"cat /sys/block/{device}/stat")[0].split()]
        # a flush is counted as a write of nothing, too
        return {"read": (fields[0], 512 * fields[2]),
                "write": (fields[4] - fields[15], 512 * fields[6]),
                "discard": (fields[11], 512 * fields[13]),
                "flush": (fields[15], 0)}


def qmp_counts(stats):
    return {op: (stats[f"{name}_operations"], stats.get(f"{name}_bytes", 0))
            for op, name in OPERATIONS.items()}


def agents_counts(disk):
    return {op: (disk[f"{op}_ios_total"], disk.get(f"{op}_bytes_total", 0))
            for op in OPERATIONS}


def same_as_qmp(qemu, agent, device="d0", vm="q"):
    """Once the tick of a second has come by

    A guest's kernel may read once more after an error, on its own account, which is
    why QMP is asked each time.
    """
    def wrong():
        stats, disk = qemu.stats(device), agent.disks(vm)[device]
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
    return agent.disks(vm)[device]


def counted_alike(qemu, agent, device, before, stats, operations, **where):
    """Since then, the guest's kernel says the same as we do"""
    disk = same_as_qmp(where.get("monitor", qemu), agent, device, where.get("vm", "q"))
    after = qemu.guest_stat(where.get("name", "vda"))
    for op in operations:
        guests = tuple(now - then for now, then in zip(after[op], before[op]))
        ours = tuple(now - then for now, then in zip(agents_counts(disk)[op], stats[op]))
        assert guests == ours and guests[0] > 0, (device, op, guests, ours)


def a_known_load_is_counted_alike_by_all(qemu, agent):
    before, stats = qemu.guest_stat(), qmp_counts(qemu.stats("d0"))
    qemu.does("dd if=/dev/zero of=/dev/vda bs=4k count=300 oflag=direct",
              "dd if=/dev/zero of=/dev/vda bs=64k count=40 seek=50 oflag=direct",
              "dd if=/dev/vda of=/dev/null bs=8k count=500 iflag=direct",
              "for i in 1 2 3 4 5; do dd if=/dev/zero of=/dev/vda bs=512 count=1 "
              "seek=$i conv=fsync || break; done",
              "blkdiscard -o 1M -l 2M /dev/vda")
    counted_alike(qemu, agent, "d0", before, stats, OPERATIONS)


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
    timed = qemu.stats("d0")["timed_stats"][0]
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
    assert disk["write_ios_total"] == before["write_ios_total"] + 7, (
        said, qemu.serial_said, qemu.guest_stat(), before["write_ios_total"],
        disk["write_ios_total"], disk["write_in_flight"])
    return disk


def a_mirror_and_a_snapshot_change_neither_name_nor_counters(qemu, agent):
    disk = same_as_qmp(qemu, agent)
    for name in "copy", "overlay":
        qemu.do("blockdev-add", driver="file", node_name=name,
                filename=new_file(name, 64))
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


def disks_of_other_kinds_are_named_and_counted(qemu, agent):
    assert set(agent.disks("k")) == {"scsi0", "ide0", "nvme0", "cd0"}, agent.disks("k")
    for device in "scsi0", "ide0", "nvme0":
        name = qemu.block_device(SIZES[device])
        before, stats = qemu.guest_stat(name), qmp_counts(qemu.stats(device))
        qemu.does(f"dd if=/dev/zero of=/dev/{name} bs=4k count=30 oflag=direct",
                  f"dd if=/dev/{name} of=/dev/null bs=8k count=50 iflag=direct",
                  f"for i in 1 2 3; do dd if=/dev/zero of=/dev/{name} bs=512 count=1 "
                  "seek=$i conv=fsync || break; done")
        # QEMU accounts for no flush of NVMe.
        counted_alike(qemu, agent, device, before, stats, ("read", "write") +
                      (("flush",) if device != "nvme0" else ()), vm="k", name=name)


def requests_beyond_the_end_are_invalid(qemu, agent):
    """An IDE disk becomes smaller, of which the guest learns by the error only

    Linux then lets go of the disk, so that there is one try.
    """
    name = qemu.block_device(SIZES["ide0"])
    before = same_as_qmp(qemu, agent, "ide0", "k")
    qemu.do("block_resize", node_name="ide0", size=20 * MIB)
    said, status = qemu.guest(f"dd if=/dev/{name} of=/dev/null bs=4k skip=6000 count=1 "
                              "iflag=direct")
    assert status != 0, said
    disk = same_as_qmp(qemu, agent, "ide0", "k")
    assert disk["read_invalid_total"] >= 1 and disk["read_failed_total"] == 0, disk
    for kind in "ios", "bytes", "invalid", "failed":
        assert disk[f"write_{kind}_total"] == before[f"write_{kind}_total"], kind


def a_medium_that_is_changed_changes_neither_name_nor_counters(qemu, agent):
    line = "dd if=/dev/sr0 of=/dev/null bs=2k count=%d iflag=direct"
    before, stats = qemu.guest_stat("sr0"), qmp_counts(qemu.stats("cd0"))
    qemu.does(line % 20)
    counted_alike(qemu, agent, "cd0", before, stats, ("read",), vm="k", name="sr0")
    qemu.do("blockdev-change-medium", id="cd0", filename=new_file("medium", 6),
            format="raw", force=True)
    until(lambda: qemu.guest("cat /dev/sr0 >/dev/null; cat /sys/block/sr0/size")[0]
          .split()[-1] == str(6 * 2048), "the guest sees the new medium")
    qemu.does(line % 30)
    counted_alike(qemu, agent, "cd0", before, stats, ("read",), vm="k", name="sr0")
    qemu.do("eject", id="cd0", force=True)
    same_as_qmp(qemu, agent, "cd0", "k")


def what_a_storage_daemon_exports_is_counted_alike_by_all(qemu, agent):
    name = qemu.block_device(SIZES["user0"])
    until(lambda: list(agent.disks("k-disks")) == ["user0"], "user0")
    # As it is exported there would be no flush.
    qemu.does(f"echo write back >/sys/block/{name}/cache_type")
    before, stats = qemu.guest_stat(name), qmp_counts(daemon.stats("user0"))
    qemu.does(f"dd if=/dev/zero of=/dev/{name} bs=4k count=30 oflag=direct",
              f"dd if=/dev/{name} of=/dev/null bs=8k count=50 iflag=direct",
              f"for i in 1 2 3; do dd if=/dev/zero of=/dev/{name} bs=512 count=1 "
              "seek=$i conv=fsync || break; done",
              f"blkdiscard -o 1M -l 2M /dev/{name}")
    counted_alike(qemu, agent, "user0", before, stats, OPERATIONS, vm="k-disks",
                  name=name, monitor=daemon)
    # blkdebug's sector at 32 MiB can be read and not written.
    said, status = qemu.guest(f"dd if=/dev/zero of=/dev/{name} bs=4k count=1 seek=8192 "
                              "oflag=direct")
    assert status != 0, said
    disk = same_as_qmp(daemon, agent, "user0", "k-disks")
    assert disk["write_failed_total"] >= 1 and disk["write_invalid_total"] == 0, disk
    assert set(agent.disks("k")) == {"scsi0", "ide0", "nvme0", "cd0"}


def exports_come_and_go(qemu, agent):
    daemon.do("blockdev-add", driver="null-co", node_name="other", size=MIB)
    daemon.do("block-export-add", type="vhost-user-blk", id="user1", node_name="other",
              addr={"type": "unix", "path": path("user1")})
    until(lambda: set(agent.disks("k-disks")) == {"user0", "user1"}, "user1")
    daemon.do("block-export-del", id="user1")
    until(lambda: list(agent.disks("k-disks")) == ["user0"], "user1 is gone")
    same_as_qmp(daemon, agent, "user0", "k-disks")
    daemon.do("object-del", id="s")
    until(lambda: not agent.disks("k-disks"), "all are gone")
    daemon.do("object-add", qom_type="block-stats-export", id="s", vm_name="k-disks",
              socket=path("socket"))
    until(lambda: list(agent.disks("k-disks")) == ["user0"], "user0 again")
    assert agent.disks("k-disks")["user0"]["write_ios_total"] == 0
    daemon.ask("object-add", qom_type="block-stats-export", id="t", socket=path("socket"))
    assert "there is another block-stats-export" in (said := daemon.file.readline()), said


def debugged(filename, **node):
    """A node whose sector at 32 MiB can be read and not written"""
    return json.dumps({
        "driver": "blkdebug", "discard": "unmap", **node,
        "image": {"driver": "file", "filename": filename, "discard": "unmap"},
        "inject-error": [{"event": "none", "iotype": "write", "sector": 65536}]})


def start_with_virtio_blk(kernel):
    return Qemu(kernel, "q", "-object", "iothread,id=io",
                "-blockdev", debugged(new_file("disk", 64), **{"node-name": "disk"}),
                "-device", "virtio-blk-pci,id=d0,drive=disk,iothread=io,"
                           "werror=report,stats-intervals=1")


def start_daemon():
    """The disk of the second guest that another process has"""
    ours, theirs = socket.socketpair()
    with open(path("daemon.err"), "w") as err:
        process = subprocess.Popen(
            [os.path.join(os.path.dirname(qemu_path), "storage-daemon",
                          "qemu-storage-daemon"),
             "--object", f"block-stats-export,id=s,socket={path('socket')},vm-name=k-disks",
             "--blockdev", debugged(new_file("user0.img", SIZES["user0"]),
                                    **{"node-name": "user0"}),
             "--export", "vhost-user-blk,id=user0,node-name=user0,writable=on,"
                         f"addr.type=unix,addr.path={path('user0')}",
             "--chardev", f"socket,id=qmp,fd={theirs.fileno()}",
             "--monitor", "chardev=qmp"],
            stdin=subprocess.DEVNULL, stderr=err, pass_fds=(theirs.fileno(),))
    theirs.close()
    return Monitor(process, "daemon", ours)


def start_with_other_kinds(kernel):
    global daemon
    options = ["-object", "memory-backend-memfd,id=ram,size=256M,share=on",
               "-device", "virtio-scsi-pci,id=scsi"]
    for name in "scsi0", "ide0", "nvme0", "cd0":
        size_mib = SIZES.get(name, 4)
        options += ["-blockdev", f"file,node-name={name},read-only="
                    f"{'on' if name == 'cd0' else 'off'},"
                    f"filename={new_file(name, size_mib)}"]
    daemon = start_daemon()
    return Qemu(kernel, "k", *options,
                "-device", "scsi-hd,id=scsi0,bus=scsi.0,drive=scsi0",
                "-device", "scsi-cd,id=cd0,bus=scsi.0,drive=cd0",
                "-device", "ide-hd,id=ide0,drive=ide0",
                "-device", "nvme,id=nvme0,serial=nvme0,drive=nvme0",
                "-chardev", f"socket,id=user0,path={path('user0')}",
                "-device", "vhost-user-blk-pci,id=user0,chardev=user0",
                machine="pc,memory-backend=ram")


def run(number, test, *of):
    """Whatever goes wrong, the next test is another one"""
    said = ""
    try:
        test(*of)
    except Exception:
        said = traceback.format_exc() + "".join(each.said() for each in of[:1])
    print(f"{'not ok' if said else 'ok'} {number} - {test.__name__.replace('_', ' ')}")
    for line in said.splitlines():
        print(f"# {line}")
    sys.stdout.flush()
    return not said


daemon = None
GUESTS = {
    start_with_virtio_blk: [
        a_known_load_is_counted_alike_by_all, errors_are_counted_apart,
        a_request_that_hangs_is_in_flight,
        the_counters_move_on_while_the_main_loop_is_stopped, disks_come_and_go,
        a_mirror_and_a_snapshot_change_neither_name_nor_counters,
        the_object_in_a_guest_that_runs],
    start_with_other_kinds: [
        disks_of_other_kinds_are_named_and_counted, requests_beyond_the_end_are_invalid,
        a_medium_that_is_changed_changes_neither_name_nor_counters,
        what_a_storage_daemon_exports_is_counted_alike_by_all, exports_come_and_go],
}


def main():
    number, good = 0, True
    agent = Agent()
    try:
        kernel = make_initrd()
        for start, tests in GUESTS.items():
            if not (tests := [test for test in tests if part in test.__name__]):
                continue
            qemu = start(kernel)
            try:
                until(lambda: agent.disks(qemu.name), "its disks are there")
                for test in tests:
                    number += 1
                    good &= run(number, test, qemu, agent)
            finally:
                qemu.end()
        print(f"1..{number}")
    finally:
        if daemon:
            daemon.end()
        agent.process.kill()
        agent.process.wait()
        shutil.rmtree(tmp)
    return not good


sys.exit(main())
