#!/usr/bin/env python3
"""Compares `mcompress quantize --weights uint4` with other weight-only quantizers on encoders and decoders, all files scored alike.

    python3 tests/bench/bits_peers.py FOLDER [--binary build/release/mcompress] [--models a,b] [--tools ours-rtn,ort-default]
                                      [--python /venv/bin/python] [--results DIR] [--samples N] [--timeout S] [--markdown]

FOLDER has corpus.json (models, calibration and evaluation arrays). Each tool runs as a process of its own, start included. A decoder
is scored by its perplexity, anything else by the SQNR and cosine of its last output and by how well nearest neighbours agree with
those of float32 (mcompress compare, eval); latency is that of mcompress bench, called in turn with float32 on one thread. --python has
onnxruntime, onnxsim and what their quantizers import (HQQ and GPTQ: torch), and for inc-* onnx-neural-compressor with prettytable and
scipy, which it imports without asking for them; it makes the peers' files. With --results every cell is kept
as a JSON file and not run again. Prints one line a cell, and the bounds that were missed (exit 1): at the bytes of ours or less no peer
may be better, and GPTQ and AWQ must beat our own rounding to nearest."""
import argparse, json, os, re, subprocess, sys, time

OURS = {
    "ours-rtn": ["--weights", "uint4"],
    "ours-rtn-data": ["--weights", "uint4", "CALIB"],
    "ours-awq": ["--weights", "uint4", "CALIB", "--weight-method", "awq"],
    "ours-gptq": ["--weights", "uint4", "CALIB", "--weight-method", "gptq"],
    "ours-int8-blocks": ["--weights", "int8", "--block-size", "128"],
    "ours-uint8-gptq": ["--mode", "weight-only", "--weights", "uint8", "CALIB", "--weight-method", "gptq"],
}
PEERS = ["ort-default", "ort-asymmetric", "ort-rtn", "ort-k-quant", "ort-hqq", "ort-gptq", "onnxsim-int4", "onnxsim-int8",
         "inc-rtn", "inc-gptq", "inc-awq"]


def samples_of(calib, most):
    import numpy as np
    arrays = dict(np.load(calib))
    count = min(most, min(len(a) for a in arrays.values()))
    return [{k: a[i:i + 1] for k, a in arrays.items()} for i in range(count)]


def neural_compressor(method, model, calib, out):
    import onnx
    from onnx_neural_compressor import data_reader
    from onnx_neural_compressor.quantization import matmul_nbits_quantizer as q

    class Reader(data_reader.CalibrationDataReader):
        def __init__(self):
            self.samples = samples_of(calib, 16)
            self.rewind()

        def get_next(self):
            return next(self.rest, None)

        def rewind(self):
            self.rest = iter(self.samples)

    config = {"rtn": lambda: q.RTNWeightOnlyQuantConfig(), "gptq": lambda: q.GPTQWeightOnlyQuantConfig(Reader()),
              "awq": lambda: q.AWQWeightOnlyQuantConfig(Reader())}[method]()
    tool = q.MatMulNBitsQuantizer(model, block_size=32, is_symmetric=False, accuracy_level=4, algo_config=config)
    tool.process()
    onnx.save(getattr(tool.model, "model", tool.model), out)
    return 0


def recipe(name, model, calib, out):
    """Runs in the peers' interpreter."""
    if name.startswith("inc-"):
        return neural_compressor(name[len("inc-"):], model, calib, out)
    if name.startswith("onnxsim"):
        flag = {"onnxsim-int4": "--weight-only-quantize-int4", "onnxsim-int8": "--weight-only-quantize"}[name]
        return subprocess.call([os.path.join(os.path.dirname(sys.executable), "onnxsim"), model, out, flag])
    import onnx
    from onnxruntime.quantization import CalibrationDataReader
    from onnxruntime.quantization import matmul_nbits_quantizer as q

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(samples_of(calib, 16))

        def get_next(self):
            return next(self.rest, None)

    source = onnx.load(model)
    if name in ("ort-default", "ort-asymmetric"):
        tool = q.MatMulNBitsQuantizer(source, block_size=32, is_symmetric=name == "ort-default", accuracy_level=4)
    else:
        config = {"ort-rtn": lambda: q.RTNWeightOnlyQuantConfig(), "ort-k-quant": lambda: q.KQuantWeightOnlyQuantConfig(),
                  "ort-hqq": lambda: q.HQQWeightOnlyQuantConfig(block_size=32, bits=4),
                  "ort-gptq": lambda: q.GPTQWeightOnlyQuantConfig(calibration_data_reader=Reader(), block_size=32)}[name]()
        tool = q.MatMulNBitsQuantizer(source, block_size=32, is_symmetric=False, accuracy_level=4, algo_config=config)
    tool.process()
    written = tool.model.model
    if not any(o.domain == "com.microsoft" for o in written.opset_import):  # some forget it: no valid file without
        written.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    tool.model.save_model_to_file(out, False)
    return 0


def timed(command, timeout):
    """(exit status, wall seconds, peak MB, output)."""
    start = time.perf_counter()
    ran = subprocess.run(["/usr/bin/env", "timeout", "-s", "KILL", str(timeout), "/usr/bin/time", "-f", "peak %M", *command],
                         capture_output=True, text=True)
    peak = re.findall(r"^peak (\d+)$", ran.stderr, re.M)
    return ran.returncode, time.perf_counter() - start, int(peak[-1]) / 1024 if peak else 0.0, ran.stdout + ran.stderr


