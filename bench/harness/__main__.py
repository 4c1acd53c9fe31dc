"""Measures rows of the table; see scripts/bench, which calls this."""

import argparse
import datetime
import fnmatch
import json
import os
import sys

import report
from places import Places
from result import Result
from rows import all_rows
from run import Build, Failed, execute


class Bench:
    """What a measurement needs to know."""

    def __init__(self, options):
        self.build = Build(options.build)
        self.places = Places(os.path.join(options.build, "bench"))
        self.ms = options.ms
        self.point_ms = max(20, options.ms // 3)


def parse():
    parser = argparse.ArgumentParser(
        prog="scripts/bench", description="Measures the shim against the kernel's io_uring and "
        "against what programs fall back to.")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="rows to measure, patterns allowed "
                        "(default: all, after which docs/performance is written)")
    parser.add_argument("--list", action="store_true", help="say which rows there are")
    parser.add_argument("--quick", action="store_true",
                        help="three short rounds of everything in less than three minutes")
    parser.add_argument("--rounds", type=int, metavar="N", help="rounds (default 7)")
    parser.add_argument("--ms", type=int, metavar="N", help="milliseconds of each run (default 500)")
    parser.add_argument("--sides", metavar="A,B", help="only these sides, such as kernel,shim")
    parser.add_argument("--report", action="store_true", help="write docs/performance from all rows "
                        "that were measured in this build tree so far")
    parser.add_argument("--build", required=True, help=argparse.SUPPRESS)
    parser.add_argument("--docs", required=True, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rounds = options.rounds or (3 if options.quick else 7)
    options.ms = options.ms or (150 if options.quick else 500)
    return options


def chosen(patterns):
    rows = all_rows()
    for pattern in patterns:
        if not any(fnmatch.fnmatch(row.name, pattern) for row in rows):
            sys.exit(f"scripts/bench: no row {pattern}; there are: {' '.join(r.name for r in rows)}")
    return [row for row in rows if not patterns or any(fnmatch.fnmatch(row.name, p) for p in patterns)]


def kernel_has_rings(build):
    try:
        execute([build.program("nop"), "1", "1"])
    except Failed as reason:
        return str(reason)
    return None


def measure(bench, row, sides, rounds):
    """All rounds of a row: each side once in each. Returns its record."""
    record = {"rounds": [], "date": datetime.date.today().isoformat()}
    for _ in range(rounds):
        entry = {side: {} for side in sides}
        for point in row.points:
            for side in sides:
                entry[side][str(point)] = row.measure(bench, side, row, point)
        record["rounds"].append(entry)
    record["served"] = row.served.text()
    return record


class Store:
    """The rows measured so far, kept in the build tree."""

    def __init__(self, build):
        self.path = os.path.join(build, "bench", "results.json")
        self.records = {}
        if os.path.exists(self.path):
            with open(self.path, encoding="utf-8") as file:
                self.records = json.load(file)

    def keep(self, name, record):
        self.records[name] = record
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(self.records, file)
        os.replace(self.path + ".new", self.path)

    def results(self):
        return [Result(row, self.records[row.name]) for row in all_rows() if row.name in self.records]


def measure_all(bench, options, rows, absent, store):
    """Returns how many rows could not be measured."""
    failed = 0
    for row in rows:
        if row.place and bench.places.directory(row.place) is None:
            print(f"{row.name}: SKIPPED, {bench.places.why_not(row.place)}")
            continue
        sides = [side for side in row.sides if side not in absent
                 and (not options.sides or side in options.sides.split(","))]
        try:
            record = measure(bench, row, sides, options.rounds)
        except Failed as reason:
            print(f"{row.name}: FAILED: {reason}")
            failed += 1
            continue
        report.print_result(Result(row, record))
        sys.stdout.flush()
        if not options.quick and not options.sides:
            store.keep(row.name, record)
    return failed


def main():
    options = parse()
    rows = chosen(options.rows)
    if options.list:
        for row in rows:
            print(f"{row.name:<16} {row.title}")
        return 0
    store = Store(options.build)
    if options.report:
        report.write(store.results(), options.docs, True)
        return 0
    bench = Bench(options)
    try:
        missing = bench.build.missing()
        if missing:
            sys.exit("scripts/bench: not built: " + " ".join(missing))
        why = kernel_has_rings(bench.build)
        print(report.machine())
        if why:
            print(f"THE KERNEL'S io_uring IS NOT AVAILABLE ({why}): comparing with the fallbacks only")
        failed = measure_all(bench, options, rows, ["kernel"] if why else [], store)
    finally:
        bench.places.close()
    if not options.quick and not options.rows and not options.sides:
        report.write(store.results(), options.docs, not why)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
