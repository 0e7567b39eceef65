#!/usr/bin/env python3
"""Writes what the program is made of, as CycloneDX 1.5: sbom.py OUTPUT. What only tests and builds need is left out.

Its time is that of SOURCE_DATE_EPOCH, so that the same source makes the same file."""

import datetime
import json
import os
import subprocess
import sys

ask = ["cargo", "metadata", "--format-version", "1", "--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
metadata = json.loads(subprocess.check_output(ask))
packages = {package["id"]: package for package in metadata["packages"]}
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}


def linked(node):
    """The dependencies that become part of the program."""
    return [dep["pkg"] for dep in node["deps"] if any(kind["kind"] is None for kind in dep["dep_kinds"])]


def reference(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def component(package, kind="library"):
    said = {"type": kind, "bom-ref": reference(package), "name": package["name"], "version": package["version"]}
    if kind == "library":
        said["purl"] = reference(package)
    if package["license"]:
        said["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    return said


[root] = [package["id"] for package in packages.values() if package["name"] == "forebay" and package["source"] is None]
reached, pending = {root}, [root]
while pending:
    for dependency in linked(nodes[pending.pop()]):
        if dependency not in reached:
            reached.add(dependency)
            pending.append(dependency)
parts = sorted(reached, key=lambda one: reference(packages[one]))
made = datetime.datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), datetime.timezone.utc)
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.5",
    "version": 1,
    "metadata": {"timestamp": made.strftime("%Y-%m-%dT%H:%M:%SZ"), "component": component(packages[root], "application")},
    "components": [component(packages[part]) for part in parts if part != root],
    "dependencies": [
        {"ref": reference(packages[part]), "dependsOn": sorted(reference(packages[one]) for one in linked(nodes[part]))}
        for part in parts
    ],
}
with open(sys.argv[1], "w", encoding="utf-8") as output:
    json.dump(bom, output, indent=1)
    output.write("\n")
