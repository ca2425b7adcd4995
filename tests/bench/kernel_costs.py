#!/usr/bin/env python3
"""Times of single layers in float32 and in integers, of which the costs in target files are made.

    python3 tests/bench/kernel_costs.py [signals|images|volumes|products]...

A chain of six layers less a chain of two, a quarter of it: what stands at the ends falls out. Both forms are called in turn on one
thread, counted in processor time, as medians over rounds. Prints microseconds, multiplications per nanosecond and the ratio of both.
Needs numpy, onnx and onnxruntime."""
import sys, time

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ROUNDS, SHORT, LONG = 15, 2, 6
RANDOM = np.random.default_rng(0)

# channels in, channels out, positions along each axis, kernel, groups
SIGNALS = [(8, 8, 1000, 3, 1), (12, 12, 1000, 3, 1), (16, 16, 1000, 3, 1), (32, 32, 100, 3, 1), (32, 32, 1000, 3, 1), (64, 64, 50, 3, 1),
           (64, 64, 500, 3, 1), (128, 128, 500, 3, 1), (256, 256, 100, 3, 1), (512, 512, 50, 3, 1), (64, 64, 500, 1, 1),
           (256, 256, 100, 1, 1), (32, 32, 1000, 5, 1), (64, 64, 200, 15, 1), (32, 32, 500, 31, 1), (64, 256, 200, 1, 1),
           (16, 16, 1000, 3, 16), (64, 64, 100, 3, 64), (64, 64, 500, 3, 64), (64, 64, 500, 9, 64), (64, 64, 300, 31, 64),
           (128, 128, 100, 3, 128), (256, 256, 100, 5, 256), (64, 64, 500, 3, 2), (64, 64, 500, 3, 4), (64, 64, 500, 3, 8),
           (128, 128, 200, 3, 16), (256, 256, 100, 3, 8)]
IMAGES = [(8, 8, 28, 3, 1), (16, 16, 32, 3, 1), (32, 32, 28, 3, 1), (64, 64, 28, 3, 1), (128, 128, 14, 3, 1), (256, 256, 7, 3, 1),
          (64, 64, 28, 1, 1), (128, 128, 14, 1, 1), (256, 256, 14, 1, 1), (32, 32, 28, 5, 1), (64, 64, 28, 3, 64), (128, 128, 14, 3, 128),
          (64, 64, 28, 5, 64), (64, 64, 28, 7, 64), (64, 64, 28, 3, 4), (64, 64, 28, 3, 8), (128, 128, 14, 3, 8)]
VOLUMES = [(16, 16, 16, 3, 1), (32, 32, 12, 3, 1), (64, 64, 8, 3, 1), (32, 32, 16, 1, 1), (32, 32, 12, 3, 32)]
PRODUCTS = [(rows, width, width) for rows in (1, 4, 16, 64, 256) for width in (64, 256, 1024)] + \
    [(512, 16, 16), (256, 32, 32), (196, 64, 64), (128, 384, 384), (128, 384, 1536)]


def session(layers, operator, shape, weights, integers, **attributes):
    nodes, constants = [], []

    def constant(name, array):
        constants.append(numpy_helper.from_array(array, name))
        return name

    def rounded(value):
        nodes.append(helper.make_node("QuantizeLinear", [value, "scale", "zero"], [value + "_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [value + "_q", "scale", "zero"], [value + "_r"]))
        return value + "_r"

    def restored(name, codes, scale, axis):
        constant(name, codes)
        constant(name + "_s", np.full(codes.shape[axis], scale, np.float32))
        constant(name + "_z", np.zeros(codes.shape[axis], codes.dtype))
        nodes.append(helper.make_node("DequantizeLinear", [name, name + "_s", name + "_z"], [name + "_r"], axis=axis))
        return name + "_r"

    constant("scale", np.float32(0.05))
    constant("zero", np.uint8(0))
    value = rounded("x") if integers else "x"
    axis = 0 if operator == "Conv" else 1
    for i in range(layers):
        dims = weights[i % len(weights)]
        if integers:
            parts = [restored(f"w{i}", RANDOM.integers(-60, 60, dims).astype(np.int8), 0.01, axis)]
            parts.append(restored(f"b{i}", np.zeros(dims[axis], np.int32), 0.0005, 0))
        else:
            scale = np.sqrt(np.prod(dims) / dims[axis])
            parts = [constant(f"w{i}", (RANDOM.standard_normal(dims) / scale).astype(np.float32)),
                     constant(f"b{i}", np.zeros(dims[axis], np.float32))]
        nodes.append(helper.make_node(operator, [value, *parts], [f"c{i}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"v{i}"]))
        value = rounded(f"v{i}") if integers else f"v{i}"
    nodes.append(helper.make_node("Identity", [value], ["y"]))
    graph = helper.make_graph(nodes, "chain", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def measure(name, operator, shape, weights, multiplications, **attributes):
    chains = [session(layers, operator, shape, weights, integers, **attributes) for integers in (False, True) for layers in (SHORT, LONG)]
    feeds = {"x": np.abs(RANDOM.standard_normal(shape)).astype(np.float32)}
    calls = []
    for chain in chains:
        chain.run(None, feeds)
        start = time.perf_counter()
        chain.run(None, feeds)
        calls.append(max(1, int(0.004 / max(time.perf_counter() - start, 1e-6))))
    rounds = []
    for _ in range(ROUNDS):
        rounds.append([])
        for chain, count in zip(chains, calls):
            start = time.thread_time_ns()
            for _ in range(count):
                chain.run(None, feeds)
            rounds[-1].append((time.thread_time_ns() - start) / count)
    median = np.median(rounds, axis=0)
    real, integer = (median[1] - median[0]) / (LONG - SHORT), (median[3] - median[2]) / (LONG - SHORT)
    print(f"{name:36s} float32 {real / 1e3:9.1f} us {multiplications / real:6.1f}/ns   integers {integer / 1e3:9.1f} us "
          f"{multiplications / integer:6.1f}/ns   ratio {integer / real:5.2f}", flush=True)


def convolutions(rows, axes):
    for channels, results, positions, kernel, groups in rows:
        weights = [[results, channels // groups] + [kernel] * axes]
        if results != channels:
            weights.append([channels, results // groups] + [kernel] * axes)
        count = results * positions ** axes * (channels // groups) * kernel ** axes
        measure(f"{channels} to {results}, {'x'.join([str(positions)] * axes)}, kernel {kernel}, groups {groups}", "Conv",
                [1, channels] + [positions] * axes, weights, count, pads=[(kernel - 1) // 2] * (2 * axes), group=groups)


def main():
    wanted = sys.argv[1:] or ["signals", "images", "volumes", "products"]
    print("ONNX Runtime", ort.__version__)
    for axes, (name, rows) in enumerate([("signals", SIGNALS), ("images", IMAGES), ("volumes", VOLUMES)], 1):
        if name in wanted:
            convolutions(rows, axes)
    if "products" in wanted:
        for rows, width, columns in PRODUCTS:
            weights = [[width, columns]] + ([[columns, width]] if width != columns else [])
            measure(f"{rows} rows, {width} to {columns}", "Gemm", [rows, width], weights, rows * width * columns)


if __name__ == "__main__":
    main()
