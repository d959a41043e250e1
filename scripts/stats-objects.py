#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""Compare the statistics descriptors in an object with the structs they describe.

usage: stats-objects.py binary_stats.o probe.o
       stats-objects.py --faults binary_stats.o probe.o

The bytes of binary_stats.o, as they were built, against the members of struct
kvm_vm_stat and kvm_vcpu_stat in the debug information of probe.o, which the
same compiler made from the headers alone. Prints the numbers of descriptors;
status 1 and a line for each fault if something is wrong. --faults changes one
thing at a time in a copy of the bytes and wants each change noticed.
"""

import os
import re
import struct
import subprocess
import sys

TYPES = ["cumulative", "instant", "peak", "linear histogram", "log histogram"]
UNITS = ["none", "bytes", "seconds", "cycles", "boolean"]
BASES = ["10", "2"]
NAME_SIZE = 48
HEADER_SIZE = 24
ENTRY_SIZE = 64
SCOPES = {"vm": "kvm_vm_stat", "vcpu": "kvm_vcpu_stat"}
# Members that only debugfs shows; they come last and are no part of the file.
DEBUGFS_ONLY = ("lpages", "pf_fixed_debugfs")


class Elf:
    """An object file: symbols, and the bytes and relocations behind them."""

    def __init__(self, path):
        with open(path, "rb") as file:
            self.data = bytearray(file.read())
        if self.data[:4] != b"\x7fELF":
            sys.exit(f"{path}: no ELF file")
        self.wide = self.data[4] == 2
        self.order = "<" if self.data[5] == 1 else ">"
        self.word = "Q" if self.wide else "I"
        self.sections = self._sections()
        self.symbols = self._symbols()

    def unpack(self, layout, offset):
        return struct.unpack_from(self.order + layout, self.data, offset)

    def _sections(self):
        if self.wide:
            start, = self.unpack("Q", 0x28)
            size, count = self.unpack("HH", 0x3a)
        else:
            start, = self.unpack("I", 0x20)
            size, count = self.unpack("HH", 0x2e)
        names = ("name", "type", "flags", "addr", "offset", "size", "link",
                 "info", "align", "entsize")
        layout = "IIQQQQIIQQ" if self.wide else "10I"
        return [dict(zip(names, self.unpack(layout, start + i * size)))
                for i in range(count)]

    def _string(self, section, offset):
        start = self.sections[section]["offset"] + offset
        return self.data[start:self.data.index(0, start)].decode()

    def _symbols(self):
        table = next(s for s in self.sections if s["type"] == 2)
        found = []
        for i in range(table["size"] // table["entsize"]):
            at = table["offset"] + i * table["entsize"]
            if self.wide:
                name, _, _, index, value, size = self.unpack("IBBHQQ", at)
            else:
                name, value, size, _, _, index = self.unpack("IIIBBH", at)
            found.append((self._string(table["link"], name), index, value, size))
        return found

    def place(self, name):
        """Section, offset in it, and size of a symbol."""
        found = [s[1:] for s in self.symbols if s[0] == name]
        if len(found) != 1:
            sys.exit(f"{name}: {len(found)} symbols of this name")
        return found[0]

    def file_offset(self, name):
        section, value, _ = self.place(name)
        return self.sections[section]["offset"] + value

    def _symbol_number(self, info):
        if not self.wide:
            return info >> 8
        # 64-bit little-endian MIPS has the number in the lower half.
        mips = self.unpack("H", 0x12) == (8,)
        return info & 0xffffffff if mips and self.order == "<" else info >> 32

    def target(self, section, offset):
        """What the pointer there will point to: section and offset."""
        for table in self.sections:
            if table["type"] not in (4, 9) or table["info"] != section:
                continue
            for at in range(table["offset"], table["offset"] + table["size"],
                            table["entsize"]):
                where, info = self.unpack(2 * self.word, at)
                if where != offset:
                    continue
                symbol = self.symbols[self._symbol_number(info)]
                if table["type"] == 4:
                    size = struct.calcsize(self.word)
                    addend, = self.unpack(self.word.lower(), at + 2 * size)
                else:
                    addend, = self.unpack(
                        self.word, self.sections[section]["offset"] + offset)
                return symbol[1], symbol[2] + addend
        return None


# --- the structs ---------------------------------------------------------------

def dies(path):
    """The entries of the debug information: offset, depth, tag, attributes."""
    text = subprocess.run(["readelf", "--debug-dump=info", path], check=True,
                          capture_output=True, text=True,
                          env={**os.environ, "LC_ALL": "C"}).stdout
    head = re.compile(r" <(\d+)><([0-9a-f]+)>: Abbrev Number: \d+ \(DW_TAG_(\w+)\)")
    attribute = re.compile(r"    <[0-9a-f]+>   DW_AT_(\w+) *: (.*)")
    found = []
    for line in text.splitlines():
        match = head.match(line)
        if match:
            found.append((int(match[2], 16), int(match[1]), match[3], {}))
            continue
        match = attribute.match(line)
        if match and found:
            found[-1][3][match[1]] = match[2].split("): ")[-1].strip()
    return found


def children(entries, index):
    depth = entries[index][1]
    for entry in entries[index + 1:]:
        if entry[1] <= depth:
            return
        if entry[1] == depth + 1:
            yield entry


def type_of(entries, attributes):
    """Bytes of an element and their number; None if it is no u64 (array)."""
    where = int(attributes["type"].strip("<>"), 16)
    index = next(i for i, e in enumerate(entries) if e[0] == where)
    _, _, tag, own = entries[index]
    if tag == "typedef":
        return type_of(entries, own)
    if tag == "array_type":
        bounds = [int(c[3]["upper_bound"], 0) + 1
                  for c in children(entries, index)]
        kind, inner = type_of(entries, own)
        return kind, inner * bounds[0] if len(bounds) == 1 else 0
    if tag == "base_type":
        return (own["byte_size"], "unsigned" in own["encoding"]), 1
    return tag, 1


def struct_members(entries, name):
    """[(member, byte offset, number of u64)] and the size of the file's data."""
    index = next((i for i, e in enumerate(entries) if e[3].get("name") == name
                  and e[2] == "structure_type" and "byte_size" in e[3]), None)
    if index is None:
        sys.exit(f"struct {name}: not in the debug information")
    members = []
    for _, _, tag, own in children(entries, index):
        if tag != "member":
            continue
        kind, count = type_of(entries, own)
        if kind != ("8", True) or count < 1:
            sys.exit(f"struct {name}: {own['name']} is no u64 and no array of them")
        members.append((own["name"], int(own["data_member_location"], 0), count))
    size = int(entries[index][3]["byte_size"], 0)
    while members and members[-1][0] in DEBUGFS_ONLY:
        size = members.pop()[1]
    return members, size


