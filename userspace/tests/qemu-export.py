#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""usage: qemu-export.py BUILD-DIR QEMU

QEMU's object kvm-stats-export with kvmstatd, on this machine's /dev/kvm: TAP.
"""
import contextlib
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import urllib.request

LIMIT_S = 60
SOON_S = 5		# for what must not wait for a vCPU
UUID = "2dd4b6b0-6d5c-4c0e-8f7e-0c9c4f4a9b11"
CPU = {"driver": "qemu64-x86_64-cpu", "socket-id": 0, "thread-id": 0}

# Guests that are their own firmware, in real mode at F000:0000.
HALTED = b"\xfa\xf4\xeb\xfc"		# cli; hlt; again
# Lets go of the second vCPU whenever QEMU asks for it, as an operating system does
# by ACPI (the registers of docs/specs/acpi_cpu_hotplug.rst of QEMU).
EJECTING = bytes.fromhex(
    "fa"			# cli
    "31c0 ba00af ee"		# 0 to 0xaf00: the registers as they are today
    # again:
    "66b900100000 6649 75fc"	# a while
    "66b801000000 ba00af 66ef"	# the vCPU that the other registers are about
    "ba04af ec a804 74e3"	# its flag 4: to be removed? no: again
    "b004 ee b008 ee ebdb")	# 4: seen, 8: removed; again

build, qemu_path = os.path.abspath(sys.argv[1]), os.path.abspath(sys.argv[2])
tmp = tempfile.mkdtemp(prefix="kvmstats-")
with open("/dev/kvm", "rb") as kvm:	# KVM_CHECK_EXTENSION, KVM_CAP_VCPUS_STATS_FD
    all_vcpus = fcntl.ioctl(kvm, 0xae03, 51005) > 0
http = urllib.request.build_opener(urllib.request.ProxyHandler({}))
tests = []


def test(function):
    tests.append(function)
    return function


def path(name):
    return os.path.join(tmp, name)


def until(condition, what):
    end = time.monotonic() + LIMIT_S
    while not condition():
        assert time.monotonic() < end, f"never: {what}"
        time.sleep(0.05)


def firmware(code):
    """An image of 64 KiB: the code, and at its end what the CPU begins with."""
    name = path("firmware")
    with open(name, "wb") as file:
        file.write((code.ljust(0xfff0, b"\0") +
                    b"\xea\x00\x00\x00\xf0").ljust(0x10000, b"\0"))
    return name


class Agent:
    """kvmstatd"""

    def __init__(self, socket_name="socket"):
        self.errors = path("agent.err")
        with open(self.errors, "w") as err:
            self.process = subprocess.Popen(
                [f"{build}/kvmstatd/kvmstatd", "--socket", path(socket_name),
                 "--listen", "127.0.0.1:0"], stderr=err)
        until(self.find_url, "kvmstatd serves")

    def find_url(self):
        with open(self.errors) as file:
            found = re.search(r"serving (http://\S+/metrics)", file.read())
        self.url = found and found[1]
        return self.url

    def metrics(self):
        return http.open(self.url, timeout=20).read().decode()

    def value(self, series):
        """Of a series whose labels are given in full, or None"""
        for line in self.metrics().splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
        return None

    def infos(self):
        return [line for line in self.metrics().splitlines()
                if line.startswith("kvm_vm_info{")]

    def has(self, vms, vcpus):
        """With statistics of all of them, and a descriptor of each VM and of each vCPU;
        where the kernel has it, one of all vCPUs of the VM instead of those"""
        lines = self.metrics().splitlines()
        return "kvmstatd_vms %d" % vms in lines and \
            "kvmstatd_descriptors %d" % (2 * vms if all_vcpus else vms + vcpus) in \
            lines and vcpus == sum(line.startswith("kvm_vcpu_exits_total{")
                                   for line in lines)

    def waits_for(self, vms, vcpus):
        until(lambda: self.has(vms, vcpus), f"{vms} VMs, {vcpus} vCPUs")

    def end(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
            self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)


class Refused(Exception):
    """QMP's error"""


