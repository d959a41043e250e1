# SPDX-License-Identifier: GPL-2.0-only
"""QEMUs that run guest.S, and what it takes to migrate from one to another"""
import contextlib
import json
import os
import shutil
import socket
import struct
import subprocess
import tempfile
import time
import traceback

TICK_S = 0.005
PROGRESS = 0xa000       # of guest.S
REGION = 0x200000       # the first page that a guest writes
PAGE = 4096
MIB = 1 << 20
HALTS, RESIZES, STAYS = 0xffffffff, 0xfffffffe, 0xfffffffd # rates

qemu = guest_image = None       # set by setup()
directory = tempfile.mkdtemp(prefix="qemu-migration.")
running = []
count = 0


def setup(program, image):
    global qemu, guest_image
    qemu, guest_image = program, image


class Failure(Exception):
    """What a test says when it fails"""


def expect(condition, text):
    if not condition:
        raise Failure(text)


def until(condition, what, limit_s=60):
    end = time.monotonic() + limit_s
    while True:
        value = condition()
        if value:
            return value
        expect(time.monotonic() < end, f"{what}: not within {limit_s} s")
        time.sleep(0.05)


def writer(mib_per_s, mib, start=REGION, step=1):
    """A vCPU that dirties so much in a second, of so much memory"""
    return writes(mib_per_s * MIB / PAGE, mib * MIB // PAGE, start, step)


def writes(rate, pages, start=REGION, step=1, hot=0, meet_s=0):
    """The same in pages; at random, with so many of them hot; it meets others"""
    return (max(1, round(rate * TICK_S)), pages, start, step, hot,
            round(meet_s / TICK_S))


def computes(meet_s=0):
    return 0, 0, 0, 0, 0, round(meet_s / TICK_S)


COMPUTES = computes()
HALTED = (HALTS,)
RESIZER = (RESIZES,)


def stays(start):
    """A vCPU that counts there, in a page of code and data"""
    return STAYS, 0, start


class Guest:
    """vCPUs, what each does, and how long one computes in a tick"""
    def __init__(self, *vcpus, memory_mib=32, loops=10000):
        self.vcpus, self.memory_mib = vcpus, memory_mib
        image = bytearray(open(guest_image, "rb").read())
        assert image[:8] == b"MIGRATE1", guest_image
        struct.pack_into("<II", image, 8, int(TICK_S * 1e9), loops)
        for number, vcpu in enumerate(vcpus):
            struct.pack_into(f"<{len(vcpu)}I", image, 16 + 32 * number, *vcpu)
        handle, self.image = tempfile.mkstemp(dir=directory)
        with os.fdopen(handle, "wb") as file:
            file.write(image)

    def works(self):
        """Numbers of the vCPUs that make progress"""
        return [n for n, vcpu in enumerate(self.vcpus) if vcpu != HALTED]


class Qemu:
    def __init__(self, guest, *options, accel="kvm", under=()):
        global count
        count += 1
        self.guest, self.name = guest, f"{directory}/{count}"
        self.log = open(self.name + ".log", "w+")
        self.process = subprocess.Popen(
            [*under, qemu, "-nodefaults", "-no-user-config", "-display", "none",
             "-machine", "pc", "-accel", accel, "-cpu", "qemu64",
             "-m", str(guest.memory_mib), "-smp", str(len(guest.vcpus)),
             "-bios", guest.image, "-qmp",
             f"unix:{self.name}.qmp,server=on,wait=off", *options],
            stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        running.append(self)
        self.connect()

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def connect(self):
        self.line = socket.socket(socket.AF_UNIX)

        def connected():
            expect(self.process.poll() is None, f"QEMU ended: {self.said()}")
            with contextlib.suppress(OSError):
                self.line.connect(self.name + ".qmp")
                return True
        until(connected, "QEMU's monitor")
        self.stream = self.line.makefile("rw")
        self.stream.readline()
        self.ask("qmp_capabilities")

    def ask(self, command, **arguments):
        return self.send({"execute": command, "arguments":
                          {name.replace("_", "-"): value
                           for name, value in arguments.items()}})

    def send(self, message):
        """The answer's "return"; Failure with what an error says"""
        self.stream.write(json.dumps(message) + "\n")
        self.stream.flush()
        while True:
            line = self.stream.readline()
            expect(line, f"QEMU closed its monitor: {self.said()}")
            answer = json.loads(line)
            if "error" in answer:
                raise Failure(answer["error"]["desc"])
            if "return" in answer:
                return answer["return"]

    def capability(self, name, state=True):
        self.ask("migrate-set-capabilities",
                 capabilities=[{"capability": name, "state": state}])

    def memory(self, address, size):
        path = self.name + ".memory"
        self.ask("pmemsave", val=address, size=size, filename=path)
        with open(path, "rb") as file:
            data = file.read()
        os.unlink(path)
        return data

    def progress(self):
        """When, and what each vCPU has counted"""
        data = self.memory(PROGRESS, 64 * len(self.guest.vcpus))
        return time.monotonic(), [struct.unpack_from("<I", data, 64 * n)[0]
                                  for n in range(len(self.guest.vcpus))]

    def differences(self):
        """How often what a vCPU that stays had counted was something else"""
        data = self.memory(PROGRESS, 64 * len(self.guest.vcpus))
        return [struct.unpack_from("<I", data, 64 * n + 4)[0]
                for n in range(len(self.guest.vcpus))]

    def rates(self, seconds=0.5):
        """What each vCPU does in a second"""
        before = self.progress()
        time.sleep(seconds)
        return per_second(before, self.progress())

    def runs(self):
        """All that shall make progress do"""
        before = self.progress()[1]

        def all_work():
            now = self.progress()[1]
            return all(now[n] > before[n] for n in self.guest.works())
        until(all_work, "the guest's start")
        return self

    def status(self):
        return self.ask("query-status")["status"]

    def migration(self):
        return self.ask("query-migrate")

    def end(self):
        self.process.kill()
        self.process.wait()
        self.line.close()
        self.log.close()
        if self in running:
            running.remove(self)


def end_all():
    for vm in list(running):
        vm.end()


def clean():
    end_all()
    shutil.rmtree(directory)


def per_second(before, after):
    """Two of Qemu.progress()"""
    return [(b - a) / (after[0] - before[0])
            for a, b in zip(before[1], after[1])]


def parts(rates, of):
    """In percent; a vCPU that is halted has none"""
    return [100 * a / b if b else None for a, b in zip(rates, of)]


def source(guest, policy=None, bandwidth=8 * MIB, options=(), under=()):
    """A guest that runs, ready to be migrated; under a program that becomes QEMU"""
    vm = Qemu(guest, *options, under=under).runs()
    prepare(vm, policy, bandwidth)
    return vm


def prepare(vm, policy="dirty-quota", bandwidth=8 * MIB):
    vm.ask("migrate-set-parameters", max_bandwidth=bandwidth,
           downtime_limit=200)
    if policy:
        vm.capability(policy)


def destination(guest, uri=None, options=()):
    """Waits for a migration, and does not run the guest then: (QEMU, address)"""
    uri = uri or f"unix:{directory}/to-{count + 1}"
    return Qemu(guest, "-S", "-incoming", uri, *options), uri


def ended(vm):
    info = vm.migration()
    return info if info["status"] in ("completed", "failed",
                                      "cancelled") else None


def completed(vm, limit_s=90):
    """Wait for the migration's end, which must be a good one"""
    info = until(lambda: ended(vm), "the migration's end", limit_s)
    expect(info["status"] == "completed", f"the migration: {info}")
    return info


def limited(vm):
    """vCPUs have limits, and one came to it: what query-migrate says"""
    def has_limits():
        info = vm.migration()
        expect(info["status"] in ("setup", "active"),
               f"the migration ended before the quota began: {info}")
        return info if info.get("dirty-quota", {}).get("exits") else None
    return until(has_limits, "the quota")


def same_memory(one, other):
    """Both stand still: page by page"""
    size = one.guest.memory_mib * MIB
    a, b = one.memory(0, size), other.memory(0, size)
    if a == b:
        return
    wrong = [at for at in range(0, size, PAGE)
             if a[at:at + PAGE] != b[at:at + PAGE]]
    raise Failure(f"{len(wrong)} pages differ, the first at {wrong[0]:#x}")


def goes_on(vm, before, least=90):
    """Let the destination run: as fast as the source did before"""
    until(lambda: vm.status() == "paused", "the destination's state")
    vm.ask("cont")
    time.sleep(0.1)
    now = parts(vm.rates(), before)
    expect(all(part is None or part >= least for part in now),
           f"progress in percent, {least} expected: {now}")
    return now


def run(cases):
    """A line of TAP for each"""
    for number, case in enumerate(cases, 1):
        start = time.monotonic()
        name = f"{number} - {case.__name__}: {case.__doc__}"
        print(f"# {case.__name__} begins", flush=True)
        try:
            case()
            print(f"ok {name}\n# {time.monotonic() - start:.1f} s", flush=True)
        except Exception: # of whatever kind, it is this case that failed
            print(f"not ok {name}", flush=True)
            for line in traceback.format_exc().splitlines():
                print("#", line, flush=True)
            for each in running:
                print("#", each.said().replace("\n", "\n# "), flush=True)
        end_all()
    print(f"1..{len(cases)}")
    clean()