# --- the descriptors -----------------------------------------------------------

def read_entries(elf, scope):
    start = elf.file_offset(f"kvm_{scope}_stats_entries")
    size = elf.place(f"kvm_{scope}_stats_entries")[2]
    if size % ENTRY_SIZE:
        sys.exit(f"kvm_{scope}_stats_entries: {size} bytes, no multiple of {ENTRY_SIZE}")
    names = ("flags", "exponent", "size", "offset", "bucket_size", "name")
    return [dict(zip(names, elf.unpack(f"IhHII{NAME_SIZE}s", start + at)))
            for at in range(0, size, ENTRY_SIZE)]


def flag_faults(entry):
    flags, size, exponent = entry["flags"], entry["size"], entry["exponent"]
    kind, unit, base = flags & 15, flags >> 4 & 15, flags >> 8 & 15
    if flags >> 12 or kind >= len(TYPES) or unit >= len(UNITS) or base >= len(BASES):
        yield f"flags {flags:#x}: unknown"
        return
    histogram = "histogram" in TYPES[kind]
    if histogram != (size > 1):
        yield f"{TYPES[kind]} of {size} values"
    if (TYPES[kind] == "linear histogram") != (entry["bucket_size"] > 0):
        yield f"{TYPES[kind]} with bucket size {entry['bucket_size']}"
    if TYPES[kind] == "log histogram" and size > 65:
        yield f"log histogram with {size} buckets, a u64 fills 65"
    yield from unit_faults(TYPES[kind], UNITS[unit], BASES[base], exponent)


def unit_faults(kind, unit, base, exponent):
    if unit == "boolean" and kind not in ("instant", "peak", "linear histogram"):
        yield f"boolean as {kind}"
    if unit in ("none", "boolean") and exponent:
        yield f"unit {unit} with exponent {exponent}"
    if unit == "seconds" and (base != "10" or exponent not in (0, -3, -6, -9)):
        yield f"seconds of {base}^{exponent}"
    if unit == "bytes" and exponent < 0:
        yield f"bytes of {base}^{exponent}"


def name_of(entry):
    """The name, or None if the bytes are none: NUL inside, zeros behind."""
    name, nul, rest = entry["name"].partition(b"\0")
    if not nul or rest.strip(b"\0") or not re.fullmatch(rb"[a-z][A-Za-z0-9_]*", name):
        return None
    return name.decode()


def entry_faults(entries, members):
    """Each descriptor against the member of its name, in any order."""
    left = {name: (offset, count) for name, offset, count in members}
    for number, entry in enumerate(entries):
        name = name_of(entry)
        if name not in left:
            yield f"descriptor {number}: {entry['name'].rstrip(bytes(1))!r}:" + \
                " no member, or its second descriptor"
            continue
        offset, count = left.pop(name)
        if entry["offset"] != offset:
            yield f"{name}: offset {entry['offset']}, the member's is {offset}"
        if entry["size"] != count:
            yield f"{name}: {entry['size']} values, the member has {count}"
        yield from (f"{name}: {fault}" for fault in flag_faults(entry))
    yield from (f"{name}: no descriptor" for name in left)


