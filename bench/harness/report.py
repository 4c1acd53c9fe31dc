"""The table on the terminal, docs/performance/results.md, and the plots."""

import os
import platform
import subprocess


def machine():
    model, memory = "unknown", 0
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        for line in file:
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
    with open("/proc/meminfo", encoding="utf-8") as file:
        memory = int(file.readline().split()[1]) >> 20
    return f"{model}, {os.cpu_count()} processors, {memory} GiB, Linux {platform.release()}"


def fio_version():
    try:
        done = subprocess.run(["fio", "--version"], capture_output=True, text=True, check=False)
    except OSError:
        return "no fio"
    return done.stdout.strip()


def number(value):
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict_cells(verdict):
    what, value, quartiles, target, met = verdict
    around = f" ({number(quartiles[0])} to {number(quartiles[1])})" if quartiles else ""
    return what, number(value) + around, target, "met" if met else "SHORT"


def times(result):
    """What each side takes for one operation."""
    if result.row.points == [None] and result.numbers("shim", "per_s"):
        return ", ".join(f"{side} {number(result.speed(side)[0])}" for side in result.sides())
    return ""


def print_result(result):
    print(f"{result.row.name}: {result.row.title}")
    if times(result):
        print(f"    ns per operation: {times(result)}")
    for side in result.sides() if result.row.points != [None] else []:
        curve = ", ".join(f"{point}: {number(ns)}" for point, ns in result.curve(side))
        print(f"    ns at {curve}  [{side}]")
    for verdict in result.verdicts():
        print("    {:<40} {:<26} {:<9} {}".format(*verdict_cells(verdict)))
    if result.record.get("served"):
        print(f"    served: {result.record['served']}")


HEAD = """# Performance

Measured by `scripts/bench` on {machine}; {fio}.

The same work on each side, one side after the other within a round: the kernel's own io_uring, the shim where io_uring is denied (in
the jail, with a seccomp filter that the kernel's side does not have), and what a program would fall back to. A ratio is
the median over the rounds of the shim's operations per second against the other's, with the quartiles; above 1 the shim is
faster. The shim's statistics have shown for each of its runs that it served it; the last table says how.

"""


def markdown(results, kernel_ring):
    text = HEAD.format(machine=machine(), fio=fio_version())
    if not kernel_ring:
        text += "The kernel's io_uring was not available: the fallbacks are all there is to compare with.\n\n"
    text += "## Against the kernel and the fallbacks\n\n"
    text += "| row | work | ns per operation (median) | compared | ratio | target | |\n|---|---|---|---|---|---|---|\n"
    for result in results:
        if result.row.targets:
            name, work, cost = result.row.name, result.row.title, times(result)
            for verdict in result.verdicts():
                what, value, target, met = verdict_cells(verdict)
                text += f"| {name} | {work} | {cost} | {what} | {value} | {target} | {met} |\n"
                name = work = cost = ""
    text += "\n![ratios to the kernel's io_uring](ratios.svg)\n\n## As things grow\n\n"
    text += ("The dearest point after the cheapest one, in multiples of it.\n\n"
             "| row | work | side | ns per operation | growth | target | |\n|---|---|---|---|---|---|---|\n")
    for result in results:
        if result.row.points != [None]:
            name, work = result.row.name, result.row.title
            for side in result.sides():
                curve = ", ".join(f"{point}: {number(ns)}" for point, ns in result.curve(side))
                met = result.verdicts()[0] if side == "shim" and result.verdicts() else None
                cells = verdict_cells(met)[2:] if met else ("", "")
                text += (f"| {name} | {work} | {side} | {curve} | {number(result.growth(side))} "
                         f"| {cells[0]} | {cells[1]} |\n")
                name = work = ""
    for result in results:
        if result.row.points != [None]:
            text += f"\n![{result.row.title}]({result.row.name}.svg)\n"
    text += "\n## Costs\n\n| row | work | what | shim | target | | kernel's io_uring |\n|---|---|---|---|---|---|---|\n"
    for result in results:
        if result.row.limits:
            for (name, _, _), verdict in zip(result.row.limits, result.verdicts()):
                what, value, target, met = verdict_cells(verdict)
                theirs = result.numbers("kernel", name)
                kernel = number(sorted(theirs)[len(theirs) // 2]) if theirs else ""
                text += f"| {result.row.name} | {result.row.title} | {what} | {value} | {target} | {met} | {kernel} |\n"
    text += "\n## How the shim served them\n\n| row | measured | rounds | of all requests |\n|---|---|---|---|\n"
    for result in results:
        record = result.record
        text += f"| {result.row.name} | {record['date']} | {len(record['rounds'])} | {record['served']} |\n"
    return text


# ---- plots ----


def gnuplot(script):
    subprocess.run(["gnuplot"], input=script, text=True, check=True)


def plot_ratios(results, path):
    rows = [(r.row.name, r.ratio("kernel"), r.row.targets["kernel"]) for r in results
            if "kernel" in r.row.targets and r.ratio("kernel")]
    if not rows:
        return
    data = "".join(f'"{name}" {ratio[0]} {ratio[1]} {ratio[2]} {target}\n' for name, ratio, target in rows)
    gnuplot(f"""set terminal svg size 1000,520 font "sans,12" background "white"
set output "{path}"
set title "Operations per second: shim / kernel's io_uring (quartiles as whiskers)"
set logscale y 2
set ytics ("0.25" 0.25, "0.5" 0.5, "1" 1, "2" 2, "4" 4, "8" 8, "16" 16)
set yrange [0.125:*]
set xtics rotate by -45 left
set grid y
set style fill solid 0.6
set boxwidth 0.6
set key top left
$rows << EOD
{data}EOD
plot $rows using 0:2:xtic(1) with boxes lc rgb "#4477aa" title "measured", \\
     $rows using 0:2:3:4 with yerrorbars pt 0 lw 1 lc rgb "#222222" notitle, \\
     $rows using 0:5 with points pt 2 ps 1 lw 2 lc rgb "#cc3311" title "target", \\
     1 lc rgb "#888888" notitle
""")


def plot_curves(result, path):
    blocks, plots = "", []
    for side, colour in (("kernel", "#888888"), ("shim", "#4477aa")):
        if side in result.sides():
            points = "".join(f"{point} {ns}\n" for point, ns in result.curve(side))
            blocks += f"${side} << EOD\n{points}EOD\n"
            plots.append(f'${side} using 1:2 with linespoints lw 2 pt 7 lc rgb "{colour}" title "{side}"')
    gnuplot(f"""set terminal svg size 700,420 font "sans,12" background "white"
set output "{path}"
set title "{result.row.title}"
set logscale x 10
set yrange [0:*]
set xlabel "{result.row.name.removeprefix('scale-')}"
set ylabel "ns per operation"
set grid
set key top right
{blocks}plot {", ".join(plots)}
""")


def write(results, directory, kernel_ring):
    """results.md, and the plots where there is a gnuplot."""
    os.makedirs(directory, exist_ok=True)
    with open(os.path.join(directory, "results.md"), "w", encoding="utf-8") as file:
        file.write(markdown(results, kernel_ring))
    try:
        plot_ratios(results, os.path.join(directory, "ratios.svg"))
        for result in results:
            if result.row.points != [None]:
                plot_curves(result, os.path.join(directory, result.row.name + ".svg"))
    except FileNotFoundError:
        print("no plots: gnuplot is not installed")
