"""
The table: what is measured, how, and what is to be reached.

A row measures the same work on several sides: "kernel" is the kernel's io_uring, "shim" is this
library where io_uring is denied, the others are what a program would fall back to. Each side's
measurement is a dictionary of numbers. A row with `targets` compares operations per second; a row
with `limits` looks at the shim's numbers themselves; a row with `points` repeats the work at growing
sizes and looks at how the cost grows.
"""

import json
import subprocess

from run import Failed, Served, Shim, environment, execute, values

MAX_GROWTH = 1.5


class Row:
    def __init__(self, name, title, sides, measure, targets=None, limits=None, points=None,
                 place=None):
        self.name = name
        self.title = title
        self.sides = sides
        self.measure = measure  # measure(bench, side, row, point) -> {name: number}
        self.targets = targets or {}  # side: the ratio that shim / side has to reach
        self.limits = limits or []  # (number's name, text, limit)
        self.points = points or [None]
        self.place = place  # the directory that it needs
        self.served = Served()


# ---- fio ----

FIO = ["fio", "--name=bench", "--thread", "--invalidate=0", "--gtod_reduce=1", "--norandommap",
       "--random_generator=tausworthe64", "--randrepeat=1", "--time_based",
       "--output-format=json"]


def fio_row(name, title, targets, place="disk", file="cached", depth=1, **options):
    """
    One fio job on each side. Whatever comes in `uring` is for the io_uring engine only; `batch`
    submits and reaps the whole depth at once.
    """
    uring = options.pop("uring", [])
    if options.pop("batch", False):
        options["iodepth_batch_submit"] = options["iodepth_batch_complete_min"] = depth
    options["iodepth"] = depth
    arguments = [f"--{key}={value}" for key, value in options.items()]

    def measure(bench, side, row, _point):
        path = bench.places.file(place, file)
        ring = side in ("kernel", "shim")
        command = FIO + arguments + [f"--filename={path}", "--size=128m",
                                     f"--runtime={bench.ms}ms",
                                     f"--ioengine={'io_uring' if ring else side}"]
        if ring:
            command += uring
        if side != "shim":
            return fio_result(execute(command))
        with Shim(bench.build, row.served) as shim:
            return fio_result(execute(shim.prefix() + command))

    return Row(name, title, ["kernel", "shim", *(s for s in targets if s != "kernel")], measure,
               targets, place=place)


def fio_result(output):
    try:
        job = json.loads(output[output.index("{"):])["jobs"][0]
    except (ValueError, KeyError, IndexError) as error:
        raise Failed("fio said nothing of use") from error
    return {"per_s": job["read"]["iops"] + job["write"]["iops"]}


# ---- our own programs ----


def own_measure(program, arguments):
    """arguments(bench, point) -> the program's; it prints ns_per_op or what limits name."""

    def measure(bench, side, row, point):
        command = [bench.build.program(program), *map(str, arguments(bench, point))]
        if side != "shim":
            result = values(execute(command))
        else:
            with Shim(bench.build, row.served) as shim:
                result = values(execute(shim.prefix() + command))
        if "ns_per_op" in result:
            result["per_s"] = 1e9 / result["ns_per_op"]
        return result

    return measure


def echo_measure(connections, size):
    """The server on one side; the client is a plain process in every case."""

    def talk(bench, server):
        with subprocess.Popen(server, env=environment(), stdout=subprocess.PIPE, text=True) as child:
            try:
                port = child.stdout.readline().split()
                if len(port) != 2:
                    raise Failed("the server did not start")
                result = values(execute([bench.build.program("echo"), "client", str(connections),
                                         str(size), port[1], str(bench.ms)]))
                child.wait(timeout=20)
            except subprocess.TimeoutExpired as error:
                raise Failed("the server did not end") from error
            finally:
                child.kill()
        return {"per_s": 1e9 / result["ns_per_op"]}

    def measure(bench, side, row, _point):
        command = [bench.build.program("echo"), "epoll" if side == "epoll" else "uring",
                   str(connections), str(size)]
        if side != "shim":
            return talk(bench, command)
        with Shim(bench.build, row.served) as shim:
            return talk(bench, shim.prefix() + command)

    return measure


