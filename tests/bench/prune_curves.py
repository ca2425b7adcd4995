"""Accuracy against sparsity, by method, with and without repair: a Markdown table on stdout.

    prune_curves.py MCOMPRESS MODEL --calib DATA --eval DATA [--sparsity 0.5,0.6] [--ways NAME,...]

Each row is one run of `mcompress prune`; the number is the metric of the evaluation data in percent.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

# Name -> flags. The plain ones spread sparsity evenly, so that only the choice of weights differs.
WAYS = {
    "magnitude": ["--method", "magnitude", "--scope", "layer", "--repair", "none"],
    "wanda": ["--method", "wanda", "--scope", "layer", "--repair", "none"],
    "sparsegpt": ["--method", "sparsegpt", "--scope", "layer", "--repair", "none"],
    "magnitude+ls": ["--method", "magnitude", "--scope", "layer"],
    "wanda+ls": ["--method", "wanda", "--scope", "layer"],
    "sparsegpt+ls": ["--method", "sparsegpt", "--scope", "layer"],
    "auto": [],
}


def measure(arguments, flags, folder):
    command = [arguments.mcompress, "prune", arguments.model, "-o", str(folder / "out.onnx"), "--json",
               "--calib", arguments.calib, "--eval", arguments.eval, "--storage", "dense", *flags]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    report = json.loads(done.stdout)
    return report["evaluation"]["before"]["value"], report["evaluation"]["after"]["value"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mcompress")
    parser.add_argument("model")
    parser.add_argument("--calib", required=True)
    parser.add_argument("--eval", required=True)
    parser.add_argument("--sparsity", default="0.5,0.6,0.7,0.8,0.9,0.95")
    parser.add_argument("--ways", default=",".join(WAYS))
    parser.add_argument("--pattern", default="", help="a pattern such as 2:4 instead of sparsities")
    arguments = parser.parse_args()
    ways = arguments.ways.split(",")
    points = [arguments.pattern] if arguments.pattern else arguments.sparsity.split(",")
    print("| zeros | " + " | ".join(ways) + " |")
    print("|---" * (len(ways) + 1) + "|", flush=True)
    with tempfile.TemporaryDirectory() as name:
        for point in points:
            row = []
            for way in ways:
                where = ["--pattern", point] if arguments.pattern else ["--sparsity", point]
                before, after = measure(arguments, where + WAYS[way], pathlib.Path(name))
                row.append(f"{100 * after:.2f}")
            print(f"| {point} | " + " | ".join(row) + f" | (dense {100 * before:.2f})", flush=True)


if __name__ == "__main__":
    main()
