# SPDX-License-Identifier: GPL-2.0-only
# usage: nbdkit-load.py URI LOAD - an NBD client that knows what it has done, and
# prints that as JSON: requests by operation, bytes, failures, seconds

import json
import sys
import time

import nbd

PAGE = 4096


class Client:
    def __init__(self, uri):
        self.nbd = nbd.NBD()
        self.nbd.set_strict_mode(0)
        self.nbd.connect_uri(uri)
        self.done = {}
        self.start = time.monotonic()

    def count(self, op, size, seconds, failed=False):
        entry = self.done.setdefault(op, dict(ios=0, bytes=0, failed=0, time=0.0))
        entry["time"] += seconds
        if failed:
            entry["failed"] += 1
        else:
            entry["ios"] += 1
            entry["bytes"] += size

    def do(self, op, size, call, *arguments):
        before = time.monotonic()
        try:
            call(*arguments)
            failed = False
        except nbd.Error:
            failed = True
        self.count(op, size, time.monotonic() - before, failed)
        return not failed

    # Always @depth reads under way, until the time is over.
    def many_reads(self, depth, seconds):
        until = self.start + seconds
        open_reads = {}
        while open_reads or time.monotonic() < until:
            while len(open_reads) < depth and time.monotonic() < until:
                buffer = nbd.Buffer(PAGE)
                cookie = self.nbd.aio_pread(buffer, PAGE * len(open_reads))
                open_reads[cookie] = time.monotonic()
            self.nbd.poll(-1)
            for cookie, began in list(open_reads.items()):
                if self.nbd.aio_command_completed(cookie):
                    self.count("read", PAGE, time.monotonic() - began)
                    del open_reads[cookie]


def mixed(client):
    h = client.nbd
    for i in range(1, 40):
        client.do("write", 512 * i, h.pwrite, bytes(512 * i), 512 * i)
        client.do("read", 1024 * i, h.pread, 1024 * i, 512)
        if i % 3 == 0:
            client.do("flush", 0, h.flush)
        if i % 4 == 0:
            client.do("discard", PAGE, h.trim, PAGE, PAGE * i)
        if i % 5 == 0:
            client.do("write", PAGE, h.zero, PAGE, PAGE * i)


# nbdkit refuses them before any filter: nothing is to be counted.
def beyond_the_end(client):
    h = client.nbd
    size = h.get_size()
    other = Client.__new__(Client)
    other.done = {}
    for call in (h.pread, h.trim, h.zero):
        if other.do("x", 0, call, PAGE, size):
            sys.exit("beyond the end, and no error")
    if other.do("x", 0, h.pwrite, bytes(PAGE), size - 512):
        sys.exit("beyond the end, and no error")
    client.do("read", PAGE, h.pread, PAGE, size - PAGE)


def failing(client):
    h = client.nbd
    for i in range(200):
        client.do("read", PAGE, h.pread, PAGE, 0)
        client.do("write", PAGE, h.pwrite, bytes(PAGE), 0)
        if i % 10 == 0:
            client.do("flush", 0, h.flush)
            client.do("discard", PAGE, h.trim, PAGE, 0)


def one_by_one(client):
    for _ in range(20):
        client.do("read", PAGE, client.nbd.pread, PAGE, 0)
        client.do("write", PAGE, client.nbd.pwrite, bytes(PAGE), 0)


def parallel(client):
    client.many_reads(8, 3.5)


LOADS = dict(mixed=mixed, beyond=beyond_the_end, failing=failing,
             one=one_by_one, parallel=parallel)
client = Client(sys.argv[1])
LOADS[sys.argv[2]](client)
json.dump(dict(client.done, elapsed=time.monotonic() - client.start), sys.stdout)
client.nbd.shutdown()
