"""The Frechet distances and rollout errors of `bench/compare.sh`'s cells as the tables of bench/results/README.md.

    python bench/table.py bench/results/fashion-mnist

Reads compare.csv there, prints markdown. Bold: the least of a column.
"""

import csv
import sys

with open(f"{sys.argv[1]}/compare.csv", newline="") as file:
    rows = list(csv.DictReader(file))
teacher = next(row for row in rows if row["method"] == "teacher")
methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != "teacher"))
evaluations = sorted({int(row["nfe"]) for row in rows if row["method"] != "teacher"})


def table(title, key, write):
    cells = {(row["method"], int(row["nfe"])): float(row[key]) for row in rows}
    least = {nfe: min(cells[method, nfe] for method in methods) for nfe in evaluations}
    print(f"| {title} | {' | '.join(map(str, evaluations))} |")
    print("|---|" + "---|" * len(evaluations))
    for method in methods:
        values = [cells[method, nfe] for nfe in evaluations]
        texts = [f"**{write(v)}**" if v == least[nfe] else write(v) for v, nfe in zip(values, evaluations)]
        print(f"| {method} | {' | '.join(texts)} |")
    print()


print(f"Teacher: {float(teacher['frechet']):.2f} with {teacher['nfe']} evaluations.\n")
table("Frechet distance", "frechet", lambda value: f"{value:.2f}")


def thousandths(value):
    return f"{1000 * value:.0f}" if value >= 0.01 else f"{1000 * value:.2f}"


table("rollout error, in thousandths", "rollout error", thousandths)
