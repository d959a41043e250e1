# SPDX-License-Identifier: GPL-2.0-only
# usage: agent-supervisor.py BUILD-DIR DIR - stand in for systemd: keep what
# kvmstatd asks to have kept, kill it, start it again with it
import array, atexit, http.client, os, re, signal, socket, subprocess, sys, time

build, directory = sys.argv[1:]
path = directory + "/notify"
notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
notify.bind(path)
notify.settimeout(0.05)
store = []          # (name, descriptor)
children = []
seen = set()        # states that were notified


def listen_fds(fds):
    size = socket.CMSG_SPACE(253 * 4)
    data, controls, _, _ = notify.recvmsg(65536, size)
    for _, _, content in controls:
        got = array.array("i")
        got.frombytes(content[:len(content) // 4 * 4])
        fds.extend(got)
    return dict(line.split("=", 1) for line in data.decode().split("\n")
                if "=" in line)


def take_one():
    fds = []
    message = listen_fds(fds)
    seen.update(k + "=" + v for k, v in message.items()
                if k in ("READY", "STOPPING", "RELOADING", "WATCHDOG"))
    if "STATUS" in message:
        seen.add("STATUS")
    if message.get("FDSTORE") == "1":
        store.extend((message["FDNAME"], fd) for fd in fds)
        return
    for fd in fds:      # a barrier: it is said by closing
        os.close(fd)
    if message.get("FDSTOREREMOVE") == "1":
        for name, fd in list(store):
            if name == message["FDNAME"]:
                os.close(fd)
                store.remove((name, fd))


def until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        try:
            take_one()
        except TimeoutError:
            pass


def start(listener):
    seen.clear()
    fds = [("http", listener.fileno())] + store

    def pass_on():
        # out of the way of the numbers that they are to have
        high = [os.dup2(fd, 500 + i) for i, (_, fd) in enumerate(fds)]
        for i, fd in enumerate(high):
            os.dup2(fd, 3 + i, inheritable=True)
            os.close(fd)
        os.environ["LISTEN_PID"] = str(os.getpid())

    os.environ["LISTEN_FDS"] = str(len(fds))
    os.environ["LISTEN_FDNAMES"] = ":".join(name for name, _ in fds)
    os.environ["NOTIFY_SOCKET"] = path
    os.environ["WATCHDOG_USEC"] = "2000000"
    os.environ.pop("WATCHDOG_PID", None)
    # LISTEN_PID is this shell's number, which becomes the agent's
    command = ["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh",
               build + "/kvmstatd/kvmstatd", "--socket",
               directory + "/register"]
    agent = subprocess.Popen(command, close_fds=False, preexec_fn=pass_on)
    children.append(agent)
    until(lambda: "READY=1" in seen, "no READY=1")
    return agent


# whatever happens, nothing of ours stays
@atexit.register
def end_all():
    for child in children:
        child.kill()


def metrics(listener):
    c = http.client.HTTPConnection(*listener.getsockname(), timeout=20)
    c.request("GET", "/metrics")
    return c.getresponse().read().decode()


def names(text):
    return sorted(re.findall(r'^kvm_vm_info\{vm="([^"]*)"', text, re.M))


def vmm(name):
    children.append(subprocess.Popen([build + "/demo/demo-vmm", "--seconds", "36000",
                                      "--name", name, "--socket",
                                      directory + "/register"],
                                     stderr=subprocess.DEVNULL))
    return children[-1]


def end(process, number=signal.SIGKILL):
    process.send_signal(number)
    return process.wait()


def stored(prefix):
    return sum(name.startswith(prefix) for name, _ in store)


listener = socket.create_server(("127.0.0.1", 0))
agent = start(listener)
vmms = [vmm("twin"), None, None]
until(lambda: stored("vm-") == 5, "descriptors of the first")
vmms[1] = vmm("twin")
until(lambda: stored("vm-") == 10, "descriptors of the second")
vmms[2] = vmm("dies")
until(lambda: stored("vm-") == 15 and stored("pid-") == 3, "of the third")
until(lambda: "WATCHDOG=1" in seen and "STATUS" in seen, "watchdog, status")
twin = "twin#%d" % vmms[1].pid
before = names(metrics(listener))
assert before == ["dies", "twin", twin], before

seen.clear()
agent.send_signal(signal.SIGHUP)
until(lambda: {"RELOADING=1", "READY=1"} <= seen, "no reload")
end(agent)
end(vmms[0])
end(vmms[2])
agent = start(listener)
text = metrics(listener)
# it keeps its name although nobody else has the shorter one
assert names(text) == [twin], names(text)
exits = re.findall(r'^kvm_vcpu_exits_total\{vm="%s",vcpu="(\d)"\} [1-9]'
                   % twin, text, re.M)
assert exits == ["0", "1", "2", "3"], exits
until(lambda: stored("vm-") == 5 and stored("pid-") == 1,
      "what belonged to the dead is kept")

# the same once more, by a clean end
assert end(agent, signal.SIGTERM) == 0
until(lambda: "STOPPING=1" in seen, "no STOPPING=1")
agent = start(listener)
assert names(metrics(listener)) == [twin]
new = vmm("new")
until(lambda: stored("vm-") == 10, "descriptors of a new VM")
assert names(metrics(listener)) == ["new", twin]
end(vmms[1])
until(lambda: stored("vm-") == 5, "a VM's end frees what is kept")
assert names(metrics(listener)) == ["new"]
end(new)
until(lambda: stored("") == 1, "all but the table is free")
assert end(agent, signal.SIGTERM) == 0
