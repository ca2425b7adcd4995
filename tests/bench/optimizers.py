#!/usr/bin/env python3
"""Compares `mcompress optimize` with onnxsim, OnnxSlim and ONNX Runtime's offline-optimised model, model by model, in one run.

    python3 tests/bench/optimizers.py [MODEL...] [--fixtures [NAME...]] [--tools NAME...] [--binary build/release/mcompress]
        [--seconds N] [--json FILE]

--fixtures adds the models of exporter_fixtures.py (all, or those named), made in a temporary folder. Each tool runs as a process of
its own, start included. Nodes count nested graphs; latency is ONNX Runtime's with all of its optimisations on top, one thread, the
results called in turn (processor time of the one thread) on the first sample of a calib.npz beside the model, else on seeded
inputs (open dimensions: --open, 1 by default); `x` is the original's median over the result's; `diff` the largest difference to the original's outputs, relative to their
largest value. Prints one table and, per model, whether nodes and latency (within 3 %) are no worse than the best portable
peer's, better (nodes fewer, or latency more than 3 % faster), how much faster the tool was than onnxsim, and the same for
`mcompress optimize --target onnxruntime-cpu --allow-contrib` (mcompress-ort) against ONNX Runtime's extended model: both use
operators that only that runtime knows. A peer whose result differs by more than 1e-3 does not count. --tools runs only those named.
Needs numpy, onnx, onnxruntime; onnxsim and onnxslim where installed."""
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


def feeds(session, free, samples=None):
    """Inputs: the first sample of `samples` (arrays by input name, samples on the first axis) or made up."""
    import numpy as np
    from exporter_fixtures import OPEN
    random, result = np.random.default_rng(0), {}
    for port in session.get_inputs():
        if samples is not None:
            array = samples[port.name]
            result[port.name] = array[:1] if array.ndim == len(port.shape) else np.asarray(array[0])
            continue
        shape = [d if isinstance(d, int) and d > 0 else OPEN.get(d, free) for d in port.shape]
        if port.type == "tensor(float)":
            result[port.name] = random.random(shape, dtype=np.float32)
        else:
            kind = {"tensor(int64)": np.int64, "tensor(int32)": np.int32, "tensor(bool)": bool}[port.type]
            result[port.name] = random.integers(0, 2, shape).astype(kind)
    return result


def difference(expected, found):
    """Largest difference of two lists of outputs, relative to the largest expected value of each."""
    import numpy as np
    worst = 0.0
    for e, f in zip(expected, found):
        e, f = np.asarray(e), np.asarray(f)
        if e.shape != f.shape:
            return float("inf")
        if e.size and e.dtype.kind in "fiub":
            e, f = e.astype(np.float64), f.astype(np.float64)
            worst = max(worst, float(np.max(np.abs(e - f)) / max(np.max(np.abs(e)), 1e-30)))
    return worst


