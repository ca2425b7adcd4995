#!/usr/bin/env python3
"""Compares `mcompress quantize` with onnxruntime.quantization.quantize_static, model by model, in one run.

    python3 tests/bench/peers.py CORPUS [--binary build/release/mcompress] [--models a,b] [--methods minmax,percentile,entropy]
                                        [--limit N] [--calls N] [--json FILE]

CORPUS is a folder with corpus.json (models, calibration and evaluation arrays) and measure.py, which scores a model file on
an entry's evaluation data. Each tool runs as a process of its own, start included, pinned to one core; both write a file, and
the files are scored and timed alike: one thread, float32 and candidate called in turn. Prints one table; exit status 1 when
mcompress misses one of the bounds it prints. Needs numpy, onnx and the newest onnxruntime."""
import argparse, importlib.util, json, os, resource, subprocess, sys, tempfile, time


def peer(model, calib, out, method, samples):
    """The peer with its best-known settings: quant_pre_process, QDQ, per channel, int8 weights, uint8 activations."""
    import numpy as np
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self):
            arrays = dict(np.load(calib))
            count = min(samples, min(len(a) for a in arrays.values()))
            self.samples = iter([{k: a[i:i + 1] for k, a in arrays.items()} for i in range(count)])

        def get_next(self):
            return next(self.samples, None)

    prepared = out + ".prepared.onnx"
    try:
        quant_pre_process(model, prepared)
    except Exception:
        quant_pre_process(model, prepared, skip_symbolic_shape=True)
    quantize_static(prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                    calibrate_method={"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
                                      "percentile": CalibrationMethod.Percentile}[method])


def timed(command):
    """(exit status, wall seconds, peak MB, stderr) of a process pinned to one core."""
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                               preexec_fn=lambda: os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}))
    error = process.stderr.read().decode(errors="replace")
    _, status, usage = os.wait4(process.pid, 0)
    return os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss / 1024, error


def latency(reference, candidate, entry, corpus, measure, calls):
    """p50 of the candidate over p50 of the reference, called in turn."""
    import numpy as np
    arrays, scale = measure.load(os.path.join(corpus, entry["eval"]))
    feed = {}
    for port in entry["inputs"]:
        array = arrays[port["name"]]
        array = array[0] if entry["feeding"] == "index" else array[:1]
        if port["name"] in scale:
            array = (array.astype(np.float32) * scale[port["name"]][0] + scale[port["name"]][1]).astype(np.float32)
        feed[port["name"]] = np.asarray(array)
    sessions = [measure.session(reference, 1), measure.session(candidate, 1)]
    times = [[], []]
    for i in range(calls + 5):
        for s in (0, 1):
            start = time.perf_counter()
            sessions[s].run(None, feed)
            if i >= 5:
                times[s].append(time.perf_counter() - start)
    return float(np.median(times[1]) / np.median(times[0]))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("corpus")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--models", default="")
    parser.add_argument("--methods", default="minmax,percentile,entropy")
    parser.add_argument("--limit", type=int, default=0, help="evaluation samples; 0: all")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--json", default="")
    parser.add_argument("--peer", nargs=5, metavar=("MODEL", "CALIB", "OUT", "METHOD", "SAMPLES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(*args.peer[:4], int(args.peer[4]))

    spec = importlib.util.spec_from_file_location("measure", os.path.join(args.corpus, "measure.py"))
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    entries = json.load(open(os.path.join(args.corpus, "corpus.json")))["models"]
    wanted = [n for n in args.models.split(",") if n]
    rows, missed = [], []
    print(f"{'model':20} {'tool':16} {'exit':>4} {'wall s':>8} {'peak MB':>8} {'bytes':>10} {'x':>6} {'score':>7} {'fp32':>7} "
          f"{'agree':>7} {'SQNR':>6} {'latency':>8}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for entry in entries:
            if wanted and entry["name"] not in wanted:
                continue
            model, calib = (os.path.join(args.corpus, entry[k]) for k in ("model", "calib"))
            samples = 48 if entry["bytes"] > 8_000_000 else 128
            runs = [("mcompress", [args.binary, "quantize", model, "-o", os.path.join(folder, "mcompress.onnx"), "--mode", "static",
                                   "--calib", calib, "--quiet"])]
            runs += [("mcompress-weights", [args.binary, "quantize", model, "-o", os.path.join(folder, "weights.onnx"), "--mode",
                                            "weight-only", "--quiet"])]
            runs += [("ort-" + m, [sys.executable, __file__, args.corpus, "--peer", model, calib, os.path.join(folder, m + ".onnx"),
                                   m, str(samples)]) for m in args.methods.split(",") if m and entry["feeding"] == "slice"]
            ours, best = {}, None
            for tool, command in runs:
                out = command[4] if tool.startswith("mcompress") else command[6]
                if os.path.exists(out):
                    os.remove(out)
                status, wall, peak, error = timed(command)
                row = {"model": entry["name"], "tool": tool, "exit": status, "wall": wall, "peak_mb": peak}
                if os.path.exists(out):
                    try:
                        row.update(measure.measure(args.corpus, entry, out, args.limit, 1))
                        row["latency"] = latency(model, out, entry, args.corpus, measure, args.calls)
                    except Exception as problem:
                        row["problem"] = str(problem).splitlines()[0][:100]
                else:
                    row["problem"] = (error.strip().splitlines() or ["no output"])[-1][:100]
                rows.append(row)
                nan = float("nan")
                ratio = entry["bytes"] / row["bytes"] if "bytes" in row else nan
                sqnr = row.get("sqnr_db", nan)
                sqnr = "exact" if sqnr is None else f"{sqnr:.1f}"
                print(f"{row['model']:20} {tool:16} {status:4} {wall:8.3f} {peak:8.1f} {row.get('bytes', 0):10} {ratio:6.2f} "
                      f"{row.get('value', nan):7.4f} {entry['metric']['value']:7.4f} {row.get('agreement', nan):7.4f} {sqnr:>6} "
                      f"{row.get('latency', nan):8.3f} {row.get('problem', '')}", flush=True)
                if tool == "mcompress":
                    ours = row
                elif tool.startswith("ort-") and "value" in row:
                    best = max(best or 0, row["value"])
            bounds = [("runs", "value" in ours),
                      ("score", ours.get("value", 0) >= entry["metric"]["value"] - (0.13 if entry["metric"]["kind"] == "agreement" else 0.005)),
                      ("best peer", best is None or ours.get("value", 0) >= best),
                      ("latency", ours.get("latency", 9) <= 1.0)]
            missed += [f"{entry['name']}: {name}" for name, held in bounds if not held]
    if args.json:
        json.dump(rows, open(args.json, "w"), indent=1)
    print("missed: " + ", ".join(missed) if missed else "every bound held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
