"""What the models of exporter_fixtures.py are built with."""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


class Net:
    """Builds a graph front to back. `constants`: "node" or "initializer", where small constants go."""

    def __init__(self, name, opset, constants="node", seed=0, prefix="", domains=()):
        self.name, self.opset, self.constants, self.prefix = name, opset, constants, prefix
        self.random = np.random.default_rng(seed)
        self.nodes, self.initializers, self.inputs, self.outputs, self.count = [], [], [], [], 0
        self.domains = domains

    def fresh(self, stem):
        self.count += 1
        return f"{self.prefix}{stem}_{self.count}"

    def input(self, name, shape, kind=TensorProto.FLOAT):
        self.inputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def op(self, kind, *inputs, outputs=1, domain="", **attributes):
        names = [self.fresh(kind) for _ in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=self.fresh("/" + kind), domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def initializer(self, array):
        name = self.fresh("w")
        self.initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def const(self, value, dtype=np.int64):
        array = np.asarray(value, dtype)
        if self.constants == "initializer":
            return self.initializer(array)
        return self.op("Constant", value=numpy_helper.from_array(array))

    def f(self, value):
        return self.const(value, np.float32)

    def weight(self, *shape, scale=None):
        fan = np.prod(shape[1:]) if len(shape) > 2 else shape[0]
        return self.initializer(self.random.normal(0, scale or 1 / np.sqrt(fan), shape).astype(np.float32))

    def vector(self, size, low=-0.1, high=0.1):
        return self.initializer(self.random.uniform(low, high, size).astype(np.float32))

    def unsqueeze(self, x, *axes):
        return self.op("Unsqueeze", x, axes=list(axes)) if self.opset < 13 else self.op("Unsqueeze", x, self.const(axes))

    def squeeze(self, x, *axes):
        return self.op("Squeeze", x, axes=list(axes)) if self.opset < 13 else self.op("Squeeze", x, self.const(axes))

    def mean(self, x, *axes, keepdims=1):
        if self.opset < 18:
            return self.op("ReduceMean", x, axes=list(axes), keepdims=keepdims)
        return self.op("ReduceMean", x, self.const(axes), keepdims=keepdims)

    def split(self, x, sizes, axis):
        if self.opset < 13:
            return self.op("Split", x, outputs=len(sizes), axis=axis, split=list(sizes))
        return self.op("Split", x, self.const(sizes), outputs=len(sizes), axis=axis)

    def size_of(self, x, axis):
        """TorchScript's x.size(axis): a scalar."""
        return self.op("Gather", self.op("Shape", x), self.const(axis), axis=0)

    def view(self, x, *sizes):
        """TorchScript's x.view(...): numbers and scalars joined by Unsqueeze and Concat."""
        parts = [self.const([s]) if isinstance(s, int) else self.unsqueeze(s, 0) for s in sizes]
        return self.op("Reshape", x, self.op("Concat", *parts, axis=0))

    def slice(self, x, start, end, axis, step=1):
        return self.op("Slice", x, self.const([start]), self.const([end]), self.const([axis]), self.const([step]))

    def conv(self, x, inputs, outputs, kernel, stride=1, groups=1, bias=False, pad=None, **attributes):
        pad = kernel // 2 if pad is None else pad
        weights = [self.weight(outputs, inputs // groups, kernel, kernel)] + ([self.vector(outputs)] if bias else [])
        return self.op("Conv", x, *weights, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups,
                       dilations=[1, 1], **attributes)

    def batch_norm(self, x, channels, epsilon=1e-5):
        v = self.vector
        return self.op("BatchNormalization", x, v(channels, 0.7, 1.3), v(channels), v(channels), v(channels, 0.6, 1.4),
                       epsilon=epsilon)

    def linear(self, x, inputs, outputs, bias_first=False, bias=True):
        """TorchScript's linear over more than two dimensions."""
        y = self.op("MatMul", x, self.weight(inputs, outputs))
        if not bias:
            return y
        b = self.vector(outputs)
        return self.op("Add", b, y) if bias_first else self.op("Add", y, b)

    def layer_norm(self, x, width):
        """As exporters before opset 17 write it."""
        centred = self.op("Sub", x, self.mean(x, -1))
        variance = self.mean(self.op("Pow", centred, self.f(2.0)), -1)
        root = self.op("Sqrt", self.op("Add", variance, self.f(1e-5)))
        y = self.op("Div", centred, root)
        return self.op("Add", self.op("Mul", y, self.vector(width, 0.8, 1.2)), self.vector(width))

    def gelu(self, x):
        y = self.op("Erf", self.op("Div", x, self.f(np.sqrt(2.0))))
        return self.op("Mul", self.op("Mul", x, self.op("Add", y, self.f(1.0))), self.f(0.5))

    def output(self, x, name, shape, kind=TensorProto.FLOAT):
        """Gives the value its name as an output; returns that name."""
        for node in self.nodes:
            for names in (node.input, node.output):
                for i, value in enumerate(names):
                    if value == x:
                        names[i] = name
        self.outputs.append(helper.make_tensor_value_info(name, kind, shape))
        return name

    def model(self, producer):
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.initializers)
        opsets = [helper.make_opsetid("", self.opset)] + [helper.make_opsetid(d, v) for d, v in self.domains]
        model = helper.make_model(graph, producer_name=producer, opset_imports=opsets, ir_version=8)
        onnx.checker.check_model(model)
        return model
