#!/usr/bin/env python3
"""How long a model takes that `pack --form onnx` wrote, beside the model it was made of.

    python3 tests/bench/pack_latency.py BEFORE.onnx AFTER.onnx DATA.npz [--seconds N]

One thread, its processor time, so that other work on the machine does not count; rounds of both in turn, sessions opened anew now and then. Prints
the median of the rounds' ratios with its quartiles, and fails where outputs differ in a bit. Data are arrays of samples by input."""
import argparse
import statistics
import sys
import time

import numpy as np
import onnxruntime

ROUNDS_A_SESSION = 20


def session(file):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])


def median_time(model, feeds):
    times = []
    for feed in feeds:
        start = time.thread_time_ns()
        model.run(None, feed)
        times.append(time.thread_time_ns() - start)
    return statistics.median(times)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("data")
    parser.add_argument("--seconds", type=float, default=10)
    arguments = parser.parse_args()
    files, data = [arguments.before, arguments.after], np.load(arguments.data)
    until = time.monotonic() + arguments.seconds
    names = [value.name for value in session(files[0]).get_inputs()]
    samples = len(data[names[0]])
    feeds = [{name: data[name][i % samples][None] for name in names} for i in range(9)]
    ratios = []
    while time.monotonic() < until or len(ratios) < 5:
        if len(ratios) % ROUNDS_A_SESSION == 0:
            models = [session(file) for file in files]
            for before, after in zip(*(model.run(None, feeds[0]) for model in models)):
                if not np.array_equal(before, after):
                    sys.exit("outputs differ")
        order = (0, 1) if len(ratios) % 2 == 0 else (1, 0)
        taken = dict((i, median_time(models[i], feeds)) for i in order)
        ratios.append(taken[1] / taken[0])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{len(ratios)} rounds: {middle:.3f} times (quartiles {low:.3f} and {high:.3f})")


if __name__ == "__main__":
    main()
