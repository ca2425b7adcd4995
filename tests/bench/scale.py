#!/usr/bin/env python3
"""How `mcompress optimize` grows with the number of nodes and with the bytes of the weights, in one run.

    python3 tests/bench/scale.py [--binary build/release/mcompress] [--nodes 5000,10000,...] [--gigabytes 2] [--folder DIR]
                                 [--only nodes|bytes|bits] [--rounds 2] [--count perf|callgrind|none] [--json FILE]

Nodes: graphs of convolutions with BatchNormalization and residual additions, attention blocks with their normalisation written
out, reshapes by shape arithmetic and If bodies, with small weights; seconds with `--guard off --no-verify` and with the defaults,
the best of --rounds, and the processor time's ratio to the size before: more than 2.2 per doubling is flagged. Instructions
executed per node tell an algorithm that grows from caches that are left behind: counted by `perf stat` where the processor's
counters can be read, else, when asked for, by Callgrind (some fifty times slower, without the proof in the runtime).
`runtime` is the processor time that ONNX Runtime takes to open the two models as the guard does, without its optimisations.
Bytes: matrix products with a bias, weights of random bytes in four data files, and in the model file itself. Time is compared with
copying the same files with a flush, in turn; peak anonymous and file-backed memory are sampled every 10 ms. `few` changes two
weights, `all` rescales every one; `uint4` (--only bits) stores all in 4 bits with a scale per block. Less than 0.6 of the copy's
speed, or more than 500 MB of anonymous memory, is flagged, and for few bits more than a matrix and 300 MB resident, mapped files included.
Everything is made in a temporary folder (in DIR) and removed. Needs numpy and onnx."""
import argparse, json, os, re, shutil, subprocess, sys, tempfile, time

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CHANNELS, SIDE = 8, 6


class Graph:
    def __init__(self, seed):
        self.random, self.nodes, self.initializers, self.count = np.random.default_rng(seed), [], [], 0

    def op(self, kind, *inputs, **attributes):
        self.count += 1
        self.nodes.append(helper.make_node(kind, inputs, [f"t{self.count}"], name=f"n{self.count}", **attributes))
        return f"t{self.count}"

    def tensor(self, array):
        self.initializers.append(numpy_helper.from_array(array, f"w{len(self.initializers)}"))
        return self.initializers[-1].name

    def floats(self, *shape, low=-0.3, high=0.3):
        return self.tensor(self.random.uniform(low, high, shape).astype(np.float32))

    def ints(self, *values):
        return self.op("Constant", value=numpy_helper.from_array(np.array(values, np.int64)))

    def scalar(self, value):
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, np.float32)))

    def conv(self, x):
        y = self.op("Conv", x, self.floats(CHANNELS, CHANNELS, 3, 3, low=-0.1, high=0.1), kernel_shape=[3, 3], pads=[1] * 4)
        return self.op("BatchNormalization", y, self.floats(CHANNELS, low=0.7, high=1.3), self.floats(CHANNELS), self.floats(CHANNELS),
                       self.floats(CHANNELS, low=0.7, high=1.3))

    def residual(self, x):
        return self.op("Relu", self.op("Add", x, self.conv(self.op("Relu", self.conv(x)))))

    def size(self, x, axis):
        return self.op("Unsqueeze", self.op("Gather", self.op("Shape", x), self.op("Constant", value_int=axis)), self.ints(0))

    def norm(self, x):
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1]))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.scalar(2)), axes=[-1])
        y = self.op("Div", centred, self.op("Sqrt", self.op("Add", variance, self.scalar(1e-5))))
        return self.op("Add", self.op("Mul", y, self.floats(CHANNELS, low=0.7, high=1.3)), self.floats(CHANNELS))

    def linear(self, x, inputs=CHANNELS, outputs=CHANNELS):
        return self.op("Add", self.op("MatMul", x, self.floats(inputs, outputs)), self.floats(outputs))

    def attention(self, x):
        rows = self.op("Reshape", x, self.op("Concat", self.size(x, 0), self.ints(CHANNELS), self.ints(SIDE * SIDE), axis=0))
        rows = self.op("Transpose", rows, perm=[0, 2, 1])
        h = self.norm(rows)
        q, k, v = (self.linear(h) for _ in range(3))
        scores = self.op("Mul", self.op("MatMul", q, self.op("Transpose", k, perm=[0, 2, 1])), self.scalar(0.35))
        rows = self.op("Add", rows, self.linear(self.op("MatMul", self.op("Softmax", scores, axis=-1), v)))
        h = self.linear(self.norm(rows), CHANNELS, 2 * CHANNELS)
        gate = self.op("Add", self.op("Erf", self.op("Div", h, self.scalar(np.sqrt(2)))), self.scalar(1))
        h = self.op("Mul", self.op("Mul", h, gate), self.scalar(0.5))
        rows = self.op("Add", rows, self.linear(h, 2 * CHANNELS, CHANNELS))
        shape = self.op("Concat", self.size(x, 0), self.ints(CHANNELS, SIDE, SIDE), axis=0)
        return self.op("Reshape", self.op("Transpose", rows, perm=[0, 2, 1]), shape)

    def choice(self, x):
        bodies = []
        for factor in (0.5, 0.25):
            self.count += 1
            name = f"b{self.count}"
            constant = helper.make_node("Constant", [], [name + "c"], value=numpy_helper.from_array(np.float32(factor)))
            nodes = [constant, helper.make_node("Mul", [x, name + "c"], [name + "m"]),
                     helper.make_node("Identity", [name + "m"], [name])]
            bodies.append(helper.make_graph(nodes, name + "g", [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, None)]))
            self.count += len(nodes)
        return self.op("If", "choose", then_branch=bodies[0], else_branch=bodies[1])


