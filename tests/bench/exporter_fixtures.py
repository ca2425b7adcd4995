#!/usr/bin/env python3
"""Models spelled as exporters spell them, with seeded random weights.

    python3 tests/bench/exporter_fixtures.py FOLDER [NAME...]

Each function below is one model; its name says the exporter and the net. What matters is the spelling: constants as nodes or
initializers, shape arithmetic (Shape, Gather, Unsqueeze, Concat), which operators stand for an activation or a normalisation, where
transposes and identities are left. Widths are chosen for a run of some milliseconds. Needs numpy and onnx."""
import os, sys

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from exporter_net import Net


def torchscript_vit():
    """Vision transformer: class token expanded by shape arithmetic, one product for q, k and v, LayerNorm and GELU written out."""
    n, width, heads = Net("torch_jit", 14, seed=1), 192, 3
    x = n.input("input", ["batch", 3, 96, 96])
    y = n.op("Conv", x, n.weight(width, 3, 16, 16), n.vector(width), kernel_shape=[16, 16], strides=[16, 16], pads=[0] * 4,
             group=1, dilations=[1, 1])
    shape = n.op("Slice", n.op("Shape", y), n.const([0]), n.const([2]), n.const([0]))
    y = n.op("Reshape", y, n.op("Concat", shape, n.const([-1]), axis=0))
    y = n.op("Transpose", y, perm=[0, 2, 1])
    batch = n.size_of(x, 0)
    wanted = n.op("Concat", n.unsqueeze(batch, 0), n.const([-1]), n.const([-1]), axis=0)
    flat = n.op("Reshape", wanted, n.const([-1]))
    ones = n.op("ConstantOfShape", n.op("Shape", flat), value=helper.make_tensor("value", TensorProto.INT64, [1], [1]))
    mask = n.op("Equal", flat, n.op("Mul", ones, n.const(-1)))
    token = n.op("Expand", n.weight(1, 1, width, scale=0.1), n.op("Where", mask, ones, flat))
    y = n.op("Concat", token, y, axis=1)
    y = n.op("Add", y, n.weight(1, 37, width, scale=0.1))
    for _ in range(4):
        h = n.layer_norm(y, width)
        b, t, c = n.size_of(h, 0), n.size_of(h, 1), n.size_of(h, 2)
        qkv = n.linear(h, width, 3 * width, bias_first=True)
        qkv = n.view(qkv, b, t, 3, heads, width // heads)
        qkv = n.op("Transpose", qkv, perm=[2, 0, 3, 1, 4])
        q, k, v = (n.op("Gather", qkv, n.const(i), axis=0) for i in range(3))
        scores = n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2]))
        scores = n.op("Mul", scores, n.f((width // heads) ** -0.5))
        mixed = n.op("MatMul", n.op("Softmax", scores, axis=-1), v)
        mixed = n.op("Transpose", mixed, perm=[0, 2, 1, 3])
        y = n.op("Add", y, n.linear(n.view(mixed, b, t, c), width, width, bias_first=True))
        h = n.linear(n.layer_norm(y, width), width, 4 * width, bias_first=True)
        y = n.op("Add", y, n.linear(n.gelu(h), 4 * width, width, bias_first=True))
    y = n.layer_norm(y, width)
    y = n.op("Gather", y, n.const(0), axis=1)
    n.output(n.op("Gemm", y, n.weight(100, width), n.vector(100), transB=1), "logits", ["batch", 100])
    return n.model("pytorch")


def dynamo_attention_cnn():
    """Opset 18, no Constant nodes: axes as inputs, Reshape with allowzero, attention with the scale on both operands."""
    n, width, heads = Net("main_graph", 18, "initializer", seed=2, prefix="val_"), 128, 4
    x = n.input("x", ["s0", 3, 64, 64])
    y = x
    for inputs, outputs, stride in ((3, 32, 2), (32, 64, 2), (64, width, 1)):
        y = n.op("Relu", n.batch_norm(n.conv(y, inputs, outputs, 3, stride), outputs))
        z = n.batch_norm(n.conv(n.op("Relu", n.batch_norm(n.conv(y, outputs, outputs, 3), outputs)), outputs, outputs, 3), outputs)
        y = n.op("Relu", n.op("Add", z, y))
    batch = n.op("Shape", x, start=0, end=1)
    y = n.op("Reshape", y, n.op("Concat", batch, n.const([width]), n.const([256]), axis=0), allowzero=1)
    y = n.op("Transpose", y, perm=[0, 2, 1])
    for _ in range(2):
        h = n.op("LayerNormalization", y, n.vector(width, 0.8, 1.2), n.vector(width), axis=-1, epsilon=1e-5, stash_type=1)
        parts = []
        for _ in range(3):
            p = n.op("Add", n.op("MatMul", h, n.op("Transpose", n.weight(width, width), perm=[1, 0])), n.vector(width))
            p = n.op("Reshape", p, n.op("Concat", batch, n.const([-1]), n.const([heads]), n.const([width // heads]), axis=0),
                     allowzero=1)
            parts.append(n.op("Transpose", p, perm=[0, 2, 1, 3]))
        q, k, v = parts
        size = n.op("Cast", n.op("Shape", q, start=3, end=4), to=TensorProto.FLOAT)
        scale = n.op("Sqrt", n.op("Div", n.f([1.0]), n.op("Sqrt", size)))
        k = n.op("Transpose", n.op("Reshape", n.op("Transpose", n.op("Reshape", k, n.const([-1, 256, width // heads])), perm=[0, 2, 1]),
                 n.op("Concat", batch, n.const([heads]), n.const([width // heads]), n.const([256]), axis=0)), perm=[0, 1, 2, 3])
        scores = n.op("MatMul", n.op("Mul", q, scale), n.op("Mul", k, scale))
        mixed = n.op("MatMul", n.op("Softmax", scores, axis=-1), v)
        mixed = n.op("Transpose", mixed, perm=[0, 2, 1, 3])
        mixed = n.op("Reshape", mixed, n.op("Concat", batch, n.const([-1]), n.const([width]), axis=0), allowzero=1)
        out = n.op("Add", n.op("MatMul", mixed, n.op("Transpose", n.weight(width, width), perm=[1, 0])), n.vector(width))
        y = n.op("Add", y, out)
        h = n.op("LayerNormalization", y, n.vector(width, 0.8, 1.2), n.vector(width), axis=-1, epsilon=1e-5, stash_type=1)
        h = n.gelu(n.op("Add", n.op("MatMul", h, n.op("Transpose", n.weight(512, width), perm=[1, 0])), n.vector(512)))
        y = n.op("Add", y, n.op("Add", n.op("MatMul", h, n.op("Transpose", n.weight(width, 512), perm=[1, 0])), n.vector(width)))
    y = n.op("ReduceMean", y, n.const([1]), keepdims=0)
    n.output(n.op("Gemm", y, n.weight(10, width), n.vector(10), alpha=1.0, beta=1.0, transA=0, transB=1), "linear", ["s0", 10])
    return n.model("pytorch")


def tf2onnx_nhwc():
    """Channel-last net: a transpose wherever an operator was not moved to channel-first, shapes through Cast, biases as Add."""
    n = Net("tf2onnx", 13, "initializer", seed=3, prefix="StatefulPartitionedCall/model/")
    x = n.input("input_1", ["unk__1", 64, 64, 3])
    shape = n.op("Cast", n.op("Shape", x), to=TensorProto.INT32)
    batch = n.op("Squeeze", n.slice(shape, 0, 1, 0), n.const([0]))
    y = n.op("Sub", n.op("Mul", x, n.f(1 / 127.5)), n.f([1.0, 1.0, 1.0]))
    to_first = lambda t: n.op("Transpose", t, perm=[0, 3, 1, 2])
    to_last = lambda t: n.op("Transpose", t, perm=[0, 2, 3, 1])

    def block(t, inputs, outputs, stride, expand):
        wide = inputs * expand
        h = n.op("Clip", n.batch_norm(n.conv(to_first(t), inputs, wide, 1), wide, 1e-3), n.f(0.0), n.f(6.0))
        if stride == 2:  # ZeroPadding2D of channel-last tensors
            h = to_first(n.op("Pad", to_last(h), n.const([0, 0, 0, 0, 0, 1, 1, 0])))
        h = n.conv(h, wide, wide, 3, stride, wide, pad=0 if stride == 2 else 1)
        h = n.op("Clip", n.batch_norm(h, wide, 1e-3), n.f(0.0), n.f(6.0))
        h = to_last(n.batch_norm(n.conv(h, wide, outputs, 1), outputs, 1e-3))
        return n.op("Add", t, h) if inputs == outputs and stride == 1 else h

    y = to_last(n.op("Clip", n.batch_norm(n.conv(to_first(y), 3, 16, 3, 2), 16, 1e-3), n.f(0.0), n.f(6.0)))
    skip = y = block(y, 16, 24, 1, 4)
    y = block(y, 24, 24, 1, 4)
    y = block(y, 24, 40, 2, 4)
    y = block(y, 40, 40, 1, 4)
    # Upsampling in channel-last: Resize is moved to channel-first by itself.
    y = to_last(n.op("Resize", to_first(y), "", n.f([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric",
                     nearest_mode="floor"))
    y = n.op("Concat", y, skip, axis=3)
    y = n.op("LeakyRelu", n.op("Add", to_last(n.conv(to_first(y), 64, 48, 3)), n.vector(48)), alpha=0.2)
    y = n.op("Squeeze", n.op("GlobalAveragePool", to_first(y)), n.const([2, 3]))
    wanted = n.op("Concat", n.op("Unsqueeze", batch, n.const([0])), n.op("Cast", n.const([4]), to=TensorProto.INT32),
                  n.op("Cast", n.const([12]), to=TensorProto.INT32), axis=0)
    y = n.op("Reshape", y, n.op("Cast", wanted, to=TensorProto.INT64))
    y = n.op("Reshape", n.op("Mul", y, n.f(0.5)), n.const([-1, 48]))
    y = n.op("Add", n.op("MatMul", y, n.weight(48, 64)), n.vector(64))
    y = n.op("Mul", y, n.op("Sigmoid", y))
    y = n.op("Add", n.op("MatMul", y, n.weight(64, 20)), n.vector(20))
    n.output(n.op("Softmax", y, axis=-1), "predictions", ["unk__1", 20])
    return n.model("tf2onnx")


def jax_mixer():
    """MLP-Mixer: dot_general as Reshape, MatMul, Reshape; broadcasts spelled as Expand; variance as mean of squares less square of
    the mean; the tanh form of GELU with the cube as two products."""
    n, width, patches = Net("jax_model", 17, "initializer", seed=4, prefix="jax/"), 128, 64
    x = n.input("image", ["B", 64, 64, 3])

    def dense(t, inputs, outputs, rows):
        h = n.op("Reshape", t, n.const([-1, inputs]))
        h = n.op("Reshape", n.op("MatMul", h, n.weight(inputs, outputs)), n.const([-1, rows, outputs]))
        bias = n.op("Reshape", n.vector(outputs), n.const([1, 1, outputs]))
        return n.op("Add", h, bias)

    def norm(t):
        mean = n.mean(t, 2, keepdims=0)
        squares = n.mean(n.op("Mul", t, t), 2, keepdims=0)
        variance = n.op("Max", n.f(0.0), n.op("Sub", squares, n.op("Mul", mean, mean)))
        mean, variance = n.unsqueeze(mean, 2), n.unsqueeze(variance, 2)
        scale = n.op("Reciprocal", n.op("Sqrt", n.op("Add", variance, n.f(1e-6))))
        scale = n.op("Mul", scale, n.op("Reshape", n.vector(width, 0.8, 1.2), n.const([1, 1, width])))
        return n.op("Add", n.op("Mul", n.op("Sub", t, mean), scale), n.op("Reshape", n.vector(width), n.const([1, 1, width])))

    def gelu(t):
        cube = n.op("Mul", n.op("Mul", t, t), t)
        inner = n.op("Mul", n.f(np.sqrt(2 / np.pi)), n.op("Add", t, n.op("Mul", n.f(0.044715), cube)))
        return n.op("Mul", t, n.op("Mul", n.f(0.5), n.op("Add", n.f(1.0), n.op("Tanh", inner))))

    y = n.op("Transpose", x, perm=[0, 3, 1, 2])
    y = n.op("Conv", y, n.weight(width, 3, 8, 8), kernel_shape=[8, 8], strides=[8, 8])
    y = n.op("Transpose", y, perm=[0, 2, 3, 1])
    y = n.op("Add", y, n.op("Reshape", n.vector(width), n.const([1, 1, 1, width])))
    y = n.op("Reshape", y, n.const([-1, patches, width]))
    for _ in range(4):
        h = n.op("Transpose", norm(y), perm=[0, 2, 1])
        h = dense(gelu(dense(h, patches, 64, width)), 64, patches, width)
        y = n.op("Add", y, n.op("Transpose", h, perm=[0, 2, 1]))
        h = dense(gelu(dense(norm(y), width, 512, patches)), 512, width, patches)
        y = n.op("Add", y, h)
    y = n.op("Div", n.op("ReduceSum", norm(y), n.const([1]), keepdims=0), n.f(float(patches)))
    n.output(n.op("Add", n.op("MatMul", y, n.weight(width, 10)), n.op("Reshape", n.vector(10), n.const([1, 10]))), "logits", ["B", 10])
    return n.model("jax2onnx")


def paddle_mobilenet():
    """Opset 11, every weight in a Constant node: hard-swish as Add, Clip, Mul, Div, squeeze-and-excite with HardSigmoid, the bias of
    a convolution as Reshape and Add, flatten through Shape and Slice."""
    n = Net("PaddlePaddle Graph", 11, seed=5, prefix="p2o.")
    n.initializer = lambda array: n.op("Constant", value=numpy_helper.from_array(np.ascontiguousarray(array)))
    x = n.input("x", ["p2o.DynamicDimension.0", 3, 96, 96])

    def hard_swish(t):
        clipped = n.op("Clip", n.op("Add", t, n.f([3.0])), n.f(0.0), n.f(6.0))
        return n.op("Div", n.op("Mul", t, clipped), n.f([6.0]))

    def excite(t, channels):
        h = n.op("GlobalAveragePool", t)
        h = n.op("Conv", h, n.weight(channels // 4, channels, 1, 1), kernel_shape=[1, 1])
        h = n.op("Relu", n.op("Add", h, n.op("Reshape", n.vector(channels // 4), n.const([1, channels // 4, 1, 1]))))
        h = n.op("Conv", h, n.weight(channels, channels // 4, 1, 1), kernel_shape=[1, 1])
        h = n.op("Add", h, n.op("Reshape", n.vector(channels), n.const([1, channels, 1, 1])))
        return n.op("Mul", t, n.op("HardSigmoid", h, alpha=0.2, beta=0.5))

    y = hard_swish(n.batch_norm(n.conv(x, 3, 16, 3, 2), 16))
    channels = 16
    for i, (wide, outputs, kernel, stride) in enumerate(((16, 16, 3, 2), (72, 24, 3, 2), (88, 24, 3, 1), (96, 40, 5, 2), (240, 40, 5, 1))):
        act = hard_swish if i >= 3 else lambda t: n.op("Relu", t)
        h = act(n.batch_norm(n.conv(y, channels, wide, 1), wide))
        h = act(n.batch_norm(n.conv(h, wide, wide, kernel, stride, wide), wide))
        if i != 1:
            h = excite(h, wide)
        h = n.batch_norm(n.conv(h, wide, outputs, 1), outputs)
        y = n.op("Add", y, h) if stride == 1 and channels == outputs else h
        channels = outputs
    y = n.op("GlobalAveragePool", hard_swish(n.batch_norm(n.conv(y, channels, 240, 1), 240)))
    shape = n.op("Slice", n.op("Shape", y), n.const([0]), n.const([1]))
    y = n.op("Reshape", y, n.op("Concat", shape, n.const([-1]), axis=0))
    y = n.op("Add", n.op("MatMul", y, n.weight(240, 320)), n.vector(320))
    y = n.op("Dropout", hard_swish(y))
    y = n.op("Add", n.op("MatMul", y, n.weight(320, 50)), n.vector(50))
    n.output(n.op("Softmax", y, axis=1), "softmax_0.tmp_0", ["p2o.DynamicDimension.0", 50])
    return n.model("PaddlePaddle")


def sklearn_mlp():
    """A pipeline of scaler and perceptron: Scaler of ai.onnx.ml, casts that change nothing, products with an Add, the class by
    ArgMax and ArrayFeatureExtractor."""
    n = Net("mlp", 15, "initializer", seed=6, domains=(("ai.onnx.ml", 1),))
    x = n.input("X", ["N", 256])
    y = n.op("Scaler", x, domain="ai.onnx.ml", offset=n.random.normal(0, 1, 256).tolist(), scale=n.random.uniform(0.5, 2, 256).tolist())
    y = n.op("Cast", y, to=TensorProto.FLOAT)
    for inputs, outputs in ((256, 512), (512, 512), (512, 256)):
        y = n.op("Relu", n.op("Add", n.op("MatMul", y, n.weight(inputs, outputs)), n.vector((1, outputs))))
    y = n.op("Add", n.op("MatMul", y, n.weight(256, 10)), n.vector((1, 10)))
    y = n.op("Softmax", y, axis=-1)
    y = n.op("Cast", n.op("Identity", y), to=TensorProto.FLOAT)
    best = n.op("ArgMax", y, axis=1, keepdims=1)
    label = n.op("ArrayFeatureExtractor", n.const(np.arange(10) * 3), best, domain="ai.onnx.ml")
    label = n.op("Cast", n.op("Reshape", n.op("Cast", label, to=TensorProto.FLOAT), n.const([-1])), to=TensorProto.INT64)
    n.output(label, "output_label", ["N"], TensorProto.INT64)
    n.output(y, "output_probability", ["N", 10])
    return n.model("skl2onnx")


def yolo_nms():
    """Detector: focus by strided slices, SiLU as Sigmoid and Mul, pooled pyramid, upsampled neck, decoded boxes with grids built by
    shape arithmetic, NonMaxSuppression with gathers at the end."""
    n = Net("yolo", 12, seed=7)
    x = n.input("images", [1, 3, 160, 160])

    def cbs(t, inputs, outputs, kernel, stride=1):
        h = n.conv(t, inputs, outputs, kernel, stride, bias=True)
        return n.op("Mul", h, n.op("Sigmoid", h))

    def c3(t, channels, shortcut=True):
        half = channels // 2
        a, b = cbs(t, channels, half, 1), cbs(t, channels, half, 1)
        h = cbs(cbs(a, half, half, 1), half, half, 3)
        return cbs(n.op("Concat", n.op("Add", a, h) if shortcut else h, b, axis=1), channels, channels, 1)

    far = 9223372036854775807
    quarters = [n.slice(n.slice(x, r, far, 2, 2), c, far, 3, 2) for r, c in ((0, 0), (1, 0), (0, 1), (1, 1))]
    y = cbs(n.op("Concat", *quarters, axis=1), 12, 16, 3)
    y = c3(cbs(y, 16, 32, 3, 2), 32)
    p3 = y = c3(cbs(y, 32, 64, 3, 2), 64)
    y = cbs(cbs(y, 64, 128, 3, 2), 128, 64, 1)
    pools = [y]
    for _ in range(3):
        pools.append(n.op("MaxPool", pools[-1], kernel_shape=[5, 5], pads=[2] * 4, strides=[1, 1]))
    p4 = y = cbs(cbs(n.op("Concat", *pools, axis=1), 256, 128, 1), 128, 64, 1)
    up = n.op("Resize", y, n.f([]), n.f([1, 1, 2, 2]), mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    p3 = cbs(n.op("Concat", up, p3, axis=1), 128, 64, 1)
    found = []
    for level, stride in ((p3, 8), (p4, 16)):
        h = n.op("Conv", level, n.weight(3 * 15, 64, 1, 1), n.vector(3 * 15), kernel_shape=[1, 1])
        batch, rows, columns = n.size_of(h, 0), n.size_of(h, 2), n.size_of(h, 3)
        h = n.op("Transpose", n.view(h, batch, 3, 15, rows, columns), perm=[0, 1, 3, 4, 2])
        h = n.op("Sigmoid", h)
        xy, wh, rest = n.slice(h, 0, 2, 4), n.slice(h, 2, 4, 4), n.slice(h, 4, far, 4)
        size = 160 // stride
        gy, gx = np.meshgrid(np.arange(size), np.arange(size), indexing="ij")
        grid = np.stack([gx, gy], -1)[None, None].astype(np.float32)
        xy = n.op("Mul", n.op("Add", n.op("Sub", n.op("Mul", xy, n.f(2.0)), n.f(0.5)), n.f(grid)), n.f(float(stride)))
        anchors = n.random.uniform(8, 64, (1, 3, 1, 1, 2))
        wh = n.op("Mul", n.op("Pow", n.op("Mul", wh, n.f(2.0)), n.f(2.0)), n.f(anchors))
        found.append(n.view(n.op("Concat", xy, wh, rest, axis=4), batch, -1, 15))
    y = n.op("Concat", *found, axis=1)
    centre, size = n.slice(y, 0, 2, 2), n.slice(y, 2, 4, 2)
    half = n.op("Div", size, n.f(2.0))
    boxes = n.op("Concat", n.op("Sub", centre, half), n.op("Add", centre, half), axis=2)
    scores = n.op("Mul", n.slice(y, 5, far, 2), n.slice(y, 4, 5, 2))
    scores = n.op("Transpose", scores, perm=[0, 2, 1])
    chosen = n.op("NonMaxSuppression", boxes, scores, n.const([20]), n.f([0.45]), n.f([0.25]))
    index = n.op("Squeeze", n.op("Gather", chosen, n.const([2]), axis=1), axes=[1])
    n.output(n.op("Gather", n.squeeze(boxes, 0), index, axis=0), "boxes", ["found", 4])
    n.output(n.op("Gather", chosen, n.const(1), axis=1), "classes", ["found"], TensorProto.INT64)
    return n.model("pytorch")


def repvgg_branches():
    """Training form: each block adds a 3x3, a 1x1 and an identity branch, every one with its own BatchNormalization."""
    n = Net("torch_jit", 13, seed=8)
    y, channels = n.input("input", ["batch", 3, 64, 64]), 3
    for outputs, stride in ((32, 2), (32, 1), (48, 2), (48, 1), (96, 2), (96, 1)):
        wide = n.batch_norm(n.conv(y, channels, outputs, 3, stride), outputs)
        total = n.op("Add", wide, n.batch_norm(n.conv(y, channels, outputs, 1, stride), outputs))
        if channels == outputs and stride == 1:
            total = n.op("Add", total, n.batch_norm(y, outputs))
        y, channels = n.op("Relu", total), outputs
    y = n.op("Flatten", n.op("GlobalAveragePool", y), axis=1)
    n.output(n.op("Gemm", y, n.weight(20, channels), n.vector(20), transB=1), "logits", ["batch", 20])
    return n.model("pytorch")


def crnn_lstm():
    """Text recogniser: pooled convolutions, squeeze and transpose to a sequence, two bidirectional LSTMs whose initial states are
    made by shape arithmetic, output directions joined by Transpose and Reshape."""
    n, hidden = Net("torch_jit", 11, seed=9), 96
    x = n.input("input", ["batch", 1, 32, "width"])
    y, channels = x, 1
    for outputs, pool in ((32, [2, 2]), (64, [2, 2]), (96, [2, 1]), (128, [4, 1])):
        y = n.op("Relu", n.batch_norm(n.conv(y, channels, outputs, 3, bias=True), outputs))
        y = n.op("MaxPool", y, kernel_shape=pool, strides=pool, pads=[0] * 4)
        channels = outputs
    y = n.op("Transpose", n.squeeze(y, 2), perm=[2, 0, 1])
    for _ in range(2):
        batch = n.size_of(y, 1)
        shape = n.op("Concat", n.const([2]), n.unsqueeze(batch, 0), n.const([hidden]), axis=0)
        state = [n.op("Expand", n.f(np.zeros((1, 1, 1))), shape) for _ in range(2)]
        w = [n.weight(2, 4 * hidden, channels, scale=0.1), n.weight(2, 4 * hidden, hidden, scale=0.1), n.weight(2, 8 * hidden, scale=0.1)]
        y = n.op("LSTM", y, *w, "", *state, outputs=3, direction="bidirectional", hidden_size=hidden)[0]
        y = n.op("Transpose", y, perm=[0, 2, 1, 3])
        y = n.op("Reshape", y, n.const([0, 0, -1]))
        steps, batch, width = n.size_of(y, 0), n.size_of(y, 1), n.size_of(y, 2)
        y = n.view(y, n.op("Mul", steps, batch), width)
        y = n.op("Gemm", y, n.weight(128, 2 * hidden), n.vector(128), transB=1)
        y = n.view(y, steps, batch, -1)
        channels = 128
    y = n.op("Transpose", n.op("LogSoftmax", n.op("Transpose", y, perm=[1, 0, 2]), axis=2), perm=[0, 1, 2])
    n.output(y, "log_probs", ["batch", "steps", 128])
    return n.model("pytorch")


def bert_masks():
    """Opset 11 encoder: mask by Unsqueeze, Cast, Sub and Mul, positions sliced by the length, heads by shape arithmetic, LayerNorm
    and GELU written out, pooler at the end."""
    n, width, heads = Net("torch_jit", 11, seed=10), 256, 4
    ids = n.input("input_ids", ["batch", "sequence"], TensorProto.INT64)
    mask = n.input("attention_mask", ["batch", "sequence"], TensorProto.INT64)
    kinds = n.input("token_type_ids", ["batch", "sequence"], TensorProto.INT64)
    bias = n.op("Cast", n.unsqueeze(n.unsqueeze(mask, 1), 2), to=TensorProto.FLOAT)
    bias = n.op("Mul", n.op("Sub", n.f(1.0), bias), n.f(-10000.0))
    length = n.unsqueeze(n.size_of(ids, 1), 0)
    positions = n.op("Slice", n.const(np.arange(128)[None]), n.const([0]), length, n.const([1]), n.const([1]))
    y = n.op("Add", n.op("Gather", n.weight(1000, width, scale=0.5), ids), n.op("Gather", n.weight(2, width, scale=0.5), kinds))
    y = n.op("Add", y, n.op("Gather", n.weight(128, width, scale=0.5), positions))
    y = n.layer_norm(y, width)
    for _ in range(3):
        def heads_of(t):
            b, s = n.size_of(t, 0), n.size_of(t, 1)
            return n.op("Transpose", n.view(t, b, s, heads, width // heads), perm=[0, 2, 1, 3])
        q, k, v = heads_of(n.linear(y, width, width)), n.linear(y, width, width), heads_of(n.linear(y, width, width))
        b, s = n.size_of(k, 0), n.size_of(k, 1)
        k = n.op("Transpose", n.view(k, b, s, heads, width // heads), perm=[0, 2, 3, 1])
        scores = n.op("Add", n.op("Div", n.op("MatMul", q, k), n.f(np.sqrt(width // heads))), bias)
        mixed = n.op("Transpose", n.op("MatMul", n.op("Softmax", scores, axis=3), v), perm=[0, 2, 1, 3])
        b, s = n.size_of(mixed, 0), n.size_of(mixed, 1)
        y = n.layer_norm(n.op("Add", n.linear(n.view(mixed, b, s, width), width, width), y), width)
        h = n.linear(n.gelu(n.linear(y, width, 4 * width)), 4 * width, width)
        y = n.layer_norm(n.op("Add", h, y), width)
    y = n.output(y, "last_hidden_state", ["batch", "sequence", width])
    first = n.op("Gather", y, n.const(0), axis=1)
    n.output(n.op("Tanh", n.op("Gemm", first, n.weight(width, width), n.vector(width), transB=1)), "pooled", ["batch", width])
    return n.model("pytorch")


def qdq_resnet():
    """Trained with quantization in mind: int8 weights behind DequantizeLinear, activations through QuantizeLinear and
    DequantizeLinear, scales as Constant nodes and behind Identity."""
    n = Net("torch_jit", 13, seed=11)

    def quantized(t, scale, zero=0, kind=np.uint8):
        s, z = n.op("Identity", n.f(scale)), n.const(zero, kind)
        return n.op("DequantizeLinear", n.op("QuantizeLinear", t, s, z), s, z)

    def conv(t, inputs, outputs, kernel, stride=1):
        codes = n.initializer(n.random.integers(-60, 61, (outputs, inputs, kernel, kernel)).astype(np.int8))
        scales = n.initializer((n.random.uniform(0.5, 1, outputs) / 40 / np.sqrt(inputs * kernel * kernel)).astype(np.float32))
        w = n.op("DequantizeLinear", codes, scales, n.initializer(np.zeros(outputs, np.int8)), axis=0)
        return n.op("Conv", t, w, n.vector(outputs), kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4)

    x = n.input("input", ["batch", 3, 64, 64])
    y = quantized(n.op("Relu", conv(quantized(x, 1 / 255), 3, 32, 3, 2)), 0.02)
    channels = 32
    for outputs, stride in ((32, 1), (64, 2), (64, 1), (128, 2), (128, 1)):
        h = quantized(n.op("Relu", conv(y, channels, outputs, 3, stride)), 0.02)
        h = quantized(conv(h, outputs, outputs, 3), 0.04, 128)
        side = y if channels == outputs and stride == 1 else quantized(conv(y, channels, outputs, 1, stride), 0.04, 128)
        y, channels = quantized(n.op("Relu", n.op("Add", h, side)), 0.04), outputs
    y = quantized(n.op("GlobalAveragePool", y), 0.02)
    y = n.op("Reshape", y, n.op("Concat", n.unsqueeze(n.size_of(y, 0), 0), n.const([-1]), axis=0))
    codes = n.initializer(n.random.integers(-60, 61, (10, channels)).astype(np.int8))
    w = n.op("DequantizeLinear", codes, n.f(0.002), n.const(0, np.int8))
    n.output(n.op("Gemm", y, w, n.vector(10), transB=1), "logits", ["batch", 10])
    return n.model("pytorch")


def unet_transposed():
    """Segmentation: transposed convolutions with BatchNormalization, upsampled maps padded to the skip's size by shape arithmetic,
    skips joined by Concat."""
    n = Net("torch_jit", 13, seed=12)
    x = n.input("input", ["batch", 3, 96, 96])

    def double(t, inputs, outputs):
        for i in (inputs, outputs):
            t = n.op("Relu", n.batch_norm(n.conv(t, i, outputs, 3, bias=True), outputs))
        return t

    levels, y, channels = [], x, 3
    for outputs in (16, 32, 64):
        y = double(y, channels, outputs)
        levels.append((y, outputs))
        y, channels = n.op("MaxPool", y, kernel_shape=[2, 2], strides=[2, 2]), outputs
    y, channels = double(y, channels, 96), 96
    for skip, outputs in reversed(levels):
        y = n.op("ConvTranspose", y, n.weight(channels, outputs, 2, 2), n.vector(outputs), kernel_shape=[2, 2], strides=[2, 2])
        y = n.op("Relu", n.batch_norm(y, outputs))
        sizes = []
        for axis in (2, 3):
            gap = n.op("Sub", n.size_of(skip, axis), n.size_of(y, axis))
            half = n.op("Cast", n.op("Floor", n.op("Div", n.op("Cast", gap, to=TensorProto.FLOAT), n.f(2.0))), to=TensorProto.INT64)
            sizes.append((half, n.op("Sub", gap, half)))
        pads = [n.const([0])] * 2 + [n.unsqueeze(sizes[0][0], 0), n.unsqueeze(sizes[1][0], 0)]
        pads += [n.const([0])] * 2 + [n.unsqueeze(sizes[0][1], 0), n.unsqueeze(sizes[1][1], 0)]
        y = n.op("Pad", y, n.op("Concat", *pads, axis=0), n.f(0.0), mode="constant")
        y, channels = double(n.op("Concat", skip, y, axis=1), 2 * outputs, outputs), outputs
    y = n.op("Conv", y, n.weight(2, channels, 1, 1), n.vector(2), kernel_shape=[1, 1])
    n.output(n.op("Sigmoid", y), "mask", ["batch", 2, 96, 96])
    return n.model("pytorch")


def llama_decoder():
    """Decoder with rotary positions, grouped keys and values repeated by Expand, RMSNorm and SiLU written out, causal mask by
    Range, Less and Where."""
    n, width, heads, groups, size = Net("main_graph", 17, seed=13), 192, 6, 2, 32
    ids = n.input("input_ids", ["batch", "sequence"], TensorProto.INT64)
    y = n.op("Gather", n.weight(500, width, scale=0.5), ids)
    batch, length = n.size_of(ids, 0), n.size_of(ids, 1)
    steps = n.op("Range", n.const(0), length, n.const(1))
    rows, columns = n.unsqueeze(steps, 1), n.unsqueeze(steps, 0)
    mask = n.op("Where", n.op("Greater", columns, rows), n.f(-1e9), n.f(0.0))
    mask = n.unsqueeze(n.unsqueeze(mask, 0), 0)
    frequencies = n.f((10000.0 ** (-np.arange(0, size, 2) / size))[None])
    angles = n.op("MatMul", n.op("Cast", rows, to=TensorProto.FLOAT), frequencies)
    angles = n.op("Concat", angles, angles, axis=-1)
    cosine, sine = (n.unsqueeze(n.unsqueeze(n.op("Mul", n.op(k, angles), n.f(1.0)), 0), 0) for k in ("Cos", "Sin"))

    def rms(t):
        t = n.op("Cast", t, to=TensorProto.FLOAT)
        variance = n.mean(n.op("Pow", t, n.f(2.0)), -1)
        scale = n.op("Div", n.f(1.0), n.op("Sqrt", n.op("Add", variance, n.f(1e-6))))
        return n.op("Mul", n.vector(width, 0.8, 1.2), n.op("Cast", n.op("Mul", t, scale), to=TensorProto.FLOAT))

    def rotated(t):
        half = n.op("Div", n.size_of(t, 3), n.const(2))
        low = n.op("Slice", t, n.const([0]), n.unsqueeze(half, 0), n.const([3]))
        high = n.op("Slice", t, n.unsqueeze(half, 0), n.const([9223372036854775807]), n.const([3]))
        turned = n.op("Concat", n.op("Neg", high), low, axis=-1)
        return n.op("Add", n.op("Mul", t, cosine), n.op("Mul", turned, sine))

    def repeated(t):
        shape = [n.size_of(t, i) for i in range(4)]
        outer, inner = ([n.unsqueeze(s, 0) for s in part] for part in (shape[:2], shape[2:]))
        wide = n.op("Concat", *outer, n.const([heads // groups]), *inner, axis=0)
        t = n.op("Expand", n.unsqueeze(t, 2), wide)
        return n.view(t, shape[0], heads, shape[2], shape[3])

    for _ in range(3):
        h = rms(y)
        parts = []
        for count in (heads, groups, groups):
            p = n.linear(h, width, count * size, bias=False)
            parts.append(n.op("Transpose", n.view(p, n.size_of(h, 0), n.size_of(h, 1), count, size), perm=[0, 2, 1, 3]))
        q, k, v = rotated(parts[0]), repeated(rotated(parts[1])), repeated(parts[2])
        scores = n.op("Mul", n.op("MatMul", q, n.op("Transpose", k, perm=[0, 1, 3, 2])), n.f(size ** -0.5))
        mixed = n.op("MatMul", n.op("Softmax", n.op("Add", scores, mask), axis=-1), v)
        mixed = n.view(n.op("Transpose", mixed, perm=[0, 2, 1, 3]), batch, length, width)
        y = n.op("Add", y, n.linear(mixed, width, width, bias=False))
        h = rms(y)
        gate, up = n.linear(h, width, 512, bias=False), n.linear(h, width, 512, bias=False)
        h = n.op("Mul", n.op("Mul", gate, n.op("Sigmoid", gate)), up)
        y = n.op("Add", y, n.linear(h, 512, width, bias=False))
    n.output(n.linear(rms(y), width, 500, bias=False), "logits", ["batch", "sequence", 500])
    return n.model("pytorch")


FIXTURES = {f.__name__.replace("_", "-"): f for f in (
    torchscript_vit, dynamo_attention_cnn, tf2onnx_nhwc, jax_mixer, paddle_mobilenet, sklearn_mlp, yolo_nms, repvgg_branches,
    crnn_lstm, bert_masks, qdq_resnet, unet_transposed, llama_decoder)}


# Sizes of open dimensions at which the models are worth timing; others are the caller's choice.
OPEN = {"width": 128, "sequence": 32}


def write(folder, names=()):
    """Writes the models and returns their paths."""
    paths = []
    for name in names or FIXTURES:
        paths.append(os.path.join(folder, name + ".onnx"))
        onnx.save(FIXTURES[name](), paths[-1])
    return paths


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    print("\n".join(write(sys.argv[1], sys.argv[2:])))
