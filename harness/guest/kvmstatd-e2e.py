#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only
"""What a real Prometheus knows of VMs, compared with what the kernel says.

Each line of standard input is a command with its arguments; what it prints is
followed by a line "holds" or "fails". PROMETHEUS and AGENT are the two URLs,
KVMSTAT is the other command. One process: to start Python takes seconds in an
emulated machine.
"""
import json
import os
import re
import subprocess
import sys
import time
import traceback
import urllib.parse
import urllib.request

LIMIT_S = float(os.environ.get("LIMIT_S", 600))


def get(url, accept="*/*"):
    request = urllib.request.Request(url, headers={"Accept": accept})
    # no proxy: these are programs of this very machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=30) as answer:
        return answer.read().decode()


def query(expression):
    """[(labels, value, time of the sample)]"""
    url = os.environ["PROMETHEUS"] + "/api/v1/query?"
    answer = json.loads(get(url + urllib.parse.urlencode({"query": expression})))
    assert answer["status"] == "success", answer
    result = answer["data"]["result"]
    if answer["data"]["resultType"] == "scalar":
        return [({}, result[1])]
    return [(entry["metric"], entry["value"][1]) for entry in result]


def value(expression):
    results = query(expression)
    assert len(results) == 1, (expression, results)
    return float(results[0][1])


def wait_for(what, condition):
    end = time.monotonic() + LIMIT_S
    while True:
        try:
            seen = condition()
            if seen is True:
                return
        except (OSError, AssertionError) as error:
            seen = error
        if time.monotonic() > end:
            raise AssertionError(f"waited in vain: {what}; seen: {seen}")
        time.sleep(0.2)


def names():
    return sorted(labels["name"] for labels, _ in query("kvm_vm_info"))


def vms(*expected):
    """Prometheus knows these VMs, and no other."""
    wait_for(f"VMs {expected}", lambda: names() == sorted(expected) or names())


def registered(name):
    """The agent has this VM; does not ask Prometheus."""
    url = os.environ["AGENT"] + "/metrics"
    wait_for(f"{name} to be registered",
             lambda: f'name="{name}"' in get(url) or get(url)[:500])


def show(pid):
    """{(scope, vcpu, name): statistic} from the descriptors themselves"""
    out = subprocess.check_output([os.environ["KVMSTAT"], "show", "--json",
                                   "--pid", pid])
    return {(source["scope"], source["vcpu"], stat["name"]): stat
            for source in json.loads(out)["sources"]
            for stat in source["stats"]}


def metric_names(scope, stat):
    """What it can be called there; the unit's name replaces the suffix."""
    name = stat["name"]
    if stat["unit"] == "seconds":
        name = re.sub("_ns$", "", name) + "_seconds"
    suffix = {"cumulative": "_total", "linear_hist": "_total",
              "log_hist": "_bucket"}.get(stat["type"], "")
    return f"kvm_{scope}_{name}{suffix}"


def total(stat):
    scale = stat["base"] ** stat["exponent"] if stat["exponent"] else 1
    if stat["type"].endswith("_hist"):
        return sum(stat["values"])
    return stat["values"][0] * scale


def everything(name):
    """{series: value} that Prometheus has of a VM, in one query"""
    results = query(f'{{vm="{name}"}}')
    series = {}
    for labels, text in results:
        key = (labels["__name__"], labels.get("vcpu"),
               labels.get("le", labels.get("mode", labels.get("reason"))))
        assert key not in series, key
        series[key] = float(text)
    return series


def last_scrape(name):
    return value(f'timestamp(kvm_vm_info{{vm="{name}"}})')


def fold(stats):
    """The histograms of all vCPUs as one; of exits by reason, their sum."""
    folded = {}
    for (scope, vcpu, stat_name), stat in stats.items():
        is_hist = stat["type"].endswith("_hist")
        key = metric_names(scope, stat), None if is_hist or vcpu is None \
            else str(vcpu)
        folded[key] = folded.get(key, 0) + total(stat)
    return folded