def deep(nodes):
    """Of about so many nodes, those of bodies included."""
    g, y, blocks = Graph(1), "input", 0
    while g.count < nodes:
        for _ in range(6):
            y = g.residual(y)
        y = g.attention(y)
        blocks += 1
        if blocks % 3 == 0:
            y = g.choice(y)
    y = g.op("Relu", y)
    shape = ["batch", CHANNELS, SIDE, SIDE]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape),
              helper.make_tensor_value_info("choose", TensorProto.BOOL, [])]
    graph = helper.make_graph(g.nodes, "deep", inputs, [helper.make_tensor_value_info(y, TensorProto.FLOAT, shape)], g.initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), g.count


WIDTH = 8192  # 256 MiB a matrix


class Big:
    """A chain of MatMul, Add and, where weights are to change, Mul. Written piece by piece, never held."""

    def __init__(self, folder, gigabytes, changes, inline):
        self.folder, self.files, self.turn = folder, [], 0
        count = max(2, round(gigabytes * 1e9 / (WIDTH * WIDTH * 4)))
        self.names = [f"matrix{i}" for i in range(count)]
        random = np.random.default_rng(2)
        nodes, small, y = [], [], "x"
        for i, name in enumerate(self.names):
            def vector(kind, low, high):
                small.append(numpy_helper.from_array(random.uniform(low, high, WIDTH).astype(np.float32), kind + str(i)))
                return small[-1].name
            steps = [("MatMul", name)] + [("Mul", vector("scale", 0.5, 2))] * (changes == "all" or i < 2)
            steps += [("Add", vector("bias", -1, 1)), ("Relu", None)]
            for kind, operand in steps:
                nodes.append(helper.make_node(kind, [y] + [operand] * (operand is not None), [f"{kind}{i}"]))
                y = f"{kind}{i}"
        info = lambda name: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", WIDTH])
        graph = helper.make_graph(nodes, "big", [info("x")], [info(y)], small)
        self.model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        self.pattern = random.uniform(-0.02, 0.02, 1 << 20).astype(np.float32).tobytes()
        self.path = os.path.join(folder, "big.onnx")
        self.write_inline() if inline else self.write_beside()

    def matrix(self, file):
        for _ in range(WIDTH * WIDTH * 4 // len(self.pattern)):  # no two blocks alike
            self.turn = (self.turn + 68) % len(self.pattern)
            file.write(self.pattern[self.turn:] + self.pattern[:self.turn])

    def write_beside(self):
        parts = 4
        for part in range(parts):
            self.files.append(f"weights-{part}.bin")
            with open(os.path.join(self.folder, self.files[-1]), "wb") as file:
                for name in self.names[part::parts]:
                    tensor = self.model.graph.initializer.add(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH])
                    tensor.data_location = TensorProto.EXTERNAL
                    for key, value in (("location", self.files[-1]), ("offset", file.tell()), ("length", WIDTH * WIDTH * 4)):
                        tensor.external_data.add(key=key, value=str(value))
                    self.matrix(file)
        onnx.save(self.model, self.path)
        self.files.append("big.onnx")

    def write_inline(self):
        """In the wire format by hand: a message of more than 2 GB can not be made by protobuf."""
        def varint(value):
            out = bytearray()
            while value > 127:
                out.append(value & 127 | 128)
                value >>= 7
            return bytes(out + bytes([value]))
        size = WIDTH * WIDTH * 4
        heads = []
        for name in self.names:
            head = onnx.TensorProto(name=name, data_type=TensorProto.FLOAT, dims=[WIDTH, WIDTH]).SerializeToString() + b"\x4a" + varint(size)
            heads.append(b"\x2a" + varint(len(head) + size) + head)
        small = self.model.graph.SerializeToString()
        self.model.ClearField("graph")
        with open(self.path, "wb") as file:
            length = len(small) + sum(map(len, heads)) + size * len(heads)
            file.write(self.model.SerializeToString() + b"\x3a" + varint(length) + small)
            for head in heads:
                file.write(head)
                self.matrix(file)
        self.files.append("big.onnx")


