"""Quality at 25 % and 15 % of the float32 bytes: search beside uniform forms.

    search_curve.py MCOMPRESS CORPUS [MODEL...]     a Markdown table on stdout

For each labelled model of the corpus: the uniform forms (weights in INT8, in INT4 blocks, clustered to 4 and 5 bits) with
their bytes, and what `search` finds within each share of the bytes in 60 evaluations. "best uniform" is the best of the
uniform results that fit the share. Quality is that of `mcompress eval` on the evaluation data. No third-party packages.
"""

import json
import os
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


def main():
    mcompress, corpus, *wanted = sys.argv[1:]
    print("| model | float32 | share | best uniform that fits | search | evaluations |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for name in wanted or MODELS:
            model = os.path.join(corpus, MODELS[name])
            home = os.path.dirname(model)
            calib, data = (os.path.join(home, part + ".npz") for part in ("calib", "eval"))
            more = []
            if os.path.exists(os.path.join(home, "characters.txt")):
                more = ["--characters", os.path.join(home, "characters.txt")]
            of = os.path.getsize(model)
            base = quality(mcompress, model, model, data, more)[0]
            uniform = []
            for form, command in UNIFORM.items():
                out = os.path.join(folder, form + ".onnx")
                done = run(mcompress, [command[0], model, "-o", out, *command[1:], "--calib", calib])
                if done.returncode == 0:
                    uniform.append((form, os.path.getsize(out), *quality(mcompress, model, out, data, more)))
            print(f"{name}: {uniform}", file=sys.stderr)
            for share in SHARES:
                out = os.path.join(folder, "search.onnx")
                front = os.path.join(folder, "front.json")
                done = run(mcompress, ["search", model, "-o", out, "--calib", calib, "--eval", data, *more,
                                       "--max-size-ratio", str(share), "--evaluations", "60", "--front", front,
                                       "--front-points", "0"])
                fits = [row for row in uniform if row[1] <= share * of]
                best = max(fits, key=lambda row: (row[2], row[3] or 0), default=None)
                beside = f"{best[0]} {shown(best[1], of, best[2], best[3])}" if best else "none fits"
                found, count = "none holds", "-"
                if done.returncode == 0:
                    found = shown(os.path.getsize(out), of, *quality(mcompress, model, out, data, more))
                    with open(front, encoding="utf-8") as file:
                        count = f"{json.load(file)['evaluations']:.1f}"
                print(f"| {name} | {base:.2f} | {100 * share:.0f} % | {beside} | {found} | {count} |", flush=True)


if __name__ == "__main__":
    main()
