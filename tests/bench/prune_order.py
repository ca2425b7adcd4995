"""Which of two pruning methods is better, and whether the data can tell: paired differences.

    prune_order.py MCOMPRESS MODEL --calib DATA --eval DATA [--sparsity 0.6,0.7,0.8]

Prunes an image classifier by magnitude, Wanda and SparseGPT, every layer alike and without repair,
and prints for neighbours in that order the difference of top-1 and agreement (points, more is
better) and of cross-entropy (nats, less is better), each with the interval that holds 95 % of 4,000
bootstrap draws of the images. `shifted` is the mean over the images as they are and moved by a
pixel in eight directions. Needs numpy and onnxruntime; `input` and `labels` in the evaluation data.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnxruntime as ort

METHODS = ("magnitude", "wanda", "sparsegpt")
SHIFTS = [(y, x) for y in (0, 1, -1) for x in (0, 1, -1)]


def logits(path, images):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    parts = [session.run(None, {name: images[i : i + 200]})[0] for i in range(0, len(images), 200)]
    return np.concatenate(parts).astype(np.float64)


def measures(numbers, dense, labels):
    """One number per image for each measure; `numbers` [shifts, images, classes]."""
    top = numbers.max(-1, keepdims=True)
    entropy = np.log(np.exp(numbers - top).sum(-1)) + top[..., 0]
    entropy -= np.take_along_axis(numbers, labels[None, :, None], -1)[..., 0]
    right = 100.0 * (numbers.argmax(-1) == labels)
    same = 100.0 * (numbers.argmax(-1) == dense.argmax(-1))
    return {
        "top1": right[0], "top1 shifted": right.mean(0), "agreement shifted": same.mean(0),
        "cross-entropy": entropy[0], "cross-entropy shifted": entropy.mean(0),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mcompress")
    parser.add_argument("model")
    parser.add_argument("--calib", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--sparsity", default="0.6,0.7,0.8")
    arguments = parser.parse_args()
    data = np.load(arguments.eval)
    images, labels = data["input"], data["labels"]
    shifted = np.concatenate([np.roll(images, shift, (2, 3)) for shift in SHIFTS])
    shape = (len(SHIFTS), len(labels), -1)
    dense = logits(arguments.model, shifted).reshape(shape)
    draws = np.random.default_rng(0).integers(0, len(labels), (4000, len(labels)))
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "out.onnx"
        for sparsity in arguments.sparsity.split(","):
            found = {}
            for method in METHODS:
                command = [arguments.mcompress, "prune", arguments.model, "-o", path, "--sparsity",
                           sparsity, "--method", method, "--scope", "layer", "--repair", "none",
                           "--calib", arguments.calib, "--storage", "dense"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode != 0:
                    sys.exit(done.stderr)
                found[method] = measures(logits(path, shifted).reshape(shape), dense, labels)
            for worse, better in zip(METHODS, METHODS[1:]):
                print(f"{sparsity} {better} - {worse}")
                for name in found[better]:
                    gain = found[better][name] - found[worse][name]
                    low, high = np.percentile(gain[draws].mean(1), [2.5, 97.5])
                    print(f"    {name:22}{gain.mean():+9.3f}  [{low:+.3f}, {high:+.3f}]", flush=True)


main()