class Qemu:
    """Ours, and a QMP connection to it"""

    def __init__(self, *args, code=HALTED, pass_fds=(), vcpus="1,maxcpus=2"):
        self.errors = path("qemu.err")
        ours, theirs = socket.socketpair()
        with open(self.errors, "w") as err:
            self.process = subprocess.Popen(
                [qemu_path, "-nodefaults", "-no-user-config", "-display", "none",
                 "-machine", "pc,accel=kvm", "-cpu", "qemu64", "-m", "8",
                 "-smp", vcpus, "-bios", firmware(code),
                 "-name", "guest=q,debug-threads=on", "-uuid", UUID,
                 "-chardev", f"socket,id=qmp,fd={theirs.fileno()}",
                 "-mon", "chardev=qmp,mode=control", *args],
                stdin=subprocess.DEVNULL, stderr=err,
                pass_fds=(theirs.fileno(), *pass_fds))
        theirs.close()
        self.socket = ours
        self.socket.settimeout(LIMIT_S)
        self.file = ours.makefile("r")
        self.file.readline()
        self.do("qmp_capabilities")

    def do(self, command, fd=None, **arguments):
        """QMP's answer, within the time in which one is due"""
        line = json.dumps({"execute": command, "arguments": {
            name.replace("_", "-"): value
            for name, value in arguments.items()}}).encode()
        socket.send_fds(self.socket, [line], [] if fd is None else [fd])
        begun = time.monotonic()
        while True:
            answer = json.loads(self.file.readline())
            if "error" in answer:
                raise Refused(answer["error"]["desc"])
            if "return" in answer:
                self.took_s = time.monotonic() - begun
                return answer["return"]

    def add(self, name="stats", address=None):
        self.do("object-add", qom_type="kvm-stats-export", id=name,
                socket=address or path("socket"))

    def delete(self, name="stats"):
        self.do("object-del", id=name)

    def connected(self, name="stats"):
        return self.do("qom-get", path=f"/objects/{name}", property="connected")

    def plug(self, number):
        self.do("device_add", id=f"cpu{number}", **CPU, **{"core-id": number})

    def vcpus(self):
        return len(self.do("query-cpus-fast"))

    def stats(self, target):
        """[{name: value}], one for the VM, or of each vCPU in their order"""
        answer = self.do("query-stats", target=target)
        if target == "vcpu":
            index = {cpu["qom-path"]: cpu["cpu-index"]
                     for cpu in self.do("query-cpus-fast")}
            answer.sort(key=lambda entry: index[entry["qom-path"]])
        return [{stat["name"]: stat["value"] for stat in entry["stats"]}
                for entry in answer]

    def said(self):
        """What it has to say of the object, and not of its CPUs"""
        with open(self.errors) as file:
            return "".join(line for line in file if "kvm-stats-export" in line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.socket.close()


def export(address=None):
    return ("-object", f"kvm-stats-export,id=stats,socket={address or path('socket')}")


@contextlib.contextmanager
def refused(pattern):
    try:
        yield
    except Refused as error:
        assert re.search(pattern, str(error)), f"{error}\nis not {pattern}"
        return
    raise AssertionError(f"not refused: {pattern}")


def fails_to_start(pattern, *args):
    done = subprocess.run([qemu_path, "-nodefaults", "-display", "none", *args],
                          stdin=subprocess.DEVNULL, stderr=subprocess.PIPE,
                          timeout=LIMIT_S, text=True, check=False)
    assert done.returncode == 1 and re.search(pattern, done.stderr), \
        f"status {done.returncode}, {pattern} is not in\n{done.stderr}"


def connection():
    """To the agent, made by this process"""
    fd = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    fd.connect(path("socket"))
    return fd


def info_of(process):
    return (f'kvm_vm_info{{vm="q",name="q",uuid="{UUID}",'
            f'pid="{process.pid}",uid="{os.getuid()}",registered_by="vmm",'
            f'id="kvm-{process.pid}"}}')


@test
def name_uuid_process_and_all_descriptors():
    with Agent() as agent, Qemu(*export(), vcpus="2") as qemu:
        agent.waits_for(1, 2)
        assert agent.value(info_of(qemu.process)) == 1, agent.infos()
        assert agent.value('kvm_vcpu_exits_total{vm="q",vcpu="0"}') > 0
        until(lambda: agent.value('kvm_vcpu_cpu_seconds_total{vm="q",vcpu="1"}'),
              "CPU time of the vCPU's thread")
        assert qemu.connected() is True
        assert qemu.said() == "", qemu.said()


@test
def agent_late_killed_and_stopped():
    with Qemu(*export()) as qemu:
        assert qemu.connected() is False
        for how in signal.SIGKILL, signal.SIGTERM:
            with Agent() as agent:
                agent.waits_for(1, 1)
                until(qemu.connected, "connected")
                agent.end(how)
                until(lambda: not qemu.connected(), "not connected")
        with Agent() as agent:
            agent.waits_for(1, 1)
        assert qemu.said() == "", qemu.said()


@test
def vcpu_plugged_unplugged_and_plugged_again():
    exits = 'kvm_vcpu_signal_exits_total{vm="q",vcpu="1"}'

    def kick(more_than):
        """It waits to be started, and has no exits but those that QEMU causes"""
        def more():
            qemu.do("stop")
            qemu.do("cont")
            return agent.value(exits) > more_than
        until(more, "exits of the second vCPU")

    with Agent() as agent, Qemu(*export(), code=EJECTING) as qemu:
        agent.waits_for(1, 1)
        qemu.plug(1)
        agent.waits_for(1, 2)
        kick(0)
        qemu.do("device_del", id="cpu1")
        until(lambda: qemu.vcpus() == 1, "unplugged")
        before = agent.value(exits)
        assert before and agent.has(1, 2)
        assert len(qemu.stats("vcpu")) == 1
        # An object that is added now gets those of the parked vCPU, too.
        qemu.delete()
        agent.waits_for(0, 0)
        qemu.add()
        agent.waits_for(1, 2)
        assert agent.value(exits) == before
        qemu.plug(1)
        assert qemu.vcpus() == 2
        kick(before)
        assert qemu.stats("vcpu")[1]["signal_exits"] > before
        assert agent.has(1, 2)


@test
def object_deleted_and_added():
    with Agent() as agent, Qemu() as qemu:
        for _ in range(3):
            qemu.add()
            agent.waits_for(1, 1)
            qemu.delete()
            agent.waits_for(0, 0)
        before = len(os.listdir(f"/proc/{qemu.process.pid}/fd"))
        qemu.add()
        until(qemu.connected, "connected")
        qemu.delete()
        assert len(os.listdir(f"/proc/{qemu.process.pid}/fd")) == before


def answers_soon(qemu):
    for number in range(3):
        begun = time.monotonic()
        qemu.add()
        qemu.plug(1) if not number else None
        qemu.stats("vm")
        qemu.stats("vcpu")
        qemu.do("query-stats-schemas")
        qemu.delete()
        assert time.monotonic() - begun < SOON_S


@test
def paused_vm_does_not_hang():
    with Agent(), Qemu("-S") as qemu:
        answers_soon(qemu)


@test
def halted_vcpu_does_not_hang():
    with Agent(), Qemu() as qemu:
        until(lambda: qemu.stats("vcpu")[0]["halt_exits"] > 0, "halted")
        answers_soon(qemu)


@test
def query_stats_interrupts_nobody():
    with Qemu(vcpus="2") as qemu:
        until(lambda: qemu.stats("vcpu")[0]["halt_exits"] > 0, "halted")
        time.sleep(1)
        before = qemu.stats("vcpu")
        for _ in range(50):
            qemu.stats("vcpu")
            qemu.do("query-stats-schemas")
        after = qemu.stats("vcpu")
        for name in "exits", "signal_exits":
            assert [stats[name] for stats in before] == \
                [stats[name] for stats in after], \
                f"{name}: {[stats[name] for stats in after]}"


def shown_by_kvmstat(qemu):
    """The same form as Qemu.stats, all that kvmstat shows"""
    listener = subprocess.Popen(
        [f"{build}/kvmstat/kvmstat", "show", "--socket", path("socket"),
         "--wait", "60", "--json"], stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL)
    until(lambda: os.path.exists(path("socket")), "kvmstat listens")
    qemu.add()
    sources = json.loads(listener.communicate()[0])["sources"]
    qemu.delete()
    shown = {"vm": [], "vcpu": []}
    for source in sorted(sources, key=lambda source: source["vcpu"] or 0):
        shown[source["scope"]].append({
            stat["name"]: bool(stat["values"][0]) if stat["unit"] == "boolean"
            else stat["values"] if stat["size"] > 1 else stat["values"][0]
            for stat in source["stats"]})
    return shown


@test
def query_stats_says_what_kvmstat_says():
    with Qemu("-S", vcpus="2") as qemu:
        # once with values that are not 0, among them histograms
        qemu.do("cont")
        until(lambda: qemu.stats("vcpu")[0]["halt_exits"] > 0, "halted")
        qemu.do("stop")
        shown = shown_by_kvmstat(qemu)
        assert len(shown["vm"]) == 1 and len(shown["vcpu"]) == 2
        assert any(isinstance(value, list) and any(value)
                   for value in shown["vcpu"][0].values()), shown
        for target in "vm", "vcpu":
            assert qemu.stats(target) == shown[target], \
                f"{qemu.stats(target)}\n{shown[target]}"


@test
def kvmstat_finds_the_descriptors_without_object():
    with Qemu("-S", vcpus="2") as qemu:
        shown = json.loads(subprocess.check_output(
            [f"{build}/kvmstat/kvmstat", "show", "--pid", str(qemu.process.pid),
             "--json"], timeout=LIMIT_S))
        assert sorted((source["scope"], source["vcpu"]) for source in
                      shown["sources"] if source["scope"] == "vcpu") == \
            [("vcpu", 0), ("vcpu", 1)]
        assert [source["scope"] for source in shown["sources"]].count("vm") == 1


@test
def one_object_for_a_socket():
    with Agent() as agent, Qemu(*export()) as qemu:
        agent.waits_for(1, 1)
        with refused(f"another .* has the socket '{path('socket')}'"):
            qemu.add("again")
        agent.waits_for(1, 1)
        qemu.add("other", path("nobody"))
        assert qemu.connected("other") is False
        with refused("can no longer be set"):
            qemu.do("qom-set", path="/objects/other", property="socket",
                    value="/x")
        with refused("not writable"):
            qemu.do("qom-set", path="/objects/other", property="connected",
                    value=True)


@test
def errors_say_what_is_allowed():
    with Qemu() as qemu:
        with refused("Parameter 'socket' is missing"):
            qemu.do("object-add", qom_type="kvm-stats-export", id="stats")
        with refused("'socket' must be an absolute path, or 'fd:'"):
            qemu.add(address="socket")
        with refused("'socket' must be shorter than 108 bytes"):
            qemu.add(address="/" + 107 * "p")
        qemu.add("long", "/" + 106 * "p")
        with refused("'nothing' has not been found"):
            qemu.add(address="fd:nothing")
        with refused("nvalid file descriptor number '1x'"):
            qemu.add(address="fd:1x")
        with refused("'fd:0' is no connected UNIX socket.*: Socket operation on non-socket"):
            qemu.add(address="fd:0")
        ours, theirs = socket.socketpair()
        with ours, theirs:
            qemu.do("getfd", fd=theirs.fileno(), fdname="stream")
            with refused("'fd:stream' is no connected UNIX socket of type SOCK_SEQPACKET"):
                qemu.add(address="fd:stream")
        qemu.add(address=path("nobody"))
    fails_to_start("needs KVM", "-machine", "none,accel=qtest", *export())
    fails_to_start("The name of the VM must be UTF-8", "-accel", "kvm",
                   "-name", "guest=\a", *export())


@test
def wrong_socket_is_said_once():
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.bind(path("stream"))
        stream.listen()
        with Qemu(*export(path("stream"))) as qemu:
            until(lambda: "cannot register at" in qemu.said(), "a warning")
            assert "wrong type for socket" in qemu.said(), qemu.said()
            time.sleep(2)
            assert qemu.said().count("cannot register") == 1, qemu.said()


@test
def connection_by_name():
    with Agent() as agent, Qemu() as qemu:
        for _ in range(2):
            with connection() as fd:
                qemu.do("getfd", fd=fd.fileno(), fdname="agent")
            qemu.add(address="fd:agent")
            # the VM is QEMU's, and not that of who connected
            agent.waits_for(1, 1)
            assert agent.value(info_of(qemu.process)) == 1, agent.infos()
            assert qemu.connected() is True
            qemu.delete()
            agent.waits_for(0, 0)
        with connection() as fd:
            qemu.do("getfd", fd=fd.fileno(), fdname="agent")
        qemu.add(address="fd:agent")
        agent.waits_for(1, 1)
        agent.end()
        until(lambda: not qemu.connected(), "not connected")
        until(lambda: "the agent has closed 'fd:agent'" in qemu.said(),
              "a warning")
        with Agent() as agent:
            qemu.plug(1)
            with connection() as fd:
                qemu.do("getfd", fd=fd.fileno(), fdname="agent")
            qemu.delete()
            qemu.add(address="fd:agent")
            agent.waits_for(1, 2)


@test
def connection_by_number():
    with Agent() as agent, connection() as fd:
        with Qemu(*export(f"fd:{fd.fileno()}"), pass_fds=(fd.fileno(),)) as qemu:
            fd.close()
            agent.waits_for(1, 1)
            assert agent.value(info_of(qemu.process)) == 1, agent.infos()
        agent.waits_for(0, 0)


@test
def agent_that_does_not_read():
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path("socket"))
        listener.listen(0)
        with Qemu(*export()) as qemu, connection_is_full():
            answers_soon_without_agent(qemu)
    os.unlink(path("socket"))


