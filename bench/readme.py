#!/usr/bin/env python3
"""Writes the figures of the README from one folder of results, so that all are of one measurement.

    bench/readme.py bench/results/NAME     writes the README's section anew
    bench/readme.py --check                fails if the section is not that of the folder it names

It reads results.md, which `bench report` makes, and takes the cases that are compared by CPU per request."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- figures: bench/readme.py {} -->\n", "<!-- end of figures -->\n"
SECTION = re.compile(r"<!-- figures: bench/readme\.py (\S+) -->\n.*?" + re.escape(END), re.S)
PEERS = ["nginx", "lighttpd", "h2o", "caddy", "varnish"]
WORKERS = "2 workers"  # the load shares their cores: no figure for a front page


def cases(text):
    """Title and, for each server, the ratio and the CPU time."""
    for part in text.split("\n### ")[1:]:
        title = part.split(" (`")[0]
        if "Compared by server CPU per request." not in part or WORKERS in title:
            continue
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in part.splitlines() if line.startswith("| ")]
        yield title, {row[0]: (row[1], row[2]) for row in rows if row[0] != "server"}


def cell(ratio):
    """The median, and the range below it in small."""
    return re.sub(r"(\S+) \[(.*)\]", r"\1<br><sub>\2</sub>", ratio) or "–"


def section(folder):
    """The whole section between its marks."""
    text = (ROOT / folder / "results.md").read_text()
    command = re.search(r"Made by `(.*)`", text)[1]
    commit = re.search(r"^- commit (.*?);", text, re.M)[1]
    machine = re.search(r"^- (.* cores?), ", text, re.M)[1]
    kernel = re.search(r"^- (Linux \S+);", text, re.M)[1]
    lines = [
        BEGIN.format(folder),
        "Server CPU per request, Forebay over the peer: medians of pairwise ratios of alternating runs, least and most below them. Less "
        "than 1 is in favour of Forebay.\n",
        f"Commit {commit}, {machine}, {kernel}, server and load on a core each, over loopback, made by `{command}`.\n",
        f"[Everything that was measured]({folder}/results.md).\n\n",
        f"| case | Forebay | {' | '.join(PEERS)} |\n|---|---|{'---|' * len(PEERS)}\n",
    ]
    behind = []
    for title, servers in cases(text):
        own = servers["forebay"][1]
        ratios = [servers.get(peer, ("", ""))[0] for peer in PEERS]
        lines.append(f"| {title} | {own} µs | {' | '.join(map(cell, ratios))} |\n")
        worse = [f"{peer} {ratio.split()[0]}" for peer, ratio in zip(PEERS, ratios) if ratio and float(ratio.split()[0]) > 1]
        if worse:
            behind.append(f"*{title}* ({', '.join(worse)})")
    where = "; ".join(behind) if behind else "in none of these cases"
    lines.append(f"\n![CPU per hit]({folder}/cpu-hits.svg)\n\nWhere Forebay needs more than a peer: {where}.\n")
    return "".join(lines) + END


def main(arguments):
    readme = ROOT / "README.md"
    text = readme.read_text()
    found = SECTION.search(text)
    if len(arguments) != 1 or not found:
        sys.exit(__doc__ if found else "readme.py: the README has no marks for the figures")
    check = arguments[0] == "--check"
    folder = found[1] if check else pathlib.Path(arguments[0]).resolve().relative_to(ROOT).as_posix()
    made = section(folder)
    if check and made != found[0]:
        sys.exit(f"readme.py: the README's figures are not those of {folder}: bench/readme.py {folder}")
    if not check:
        readme.write_text(text[: found.start()] + made + text[found.end() :])


main(sys.argv[1:])
