#!/usr/bin/env python3
"""pack beside gzip -9, zstd -19 and xz -9: pack_peers.py MCOMPRESS MODEL... prints a table in Markdown.

Whole files first, then how many weight tensors (raw bytes of 1 KiB and more) pack codes no larger than the best of the others.
Needs the programs gzip, zstd and xz, and Python's onnx."""
import json
import os
import subprocess
import sys
import tempfile
import time

import onnx

PEERS = {"gzip -9": ["gzip", "-9", "-c"], "zstd -19": ["zstd", "-19", "-q", "-c"], "xz -9": ["xz", "-9", "-T1", "-c"]}


def packed_by(command, data):
    start = time.perf_counter()
    size = len(subprocess.run(command, input=data, stdout=subprocess.PIPE, check=True).stdout)
    return size, time.perf_counter() - start


def main():
    program, models = sys.argv[1], sys.argv[2:]
    print("| model | bytes | pack | " + " | ".join(PEERS) + " | tensors no larger than the best of them |")
    print("|---" * (len(PEERS) + 4) + "|")
    for model in models:
        data = open(model, "rb").read()
        with tempfile.TemporaryDirectory() as folder:
            out = os.path.join(folder, "a.mca")
            start = time.perf_counter()
            report = subprocess.run([program, "pack", model, "-o", out, "--json", "-q"], check=True, stdout=subprocess.PIPE)
            seconds = time.perf_counter() - start
            coded = {t["name"]: t["coded_bytes"] for t in json.loads(report.stdout)["tensors"]}
            cells = [(os.path.getsize(out), seconds)] + [packed_by(command, data) for command in PEERS.values()]
        smaller = seen = 0
        for tensor in onnx.load(model).graph.initializer:
            if not tensor.raw_data or coded.get(tensor.name, 0) == 0:
                continue
            best = min(packed_by(command, tensor.raw_data)[0] for command in PEERS.values())
            seen += 1
            smaller += coded[tensor.name] <= best
            if coded[tensor.name] > best:
                print(f"{model}: {tensor.name}: {coded[tensor.name]} > {best}", file=sys.stderr)
        name = "/".join(os.path.abspath(model).split("/")[-2:])
        shown = " | ".join(f"{size / len(data):.2%}, {len(data) / 1e6 / spent:.1f} MB/s" for size, spent in cells)
        print(f"| {name} | {len(data)} | {shown} | {smaller} of {seen} |", flush=True)


main()
