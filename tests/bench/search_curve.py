"""Quality at 25 % and 15 % of the float32 bytes: search beside uniform forms.

    search_curve.py MCOMPRESS CORPUS [--prefer P] [--limit N] [--share S]... [--search FLAGS] [--tools PYTHON] [MODEL...]
        a Markdown table on stdout

For each labelled model of the corpus: the uniform forms (weights in INT8, in INT4 blocks, clustered to 4 and 5 bits) with
their bytes, and what `search` finds within each share of the bytes in 60 evaluations. "best uniform" is the best of the
uniform results that fit the share. Quality is that of `mcompress eval` on the evaluation data, the first N samples where
slow models ask for that (needs numpy). No third-party packages otherwise. --search "--widths 1,0.75": further flags of
search; the shares of a model have what is measured of its layers in common, and count it each.

--tools: an interpreter that has onnxsim and nncf. Their mixed precision is run at each setting of mixed_peers.py and scored
by the same `mcompress eval`; shown is the best result of each that fits the share, or its smallest where none does. No
search then.
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile

MODELS = {
    "lenet300": "mnist/lenet300.onnx",
    "lenet5": "mnist/lenet5.onnx",
    "resnet": "mnist/resnet.onnx",
    "mobilenetv2": "mnist/mobilenetv2.onnx",
    "vit": "mnist/vit.onnx",
    "silero-vad": "silero-vad/model.onnx",
    "magika": "magika/model.onnx",
    "ppocr-rec": "ppocr-rec/model.onnx",
}
UNIFORM = {
    "int8": ["quantize", "--mode", "weight-only"],
    "int4": ["quantize", "--mode", "weight-only", "--weights", "uint4"],
    "cluster-4": ["cluster", "--bits", "4", "--min-elements", "256"],
    "cluster-5": ["cluster", "--bits", "5", "--min-elements", "256"],
}
SHARES = (0.25, 0.15)
PEERS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "mixed_peers.py")


def run(mcompress, arguments):
    return subprocess.run([mcompress, *arguments], capture_output=True, text=True)


def quality(mcompress, model, result, data, more):
    done = run(mcompress, ["eval", result, "--data", data, "--against", model, "--json", *more])
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    facts = json.loads(done.stdout)
    candidate = facts["result"]
    return 100 * candidate["value"], candidate.get("sqnr_db")


def shown(bytes_, of, value, sqnr):
    text = f"{100 * bytes_ / of:.1f} %: {value:.2f}"
    return text + (f", {sqnr:.1f} dB" if sqnr is not None else "")


def best_within(rows, most):
    """The row (name, bytes, value, SQNR) of the best quality within so many bytes; None: none fits."""
    return max((row for row in rows if row[1] <= most), key=lambda row: (row[2], row[3] or 0), default=None)


def tools_rows(python, mcompress, name, model, calib, data, more, folder):
    """Per tool: (what it made at each setting, why others failed)."""
    for recipe, settings in json.loads(subprocess.check_output([python, PEERS, "--list"], text=True)).items():
        rows, problems = [], []
        for setting in settings:
            out = os.path.join(folder, "peer.onnx")
            if os.path.exists(out):
                os.remove(out)
            done = run(python, [PEERS, recipe, setting, model, calib, data, out])
            if done.returncode != 0 or not os.path.exists(out):
                problems.append((done.stderr.strip().splitlines() or ["no output"])[-1][:160])
                continue
            try:
                rows.append((setting, os.path.getsize(out), *quality(mcompress, model, out, data, more)))
            except SystemExit as problem:
                problems.append(str(problem).strip().splitlines()[-1][:160])
        print(f"{name} {recipe}: {rows} {sorted(set(problems))}", file=sys.stderr, flush=True)
        yield recipe, rows, problems


def tools_table(python, mcompress, name, model, calib, data, more, folder, shares):
    of = os.path.getsize(model)
    base = quality(mcompress, model, model, data, more)[0]
    for recipe, rows, problems in tools_rows(python, mcompress, name, model, calib, data, more, folder):
        for share in shares:
            best = best_within(rows, share * of)
            if best is not None:
                said = f"{best[0]}: {shown(best[1], of, best[2], best[3])}"
            elif rows:
                least = min(rows, key=lambda row: row[1])
                said = f"none fits; the least: {shown(least[1], of, least[2], least[3])}"
            else:
                said = f"fails: {problems[0]}"
            print(f"| {name} | {base:.2f} | {100 * share:.0f} % | {recipe} | {said} |", flush=True)


def first_samples(data, limit, folder):
    """The first samples of an npz, as another; arrays of another length stay whole."""
    import numpy as np
    arrays = dict(np.load(data))
    count = len(arrays["labels"])
    path = os.path.join(folder, "first.npz")
    np.savez(path, **{name: array[:limit] if array.ndim and len(array) == count else array for name, array in arrays.items()})
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mcompress")
    parser.add_argument("corpus")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--limit", type=int, help="evaluation samples, the first so many")
    parser.add_argument("--share", type=float, action="append")
    parser.add_argument("--prefer", default="metric", help="of search: metric, no-loss or sqnr")
    parser.add_argument("--search", metavar="FLAGS", default="", help="further flags of search, in one argument")
    parser.add_argument("--tools", metavar="PYTHON")
    args = parser.parse_intermixed_args()
    mcompress, corpus, shares = args.mcompress, args.corpus, args.share or SHARES
    if args.tools:
        print("| model | float32 | share | tool | best setting that fits |\n|---|---|---|---|---|")
    else:
        print("| model | float32 | share | best uniform that fits | search | evaluations |")
        print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in args.models or MODELS:
            model = os.path.join(corpus, MODELS[name])
            home = os.path.dirname(model)
            calib, data = (os.path.join(home, part + ".npz") for part in ("calib", "eval"))
            more = []
            if os.path.exists(os.path.join(home, "characters.txt")):
                more = ["--characters", os.path.join(home, "characters.txt")]
            if args.limit:
                data = first_samples(data, args.limit, folder)
            if args.tools:
                tools_table(args.tools, mcompress, name, model, calib, data, more, folder, shares)
                continue
            of = os.path.getsize(model)
            base = quality(mcompress, model, model, data, more)[0]
            uniform = []
            for form, command in UNIFORM.items():
                out = os.path.join(folder, form + ".onnx")
                done = run(mcompress, [command[0], model, "-o", out, *command[1:], "--calib", calib])
                if done.returncode == 0:
                    uniform.append((form, os.path.getsize(out), *quality(mcompress, model, out, data, more)))
            print(f"{name}: {uniform}", file=sys.stderr)
            for share in shares:
                out = os.path.join(folder, "search.onnx")
                front = os.path.join(folder, "front.json")
                done = run(mcompress, ["search", model, "-o", out, "--calib", calib, "--eval", data, *more,
                                       "--max-size-ratio", str(share), "--evaluations", "60", "--front", front,
                                       "--front-points", "0", "--prefer", args.prefer,
                                       "--resume", os.path.join(folder, name + ".json"), *shlex.split(args.search)])
                best = best_within(uniform, share * of)
                beside = f"{best[0]} {shown(best[1], of, best[2], best[3])}" if best else "none fits"
                found, count = "none holds", "-"
                if done.returncode == 0:
                    found = shown(os.path.getsize(out), of, *quality(mcompress, model, out, data, more))
                    with open(front, encoding="utf-8") as file:
                        facts = json.load(file)
                    count = f"{facts['evaluations']:.1f}"
                    print(f"{name} {share}: {facts.get('widths', '')}", file=sys.stderr)
                else:
                    print(f"{name} {share}: {done.stderr[-400:]}", file=sys.stderr)
                print(f"| {name} | {base:.2f} | {100 * share:.0f} % | {beside} | {found} | {count} |", flush=True)


if __name__ == "__main__":
    main()
