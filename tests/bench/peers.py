#!/usr/bin/env python3
"""Compares `mcompress quantize` with other post-training quantizers, model by model, all files scored and timed alike.

    python3 tests/bench/peers.py FOLDER... [--binary build/release/mcompress] [--models a,b] [--tools ours,ort-minmax,nncf]
                                           [--python quark=/venv/bin/python] [--results DIR] [--timeout S] [--samples N]
                                           [--limit N] [--calls N] [--repeat N] [--pin] [--markdown]

A FOLDER has corpus.json (models, calibration and evaluation arrays); the first has measure.py, which scores a model file on an entry's
evaluation data. Each tool runs as a process of its own, start included; --repeat takes the fastest of N runs, --pin keeps each tool on
one core. Peers are the recipes of peer_recipes.py; --python names the interpreter of those whose names begin so, where they live in
environments of their own. Files are timed in one session each: one thread, float32 and candidate called in turn.

With --results every cell is kept as a JSON file, and cells that are there are not run again, so that a run that was cut off goes on.
Prints one line a cell, and at the end the bounds that were missed (then the exit status is 1); --markdown prints a table per model
instead of the bounds. Needs numpy, onnx and the newest onnxruntime."""
import argparse, importlib.util, json, os, signal, subprocess, sys, tempfile, time

RECIPES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "peer_recipes.py")
OURS = {"mcompress": ["--mode", "static"], "mcompress-best": ["--mode", "static", "--effort", "best"],
        "mcompress-weights": ["--mode", "weight-only"]}
STATIC_PEERS = ["ort-minmax", "ort-percentile", "ort-entropy", "ort-linear", "nncf", "nncf-transformer", "onnxsim", "onnxsim-full",
                "neural-compressor", "quark-a8w8", "quark-xint8"]
TOOLS = list(OURS) + STATIC_PEERS + ["quantize-rs"]


class Runner:
    """Starts processes from a process of its own that has stayed small: what a process held before it became another program
    counts into its peak memory, and this one will hold models and arrays."""

    def __init__(self, pin, timeout):
        self.timeout = timeout
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

    def timed(self, command):
        """(exit status, wall seconds, peak MB, last lines of output) of a process; 124 where it took too long."""
        start = time.perf_counter()
        with tempfile.TemporaryFile() as said:
            process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, start_new_session=True)
            late = []

            def stop(*_):
                late.append(True)
                os.killpg(process.pid, signal.SIGKILL)

            signal.signal(signal.SIGALRM, stop)
            signal.alarm(self.timeout)
            _, status, usage = os.wait4(process.pid, 0)
            signal.alarm(0)
            wall = time.perf_counter() - start
            said.seek(max(0, said.seek(0, 2) - 4000))
            text = said.read().decode(errors="replace")
        return 124 if late else os.waitstatus_to_exitcode(status), wall, usage.ru_maxrss / 1024, text

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


def command_of(tool, entry, model, calib, out, samples, args):
    if tool in OURS:
        data = [] if tool == "mcompress-weights" else ["--calib", calib, "--feeding", entry["feeding"]]
        return [args.binary, "quantize", model, "-o", out, "--quiet", *OURS[tool], *data]
    python = next((p for name, _, p in (pair.partition("=") for pair in args.python) if tool.startswith(name)), sys.executable)
    return [python, RECIPES, tool, model, calib, out, str(samples), entry["feeding"]]


def cell(tool, entry, folder, measure, runner, args):
    """What one tool made of one model."""
    model, calib = (os.path.join(folder, entry[k]) for k in ("model", "calib"))
    samples = args.samples or (48 if entry["bytes"] > 8_000_000 else 128)
    row = {"model": entry["name"], "tool": tool, "float32": entry["metric"]["value"], "metric": entry["metric"]["kind"],
           "float32_bytes": entry["bytes"], "samples": samples}
    with tempfile.TemporaryDirectory() as place:
        out = os.path.join(place, "out.onnx")
        command = command_of(tool, entry, model, calib, out, samples, args)
        command = ["env", "-C", place, *command]  # some leave files where they were started
        status, wall, peak, said = min((runner.run(command) for _ in range(args.repeat)), key=lambda r: r[1])
        row.update(exit=status, wall=wall, peak_mb=peak)
        lines = [line for line in said.strip().splitlines() if line.strip()]
        if tool not in OURS and lines and lines[-1].startswith("{"):
            row["versions"] = json.loads(lines[-1])
        if status == 124:
            row["problem"] = f"stopped after {args.timeout} s"
        elif not os.path.exists(out):
            row["problem"] = (lines or ["no output"])[-1][:160]
        else:
            try:
                row.update(measure.measure(folder, entry, out, args.limit, 1))
                row["latency"] = latency(model, out, entry, folder, measure, args.calls)
            except Exception as problem:
                row["problem"] = str(problem).splitlines()[0][:160]
            # Some write their weights beside the model.
            row["bytes"] = sum(os.path.getsize(os.path.join(place, f)) for f in os.listdir(place) if ".prepared" not in f)
    return row


