"""The cells of `bench/compare.sh` as tables: distances under each feature network, ranks over networks, rollout errors.

    python bench/table.py OUT

Reads compare.csv there, prints markdown. Bold: the least of a column.
"""

import csv
import sys

TO_DATA, TO_TEACHER = "frechet", "kid to teacher"

with open(f"{sys.argv[1]}/compare.csv", newline="") as file:
    rows = list(csv.DictReader(file))
networks = list(dict.fromkeys(row["features"] for row in rows))
methods = list(dict.fromkeys(row["method"] for row in rows if row["method"] != "teacher"))
evaluations = sorted({int(row["nfe"]) for row in rows if row["method"] != "teacher"})
cells = {(row["features"], row["method"], int(row["nfe"])): row for row in rows}


def value(network, method, nfe, key):
    """What was measured; none where the method has no such cell or that was not measured."""
    text = cells.get((network, method, nfe), {}).get(key, "")
    return float(text) if text else None


def table(title, text):
    """A row a method, a column a number of evaluations; `text` of a column's methods is the cells of that column."""
    columns = [text(nfe) for nfe in evaluations]
    print(f"| {title} | {' | '.join(map(str, evaluations))} |")
    print("|---|" + "---|" * len(evaluations))
    for method in methods:
        print(f"| {method} | {' | '.join(column[method] for column in columns)} |")
    print()


def least_in_bold(network, key, write):
    def column(nfe):
        values = {method: value(network, method, nfe, key) for method in methods}
        least = min((v for v in values.values() if v is not None), default=None)
        shown = {method: "–" if v is None else write(v) for method, v in values.items()}
        return {method: f"**{shown[method]}**" if v is not None and v == least else shown[method] for method, v in values.items()}

    return column


def ranks(key):
    """Of each method, its place under each network."""

    def column(nfe):
        places = {method: [] for method in methods}
        for network in networks:
            values = {method: value(network, method, nfe, key) for method in methods}
            for method, own in values.items():
                nearer = sum(other is not None and own is not None and other < own for other in values.values())
                places[method].append("–" if own is None else str(nearer + 1))
        return {method: " ".join(of_method) for method, of_method in places.items()}

    return column


def measured(network, key):
    return any(value(network, method, nfe, key) is not None for method in methods for nfe in evaluations)


def significant(digits):
    return lambda v: f"{v:#.{digits}g}" if abs(v) < 10 ** (digits - 1) else f"{v:.0f}"


for key, title in [(TO_DATA, "Frechet distance to data"), (TO_TEACHER, "KID to the teacher's images")]:
    with_it = [network for network in networks if measured(network, key)]
    for network in with_it:
        teacher = next((row for row in rows if row["method"] == "teacher" and row["features"] == network and row.get(key)), None)
        if teacher:
            print(f"{network}: the teacher has {significant(3)(float(teacher[key]))} with {teacher['nfe']} evaluations.\n")
        table(f"{title}, {network}", least_in_bold(network, key, significant(3)))
    if len(with_it) > 1:
        table(f"ranks by {title}, under {', '.join(with_it)}", ranks(key))


def thousandths(v):
    return f"{1000 * v:.0f}" if v >= 0.01 else f"{1000 * v:.2f}"


table("rollout error, in thousandths", least_in_bold(networks[0], "rollout error", thousandths))