def values(pid, name):
    """Every growing statistic lies between two looks at its descriptor."""
    before = show(pid)
    begun = time.time()
    wait_for("a scrape", lambda: last_scrape(name) > begun + 0.001)
    stored = everything(name)
    after = show(pid)
    growing = {key for key, stat in before.items()
               if stat["type"] in ("cumulative", "linear_hist", "log_hist")}
    low = fold({key: before[key] for key in growing})
    high = fold({key: after[key] for key in growing})
    wrong = []
    for (metric, vcpu), least in low.items():
        # a histogram's last bucket has the number of all its values
        seen = stored.get((metric, vcpu, None),
                          stored.get((metric, vcpu, "+Inf")))
        if "exit_reasons" in metric:
            seen = sum(number for (stored_metric, _, _), number in stored.items()
                       if stored_metric == metric)
        most = high[metric, vcpu]
        # Prometheus keeps doubles, and so does this comparison
        if seen is None or not least * (1 - 1e-12) <= seen <= most * (1 + 1e-12):
            wrong.append((metric, vcpu, least, seen, most))
    assert not wrong, wrong
    moved = sum(high[key] != low[key] for key in low)
    assert len(low) > 40 and moved > 1, (len(low), moved)
    print(f"{name}: {len(low)} values right, {moved} of them moving")


def quantile(pid, name):
    """histogram_quantile over the buckets lies in the bucket that kvmstat
    says, as all time is counted here and there."""
    metric = f'kvm_vcpu_halt_wait_hist_seconds_bucket{{vm="{name}"}}'
    got, buckets = 0, []

    def has_halted():
        """A scrape that is late leaves Prometheus without values until the next"""
        nonlocal got, buckets
        got = value(f"histogram_quantile(0.5, {metric})")
        buckets = sorted((float(labels["le"]), float(text))
                         for labels, text in query(metric))
        return got > 0 and bool(buckets)

    wait_for("a halt", has_halted)
    counts = [count for _, count in buckets]
    assert counts == sorted(counts) and buckets[-1][0] == float("inf"), buckets
    sums = {}
    for (scope, _, stat_name), stat in show(pid).items():
        if scope == "vcpu" and stat_name == "halt_wait_hist":
            for i, count in enumerate(stat["values"]):
                sums[i] = sums.get(i, 0) + count
    half, seen, bucket = sum(sums.values()) / 2, 0, 0
    while seen + sums[bucket] < half:
        seen += sums[bucket]
        bucket += 1
    # the look here came later: one bucket more or less
    assert 2 ** (bucket - 3) <= got * 1e9 <= 2 ** (bucket + 2), (got, bucket)
    print(f"{name}: median halt {got} s, bucket {bucket}")


def vanishes(name):
    """A scrape that begins within a second of the end does not show it; on a
    machine that is short of CPU time it may take longer."""
    ended = time.monotonic()
    while True:
        begun = time.monotonic()
        text = get(os.environ["AGENT"] + "/metrics")
        length = time.monotonic() - begun
        assert "kvmstatd_vms " in text
        if f'"{name}"' not in text:
            break
        assert begun - ended < 30, f"{name} is still shown"
        time.sleep(0.05)
    print(f"gone after {begun - ended:.2f} s, a scrape takes {length:.2f} s")


def openmetrics():
    """For promtool, which wants a time with each sample."""
    text = get(os.environ["AGENT"] + "/metrics",
               "application/openmetrics-text; version=1.0.0")
    assert text.endswith("# EOF\n"), text[-100:]
    for line in text.splitlines():
        print(line if line.startswith("#") else f"{line} 1700000000")


def metrics():
    print(get(os.environ["AGENT"] + "/metrics"), end="")


def health():
    print(get(os.environ["AGENT"] + "/healthz").strip())
    assert value('up{job="kvmstatd"}') == 1


def panels(path, interval="30s"):
    """(panel, expression) of a dashboard, as Grafana sends them with everything
    selected; "All" of the jobs is those that have agents."""
    with open(path) as file:
        board = json.load(file)
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    for panel in board["panels"]:
        for target in panel.get("targets", []):
            assert target["datasource"]["uid"] == "${datasource}", target
            yield panel, variables_set(target["expr"], interval)


def variables_set(expression, interval="30s"):
    expression = expression.replace("$__rate_interval", interval)
    expression = expression.replace("$job", "kvmstatd")
    return re.sub(r'=~"\$\w+"', '=~".*"', expression)


# mainline has no dirty quota
SERIES_ONLY = {"kvm_vcpu_pages_dirtied_total", "kvm_vcpu_dirty_quota_exits_total"}