def coverage_faults(entries, size):
    """Every byte of the struct belongs to one descriptor."""
    end = 0
    for start, count in sorted((e["offset"], e["size"]) for e in entries):
        if start != end:
            yield f"bytes {min(start, end)} to {max(start, end)}: " + \
                ("in no descriptor" if start > end else "in two descriptors")
        end = start + 8 * count
    if end != size:
        yield f"the descriptors end at byte {end}, the struct at {size}"


def schema_faults(elf, scope, count, size):
    symbol = f"kvm_{scope}_stats_schema"
    section, value, _ = elf.place(symbol)
    start = elf.file_offset(symbol)
    step = struct.calcsize(elf.word)
    table = HEADER_SIZE + NAME_SIZE
    wanted = (0, NAME_SIZE, count, HEADER_SIZE, table, table + count * ENTRY_SIZE)
    if elf.unpack("6I", start) != wanted:
        yield f"header {elf.unpack('6I', start)}, expected {wanted}"
    if elf.target(section, value + HEADER_SIZE) != \
            elf.place(f"kvm_{scope}_stats_entries")[:2]:
        yield "points to another table of descriptors"
    sizes = elf.unpack(2 * elf.word, start + HEADER_SIZE + step)
    if sizes != (count * ENTRY_SIZE, size):
        yield f"blocks of {sizes} bytes, expected {(count * ENTRY_SIZE, size)}"


def scope_faults(elf, scope, members, size):
    entries = read_entries(elf, scope)
    yield from entry_faults(entries, members)
    yield from coverage_faults(entries, size)
    yield from schema_faults(elf, scope, len(entries), size)


def faults(elf, layouts):
    return [f"{scope}: {fault}" for scope, layout in layouts.items()
            for fault in scope_faults(elf, scope, *layout)]


# --- faults made on purpose ------------------------------------------------------

def changes():
    """What to change: table, byte in it, layout, function of the old value."""
    last = NAME_SIZE - 1
    for scope in SCOPES:
        entries, schema = f"kvm_{scope}_stats_entries", f"kvm_{scope}_stats_schema"
        yield "type 5", entries, 0, "I", lambda v: v & ~15 | 5
        yield "unit 5", entries, 0, "I", lambda v: v & ~0xf0 | 0x50
        yield "base 2", entries, 0, "I", lambda v: v | 0x200
        yield "a spare flag", entries, 0, "I", lambda v: v | 1 << 12
        yield "a counter of two values", entries, 6, "H", lambda v: v + 1
        yield "a counter as a histogram", entries, 0, "I", lambda v: v | 4
        yield "an exponent without a unit", entries, 4, "h", lambda v: v - 9
        yield "the next one's offset", entries, 8, "I", lambda v: v + 8
        yield "an offset inside a value", entries, 8, "I", lambda v: v + 4
        yield "a bucket size", entries, 12, "I", lambda v: v + 1
        yield "another letter", entries, 16, "B", lambda v: v ^ 1
        yield "a byte behind the NUL", entries, 16 + last, "B", lambda v: 1
        yield "one descriptor less", schema, 8, "I", lambda v: v - 1
        yield "the data 8 bytes on", schema, 20, "I", lambda v: v + 8
        yield "the id elsewhere", schema, 12, "I", lambda v: v + 8


def try_changes(elf, layouts):
    """Number of changes; ends with the first one that is not noticed."""
    count = 0
    for what, table, byte, layout, function in changes():
        kept = bytes(elf.data)
        at = elf.file_offset(table) + byte
        old, = elf.unpack(layout, at)
        struct.pack_into(elf.order + layout, elf.data, at, function(old))
        if not faults(elf, layouts):
            sys.exit(f"{table}: {what}: not noticed")
        elf.data[:] = kept
        count += 1
    return count


def main():
    arguments = sys.argv[1:]
    breaking = arguments[:1] == ["--faults"]
    if len(arguments) != 2 + breaking:
        sys.exit(__doc__)
    elf = Elf(arguments[-2])
    entries = dies(arguments[-1])
    layouts = {scope: struct_members(entries, name)
               for scope, name in SCOPES.items()}
    found = faults(elf, layouts)
    if found:
        sys.exit("\n".join(found))
    if breaking:
        print(f"{try_changes(elf, layouts)} faults made, all noticed")
        return
    print(f"{len(layouts['vm'][0])} of a VM, {len(layouts['vcpu'][0])} of a vCPU,"
          f" {'64' if elf.wide else '32'}-bit"
          f" {'little' if elf.order == '<' else 'big'}-endian")


main()
