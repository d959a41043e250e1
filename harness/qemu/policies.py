#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""policies.py QEMU GUEST [SCENARIO...]: guests migrated under four policies

Without a scenario it is one-writer; there is "all". They are those of
userspace/migsim/scenarios.sh, but for vCPUs that read, which compute here. Prints
TAP, for each migration a line that begins with "# |", and for each vCPU one that is
as migsim's --csv has it: progress is compared with the two seconds before, exits
and how long was waited for them stand with vCPU 0, for the whole VM.
"""
import sys
import time

import vm

POLICIES = ["none", "stop-and-copy", "auto-converge", "dirty-quota"]
LIMITS_S = {"none": 8}  # when a migration is given up
LIMIT_S = 90            # under other policies
# A page's bit is cleared just before it is sent, with those of its chunk: by
# default 1 GiB, which is all of this guest and little of others.
SMALL_CHUNKS = ("-global", "migration.x-clear-bitmap-shift=6")
tests = 0


def writers(count, rate, pages, hot=0):
    """So many, each with pages of its own"""
    return [vm.writes(rate, pages, vm.REGION + n * pages * vm.PAGE, hot=hot)
            for n in range(count)]


SCENARIOS = {
    "needs-nothing": writers(1, 800, 4096) + 3 * [vm.COMPUTES],
    "fifth-of-memory": writers(2, 13107, 410),
    "balanced": writers(2, 6554, 1920, hot=240) + 2 * [vm.COMPUTES],
    "one-writer": writers(1, 6554, 4096) + 3 * [vm.COMPUTES],
    "one-writer-meets": [vm.writes(6554, 4096, meet_s=0.01)] +
                        3 * [vm.computes(meet_s=0.01)],
    "equal-writers": writers(2, 13107, 2048),
    "write-heavy": writers(6, 17476, 682, hot=682),
}


def say(verdict, name, reason=None):
    global tests
    tests += 1
    print(f"{verdict} {tests} - {name}", flush=True)
    if reason:
        print(f"# {reason}", flush=True)


def check(name, condition, reason):
    say("ok" if condition else "not ok", name, None if condition else reason)


def to_its_end(source, policy, begin):
    """What query-migrate says then, and how far vCPUs were slowed down"""
    limit, throttled = LIMITS_S.get(policy, LIMIT_S), 0
    while True:
        time.sleep(0.5)
        info = source.migration()
        throttled = max(throttled, info.get("cpu-throttle-percentage", 0))
        if (info["status"] in ("completed", "failed") or
                time.monotonic() - begin > limit):
            return info, throttled


def migrate(guest, policy):
    """What a row of the table has, or the reason why there is none"""
    stopped = policy == "stop-and-copy"
    source = vm.source(guest, policy if policy in ("auto-converge",
                                                   "dirty-quota") else None,
                       options=SMALL_CHUNKS)
    target, uri = vm.destination(guest)
    before = source.rates(2)
    begin = source.progress()
    if stopped:
        source.ask("stop")
    source.ask("migrate", uri=uri)
    info, throttled = to_its_end(source, policy, begin[0])
    end = source.progress()
    row = {"policy": policy, "status": info["status"], "info": info,
           "throttled": throttled, "before": before}
    if info["status"] == "completed":
        # The guest stood still when the progress was read.
        total = info["total-time"] / 1000
        down = total if stopped else info["downtime"] / 1000
        end = begin[0] + total - down, end[1]
        vm.same_memory(source, target)
        vm.goes_on(target, before)
    else:
        total, down = end[0] - begin[0], 0
    row["total"], row["down"] = total, down
    row["during"] = ([0] * len(before) if stopped else
                     vm.per_second(begin, end))
    row["parts"] = vm.parts(row["during"], before)
    row["lost"] = sum((1 - part / 100) * (total - down) + down
                      for part in row["parts"])
    vm.end_all()
    return row


def mean(values):
    return f"{sum(values) / len(values):.0f} %" if values else "-"


def show(scenario, guest, row):
    ram, quota = row["info"]["ram"], row["info"].get("dirty-quota")
    writes = [vcpu[0] > 0 for vcpu in guest.vcpus]
    print("# | {} | {} | {} | {} | {:.2f} | {:.0f} | {:.1f} | {} | {} | {:.1f} | {} |"
          .format(scenario, row["policy"],
                  "yes" if row["status"] == "completed" else "**no**",
                  ram["dirty-sync-count"], row["total"], row["down"] * 1000,
                  ram["transferred"] / vm.MIB,
                  mean([part for part, of in zip(row["parts"], writes) if of]),
                  mean([part for part, of in zip(row["parts"], writes)
                        if not of]),
                  abs(row["lost"]),
                  f"{quota['exits']} exits, {quota['throttle-time']} ms"
                  if quota else
                  f"up to {row['throttled']} %" if row["throttled"] else "-"),
          flush=True)
    for number, part in enumerate(row["parts"]):
        exits = waited = 0
        if quota and not number:
            exits, waited = quota["exits"], quota["throttle-time"]
        elif row["throttled"]: # about, as nobody counts it
            waited = max(1, (1 - part / 100) * row["total"] * 1000)
        print("run,{},{},{:d},1,{},{:.0f},{:.0f},{},{},{},{:.1f},{:.1f},{:.0f},,{},{:.0f},"
              .format(scenario, row["policy"], row["status"] == "completed",
                      ram["dirty-sync-count"], row["total"] * 1000,
                      row["down"] * 1000, ram["transferred"], number,
                      "write" if writes[number] else "compute",
                      row["before"][number], row["during"][number],
                      part * 10000, exits, waited), flush=True)


def run(scenario):
    guest = vm.Guest(*SCENARIOS[scenario])
    rows = {}
    for policy in POLICIES:
        name = f"{scenario}, {policy}: memory, and the guest at the destination"
        try:
            rows[policy] = row = migrate(guest, policy)
        except vm.Failure as failure:
            say("not ok", name, failure)
            vm.end_all()
            continue
        show(scenario, guest, row)
        if row["status"] == "completed":
            say("ok", name)
    return rows


def judge(none, stopped, auto, quota):
    """Of one-writer"""
    check("none: does not converge", none["status"] == "active", none["status"])
    check("stop-and-copy: what the guest uses is sent once",
          stopped["status"] == "completed" and
          stopped["info"]["ram"]["transferred"] < 17 * vm.MIB, stopped["info"])
    check("dirty-quota: at most a third of the time of auto-converge",
          quota["total"] <= auto["total"] / 3,
          f"{quota['total']} s, {auto['total']} s")
    check("dirty-quota: vCPUs that write little are not held",
          min(quota["parts"][1:]) >= 98, f"{quota['parts']} %")
    check("dirty-quota: the writer gets on about as auto-converge lets it",
          quota["parts"][0] >= auto["parts"][0] - 10,
          f"{quota['parts'][0]} %, {auto['parts'][0]} %")
    check("dirty-quota: costs the guest a fifth at most",
          quota["lost"] <= auto["lost"] / 5,
          f"{quota['lost']} s, {auto['lost']} s")


def main():
    scenarios = sys.argv[3:] or ["one-writer"]
    if scenarios == ["all"]:
        scenarios = list(SCENARIOS)
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if len(sys.argv) < 3 or unknown:
        sys.exit(f"{__doc__.splitlines()[0]}\n{' '.join(unknown)}: scenarios are " +
                 ", ".join(SCENARIOS))
    vm.setup(*sys.argv[1:3])
    print("# | scenario | policy | converged | rounds | total s | downtime ms |"
          " MiB sent | writers | others | vCPU-seconds lost | throttled |")
    print("# |---|---|---|---|---|---|---|---|---|---|---|")
    for scenario in scenarios:
        rows = run(scenario)
        if scenario == "one-writer" and len(rows) == len(POLICIES):
            judge(*(rows[policy] for policy in POLICIES))
    print(f"1..{tests}")
    vm.clean()


main()