def latency(files, free, seconds, samples):
    """Median seconds of a call and difference to the original, by name."""
    import numpy as np
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    sessions = {name: ort.InferenceSession(file, options, providers=["CPUExecutionProvider"]) for name, file in files.items()}
    try:
        data = feeds(next(iter(sessions.values())), free, samples)
        answers = {name: session.run(None, data) for name, session in sessions.items()}
        times, end, turn = {name: [] for name in files}, time.perf_counter() + seconds * len(files), 0
        order = list(sessions.items())
        while time.perf_counter() < end:
            turn += 1
            for i in range(len(order)):  # nobody always follows the same neighbour
                name, session = order[(i * (1 if turn % 2 else -1) + turn) % len(order)]
                start = time.thread_time()
                session.run(None, data)
                times[name].append(time.thread_time() - start)
        return {name: (float(np.median(series[len(series) // 5:])), difference(answers["original"], answers[name]))
                for name, series in times.items()}
    except Exception as error:  # no inputs can be made up
        print(f"  latency: {str(error).splitlines()[0][:100]}", file=sys.stderr)
        return {}


def main():
    if len(sys.argv) > 1 and sys.argv[1] == "--offline":
        return offline(*sys.argv[2:5])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--fixtures", nargs="*", metavar="NAME")
    parser.add_argument("--tools", nargs="+", metavar="NAME")
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--open", type=int, default=1)
    parser.add_argument("--json")
    arguments = parser.parse_args()
    runner = Runner(False, 600)  # forked while this process is small
    import numpy as np
    import onnx

    python = os.path.dirname(sys.executable)
    tools = {
        "mcompress": lambda m, o: [arguments.binary, "optimize", m, "-o", o, "--allow-larger", "-q"],
        "mcompress-ort": lambda m, o: [arguments.binary, "optimize", m, "-o", o, "--target", "onnxruntime-cpu", "--allow-contrib",
                                       "--allow-larger", "-q"],
        "onnxsim": lambda m, o: [os.path.join(python, "onnxsim"), m, o],
        "onnxslim": lambda m, o: [os.path.join(python, "onnxslim"), m, o],
        "ort-basic": lambda m, o: [sys.executable, __file__, "--offline", "ORT_ENABLE_BASIC", m, o],
        "ort-extended": lambda m, o: [sys.executable, __file__, "--offline", "ORT_ENABLE_EXTENDED", m, o],
    }
    for name in ("onnxsim", "onnxslim"):
        if not os.path.exists(os.path.join(python, name)):
            del tools[name]
    if arguments.tools:
        tools = {name: command for name, command in tools.items() if name in arguments.tools}
    rows, verdicts = [], []
    print(f"{'model':28} {'tool':13} {'nodes':>6} {'bytes':>11} {'seconds':>8} {'peak MB':>8} {'x':>6} {'diff':>8}")
    with tempfile.TemporaryDirectory() as folder:
        models = list(arguments.models)
        if arguments.fixtures is not None:
            from exporter_fixtures import write
            models += write(folder, arguments.fixtures)
        for model in models:
            data = os.path.join(os.path.dirname(model), "calib.npz")
            samples = dict(np.load(data)) if os.path.exists(data) and model in arguments.models else None
            name, files, found = "/".join(model.split("/")[-2 if model in arguments.models else -1:])[:28], {"original": model}, {}
            for tool, command in tools.items():
                target = os.path.join(folder, tool + ".onnx")
                if os.path.exists(target):
                    os.remove(target)
                status, seconds, peak, error = runner.run(command(model, target))
                if status == 0 and os.path.exists(target):
                    try:
                        found[tool] = {"nodes": nodes(onnx.load(target).graph), "bytes": os.path.getsize(target),
                                       "seconds": seconds, "peak": peak}
                        files[tool] = target
                    except Exception as broken:
                        error = str(broken)
                if tool not in found:
                    print(f"{name:28} {tool:13} failed: {error.strip().splitlines()[-1][:80] if error.strip() else status}")
            times = latency(files, arguments.open, arguments.seconds, samples)
            for tool, row in found.items():
                row["times"] = times["original"][0] / times[tool][0] if tool in times else None
                row["diff"] = times[tool][1] if tool in times else None
                print(f"{name:28} {tool:13} {row['nodes']:6} {row['bytes']:11,} {row['seconds']:8.2f} {row['peak']:8.0f} "
                      f"{row['times'] or float('nan'):6.2f} {float('nan') if row['diff'] is None else row['diff']:8.1e}", flush=True)
                rows.append({"model": name, "tool": tool, **row})
            own, only_ort = ("mcompress", "mcompress-ort"), ("mcompress-ort", "ort-extended")
            sound = {t: r for t, r in found.items() if t in own or (r["diff"] or 0) <= 1e-3}
            verdict = {}
            for ours, peers in (("mcompress", [t for t in sound if t not in own + only_ort]), ("mcompress-ort", ["ort-extended"])):
                mine, others = sound.get(ours), [sound[t] for t in peers if t in sound]
                if mine is None or not others:
                    continue
                fewest, best = min(r["nodes"] for r in others), max(r["times"] or 0 for r in others)
                speed = mine["times"] or 0
                verdict[ours] = (mine["nodes"] <= fewest, speed >= 0.97 * best, mine["nodes"] < fewest or speed > 1.03 * best)
            simple = found.get("onnxsim")
            verdicts.append((name, verdict, simple["seconds"] / found["mcompress"]["seconds"]
                             if simple and "mcompress" in found else None))
    print(f"\n{'model':28} {'tool':13} nodes  latency  better  onnxsim's time over ours")
    worse = False
    for name, verdict, ratio in verdicts:
        for tool, (fewer, faster, better) in verdict.items():
            worse |= not (fewer and faster)
            print(f"{name:28} {tool:13} {'ok' if fewer else 'WORSE':6} {'ok' if faster else 'WORSE':8} {'yes' if better else '-':7} "
                  f"{f'{ratio:.1f}' if ratio and tool == 'mcompress' else '-'}")
    for tool in ("mcompress", "mcompress-ort"):
        found = [verdict[tool][2] for _, verdict, _ in verdicts if tool in verdict]
        if found:
            print(f"{tool} is better on {sum(found)} of {len(found)}")
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(rows, file, indent=1)
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