@contextlib.contextmanager
def connection_is_full():
    """The listener's queue, so that connect says EAGAIN"""
    fds = []
    while True:
        fd = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        fd.setblocking(False)
        fds.append(fd)
        try:
            fd.connect(path("socket"))
        except BlockingIOError:
            break
    yield
    for fd in fds:
        fd.close()


def answers_soon_without_agent(qemu):
    qemu.delete()
    for _ in range(3):
        begun = time.monotonic()
        qemu.add()
        assert qemu.connected() is False
        qemu.do("query-status")
        qemu.delete()
        assert time.monotonic() - begun < SOON_S


def run(number, function):
    verdict, said = "ok", ""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path("socket"))
    try:
        function()
    except Exception:	# whatever it is, the next test is another one
        verdict, said = "not ok", traceback.format_exc()
        for name in "qemu.err", "agent.err":
            with contextlib.suppress(FileNotFoundError), open(path(name)) as file:
                said += f"{name}: {file.read()}"
    print(f"{verdict} {number} - {function.__name__.replace('_', ' ')}")
    for line in said.splitlines():
        print(f"# {line}")
    sys.stdout.flush()
    return verdict == "ok"


def main():
    wanted = sys.argv[3:]
    chosen = [function for function in tests
              if not wanted or function.__name__ in wanted]
    passed = [run(number, function)
              for number, function in enumerate(chosen, 1)]
    print(f"1..{len(passed)}")
    for name in os.listdir(tmp):
        os.unlink(path(name))
    os.rmdir(tmp)
    return not all(passed)


sys.exit(main())
