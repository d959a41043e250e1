# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-bench.py BUILD-DIR [--check] - what a scrape costs, on this
# machine's /dev/kvm, beside debugfs and QEMU's QMP. With --check: only
# the bars that are no times, with 400 VMs. The bars are those of the descriptors;
# --cpu-time measures the reads for CPU time, too: then each VM has a process of its
# own, with threads that are found. --one VCPUS [--all]: only one row, of as many
# vCPUs; with --all each VM has one descriptor of all its vCPUs.
import glob, http.client, json, os, re, resource, shutil, socket, subprocess
import sys, tempfile, time

build = sys.argv[1]
check = "--check" in sys.argv
extra = [] if "--cpu-time" in sys.argv else ["--no-cpu-time"]
SCRAPES = 21
one = "--one" in sys.argv and int(sys.argv[sys.argv.index("--one") + 1])
sizes = [one] if one else [1600] if check else [100, 1000, 1600, 10000]
mode = ["all"] if "--all" in sys.argv else [] if extra else ["threads"]
directory = tempfile.mkdtemp()
failures = []


def cpu_ns(pid):
    """All threads of a process, user and system"""
    return sum(int(open(path).read().split()[0])
               for path in glob.glob(f"/proc/{pid}/task/*/schedstat"))


def rss_kib(pid, which="VmRSS"):
    text = open(f"/proc/{pid}/status").read()
    return int(re.search(which + r":\s+(\d+)", text)[1])


def until(condition):
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


class Agent:
    def __init__(self):
        self.socket = directory + "/socket"
        self.log = open(directory + "/log", "w+")
        self.process = subprocess.Popen(
            [build + "/kvmstatd/kvmstatd", "--socket", self.socket,
             "--listen", "127.0.0.1:0"] + extra, stderr=self.log)
        self.pid = self.process.pid
        until(self.find_port)

    def find_port(self):
        match = re.search(r"127.0.0.1:(\d+)", open(self.log.name).read())
        self.port = int(match[1]) if match else 0
        return match

    def scrape(self):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        c.request("GET", "/metrics")
        return c.getresponse().read()

    def value(self, name):
        return float(re.search(rb"^%s (\S+)" % name.encode(), self.scrape(),
                               re.M)[1])

    def end(self):
        self.process.terminate()
        assert self.process.wait() == 0


def syscalls(agent):
    """Of one scrape, by name"""
    out = directory + "/strace"
    strace = subprocess.Popen(["strace", "-f", "-c", "-U", "calls,name", "-o",
                               out, "-p", str(agent.pid)],
                              stderr=subprocess.DEVNULL)
    until(lambda: "TracerPid:\t0" not in
          open(f"/proc/{agent.pid}/status").read())
    time.sleep(0.2)
    agent.scrape()
    strace.terminate()
    strace.wait()
    return {line.split()[1]: int(line.split()[0]) for line in open(out)
            if re.match(r"\s*\d+ \w+$", line) and "total" not in line}


