# SPDX-License-Identifier: GPL-2.0-only
# usage: fleet-cost.py BUILD-DIR [--hosts N] [--vms N] [--prometheus] - the tables of
# docs/fleet.md: how many series and bytes kvmstatd has for a VM of 4 vCPUs, by options,
# counted with real VMs, and what that makes for so many hosts with so many VMs each.
# With --prometheus: what a real one needs for each series, in a minute.
import argparse, gzip, http.client, json, os, re, shutil, signal, socket
import subprocess, tempfile, time

VCPUS = 4
INTERVAL_S = 30
# Published rules of thumb; docs/fleet.md names the sources.
HEAD_BYTES, SAMPLE_BYTES, RETENTION_S = 3e3, 2, 15 * 86400
MIMIR_SERIES, MIMIR_GB, MIMIR_REPLICAS = 300e3, 2.5, 3

# What the recording rules and the alerts need; in docs/fleet.md, too.
LEAN = ("kvm_vm_(info|process_.*|pages_.*)|"
        "kvm_vcpu_((io_|mmio_|halt_|dirty_quota_)?exits|irq_injections|pf_fixed|"
        "pages_dirtied|halt_wait_seconds|cpu_.*)_total|"
        "kvm_block_(read|write|flush)_((ios|bytes|failed|time_seconds)_total|in_flight)|"
        "kvmstatd_.*|process_.*")
CHOICES = [
    ("`--vcpu-histograms`", ["--vcpu-histograms"]),
    ("none", []),
    ("`--no-cpu-time`", ["--no-cpu-time"]),
    ("`--exclude '.*_bucket'`", ["--exclude", ".*_bucket"]),
    ("`--include`, see below", ["--include", LEAN]),
]

parser = argparse.ArgumentParser()
parser.add_argument("build")
parser.add_argument("--hosts", type=int, default=10000)
parser.add_argument("--vms", type=int, default=20)
parser.add_argument("--prometheus", action="store_true")
options = parser.parse_args()
build = os.path.abspath(options.build)
directory = tempfile.mkdtemp()
children = []


def start(*command, **how):
    child = subprocess.Popen(command, stderr=subprocess.DEVNULL, **how)
    children.append(child)
    return child


def stop(child):
    child.send_signal(signal.SIGKILL)
    child.wait()
    children.remove(child)


def until(condition):
    deadline = time.monotonic() + 60
    while True:
        try:
            if condition():
                return
        except OSError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.1)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def get(port, path):
    """As Prometheus asks: this format has less of histograms than the other."""
    c = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    c.request("GET", path, headers={"Accept": "application/openmetrics-text"})
    return c.getresponse().read()


def samples(text):
    """Series of a scrape, without the six that Prometheus adds"""
    return sum(line[:1] not in (b"#", b"") for line in text.split(b"\n"))


class Agent:
    def __init__(self, arguments):
        self.port = free_port()
        self.socket = directory + f"/{self.port}"
        self.child = start(build + "/kvmstatd/kvmstatd", "--socket", self.socket,
                           "--listen", f"127.0.0.1:{self.port}", *arguments)
        until(lambda: self.has(0))

    def has(self, vms):
        return b"\nkvmstatd_vms %d\n" % vms in self.text()

    def text(self):
        return get(self.port, "/metrics")

    def vm(self, number):
        return start(build + "/demo/demo-vmm", "--socket", self.socket, "--name",
                     f"instance-{number:08d}", "--uuid",
                     f"2dd40a1c-41b7-4f34-9f0e-{number:012d}", "--vcpus", str(VCPUS),
                     "--seconds", "600")


def settled(agents, vms):
    """Scrapes when the guests run and their threads are known"""
    for number, agent in enumerate(agents):
        agent.vm(number)
    until(lambda: all(agent.has(vms) for agent in agents))
    texts, before = [agent.text() for agent in agents], None
    while before != [samples(text) for text in texts]:
        before = [samples(text) for text in texts]
        time.sleep(3)
        texts = [agent.text() for agent in agents]
    return texts


