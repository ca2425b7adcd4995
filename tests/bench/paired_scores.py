#!/usr/bin/env python3
"""Whether one model file is right more often than another, on the same labelled samples.

    python3 tests/bench/paired_scores.py EVAL.npz FLOAT32.onnx OURS.onnx THEIRS.onnx...

EVAL has `labels` and the model's only input. Of each file: samples it has right, samples in which its answer is not float32's, samples
that only ours and that only this file has right, and how likely so uneven a split is where both are equally good (the exact sign test,
two-sided). Needs numpy and onnxruntime."""
import argparse, math, os

import numpy as np
import onnxruntime as ort

BATCH = 100


def answers(path, arrays):
    options = ort.SessionOptions()
    options.log_severity_level = 3
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    data = arrays[name]
    if name + "_scale" in arrays:
        data = data.astype(np.float32) * arrays[name + "_scale"] + arrays[name + "_bias"]
    data = data.astype(np.float32)
    return np.concatenate([session.run(None, {name: data[i:i + BATCH]})[0].argmax(-1) for i in range(0, len(data), BATCH)])


def sign_test(a, b):
    """How likely a split of a + b coins is that is at least as uneven as a : b."""
    return min(1.0, 2 * sum(math.comb(a + b, k) for k in range(min(a, b) + 1)) / 2 ** (a + b))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("eval")
    parser.add_argument("float32")
    parser.add_argument("files", nargs="+")
    args = parser.parse_args()
    arrays = dict(np.load(args.eval))
    labels = arrays["labels"]
    reference = answers(args.float32, arrays)
    print(f"{len(labels)} samples, float32 right in {(reference == labels).sum()}")
    ours = None
    for path in args.files:
        answer = answers(path, arrays)
        ours = answer if ours is None else ours
        only_ours = int(((ours == labels) & (answer != labels)).sum())
        only_theirs = int(((ours != labels) & (answer == labels)).sum())
        print(f"{os.path.basename(path):32s} right {(answer == labels).sum():5d}   not float32's answer {(answer != reference).sum():4d}"
              f"   only ours right {only_ours:3d}, only this {only_theirs:3d}, p {sign_test(only_ours, only_theirs):.2f}")


if __name__ == "__main__":
    main()