def run(command):
    """Wall seconds, processor seconds, and peak anonymous, file-backed and resident megabytes."""
    start, peaks = time.perf_counter(), {"RssAnon": 0, "RssFile": 0, "VmRSS": 0}
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors)
        while True:
            found, status, usage = os.wait4(process.pid, os.WNOHANG)
            if found:
                break
            with open(f"/proc/{process.pid}/status") as lines:
                for line in lines:
                    key = line.split(":")[0]
                    if key in peaks:
                        peaks[key] = max(peaks[key], int(line.split()[1]) / 1024)
            time.sleep(0.01)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            sys.exit(f"{' '.join(command)}: {errors.read().decode(errors='replace')}")
    return seconds, usage.ru_utime + usage.ru_stime, peaks["RssAnon"], peaks["RssFile"], peaks["VmRSS"]


def flushed_copy(big, target):
    """Wall and processor seconds."""
    start, before = time.perf_counter(), time.process_time()
    os.makedirs(target)
    for name in big.files:
        with open(os.path.join(big.folder, name), "rb") as source, open(os.path.join(target, name), "wb") as copy:
            size = os.fstat(source.fileno()).st_size
            while os.copy_file_range(source.fileno(), copy.fileno(), min(size, 64 << 20)):
                pass
            os.fsync(copy.fileno())
    return time.perf_counter() - start, time.process_time() - before


def instructions(command, how, folder):
    """Executed in user mode; None where nothing counts them."""
    out = os.path.join(folder, "count")
    if how == "perf":
        done = subprocess.run(["perf", "stat", "-x,", "-e", "instructions:u", "-o", out, "--", *command], capture_output=True)
        fields = [line.split(",") for line in open(out) if "instructions" in line] if done.returncode == 0 else []
        return int(fields[0][0]) if fields and fields[0][0].isdigit() else None
    if how == "callgrind":
        done = subprocess.run(["valgrind", "--tool=callgrind", f"--callgrind-out-file={out}", *command], capture_output=True, text=True)
        found = re.search(r"Collected : (\d+)", done.stderr)
        return int(found.group(1)) if done.returncode == 0 and found else None
    return None


OPEN = """import resource, sys, onnxruntime
options = onnxruntime.SessionOptions()
options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
options.intra_op_num_threads = 1
options.log_severity_level = 3
used = lambda: sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
before = used()
for path in sys.argv[1:]:
    onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
print(used() - before)"""


def runtime_seconds(paths):
    """None without the onnxruntime package."""
    done = subprocess.run([sys.executable, "-c", OPEN, *paths], capture_output=True, text=True)
    return float(done.stdout) if done.returncode == 0 else None


def curve(arguments, folder):
    rows = []
    print(f"{'nodes':>7} {'guard off':>10} {'processor':>10} {'ratio':>6} {'per node':>9} {'default':>10} {'processor':>10} {'ratio':>6} "
          f"{'runtime':>9} {'ratio':>6} {'anon MB':>8}")
    models, found = [], {}
    for wanted in map(int, arguments.nodes.split(",")):
        model, count = deep(wanted)
        models.append((count, os.path.join(folder, f"deep{count}.onnx"), os.path.join(folder, f"out{count}.onnx")))
        onnx.save(model, models[-1][1])
    guards = {"off": ["--guard", "off", "--no-verify"], "default": []}
    command = lambda path, out, name: [arguments.binary, "optimize", path, "-o", out, "-q", "--allow-larger", *guards[name]]
    # All sizes in turn: what the machine does besides comes and goes.
    for _ in range(arguments.rounds):
        for count, path, out in models:
            for name in guards:
                found.setdefault((count, name), []).append(run(command(path, out, name)))
    per_doubling = lambda before, after, times: (after / before) ** (1 / np.log2(times))
    for count, path, out in models:
        row, line = {"nodes": count}, f"{count:7}"
        times = count / rows[-1]["nodes"] if rows else None
        for name in guards:
            runs = found[count, name]
            cost = {"seconds": min(f[0] for f in runs), "processor": min(f[1] for f in runs), "anonymous": max(f[2] for f in runs)}
            # Processor time: what else the machine does shows less.
            cost["ratio"] = per_doubling(rows[-1][name]["processor"], cost["processor"], times) if rows else None
            row[name] = cost
            ratio = f"{cost['ratio']:6.2f}" if cost["ratio"] else f"{'':6}"
            line += f" {cost['seconds']:8.2f} s {cost['processor']:8.2f} s {ratio}"
            if name == "off":
                row["instructions"] = instructions(command(path, out, name), arguments.count, folder)
                line += f" {row['instructions'] / count / 1000:7.0f} k" if row["instructions"] else f" {'':9}"
        row["runtime"] = runtime_seconds([path, out])
        ratio = per_doubling(rows[-1]["runtime"], row["runtime"], times) if row["runtime"] and rows and rows[-1]["runtime"] else None
        line += (f" {row['runtime']:7.2f} s" if row["runtime"] else f" {'':9}") + (f" {ratio:6.2f}" if ratio else f" {'':6}")
        rows.append(row)
        bad = any((row[k]["ratio"] or 0) > 2.2 for k in guards)
        print(f"{line} {row['default']['anonymous']:8.0f}{'  SUPERLINEAR' if bad else ''}", flush=True)
    first, last = rows[0], rows[-1]
    if len(rows) > 1:
        more, longer = last["nodes"] / first["nodes"], last["off"]["processor"] / first["off"]["processor"]
        print(f"{more:.1f} times the nodes take {longer:.1f} times as long without guard: {per_doubling(1, longer, more):.2f} per doubling")
    return rows, all((r[k]["ratio"] or 0) <= 2.2 for r in rows for k in guards)