def recorded(text):
    """(series of each VM, of each host) that kvmstatd-rules.yml makes of a scrape"""
    rules = open(os.path.dirname(__file__) +
                 "/../kvmstatd/dashboard/kvmstatd-rules.yml").read()
    of_vm = of_host = 0
    for level, metric in re.findall(r"record: (\w+):.*\n.*rate\((\w+)", rules):
        found = re.findall(rb"^%s{.*?(le=\S+?)?}" % metric.encode(), text, re.M)
        of_vm += level == "instance_vm" and bool(found)
        of_host += len(set(found)) if level == "instance_le" else 0
    return of_vm, of_host


def compressed(text):
    return len(gzip.compress(text, 1))


def counts():
    """[(options, series of the agent, series, bytes, compressed bytes of each VM)], by
    the difference that a second VM makes, and a scrape without options"""
    agents = [Agent(arguments) for _, arguments in CHOICES]
    ones, twos = settled(agents, 1), settled(agents, 2)
    rows = []
    for (name, _), one, two in zip(CHOICES, ones, twos):
        series = samples(two) - samples(one)
        rows.append((name, samples(one) - series, series, len(two) - len(one),
                     compressed(two) - compressed(one)))
    return rows, twos[[name for name, _ in CHOICES].index("none")]


def tables():
    rows, text = counts()
    print("| options | series for a VM | text, bytes | compressed |\n|---|---|---|---|")
    for name, _, series, size, small in rows:
        print(f"| {name} | {series:.0f} | {size:.0f} | {small:.0f} |")
    print(f"\n| {options.hosts} hosts, {options.vms} VMs each | series of a host "
          "| series | samples/s | network | Prometheus: memory | disk "
          "| Mimir's ingesters: memory |\n|---|---|---|---|---|---|---|---|")
    for name, own, series, _, small in rows:
        host = own + 6 + options.vms * series
        total = host * options.hosts
        rate = total / INTERVAL_S
        print(f"| {name} | {host:.0f} | {total / 1e6:.1f} M | {rate / 1e6:.2f} M | "
              f"{options.hosts * options.vms * small / INTERVAL_S / 1e6:.0f} MB/s | "
              f"{total * HEAD_BYTES / 1e9:.0f} GB | "
              f"{rate * SAMPLE_BYTES * RETENTION_S / 1e12:.1f} TB | "
              f"{total * MIMIR_REPLICAS / MIMIR_SERIES * MIMIR_GB:.0f} GB |")
    vm, host = recorded(text)
    print(f"\nThe recording rules make {vm} series for each VM and {host} for each "
          f"host: {options.hosts * (options.vms * vm + host) / 1e6:.1f} M.")


def prometheus():
    """Jobs that all scrape one agent, so that there are many series"""
    jobs, vms = 4, 100
    agent = Agent([])
    held = start(build + "/tests/agent_vmms", agent.socket, str(vms), "4",
                 stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    until(lambda: agent.has(vms))
    port = free_port()
    with open(directory + "/prometheus.yml", "w") as file:
        json.dump({"global": {"scrape_interval": "5s"}, "scrape_configs": [
            {"job_name": f"kvmstatd{n}", "static_configs":
             [{"targets": [f"127.0.0.1:{agent.port}"]}]} for n in range(jobs)]}, file)
    server = start("prometheus", f"--config.file={directory}/prometheus.yml",
                   f"--storage.tsdb.path={directory}/tsdb",
                   f"--web.listen-address=127.0.0.1:{port}")
    time.sleep(60)
    series = float(re.search(rb"\nprometheus_tsdb_head_series (\S+)",
                             get(port, "/metrics"))[1])
    with open(f"/proc/{server.pid}/status") as file:
        resident = int(re.search(r"VmRSS:\s+(\d+)", file.read())[1]) * 1024
    print(f"\nPrometheus after a minute: {series:.0f} series, "
          f"{resident / 2**20:.0f} MiB, {resident / series:.0f} bytes for each")
    held.stdin.close()


try:
    tables()
    for child in list(children):
        stop(child)
    if options.prometheus:
        prometheus()
finally:
    for child in list(children):
        stop(child)
    shutil.rmtree(directory)
