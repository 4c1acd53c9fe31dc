"""What came out of a row: rounds of numbers, their medians, ratios and verdicts."""

from statistics import median, quantiles

from rows import MAX_GROWTH


def spread(numbers):
    """Median and quartiles."""
    if len(numbers) < 2:
        return (numbers[0], numbers[0], numbers[0])
    low, _, high = quantiles(numbers, n=4, method="inclusive")
    return (median(numbers), low, high)


class Result:
    """rounds: a list of {side: {point: numbers}}, JSON's own types throughout."""

    def __init__(self, row, record):
        self.row = row
        self.record = record
        self.rounds = record["rounds"]

    def sides(self):
        return [side for side in self.row.sides if any(side in entry for entry in self.rounds)]

    def numbers(self, side, name, point=None):
        found = [entry[side][str(point)] for entry in self.rounds if side in entry]
        return [numbers[name] for numbers in found if name in numbers]

    def speed(self, side):
        """ns for one operation: median and quartiles."""
        return spread([1e9 / per_s for per_s in self.numbers(side, "per_s")])

    def ratio(self, other):
        """How much faster the shim is than `other`, round by round, or None."""
        pairs = zip(self.numbers("shim", "per_s"), self.numbers(other, "per_s"))
        ratios = [ours / theirs for ours, theirs in pairs if theirs]
        return spread(ratios) if ratios else None

    def curve(self, side):
        """[(point, median ns)]"""
        return [(point, median([1e9 / v for v in self.numbers(side, "per_s", point)]))
                for point in self.row.points if self.numbers(side, "per_s", point)]

    def growth(self, side):
        """From the cheapest point on: the dearest one, in multiples of it."""
        curve = self.curve(side)
        if not curve:
            return None
        best = min(ns for _, ns in curve)
        at = [ns for _, ns in curve].index(best)
        return max(ns for _, ns in curve[at:]) / best

    def verdicts(self):
        """[(what, value, quartiles or None, target's text, met)]"""
        found = []
        for other, target in self.row.targets.items():
            ratio = self.ratio(other)
            if ratio:
                found.append((f"shim / {other}", ratio[0], ratio[1:], f">= {target}",
                              round(ratio[0], 2) >= target))
        if self.row.points != [None]:
            growth = self.growth("shim")
            if growth:
                found.append(("growth", growth, None, f"<= {MAX_GROWTH}",
                              round(growth, 2) <= MAX_GROWTH))
        for name, text, limit in self.row.limits:
            numbers = self.numbers("shim", name)
            if numbers:
                middle, low, high = spread(numbers)
                found.append((text, middle, (low, high), f"<= {limit}", round(middle, 2) <= limit))
        return found