OPTIMIZE = ["optimize", "--allow-larger"]
MOST_RESIDENT = WIDTH * WIDTH * 4 / (1 << 20) + 300  # one matrix and 300 MB
FEW_BITS = ["quantize", "--weights", "uint4", "--no-verify"]


def bytes_table(arguments, folder):
    return copy_table(arguments, folder, (("few, four files", "few", False, OPTIMIZE), ("all, four files", "all", False, OPTIMIZE),
                                          ("few, inline", "few", True, OPTIMIZE)))


def bits_table(arguments, folder):
    return copy_table(arguments, folder, (("uint4, searched", "few", False, FEW_BITS),
                                          ("uint4, by range", "few", False, FEW_BITS + ["--weight-method", "range"]),
                                          ("uint4, inline", "few", True, FEW_BITS)))


def copy_table(arguments, folder, cases):
    rows, good = [], True
    print(f"\n{'weights':18} {'GB':>5} {'copy':>8} {'processor':>10} {'mcompress':>10} {'processor':>10} {'of copy':>8} {'anon MB':>8} {'file MB':>8} {'resident':>8}")
    for name, changes, inline, command in cases:
        place = os.path.join(folder, "big")
        os.makedirs(place)
        big = Big(place, arguments.gigabytes, changes, inline)
        os.sync()
        copies, found, target = [], [], os.path.join(folder, "target")
        for _ in range(arguments.rounds):
            copies.append(flushed_copy(big, target))
            shutil.rmtree(target)
            os.sync()
            os.makedirs(target)
            found.append(run([arguments.binary, command[0], big.path, "-o", os.path.join(target, "out.onnx"), "-q", *command[1:]]))
            shutil.rmtree(target)
            os.sync()
        size = sum(os.path.getsize(os.path.join(place, f)) for f in big.files) / 1e9
        shutil.rmtree(place)
        row = {"weights": name, "gigabytes": size, "copy": min(c[0] for c in copies),
               "copy_processor": min(c[1] for c in copies), "processor": min(f[1] for f in found), "seconds": min(f[0] for f in found),
               "anonymous": max(f[2] for f in found), "file": max(f[3] for f in found), "resident": max(f[4] for f in found)}
        row["of_copy"] = row["copy"] / row["seconds"]
        rows.append(row)
        slow = row["of_copy"] < 0.6 or row["anonymous"] > 500 or (command is not OPTIMIZE and row["resident"] > MOST_RESIDENT)
        print(f"{name:18} {size:5.1f} {row['copy']:6.1f} s {row['copy_processor']:8.1f} s {row['seconds']:8.1f} s "
              f"{row['processor']:8.1f} s {row['of_copy']:8.2f} {row['anonymous']:8.0f} {row['file']:8.0f} {row['resident']:8.0f}{'  BEYOND THE BOUNDS' if slow else ''}", flush=True)
        good = good and not slow
    return rows, good


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", default="build/release/mcompress")
    parser.add_argument("--nodes", default="5000,10000,20000,40000")
    parser.add_argument("--gigabytes", type=float, default=2.0)
    parser.add_argument("--folder")
    parser.add_argument("--only", choices=["nodes", "bytes", "bits"])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--count", choices=["perf", "callgrind", "none"], default="perf")
    parser.add_argument("--json")
    arguments = parser.parse_args()
    found, sound = {}, True
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix="mcompress-scale-") as folder:
        for name, measure in (("nodes", curve), ("bytes", bytes_table), ("bits", bits_table)):
            if arguments.only in (None, name):
                found[name], held = measure(arguments, folder)
                sound = sound and held
    if arguments.json:
        with open(arguments.json, "w") as file:
            json.dump(found, file, indent=1)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
