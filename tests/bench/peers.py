#!/usr/bin/env python3
"""Compares `mcompress quantize` with onnxruntime.quantization.quantize_static, and its weight-only mode with quantize-rs, model
by model, in one run.

    python3 tests/bench/peers.py CORPUS [--binary build/release/mcompress] [--models a,b] [--methods minmax,percentile,entropy]
                                        [--limit N] [--calls N] [--repeat N] [--pin] [--json FILE]

CORPUS is a folder with corpus.json (models, calibration and evaluation arrays) and measure.py, which scores a model file on
an entry's evaluation data. Each tool runs as a process of its own, start included; --repeat takes the fastest of N runs, --pin
keeps each tool on one core. Both write a file, and the files are scored and timed alike: one thread, float32 and candidate
called in turn. Prints one table, a line of ratios per model, and the bounds that were missed (then the exit status is 1).
Needs numpy, onnx and the newest onnxruntime; quantize-rs (its package is quantization-rs) is left out where it is missing."""
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

    def quantize(source):
        quantize_static(source, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                        activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
                        calibrate_method={"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy,
                                          "percentile": CalibrationMethod.Percentile}[method])

    try:
        quantize(prepared)
    except Exception:  # its own preprocessing is too much for it on some models
        quantize(model)


def weights_peer(model, out):
    """quantize-rs: int8 weights per channel, symmetric."""
    import quantize_rs
    quantize_rs.quantize(model, out, bits=8, per_channel=True, symmetric=True)


class Runner:
    """Starts processes from a process of its own that has stayed small: what a process held before it became another program
    counts into its peak memory, and this one will hold models and arrays."""

    def __init__(self, pin):
        (requests, self.write), (self.read, answers) = os.pipe(), os.pipe()
        if os.fork() == 0:
            if pin:
                os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
            with os.fdopen(requests) as lines, os.fdopen(answers, "w") as out:
                os.close(self.write)
                for line in lines:
                    print(json.dumps(self.timed(json.loads(line))), file=out, flush=True)
            os._exit(0)
        self.requests, self.answers = os.fdopen(self.write, "w"), os.fdopen(self.read)

    @staticmethod
    def timed(command):
        """(exit status, wall seconds, peak MB, stderr) of a process."""
        start = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        error = process.stderr.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        return os.waitstatus_to_exitcode(status), time.perf_counter() - start, usage.ru_maxrss / 1024, error

    def run(self, command):
        print(json.dumps(command), file=self.requests, flush=True)
        return json.loads(self.answers.readline())


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
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--json", default="")
    parser.add_argument("--weights-peer", nargs=2, metavar=("MODEL", "OUT"), help=argparse.SUPPRESS)
    parser.add_argument("--peer", nargs=5, metavar=("MODEL", "CALIB", "OUT", "METHOD", "SAMPLES"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.peer:
        return peer(*args.peer[:4], int(args.peer[4]))
    if args.weights_peer:
        return weights_peer(*args.weights_peer)

    runner = Runner(args.pin)
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
            if importlib.util.find_spec("quantize_rs"):
                runs += [("quantize-rs", [sys.executable, __file__, args.corpus, "--weights-peer", model,
                                          os.path.join(folder, "quantize-rs.onnx")])]
            runs += [("ort-" + m, [sys.executable, __file__, args.corpus, "--peer", model, calib, os.path.join(folder, m + ".onnx"),
                                   m, str(samples)]) for m in args.methods.split(",") if m and entry["feeding"] == "slice"]
            ours, weights, weights_peer_row, best, fastest = {}, {}, {}, None, None
            for tool, command in runs:
                out = next(a for a in command if a.startswith(folder))
                if os.path.exists(out):
                    os.remove(out)
                status, wall, peak, error = min((runner.run(command) for _ in range(args.repeat)), key=lambda r: r[1])
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
                elif tool == "mcompress-weights":
                    weights = row
                elif tool == "quantize-rs":
                    weights_peer_row = row if "value" in row else {}
                elif "value" in row:
                    best = max(best or 0, row["value"])
                    fastest = min(fastest or wall, wall)
            if fastest:
                print(f"{entry['name']:20} static: {fastest / ours['wall']:.1f} x as fast as the fastest peer", end="")
            if weights_peer_row:
                print(f"{'; ' if fastest else entry['name']} weight-only: {weights_peer_row['wall'] / weights['wall']:.1f} x as fast as quantize-rs, "
                      f"{weights['peak_mb'] / weights_peer_row['peak_mb']:.2f} x its memory", end="")
            print(flush=True)
            bounds = [("runs", "value" in ours),
                      ("score", ours.get("value", 0) >= entry["metric"]["value"] - (0.13 if entry["metric"]["kind"] == "agreement" else 0.005)),
                      ("best peer", best is None or ours.get("value", 0) >= best),
                      ("latency", ours.get("latency", 9) <= 1.0),
                      ("time", fastest is None or fastest / ours["wall"] >= (10 if entry["bytes"] < 2_000_000 else 3)),
                      ("weight-only time", not weights_peer_row or weights["wall"] <= weights_peer_row["wall"]),
                      ("weight-only memory", not weights_peer_row or weights["peak_mb"] <= weights_peer_row["peak_mb"])]
            missed += [f"{entry['name']}: {name}" for name, held in bounds if not held]
    if args.json:
        json.dump(rows, open(args.json, "w"), indent=1)
    print("missed: " + ", ".join(missed) if missed else "every bound held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
