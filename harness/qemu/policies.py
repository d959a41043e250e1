#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""policies.py QEMU GUEST [POLICY...]: the same guest migrated under three policies

One vCPU writes more than the link carries, three compute. Prints TAP, and what
each policy did as lines that begin with "# |": progress is in percent of that in
the two seconds before, and what a vCPU lost is in seconds, the downtime
included. With no policy the migration is stopped after eight seconds.
"""
import sys
import time

import vm

POLICIES = ["none", "auto-converge", "dirty-quota"]
NEVER_S = 8
tests = 0


def say(verdict, name, reason=None):
    global tests
    tests += 1
    print(f"{verdict} {tests} - {name}", flush=True)
    if reason:
        print(f"# {reason}", flush=True)


def check(name, condition, reason):
    say("ok" if condition else "not ok", name, None if condition else reason)


def migrate(guest, policy):
    """What a row of the table has, or the reason why there is none"""
    capability = None if policy == "none" else policy
    source = vm.source(guest, capability)
    target, uri = vm.destination(guest)
    before = source.rates(2)
    begin = source.progress()
    source.ask("migrate", uri=uri)
    throttled = 0
    while True:
        time.sleep(0.5)
        info = source.migration()
        throttled = max(throttled, info.get("cpu-throttle-percentage", 0))
        if info["status"] in ("completed", "failed"):
            break
        if policy == "none" and time.monotonic() - begin[0] > NEVER_S:
            break
    end = source.progress()
    row = {"policy": policy, "status": info["status"], "info": info,
           "throttled": throttled}
    if info["status"] == "completed":
        # The guest stood still when the progress was read.
        total, down = info["total-time"] / 1000, info["downtime"] / 1000
        end = begin[0] + total - down, end[1]
        vm.same_memory(source, target)
        row["after"] = vm.goes_on(target, before)
    else:
        total, down = end[0] - begin[0], 0
    row["total"], row["down"] = total, down
    row["parts"] = vm.parts(vm.per_second(begin, end), before)
    row["lost"] = sum((1 - part / 100) * (total - down) + down
                      for part in row["parts"])
    vm.end_all()
    return row


def show(row):
    ram, quota = row["info"]["ram"], row["info"].get("dirty-quota")
    print("# | {} | {} | {:.2f} | {} | {:.1f} | {} | {:.0f} % | {} | {:.1f} | {} |"
          .format(row["policy"],
                  "yes" if row["status"] == "completed" else "**no**",
                  row["total"], row["info"].get("downtime", "-"),
                  ram["transferred"] / vm.MIB, ram["dirty-sync-count"],
                  row["parts"][0],
                  " ".join(f"{part:.0f} %" for part in row["parts"][1:]),
                  row["lost"],
                  f"{quota['exits']} exits, {quota['throttle-time']} ms"
                  if quota else
                  f"up to {row['throttled']} %" if row["throttled"] else "-"),
          flush=True)


def main():
    vm.setup(*sys.argv[1:3])
    guest = vm.Guest(vm.writer(25, 16), vm.COMPUTES, vm.COMPUTES, vm.COMPUTES)
    print("# | policy | converged | total s | downtime ms | MiB sent | rounds |"
          " writer | others | vCPU-seconds lost | throttled |")
    print("# |---|---|---|---|---|---|---|---|---|---|")
    rows = {}
    for policy in sys.argv[3:] or POLICIES:
        try:
            rows[policy] = migrate(guest, policy)
        except vm.Failure as failure:
            say("not ok", f"{policy}: memory, and the guest at the destination",
                failure)
            vm.end_all()
            continue
        show(rows[policy])
        if policy != "none":
            say("ok", f"{policy}: memory, and the guest at the destination")
    judge(rows)
    print(f"1..{tests}")
    vm.clean()


def judge(rows):
    none, auto, quota = (rows.get(policy) for policy in POLICIES)
    if not (none and auto and quota):
        return
    check("none: does not converge", none["status"] == "active", none["status"])
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


main()