def measure(vcpus):
    agent = Agent()
    before_kib = rss_kib(agent.pid)
    vmms = subprocess.Popen([build + "/tests/agent_vmms", agent.socket,
                             str(vcpus // 4), "4"] + mode,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert vmms.stdout.readline() == b"ready\n"
    until(lambda: agent.value("kvmstatd_vms") == vcpus // 4)
    until(lambda: extra or agent.scrape().count(
        b"\nkvm_vcpu_cpu_seconds_total{") == vcpus)
    fds = agent.value("kvmstatd_descriptors")
    costs, walls = [], []
    sampling = agent.value("kvmstatd_sampling_seconds_total")
    for _ in range(SCRAPES):
        start, cost = time.monotonic(), cpu_ns(agent.pid)
        text = agent.scrape()
        walls.append(time.monotonic() - start)
        costs.append((cpu_ns(agent.pid) - cost) / 1e6)
    # SCRAPES whole ones, and the one that asks
    sampling = agent.value("kvmstatd_sampling_seconds_total") - sampling
    calls = syscalls(agent) if not one and shutil.which("strace") else {}
    reads = sum(calls.get(name, 0) for name in
                ("pread64", "io_uring_enter", "preadv2", "read"))
    series = sum(line[:1] not in (b"#", b"") for line in text.split(b"\n"))
    grown_kib = rss_kib(agent.pid, "VmHWM") - before_kib
    result = {
        "vcpus": vcpus, "kib": grown_kib, "fds": int(fds), "series": series,
        "sampling_ms": sampling * 1e3 / (SCRAPES + 1),
        "mib": len(text) / 2**20, "cpu_ms": sorted(costs)[SCRAPES // 2],
        "wall_ms": sorted(walls)[SCRAPES // 2] * 1e3, "reads": reads,
        "calls": sum(calls.values()),
        "bytes_per_fd": grown_kib * 1024 / fds,
        "debugfs_ms": debugfs() if vcpus <= 1600 and not one else None,
    }
    vmms.stdin.close()
    vmms.wait()
    agent.end()
    return result


def debugfs():
    """CPU of reading every file of every VM there"""
    files = glob.glob("/sys/kernel/debug/kvm/*-*/*")
    files = [f for f in files if os.path.isfile(f)]
    if not files:
        return None
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(["xargs", "-0", "cat"], input="\0".join(files).encode(),
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1e3 * (after.ru_utime + after.ru_stime -
                  before.ru_utime - before.ru_stime)


def qmp_ms():
    """CPU of QEMU for all statistics of a VM with four vCPUs"""
    if not shutil.which("qemu-system-x86_64"):
        return None
    path = directory + "/qmp"
    qemu = subprocess.Popen(["qemu-system-x86_64", "-accel", "kvm", "-smp",
                             "4", "-S", "-display", "none", "-nodefaults",
                             "-qmp", f"unix:{path},server=on,wait=off"])
    until(lambda: os.path.exists(path))
    line = socket.socket(socket.AF_UNIX)
    line.connect(path)
    stream = line.makefile("rw")

    def ask(command, **arguments):
        stream.write(json.dumps({"execute": command,
                                 "arguments": arguments}) + "\n")
        stream.flush()
        while True:
            answer = json.loads(stream.readline())
            if "return" in answer or "error" in answer:
                return answer
    stream.readline()
    ask("qmp_capabilities")
    costs = []
    for _ in range(SCRAPES):
        start = cpu_ns(qemu.pid)
        for target in ("vm", "vcpu"):
            answer = ask("query-stats", target=target)
            assert answer["return"], answer
        costs.append((cpu_ns(qemu.pid) - start) / 1e6)
    qemu.kill()
    qemu.wait()
    return sorted(costs)[SCRAPES // 2]


def bar(what, value, limit, at_least=False):
    good = value >= limit if at_least else value <= limit
    print(f"{'ok' if good else 'MISSED'}: {what}: {value:.4g}, "
          f"bar {'>=' if at_least else '<='} {limit}")
    if not good:
        failures.append(what)


def number(value, form):
    return "-" if value is None else format(value, form)


results = [measure(vcpus) for vcpus in sizes]
if one:
    r = results[0]
    print(f"{r['vcpus']} vCPUs, {r['fds']} descriptors, {r['series']} series: "
          f"{r['sampling_ms']:.3f} ms of sampling, {r['cpu_ms']:.3f} ms of CPU, "
          f"{r['kib']} KiB more")
    shutil.rmtree(directory)
    sys.exit()
qmp = None if check else qmp_ms()
print("| vCPUs | descriptors | series | text MiB | CPU ms | wall ms | calls that read | all calls | bytes a descriptor | debugfs, CPU ms |")
print("|---|---|---|---|---|---|---|---|---|---|")
for r in results:
    print(f"| {r['vcpus']} | {r['fds']} | {r['series']} | {r['mib']:.1f} | "
          f"{r['cpu_ms']:.2f} | {r['wall_ms']:.1f} | {r['reads']} | "
          f"{r['calls']} | {r['bytes_per_fd']:.0f} | "
          f"{number(r['debugfs_ms'], '.1f')} |")
print(f"QEMU's query-stats, one VM of 4 vCPUs: {number(qmp, '.3f')} ms of CPU")
fleet = next(r for r in results if r["vcpus"] == 1600)
# a busy machine's time says nothing: the check looks at sizes and calls
if not check:
    bar("CPU ms for 400 VMs of 4 vCPUs", fleet["cpu_ms"], 20)
bar("bytes a descriptor", max(r["bytes_per_fd"] for r in results
                              if r["vcpus"] >= 1000), 2048)
# with CPU time, a file of each thread, too
threads = 0 if extra else fleet["vcpus"]
bar("calls that read, each descriptor",
    fleet["reads"] / (fleet["fds"] + threads), 1.01)
if qmp:
    bar("times cheaper than QMP", qmp * 400 / fleet["cpu_ms"], 100, True)
shutil.rmtree(directory)
sys.exit(bool(failures))