def start_measure(bench, side, row, _point):
    """
    A program that makes a ring, and one that does not, each with the library and without: what the
    library adds. The shim's side needs no ring of the kernel's for the comparison.
    """
    runs = max(20, bench.ms // 5)
    start = bench.build.program("start")

    def one(prefix, library, kind):
        ms = values(execute([*prefix, start, str(runs), library, start, "child", kind]))
        rss = values(execute([*prefix, start, "1", library, start, "child", kind, "say"]))
        return ms["ms_per_run"], rss["rss_kib"]

    plain_ms, plain_kib = one([], "-", "plain")
    if side == "kernel":
        ring_ms, ring_kib = one([], "-", "ring")
        return {"ring_ms": ring_ms - plain_ms, "ring_kib": ring_kib - plain_kib}
    with Shim(bench.build, row.served) as shim:
        prefix = shim.prefix(preload=False)
        idle_ms, idle_kib = one(prefix, bench.build.library, "plain")
        ring_ms, ring_kib = one(prefix, bench.build.library, "ring")
    return {"ms": idle_ms - plain_ms, "kib": idle_kib - plain_kib,
            "ring_ms": ring_ms - plain_ms, "ring_kib": ring_kib - plain_kib}


def cold_limit(numbers):
    """A call may not take as long as a read does."""
    return numbers["enter_p99_us"] / numbers["read_p50_us"]


def cold_measure(bench, side, row, point):
    arguments = own_measure("cold", lambda b, _p: [32, b.ms, b.places.file("disk", "direct")])
    result = arguments(bench, side, row, point)
    result["stall"] = cold_limit(result)
    return result


# ---- all of it ----


def file_rows():
    rows = []
    cached = {"rw": "randread", "bs": "4k", "batch": True}
    every = {"libaio": 1.0, "psync": 1.0, "posixaio": 1.0}

    rows.append(fio_row("read-1", "cached random 4 KiB read, depth 1", {"kernel": 1.0, "psync": 0.9},
                        **cached))
    for depth, others in ((8, {}), (32, every), (128, every)):
        rows.append(fio_row(f"read-{depth}", f"cached random 4 KiB read, depth {depth}, batched",
                            {"kernel": 0.9, **others}, depth=depth, **cached))
    for place in ("overlay", "tmpfs"):
        rows.append(fio_row(f"{place}-read-1", f"the same on {place}, depth 1",
                            {"kernel": 3.0, "psync": 0.9}, place=place, **cached))
        rows.append(fio_row(f"{place}-read-32", f"the same on {place}, depth 32, batched",
                            {"kernel": 1.0}, place=place, depth=32, **cached))
    rows.append(fio_row("seq-8", "cached sequential 128 KiB read, depth 8", {"kernel": 0.95},
                        depth=8, rw="read", bs="128k", batch=True))
    rows.append(fio_row("seq-32", "cached sequential 4 KiB read, depth 32, batched", {"kernel": 1.0},
                        depth=32, rw="read", bs="4k", batch=True))
    rows.append(fio_row("write-32", "buffered random 4 KiB write, depth 32",
                        {"kernel": 1.2, "libaio": 1.0}, file="written", depth=32, rw="randwrite",
                        bs="4k", batch=True))
    for rw in ("read", "write"):
        for depth in (1, 32):
            rows.append(fio_row(f"direct-{rw}-{depth}",
                                f"O_DIRECT random 4 KiB {rw}, depth {depth}",
                                {"kernel": 0.95, "libaio": 1.0}, file="direct", depth=depth,
                                rw="rand" + rw, bs="4k", direct=1))
    rows.append(fio_row("fixed-32", "fixed buffers and registered files, depth 32",
                        {"kernel": 0.8, "libaio": 1.0}, depth=32,
                        uring=["--fixedbufs", "--registerfiles"], **cached))
    rows.append(fio_row("sqpoll-32", "SQPOLL, cached random 4 KiB read, depth 32", {"kernel": 1.0},
                        depth=32, uring=["--sqthread_poll=1"], **cached))
    return rows


def other_rows():
    both = ["kernel", "shim"]
    rows = []

    for batch in (1, 32):
        rows.append(Row(f"nop-{batch}", f"NOP, batches of {batch}", both,
                        own_measure("nop", lambda b, _p, n=batch: [n, b.ms]), {"kernel": 1.5}))
    for connections in (1, 64):
        for size in (64, 4096):
            rows.append(Row(f"echo-{connections}-{size}",
                            f"TCP echo, {connections} connection{'s' * (connections > 1)}, {size} B",
                            [*both, "epoll"], echo_measure(connections, size),
                            {"kernel": 0.7, "epoll": 0.9}))
    rows.append(Row("timeouts", "timeouts: 10,000 pending, armed and cancelled", both,
                    own_measure("timeouts", lambda b, _p: [10000, b.ms]), {"kernel": 0.7}))
    rows.append(Row("scale-depth", "cached 4 KiB read at growing depth", both,
                    own_measure("reads", lambda b, p: [p, b.point_ms, b.places.file("disk", "cached")]),
                    points=[1, 4, 16, 64, 256, 1024, 4096], place="disk"))
    rows.append(Row("scale-rings", "NOP on a growing number of rings in turn", both,
                    own_measure("rings", lambda b, p: [p, b.point_ms]), points=[1, 10, 100, 1000]))
    rows.append(Row("scale-polls", "a poll among a growing number of armed ones", both,
                    own_measure("polls", lambda b, p: [p, b.point_ms]),
                    points=[1, 10, 100, 1000, 10000]))
    rows.append(Row("idle", "an idle ring of 128 entries, one poll armed", both,
                    own_measure("idle", lambda b, _p: [100, b.ms, "poll"]),
                    limits=[("kib_per_ring", "KiB for each ring", 64), ("threads", "threads", 1),
                            ("cpu_us_per_s", "µs of CPU a second", 500)]))
    rows.append(Row("start", "a start", both, start_measure,
                    limits=[("ms", "ms more, no ring", 2), ("kib", "KiB more, no ring", 1024),
                            ("ring_ms", "ms more, with a ring", 2),
                            ("ring_kib", "KiB more, with a ring", 1024)]))
    rows.append(Row("cold", "io_uring_enter, 32 O_DIRECT reads in flight, file not cached", both,
                    cold_measure, limits=[("stall", "99th percentile of a call / median of a read", 0.5)],
                    place="disk"))
    return rows


def all_rows():
    return file_rows() + other_rows()
