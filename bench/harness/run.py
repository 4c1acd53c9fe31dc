"""Running one program: on the kernel, or on the shim where io_uring is denied."""

import json
import os
import re
import subprocess
import tempfile

COUNTERS = ("rings", "sqes", "inline", "aio", "armed", "worker", "sqpoll", "traps", "patched")


class Failed(Exception):
    """A run that gave no result; the text says why."""


class Build:
    """A build tree: its programs, its jail, its library."""

    def __init__(self, path):
        self.path = path
        self.library = os.path.join(path, "libfakeuring.so")
        self.jail = os.path.join(path, "tests", "jail")

    def program(self, name):
        return os.path.join(self.path, "bench", "bench_" + name)

    def missing(self):
        wanted = [self.library, self.jail, self.program("nop")]
        return [path for path in wanted if not os.path.exists(path)]


class Served:
    """What the shim's own statistics say of the runs that it served."""

    def __init__(self):
        self.totals = dict.fromkeys(COUNTERS, 0)

    def add(self, counters):
        for name in COUNTERS:
            self.totals[name] += counters[name]

    def text(self):
        """How requests were done, in percent of them; how many traps each took."""
        sqes = self.totals["sqes"] or 1
        parts = []
        for name in ("inline", "aio", "armed", "worker", "sqpoll"):
            share = 100.0 * self.totals[name] / sqes
            if share >= 0.5:
                parts.append(f"{name} {share:.0f}%")
        parts.append(f"{self.totals['traps'] / sqes:.2f} traps each")
        return ", ".join(parts)


def read_stats(path):
    totals = dict.fromkeys(COUNTERS, 0)
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.strip():
                record = json.loads(line)
                for name in COUNTERS:
                    totals[name] += record.get(name, 0)
    return totals


def environment(extra=None):
    env = {k: v for k, v in os.environ.items() if k != "LD_PRELOAD"}
    env.update(extra or {})
    return env


class Shim:
    """
    The shim's side of one run: the command's prefix and environment, and the proof. Use as a
    context manager; leaving it checks that the shim has served the run.
    """

    def __init__(self, build, served):
        self.build = build
        self.served = served

    def __enter__(self):
        fd, self.stats = tempfile.mkstemp(prefix="fakeuring-bench-")
        os.close(fd)
        return self

    def prefix(self, preload=True):
        command = [self.build.jail, "--", "env", "FAKEURING_STATS=" + self.stats]
        return command + (["LD_PRELOAD=" + self.build.library] if preload else [])

    def __exit__(self, kind, value, trace):
        try:
            counters = read_stats(self.stats)
        finally:
            os.unlink(self.stats)
        if kind is None:
            if not counters["rings"] or not counters["sqes"]:
                raise Failed("the shim's statistics show no ring: it did not serve this run")
            self.served.add(counters)


def execute(command, timeout=120):
    """A program's standard output."""
    try:
        done = subprocess.run(command, env=environment(), stdin=subprocess.DEVNULL, text=True,
                              capture_output=True, timeout=timeout, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from error
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise Failed(f"exit {done.returncode}: {said[-1] if said else 'nothing said'}")
    return done.stdout


def values(output):
    """The lines of "name value" that our own programs print."""
    return {name: float(value) for name, value in re.findall(r"^(\w+) ([\d.+-]+)$", output, re.M)}
