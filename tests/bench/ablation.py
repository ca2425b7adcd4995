#!/usr/bin/env python3
"""What each part of static quantization brings: one row per setting of `mcompress quantize`, one table per model, as Markdown.

    python3 tests/bench/ablation.py CORPUS [--binary build/release/mcompress] [--models a,b] [--rows minmax,auto] [--limit N]
                                           [--calls N] [--json FILE]

CORPUS is a folder with corpus.json (models, calibration and evaluation arrays) and measure.py. Score, agreement with float32 and
signal to noise ratio are those of the evaluation data, latency is the median over float32's, one thread, called in turn. Every row is
a process of its own; a setting that this binary does not know is left out. Layers that would go back to float32 stay in integers
(--guard-sqnr 0), so that rows compare the same kernels. Needs numpy and onnxruntime."""
import argparse, importlib.util, json, os, subprocess, sys, tempfile, time

PLAIN = ["--effort", "fast", "--no-bias-correction"]
ROWS = [("minmax", PLAIN + ["--method", "minmax"]),
        ("moving-average", PLAIN + ["--method", "moving-average"]),
        ("percentile 99.99", PLAIN + ["--method", "percentile"]),
        ("entropy", PLAIN + ["--method", "entropy"]),
        ("mse", PLAIN + ["--method", "mse"]),
        ("auto", ["--no-bias-correction"]),
        ("auto + bias correction (default)", []),
        ("default without smoothing", ["--smooth", "off"]),
        ("default + GPTQ", ["--gptq", "on"]),
        ("default + equalization", ["--equalize", "on", "--no-absorb-bias"]),
        ("default + equalization + bias absorption", ["--equalize", "on"]),
        ("best", ["--effort", "best"]),
        ("fast (mse + bias correction)", ["--effort", "fast"]),
        ("default, per tensor", ["--granularity", "per-tensor"]),
        ("default, asymmetric weights", ["--symmetry", "asymmetric"]),
        ("default, 7-bit weights", ["--weight-bits", "7"])]


def module(name, path):
    spec = importlib.util.spec_from_file_location(name, path)
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--models", default="")
    parser.add_argument("--rows", default="", help="labels, or beginnings of them; all without")
    parser.add_argument("--limit", type=int, default=0, help="evaluation samples; 0: all")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", default="")
    args = parser.parse_args()
    measure = module("measure", os.path.join(args.corpus, "measure.py"))
    peers = module("peers", os.path.join(os.path.dirname(os.path.abspath(__file__)), "peers.py"))
    entries = json.load(open(os.path.join(args.corpus, "corpus.json")))["models"]
    models = [n for n in args.models.split(",") if n]
    wanted = [n for n in args.rows.split(",") if n]
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            if models and entry["name"] not in models:
                continue
            model, calib = (os.path.join(args.corpus, entry[k]) for k in ("model", "calib"))
            print(f"\n### {entry['name']} ({entry['metric']['kind']}, float32 {entry['metric']['value']:.4f})\n")
            print("| setting | score | agreement | SQNR dB | latency | bytes | seconds |\n|---|---|---|---|---|---|---|", flush=True)
            for label, flags in ROWS:
                if wanted and not any(label.startswith(w) for w in wanted):
                    continue
                out = os.path.join(folder, "out.onnx")
                if os.path.exists(out):
                    os.remove(out)
                start = time.perf_counter()
                ran = subprocess.run([args.binary, "quantize", model, "-o", out, "--mode", "static", "--calib", calib,
                                      "--feeding", entry["feeding"], "--guard-sqnr", "0", "--quiet", *flags],
                                     stderr=subprocess.PIPE, text=True)
                seconds = time.perf_counter() - start
                if ran.returncode != 0:
                    print(f"| {label} | {(ran.stderr.strip().splitlines() or ['failed'])[-1][:90]} | | | | | |", flush=True)
                    continue
                row = measure.measure(args.corpus, entry, out, args.limit, 1)
                row.update(setting=label, seconds=seconds, latency=peers.latency(model, out, entry, args.corpus, measure, args.calls))
                results.append(row)
                sqnr = "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.2f}"
                print(f"| {label} | {row['value']:.4f} | {row['agreement']:.4f} | {sqnr} | {row['latency']:.2f} | "
                      f"{row['bytes']:,} | {seconds:.2f} |", flush=True)
    if args.json:
        json.dump(results, open(args.json, "w"), indent=1)
    return 0


if __name__ == "__main__":
    sys.exit(main())
