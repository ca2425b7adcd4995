#!/usr/bin/env python3
"""pack beside gzip -9, zstd -19 and xz -9: pack_peers.py MCOMPRESS MODEL... prints a table in Markdown.

Whole files first, then how many weight tensors (raw bytes of 1 KiB and more) pack codes no larger than the best of the others.
Needs the programs gzip, zstd and xz, and Python's onnx. ZipNN codes the raw bytes of float tensors, as it is made for, and is left out where
it is not installed."""
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


def zipnn_size(tensors):
    """Bytes that ZipNN leaves of the float tensors, and of how many; None: not installed."""
    try:
        import zipnn
    except ImportError:
        return None
    names = {onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16", onnx.TensorProto.BFLOAT16: "bfloat16"}
    coded = whole = 0
    for tensor in tensors:
        if tensor.data_type not in names or len(tensor.raw_data) < 1024:
            continue
        coder = zipnn.ZipNN(input_format="byte", bytearray_dtype=names[tensor.data_type])
        coded += len(coder.compress(bytearray(tensor.raw_data)))
        whole += len(tensor.raw_data)
    return coded, whole


def main():
    program, models = sys.argv[1], sys.argv[2:]
    print("| model | bytes | pack | " + " | ".join(PEERS) + " | tensors no larger than the best of them | float tensors: pack, ZipNN |")
    print("|---" * (len(PEERS) + 5) + "|")
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
        graph = onnx.load(model).graph
        tensors = list(graph.initializer)
        tensors += [a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"]
        floats = zipnn_size(tensors)
        ours = sum(coded.get(t.name, 0) for t in tensors if t.data_type in (1, 10, 16) and len(t.raw_data) >= 1024)
        beside = f"{ours / floats[1]:.2%}, {floats[0] / floats[1]:.2%}" if floats and floats[1] else "-"
        for tensor in tensors:
            if not tensor.raw_data or coded.get(tensor.name, 0) == 0:
                continue
            best = min(packed_by(command, tensor.raw_data)[0] for command in PEERS.values())
            seen += 1
            smaller += coded[tensor.name] <= best
            if coded[tensor.name] > best:
                print(f"{model}: {tensor.name}: {coded[tensor.name]} > {best}", file=sys.stderr)
        name = "/".join(os.path.abspath(model).split("/")[-2:])
        shown = " | ".join(f"{size / len(data):.2%}, {len(data) / 1e6 / spent:.1f} MB/s" for size, spent in cells)
        print(f"| {name} | {len(data)} | {shown} | {smaller} of {seen} | {beside} |", flush=True)


main()
