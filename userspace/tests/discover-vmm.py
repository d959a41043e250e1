#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""A VMM that does what its standard input says, a line at a time.

vm        create a VM
vcpu      add a vCPU, with its kvm_run mapped, and a statistics descriptor
hold      take the VM's statistics descriptor
again     one more descriptor of the VM and statistics descriptor of a vCPU
close     close the VM and all of it
many N    open N descriptors of other kinds

Each line is answered by "done" or an error. It ends with its input.
"""
import fcntl
import mmap
import os
import sys

KVM_CREATE_VM = 0xAE01
KVM_GET_VCPU_MMAP_SIZE = 0xAE04
KVM_CREATE_VCPU = 0xAE41
KVM_GET_STATS_FD = 0xAECE

kvm = os.open("/dev/kvm", os.O_RDWR | os.O_CLOEXEC)
run_bytes = fcntl.ioctl(kvm, KVM_GET_VCPU_MMAP_SIZE, 0)
vm, fds, maps = -1, [], []


def obey(word, argument):
    global vm
    if word == "vm":
        vm = fcntl.ioctl(kvm, KVM_CREATE_VM, 0)
    elif word == "vcpu":
        vcpu = fcntl.ioctl(vm, KVM_CREATE_VCPU, len(maps))
        maps.append(mmap.mmap(vcpu, run_bytes))
        fds.extend([vcpu, fcntl.ioctl(vcpu, KVM_GET_STATS_FD, 0)])
    elif word == "hold":
        fds.append(fcntl.ioctl(vm, KVM_GET_STATS_FD, 0))
    elif word == "again":
        fds.extend([os.dup(vm), fcntl.ioctl(fds[0], KVM_GET_STATS_FD, 0)])
    elif word == "close":
        while maps:
            maps.pop().close()
        for fd in fds + [vm]:
            os.close(fd)
        fds.clear()
    elif word == "many":
        for _ in range(int(argument)):
            os.dup(0)
    else:
        raise ValueError("what is " + word)


for line in sys.stdin:
    try:
        obey(*(line.split() + [None])[:2])
        print("done", flush=True)
    except (OSError, ValueError) as error:
        print(error, flush=True)
