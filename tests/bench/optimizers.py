#!/usr/bin/env python3
"""Compares `mcompress optimize` with onnxsim, OnnxSlim and ONNX Runtime's offline-optimised model, model by model, in one run.

    python3 tests/bench/optimizers.py MODEL... [--binary build/release/mcompress] [--seconds N] [--json FILE]

Each tool runs as a process of its own, start included. Nodes count nested graphs; latency is ONNX Runtime's with all of its
optimisations on top, one thread, the results called in turn on seeded inputs (open dimensions: --open, 1 by default); `x` is the
original's median over the result's. Prints one table and, per model, whether nodes and latency (within 3 %) are no worse than the
best peer's, and how much faster the tool was than onnxsim. Needs numpy, onnx, onnxruntime; onnxsim and onnxslim where installed."""
import argparse, json, os, subprocess, sys, tempfile, time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from peers import Runner


def offline(level, source, target):
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
    options.optimized_model_filepath = target
    options.log_severity_level = 3
    ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def nodes(graph):
    return sum(1 + sum(nodes(a.g) for a in node.attribute if a.HasField("g")) for node in graph.node)


def feeds(session, free):
    import numpy as np
    random, result = np.random.default_rng(0), {}
    for port in session.get_inputs():
        shape = [d if isinstance(d, int) and d > 0 else free for d in port.shape]
        if port.type == "tensor(float)":
            result[port.name] = random.random(shape, dtype=np.float32)
        else:
            result[port.name] = np.zeros(shape, {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": bool}[port.type])
    return result


def latency(files, free, seconds):
    import numpy as np
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {name: ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for name, file in files.items()}
    try:
        data = feeds(next(iter(sessions.values())), free)
        times, end = {name: [] for name in files}, time.perf_counter() + seconds * len(files)
        while time.perf_counter() < end:
            for name, session in sessions.items():
                start = time.perf_counter()
                session.run(None, data)
                times[name].append(time.perf_counter() - start)
        return {name: float(np.median(series[len(series) // 5:])) for name, series in times.items()}
    except Exception as error:  # no inputs can be made up
        print(f"  latency: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return {}


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--offline":
        return offline(*sys.argv[2:5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--open", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    runner = Runner(False)  # forked while this process is small
    import onnx

    python = os.path.dirname(sys.executable)
    tools = {
        "mcompress": lambda m, o: [arguments.binary, "optimize", m, "-o", o, "--allow-larger", "-q"],
        "onnxsim": lambda m, o: [os.path.join(python, "onnxsim"), m, o],
        "onnxslim": lambda m, o: [os.path.join(python, "onnxslim"), m, o],
        "ort-basic": lambda m, o: [sys.executable, __file__, "--offline", "ORT_ENABLE_BASIC", m, o],
        "ort-extended": lambda m, o: [sys.executable, __file__, "--offline", "ORT_ENABLE_EXTENDED", m, o],
    }
    tools = {name: tool for name, tool in tools.items() if name not in ("onnxsim", "onnxslim") or os.path.exists(os.path.join(python, name))}
    rows, verdicts = [], []
    print(f"{'model':28} {'tool':13} {'nodes':>6} {'bytes':>11} {'seconds':>8} {'peak MB':>8} {'x':>6}")
    with tempfile.TemporaryDirectory() as folder:
        for model in arguments.models:
            name, files, found = "/".join(model.split("/")[-2:])[:28], {"original": model}, {}
            for tool, command in tools.items():
                target = os.path.join(folder, tool + ".onnx")
                if os.path.exists(target):
                    os.remove(target)
                status, seconds, peak, error = runner.run(command(model, target))
                if status == 0 and os.path.exists(target):
                    try:
                        found[tool] = {"nodes": nodes(onnx.load(target).graph), "bytes": os.path.getsize(target), "seconds": seconds, "peak": peak}
                        files[tool] = target
                    except Exception as broken:
                        error = str(broken)
                if tool not in found:
                    print(f"{name:28} {tool:13} failed: {error.strip().splitlines()[-1][:80] if error.strip() else status}")
            times = latency(files, arguments.open, arguments.seconds)
            for tool, row in found.items():
                row["times"] = times["original"] / times[tool] if tool in times else None
                print(f"{name:28} {tool:13} {row['nodes']:6} {row['bytes']:11,} {row['seconds']:8.2f} {row['peak']:8.0f} "
                      f"{row['times'] or float('nan'):6.2f}", flush=True)
                rows.append({"model": name, "tool": tool, **row})
            ours, peers = found["mcompress"], [r for t, r in found.items() if t not in ("mcompress", "ort-extended")]
            best = max((r["times"] or 0) for t, r in found.items() if t != "mcompress")
            sim = found.get("onnxsim")
            verdicts.append((name, ours["nodes"] <= min(r["nodes"] for r in peers), (ours["times"] or 0) >= 0.97 * best,
                             sim["seconds"] / ours["seconds"] if sim else None))
    print(f"\n{'model':28} nodes  latency  onnxsim's time over ours")
    for name, fewer, faster, ratio in verdicts:
        print(f"{name:28} {'ok' if fewer else 'WORSE':6} {'ok' if faster else 'WORSE':8} {f'{ratio:.1f}' if ratio else '-'}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 0 if all(fewer and faster for _, fewer, faster, _ in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
