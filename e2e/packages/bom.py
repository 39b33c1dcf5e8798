#!/usr/bin/env python3
"""Checks a CycloneDX list against Cargo.lock and cargo's own tree: every crate that is linked into pg_hardstorage is in it,
by name, version and checksum, with a licence; what refers to something finds it; nothing names this machine.
Usage: bom.py LIST SOURCE TRIPLE"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path


def main():
    file, source, triple = sys.argv[1:]
    text = Path(file).read_text(encoding="utf-8")
    bom = json.loads(text)
    faults = []
    if (bom["bomFormat"], bom["specVersion"]) != ("CycloneDX", "1.5"):
        faults.append("is no CycloneDX 1.5")
    if "path+file:///" in text.replace("path+file:///source/", ""):
        faults.append("names a folder of the machine that made it")
    if bom["metadata"]["component"]["name"] != "pg_hardstorage":
        faults.append("is not about pg_hardstorage")

    listed = {(one["name"], one["version"]): one for one in bom["components"]}
    refs = [one["bom-ref"] for one in bom["components"]] + [bom["metadata"]["component"]["bom-ref"]]
    if len(set(refs)) != len(refs):
        faults.append("has two components of one reference")
    for dependency in bom["dependencies"]:
        for ref in [dependency["ref"], *dependency.get("dependsOn", [])]:
            if ref not in refs:
                faults.append(f"refers to {ref}, which is not in it")

    lock = tomllib.loads(Path(source, "Cargo.lock").read_text(encoding="utf-8"))
    locked = {(one["name"], one["version"]): one.get("checksum") for one in lock["package"]}
    tree = subprocess.run(
        ["cargo", "tree", "--locked", "--offline", "--package=pg_hardstorage", "--edges=normal", f"--target={triple}",
         "--prefix=none", "--format={p}"],
        check=True, stdout=subprocess.PIPE, text=True, cwd=source).stdout
    linked = {(words[0], words[1][1:]) for words in map(str.split, tree.splitlines())} - {
        ("pg_hardstorage", bom["metadata"]["component"]["version"])}
    if len(linked) < 100:
        faults.append(f"was compared with a tree of {len(linked)} crates only")
    for crate in sorted(linked):
        name = " ".join(crate)
        if crate not in listed:
            faults.append(f"lacks {name}")
            continue
        one = listed[crate]
        if not one.get("licenses"):
            faults.append(f"gives no licence of {name}")
        if not one["purl"].startswith(f"pkg:cargo/{crate[0]}@{crate[1]}"):
            faults.append(f"calls {name} {one['purl']}")
        hashes = [hash["content"] for hash in one.get("hashes", [])]
        if locked[crate] and locked[crate] not in hashes:
            faults.append(f"gives another checksum of {name} than Cargo.lock")
    for fault in faults:
        print(f"{file} {fault}", file=sys.stderr)
    print(f"{len(linked)} crates compared", file=sys.stderr)
    return 1 if faults else 0


sys.exit(main())
