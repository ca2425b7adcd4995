"""Prints accuracy and latency of a labelled model against the multiplications that are left.

width_curve.py MCOMPRESS MODEL CALIB EVAL [SHARE...]

Each line is one run of the recipe prune-channels with that goal for `flops`, and all runs measure
their latency beside the original's in the same process.
"""
import json
import pathlib
import re
import subprocess
import sys
import tempfile

RECIPE = pathlib.Path(__file__).parents[2] / "tools" / "recipes" / "prune-channels.json"


def last_curve(facts):
    """The last entry of the list `curve`, wherever it is in the report."""
    if isinstance(facts, dict):
        if "curve" in facts:
            return facts["curve"][-1]
        facts = list(facts.values())
    for part in facts if isinstance(facts, list) else []:
        found = last_curve(part)
        if found:
            return found
    return None


def run(program, model, calib, labelled, share, folder):
    recipe = json.loads(RECIPE.read_text())
    step = {"pass": "prune-channels", "flops": share}
    recipe["passes"] = [step if name == "prune-channels" else name for name in recipe["passes"]]
    (folder / "recipe.json").write_text(json.dumps(recipe))
    done = subprocess.run(
        [program, "run", folder / "recipe.json", model, "-o", folder / "out.onnx", "--calib", calib,
         "--eval", labelled, "--bench", "--report", folder / "report.json"],
        capture_output=True, text=True, check=True)
    text = done.stdout + done.stderr
    top1 = re.search(r"top1\s+([\d.]+) %\s+([\d.]+) %", text)
    times = re.search(r"latency p50\s+([\d.]+) ms\s+([\d.]+) ms", text)
    curve = last_curve(json.loads((folder / "report.json").read_text()))
    size = (folder / "out.onnx").stat().st_size / pathlib.Path(model).stat().st_size
    print(f"{curve['flops']:8.3f}{size:8.3f}{top1[2]:>8}{float(top1[2]) - float(top1[1]):+8.2f}"
          f"{float(times[2]) / float(times[1]):9.2f}", flush=True)


def main():
    program, model, calib, labelled, *shares = sys.argv[1:]
    print("   flops   bytes    top1    drop  latency")
    with tempfile.TemporaryDirectory() as folder:
        for share in shares or ["0.9", "0.8", "0.7", "0.6", "0.5", "0.4", "0.3"]:
            run(program, model, calib, labelled, float(share), pathlib.Path(folder))


main()