def expressions_with_data(path, kernel):
    """Each metric of the dashboard exists, and each expression gives data."""
    known = set(json.loads(get(os.environ["PROMETHEUS"] +
                               "/api/v1/label/__name__/values"))["data"])
    absent = set() if kernel == "series" else SERIES_ONLY
    count = 0
    for panel, expression in panels(path):
        used = set(re.findall(r"\bkvm(?:statd)?_\w+", expression))
        assert used <= known | absent, (panel["title"], used - known)
        assert query(expression) or used & absent, (panel["title"], expression)
        count += 1
    assert count > 50
    return count


def dashboard(path, kernel):
    wait_for("data for each expression",
             lambda: expressions_with_data(path, kernel) > 50)


def choices(path):
    """{variable: what Grafana offers}; all are label_values(SERIES, LABEL)"""
    with open(path) as file:
        listed = json.load(file)["templating"]["list"]
    offered = {}
    for variable in listed:
        if variable["type"] != "query":
            continue
        match = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["definition"])
        url = os.environ["PROMETHEUS"] + f"/api/v1/label/{match[2]}/values?"
        answer = json.loads(get(url + urllib.parse.urlencode(
            {"match[]": variables_set(match[1])})))
        offered[variable["name"]] = answer["data"]
    return offered


def fleet_panel(panel, expression, up, down):
    """What is wrong with its answer: None if nothing"""
    results = query(expression)
    if (any(name in expression for name in SERIES_ONLY) or
            "kvm_block_" in expression) and not results:
        return None
    if panel["type"] == "stat":
        # all hosts together, each VM counted
        good = panel["title"] != "VMs" or float(results[0][1]) == len(up)
        return None if good and len(results) == 1 else results
    # what Prometheus itself says of its targets goes on when they are down
    of_target = re.match(r"(up|scrape_\w+)\b", expression)
    wanted = set(up + down) if of_target else set(up)
    found = {labels.get("instance") for labels, _ in results}
    if found != wanted:
        return found
    if expression.startswith("up"):
        values = {labels["instance"]: float(text) for labels, text in results}
        if values != {name: name in up for name in up + down}:
            return values
    return None


def fleet(path, up, down=None):
    """Hosts, divided by commas, with VMs of the same name: each series says of
    which host it is, and those that are up have data."""
    up = up.split(",")
    down = down.split(",") if down else []

    def state():
        wrong = {f"{panel['title']}: {expression}": fault
                 for panel, expression in panels(path, "5s")
                 if (fault := fleet_panel(panel, expression, up, down)) is not None}
        return wrong or True
    wait_for(f"up {up}, down {down}", state)
    offered = choices(path)
    assert offered == {"job": ["kvmstatd"], "instance": sorted(up + down),
                       "vm": ["web"]}, offered


def recorded(*hosts):
    """The rules keep VMs of the same name apart."""
    def state():
        found = {(labels["instance"], labels["vm"], labels.get("vcpu"))
                 for labels, _ in query("instance_vm:kvm_vcpu_exits:rate5m > 0")}
        return found == {(host, "web", None) for host in hosts} or found
    wait_for("recorded series", state)


def alerts(*expected):
    """Those of agents that fire, as NAME@HOST; how VMs fare depends on this
    machine's load."""
    def state():
        answer = json.loads(get(os.environ["PROMETHEUS"] + "/api/v1/alerts"))
        firing = sorted(f"{alert['labels']['alertname']}@{alert['labels']['instance']}"
                        for alert in answer["data"]["alerts"]
                        if alert["state"] == "firing"
                        and not alert["labels"]["alertname"].startswith("KvmVm"))
        return firing == sorted(expected) or firing
    wait_for(f"alerts {expected}", state)


def prometheus_up(targets="1"):
    wait_for("Prometheus to scrape",
             lambda: value('sum(up{job="kvmstatd"})') == float(targets))


COMMANDS = {f.__name__: f for f in (vms, registered, values, quantile, vanishes,
                                    openmetrics, metrics, health, dashboard,
                                    prometheus_up, fleet, recorded, alerts)}

for line in sys.stdin:
    words = line.split()
    try:
        COMMANDS[words[0]](*words[1:])
        print("holds", flush=True)
    except Exception:  # whatever it was, it is not as it should be
        traceback.print_exc(limit=-2, file=sys.stdout)
        print("fails", flush=True)
