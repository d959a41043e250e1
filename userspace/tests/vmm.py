#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A VMM that does what its standard input says, a line at a time.

vm        create a VM
vcpu [N]  add a vCPU, with its kvm_run mapped, and a statistics descriptor
bare      add a vCPU, without a statistics descriptor
hold      take the VM's statistics descriptor
again     one more descriptor of the VM and statistics descriptor of a vCPU
run N     enter each vCPU N times; each comes back at once
exits     print what each vCPU has counted as exits, instead of "done"
close     close the VMs and all of them
remake N  close, and make a VM with N vCPUs: it has the same numbers
fork S    leave a child that holds everything for S seconds
exec      become another program, which ends as this one would
name X    give its thread a name
register SOCKET  pass what it has of statistics to an agent, as a VM called vmm
many N    open N descriptors of other kinds
publish N  publish N devices, net:n0 and on, with one counter each

Each line is answered by "done" or an error. It ends with its input. Its
arguments mean nothing: its command line can be that of any VMM.
"""
import ctypes
import fcntl
import mmap
import os
import socket
import struct
import sys
import time

KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_SET_USER_MEMORY_REGION = 0x4020AE46
KVM_RUN = 0xAE80
KVM_GET_STATS_FD = 0xAECE

kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
run_bytes = fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
vms, vcpus, stats, others, maps, memory = [], [], [], [], [], []
agents = []


def create_vm():
    vms.append(fcntl.ioctl(kvm, KVM_CREATE_VM, 0))
    # the reset vector: hlt, and back to it
    page = mmap.mmap(-1, 4096)
    page[0xff0:0xff3] = b"\xf4\xeb\xfd"
    memory.append(page)
    address = ctypes.addressof(ctypes.c_char.from_buffer(page))
    if os.uname().machine == "x86_64":
        fcntl.ioctl(vms[-1], KVM_SET_USER_MEMORY_REGION,
                    struct.pack("IIQQQ", 0, 0, 0xfffff000, 4096, address))


def create_vcpu(number, with_stats):
    vcpu = fcntl.ioctl(vms[-1], KVM_CREATE_VCPU, number)
    vcpus.append(vcpu)
    maps.append(mmap.mmap(vcpu, run_bytes))
    if with_stats:
        stats.append(fcntl.ioctl(vcpu, KVM_GET_STATS_FD, 0))


def close_all():
    while maps:
        maps.pop().close()
    for fd in stats + vcpus + others + vms:
        os.close(fd)
    for fds in stats, vcpus, others, vms:
        fds.clear()


def exits_of(fd):
    size, count, _, descs, data = struct.unpack("5I", os.pread(fd, 20, 4))
    for i in range(count):
        desc = os.pread(fd, 16 + size, descs + i * (16 + size))
        if desc[16:].split(b"\0")[0] == b"exits":
            at = data + struct.unpack_from("I", desc, 8)[0]
            return struct.unpack("Q", os.pread(fd, 8, at))[0]
    return None


# One connection, however often.
def register(path):
    if not agents:
        agents.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        agents[0].connect(path)
    name = b"vmm"
    header = struct.pack("8sHHIIIQHHI", b"KVMSTATS", 1, 40, len(stats), 0, 0, 0,
                         len(name), 0, 0)
    socket.send_fds(agents[0], [header + name], stats)


# As docs/format.md has it: a header, an identification, one counter.
def publish(number):
    device = b"kvm-%d/net:n%d" % (os.getpid(), number)
    image = struct.pack("6I", 0, 48, 1, 24, 72, 136) + device.ljust(48, b"\0")
    image += struct.pack("IhHII", 0, 0, 1, 0, 0) + b"packets".ljust(48, b"\0")
    image += struct.pack("Q", number)
    fd = os.memfd_create("kvmstats:net", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, image)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, fcntl.F_SEAL_GROW | fcntl.F_SEAL_SHRINK |
                fcntl.F_SEAL_SEAL)
    others.append(fd)


def obey(word, argument):
    if word == "vm":
        create_vm()
    elif word in ("vcpu", "bare"):
        create_vcpu(int(argument or len(vcpus)), word == "vcpu")
    elif word == "hold":
        others.append(fcntl.ioctl(vms[-1], KVM_GET_STATS_FD, 0))
    elif word == "again":
        others.append(os.dup(vms[-1]))
        stats.append(fcntl.ioctl(vcpus[0], KVM_GET_STATS_FD, 0))
    elif word == "dup":
        others.extend(os.dup(fd) for fd in stats + vms)
    elif word == "run":
        for vcpu in vcpus:
            for _ in range(int(argument)):
                try:
                    fcntl.ioctl(vcpu, KVM_RUN, 0)
                except OSError:
                    pass
    elif word == "exits":
        return " ".join(str(exits_of(fd)) for fd in stats)
    elif word == "close":
        close_all()
    elif word == "remake":
        close_all()
        create_vm()
        for number in range(int(argument)):
            create_vcpu(number, True)
    elif word == "fork":
        if not os.fork():
            time.sleep(float(argument))
            os._exit(0)
    elif word == "exec":
        print("done", flush=True)
        os.execvp("cat", ["cat"])
    elif word == "name":
        with open("/proc/self/comm", "w") as comm:
            comm.write(argument)
    elif word == "register":
        register(argument)
    elif word == "publish":
        for number in range(int(argument)):
            publish(number)
    elif word == "many":
        for _ in range(int(argument)):
            os.dup(0)
    else:
        raise ValueError("no command " + word)
    return "done"


for line in sys.stdin:
    try:
        print(obey(*(line.split() + [None])[:2]), flush=True)
    except (OSError, ValueError) as error:
        print(error, flush=True)
