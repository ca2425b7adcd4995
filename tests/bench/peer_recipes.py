#!/usr/bin/env python3
"""Static INT8 by other tools, one recipe a call; peers.py starts it with the interpreter that has the tool.

    python3 peer_recipes.py RECIPE MODEL CALIB OUT SAMPLES FEEDING

CALIB is an npz of arrays by input name; FEEDING is slice (samples lie along axis 0) or index (sample i is array[i]). Writes OUT and
prints the versions of what was used as one JSON line. Every recipe takes the tool's own preparation first where it has one and, where
that fails, goes on without it. Fails as the tool does."""
import importlib.metadata, json, sys

INTEGERS = ["Conv", "MatMul", "Gemm"]


def feeds(calib, samples, feeding, names=None):
    import numpy as np
    arrays = dict(np.load(calib))
    count = min(samples, min(len(a) for a in arrays.values()))
    cut = (lambda a, i: np.asarray(a[i])) if feeding == "index" else (lambda a, i: a[i:i + 1])
    return [{k: cut(a, i) for k, a in arrays.items() if names is None or k in names} for i in range(count)]


def prepare(model, out):
    """quant_pre_process of onnxruntime, without its symbolic shapes where these fail, or the model itself."""
    from onnxruntime.quantization.shape_inference import quant_pre_process
    for skip in (False, True):
        try:
            quant_pre_process(model, out, skip_symbolic_shape=skip)
            return out
        except Exception as problem:
            print(f"quant_pre_process: {type(problem).__name__}: {problem}"[:200], file=sys.stderr)
    return model


def in_turn(sources, quantize):
    """The first source that can be quantized; what its preparation made is too much for a tool on some models."""
    for source in sources[:-1]:
        try:
            return quantize(source)
        except Exception as problem:
            print(f"{type(problem).__name__}: {problem}"[:200], file=sys.stderr)
    return quantize(sources[-1])


def onnxruntime(model, data, out, method, only=None):
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(data)

        def get_next(self):
            return next(self.rest, None)

    methods = {"minmax": CalibrationMethod.MinMax, "entropy": CalibrationMethod.Entropy, "percentile": CalibrationMethod.Percentile}
    prepared = prepare(model, out + ".prepared.onnx")
    in_turn([prepared, model] if prepared != model else [model],
            lambda source: quantize_static(source, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True,
                                           activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=only,
                                           calibrate_method=methods[method]))


def nncf(model, data, out, transformer):
    import nncf as tool
    import onnx
    extra = {"model_type": tool.ModelType.TRANSFORMER} if transformer else {}
    prepared = prepare(model, out + ".prepared.onnx")

    def quantize(source):
        onnx.save(tool.quantize(onnx.load(source), tool.Dataset(data), subset_size=len(data), **extra), out)

    in_turn([prepared, model] if prepared != model else [model], quantize)


def onnxsim(model, data, out, full):
    import onnx
    import onnxsim as tool
    simple, _ = tool.simplify(model)
    onnx.save(tool.quantize_static(simple, calibration_data=data, per_channel=True, full_graph=full), out)


def neural_compressor(model, data, out):
    from onnx_neural_compressor import data_reader
    from onnx_neural_compressor.quantization import QuantFormat, QuantType, config, quantize

    class Reader(data_reader.CalibrationDataReader):
        def __init__(self):
            self.rest = iter(data)

        def get_next(self):
            return next(self.rest, None)

        def rewind(self):
            self.rest = iter(data)

    quantize(model, out, config.StaticQuantConfig(Reader(), quant_format=QuantFormat.QDQ, per_channel=True, weight_type=QuantType.QInt8,
                                                  activation_type=QuantType.QUInt8, calibration_sampling_size=len(data)))


def quantize_rs(model, out):
    """The weights alone: int8 per channel, symmetric."""
    import quantize_rs as tool
    tool.quantize(model, out, bits=8, per_channel=True, symmetric=True)


def quark(model, data, out, preset):
    from onnxruntime.quantization import CalibrationDataReader
    from quark.onnx import ModelQuantizer
    from quark.onnx.quantization.config import Config, get_default_config

    class Reader(CalibrationDataReader):
        def __init__(self):
            self.rest = iter(data)

        def get_next(self):
            return next(self.rest, None)

        def reset_iter(self):
            self.rest = iter(data)

    ModelQuantizer(Config(global_quant_config=get_default_config(preset))).quantize_model(model, out, Reader())


RECIPES = {
    "ort-minmax": (["onnxruntime"], lambda m, d, o: onnxruntime(m, d, o, "minmax")),
    "ort-percentile": (["onnxruntime"], lambda m, d, o: onnxruntime(m, d, o, "percentile")),
    "ort-entropy": (["onnxruntime"], lambda m, d, o: onnxruntime(m, d, o, "entropy")),
    "ort-linear": (["onnxruntime"], lambda m, d, o: onnxruntime(m, d, o, "minmax", INTEGERS)),
    "nncf": (["nncf"], lambda m, d, o: nncf(m, d, o, False)),
    "nncf-transformer": (["nncf"], lambda m, d, o: nncf(m, d, o, True)),
    "onnxsim": (["onnxsim"], lambda m, d, o: onnxsim(m, d, o, False)),
    "onnxsim-full": (["onnxsim"], lambda m, d, o: onnxsim(m, d, o, True)),
    "neural-compressor": (["onnx-neural-compressor"], neural_compressor),
    "quark-a8w8": (["amd-quark", "torch"], lambda m, d, o: quark(m, d, o, "A8W8")),
    "quark-xint8": (["amd-quark", "torch"], lambda m, d, o: quark(m, d, o, "XINT8")),
    "quantize-rs": (["quantization-rs"], lambda m, d, o: quantize_rs(m, o)),
}


def main():
    recipe, model, calib, out, samples, feeding = sys.argv[1:7]
    packages, run = RECIPES[recipe]
    run(model, feeds(calib, int(samples), feeding), out)
    print(json.dumps({p: importlib.metadata.version(p) for p in packages}))


if __name__ == "__main__":
    main()