def score(binary, reference, candidate, data, samples):
    def ask(*command):
        ran = subprocess.run([binary, *command, "--json"], capture_output=True, text=True)
        if ran.returncode:
            raise RuntimeError(ran.stderr.strip().splitlines()[-1][:200])
        return json.loads(ran.stdout)

    cells = {}
    limit = ["--samples", str(samples)] if samples else []
    try:
        cells["perplexity"] = ask("eval", candidate, "--data", data, "--metric", "perplexity", *limit)["result"]["value"]
    except RuntimeError:
        output = ask("compare", reference, candidate, "--data", data, *limit)["comparison"]["outputs"][-1]
        cells.update(sqnr=output["sqnr_db"], cosine=output["cosine"])
        try:
            found = ask("eval", candidate, "--data", data, "--against", reference, "--metric", "retrieval", *limit)["result"]
            cells["neighbours"] = found["agreement"]
        except RuntimeError:
            pass
    cells["latency"] = 1 / ask("bench", candidate, "--against", reference, "--data", data, "--seconds", "3")["speedup_p50"]
    return cells


def cell(tool, entry, args):
    model, calib, data = (os.path.join(args.folder, entry[k]) for k in ("model", "calib", "eval"))
    out = os.path.join(args.scratch, f"{entry['name']}.{tool}.onnx")
    if tool in OURS:
        flags = [f for flag in OURS[tool] for f in (["--calib", calib] if flag == "CALIB" else [flag])]
        command = [args.binary, "quantize", model, "-o", out, *flags]
    else:
        command = [args.python, os.path.abspath(__file__), "--recipe", tool, model, calib, out]
    status, wall, peak, said = timed(command, args.timeout)
    row = {"model": entry["name"], "tool": tool, "exit": status, "wall": wall, "peak": peak}
    if status:
        row["said"] = [line for line in said.strip().splitlines() if not re.match(r"Command exited|peak \d", line)][-2:]
        return row
    row["bytes"] = sum(os.path.getsize(p) for p in (out, out + ".data") if os.path.exists(p))
    row["times"] = os.path.getsize(model) / row["bytes"]
    try:
        row.update(score(args.binary, model, out, data, args.samples))
    except (RuntimeError, ValueError) as problem:
        row.update(exit=-1, said=[str(problem)])
    for path in (out, out + ".data"):
        if os.path.exists(path):
            os.remove(path)
    return row


def worth(row):
    """Higher is better; None: not measured."""
    if "perplexity" in row:
        return -row["perplexity"]
    return row.get("sqnr")


def missed_bounds(rows):
    missed = []
    for model in dict.fromkeys(r["model"] for r in rows):
        good = [r for r in rows if r["model"] == model and r["exit"] == 0 and worth(r) is not None]
        ours = {r["tool"]: r for r in good if r["tool"] in OURS}
        for peer in (r for r in good if r["tool"] not in OURS and r["times"] > 1.05):  # else: float32 still
            if not any(o["bytes"] <= peer["bytes"] and worth(o) >= worth(peer) for o in ours.values()):
                missed.append(f"{model}: {peer['tool']} is better at its bytes")
        for better in ("ours-gptq", "ours-awq"):
            if better in ours and "ours-rtn" in ours and worth(ours[better]) <= worth(ours["ours-rtn"]):
                missed.append(f"{model}: {better} is not better than ours-rtn")
        missed += [f"{model}: {o['tool']} is slower than float32" for o in ours.values() if o["latency"] > 1.02]
    return missed


def text(row, key, form, scale=1):
    return form.format(row[key] * scale) if key in row else "-"


def columns(row):
    return [row["model"], row["tool"], str(row["exit"]), text(row, "wall", "{:.1f}"), text(row, "peak", "{:.0f}"),
            text(row, "bytes", "{:,}"), text(row, "times", "{:.2f}"), text(row, "perplexity", "{:.2f}"), text(row, "sqnr", "{:.1f}"),
            text(row, "cosine", "{:.4f}"), text(row, "neighbours", "{:.1f}", 100), text(row, "latency", "{:.2f}")]


def main():
    if sys.argv[1:2] == ["--recipe"]:
        return recipe(*sys.argv[2:6])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--models", default="")
    parser.add_argument("--tools", default=",".join([*OURS, *PEERS]))
    parser.add_argument("--python", default=sys.executable)
    parser.add_argument("--results", default="")
    parser.add_argument("--scratch", default=os.environ.get("TMPDIR", "/tmp"))
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--timeout", type=int, default=1800)
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    head = ["model", "tool", "exit", "wall s", "peak MB", "bytes", "x", "perplexity", "SQNR", "cosine", "neighbours %", "latency"]
    rows = []
    print(" | ".join(head), flush=True)
    for entry in json.load(open(os.path.join(args.folder, "corpus.json")))["models"]:
        if args.models and entry["name"] not in args.models.split(","):
            continue
        for tool in args.tools.split(","):
            kept = os.path.join(args.results, f"{entry['name']}.{tool}.json") if args.results else ""
            if kept and os.path.exists(kept):
                row = json.load(open(kept))
            else:
                row = cell(tool, entry, args)
                if kept:
                    os.makedirs(args.results, exist_ok=True)
                    json.dump(row, open(kept, "w"), indent=1)
            rows.append(row)
            print(" | ".join(columns(row)), *row.get("said", []), flush=True)
    if args.markdown:
        print("| " + " | ".join(head) + " |\n|" + "---|" * len(head))
        for row in rows:
            print("| " + " | ".join(columns(row)) + " |")
    missed = missed_bounds(rows)
    print("missed: " + "; ".join(missed) if missed else "every bound held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