def decibels(row):
    return "" if "sqnr_db" not in row else "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"


def line(row):
    nan = float("nan")
    return (f"{row['model']:20} {row['tool']:18} {row['exit']:4} {row['wall']:8.3f} {row['peak_mb']:8.1f} {row.get('bytes', 0):10} "
            f"{row['float32_bytes'] / row['bytes'] if row.get('bytes') else nan:6.2f} {row.get('value', nan):7.4f} {row['float32']:7.4f} "
            f"{row.get('agreement', nan):7.4f} {decibels(row):>6} {row.get('latency', nan):8.3f} {row.get('problem', '')}")


def markdown(rows):
    for name in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == name]
        print(f"\n### {name} ({mine[0]['metric']}, float32 {mine[0]['float32']:.4f}, {mine[0]['float32_bytes']:,} bytes)\n")
        print("| tool | score | agreement | SQNR dB | bytes | latency / float32 | seconds | peak MB |\n|---|---|---|---|---|---|---|---|")
        for row in mine:
            if "latency" in row:
                print(f"| {row['tool']} | {row['value']:.4f} | {row['agreement']:.4f} | {decibels(row)} | {row['bytes']:,} | "
                      f"{row['latency']:.2f} | {row['wall']:.1f} | {row['peak_mb']:.0f} |")
            else:
                print(f"| {row['tool']} | {row.get('problem', '')[:90]} | | | | | {row['wall']:.1f} | {row['peak_mb']:.0f} |")


def missed_bounds(rows):
    missed = []
    for name in dict.fromkeys(row["model"] for row in rows):
        of = {row["tool"]: row for row in rows if row["model"] == name}
        ours = of.get("mcompress")
        if ours is None:
            continue
        ran = [row for tool, row in of.items() if tool in STATIC_PEERS and "latency" in row and row["bytes"] < 0.6 * row["float32_bytes"]]
        fastest = min((row["wall"] for row in ran), default=None)
        weights, weights_peer = of.get("mcompress-weights"), of.get("quantize-rs", {})
        agreement = ours["metric"] == "agreement"
        bounds = [("runs", "value" in ours),
                  ("score", ours.get("value", 0) >= ours["float32"] - (0.08 if agreement else 0.005)),
                  ("best peer's score", all(ours.get("value", 0) >= row["value"] for row in ran)),
                  ("latency", ours.get("latency", 9) <= 1.0),
                  ("time", fastest is None or fastest / ours["wall"] >= (10 if ours["float32_bytes"] < 2_000_000 else 3))]
        if weights and "value" in weights_peer:
            bounds += [("weight-only time", weights["wall"] <= weights_peer["wall"]),
                       ("weight-only memory", weights["peak_mb"] <= weights_peer["peak_mb"])]
        missed += [f"{name}: {bound}" for bound, held in bounds if not held]
    return missed


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--models", default="")
    parser.add_argument("--tools", default=",".join(TOOLS))
    parser.add_argument("--python", action="append", default=[], metavar="NAME=PATH")
    parser.add_argument("--results", default="")
    parser.add_argument("--timeout", type=int, default=600, help="seconds per run of a tool")
    parser.add_argument("--samples", type=int, default=0, help="calibration samples of the peers; 0: 48 for large models, else 128")
    parser.add_argument("--limit", type=int, default=0, help="evaluation samples; 0: all")
    parser.add_argument("--calls", type=int, default=100)
    parser.add_argument("--repeat", type=int, default=1)
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    args.binary = os.path.abspath(args.binary)
    args.folders = [os.path.abspath(folder) for folder in args.folders]
    runner = Runner(args.pin, args.timeout)
    spec = importlib.util.spec_from_file_location("measure", os.path.join(args.folders[0], "measure.py"))
    measure = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(measure)
    models = [n for n in args.models.split(",") if n]
    rows = []
    print(f"{'model':20} {'tool':18} {'exit':>4} {'wall s':>8} {'peak MB':>8} {'bytes':>10} {'x':>6} {'score':>7} {'fp32':>7} "
          f"{'agree':>7} {'SQNR':>6} {'latency':>8}", flush=True)
    for folder in args.folders:
        for entry in json.load(open(os.path.join(folder, "corpus.json")))["models"]:
            if models and entry["name"] not in models:
                continue
            for tool in [t for t in args.tools.split(",") if t]:
                kept = os.path.join(args.results, f"{entry['name']}.{tool}.json") if args.results else ""
                if kept and os.path.exists(kept):
                    row = json.load(open(kept))
                else:
                    row = cell(tool, entry, folder, measure, runner, args)
                    if kept:
                        os.makedirs(args.results, exist_ok=True)
                        json.dump(row, open(kept + ".part", "w"), indent=1)
                        os.replace(kept + ".part", kept)
                rows.append(row)
                print(line(row), flush=True)
    if args.markdown:
        return markdown(rows)
    missed = missed_bounds(rows)
    print("missed: " + ", ".join(missed) if missed else "every bound held")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
