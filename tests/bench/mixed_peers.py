#!/usr/bin/env python3
"""Mixed precision by other tools, one file a call; search_curve.py starts it with the interpreter that has them.

    python3 mixed_peers.py --list
    python3 mixed_peers.py RECIPE SETTING MODEL CALIB EVAL OUT

--list prints recipes and their settings as JSON. CALIB and EVAL are npz of arrays by input name whose samples lie along axis 0; EVAL
has `labels`. What a setting is: onnxsim's share of layers in INT8 (the rest INT4; blocks of 32, of 16 or 4 where a layer does
not divide by more; float weights that nothing reads any more are taken out of its file); NNCF's share of weights in INT4 (groups of 32, or a scale per channel; the rest INT8), and for accuracy control the points
that may be lost. Writes OUT and prints the versions of what was used as one JSON line. Fails as the tool does."""
import importlib.metadata, json, sys

SHARES = ["0", "0.2", "0.4", "0.6", "0.8", "1"]
SETTINGS = {
    "onnxsim-mixed": SHARES,
    "nncf-mixed": [f"{share}/{group}" for group in ("32", "-1") for share in SHARES],
    "nncf-accuracy": ["0.1", "0.5"],
}


def feeds(path, count=None):
    import numpy as np
    arrays = dict(np.load(path))
    labels = arrays.pop("labels", None)
    arrays = {k: a for k, a in arrays.items() if not k.startswith("fp32_")}
    for name in [n for n in arrays if n + "_scale" in arrays]:
        arrays[name] = (arrays[name].astype(np.float32) * arrays.pop(name + "_scale")[0] + arrays.pop(name + "_bias")[0])
        arrays[name] = arrays[name].astype(np.float32)
    all_ = len(next(iter(arrays.values())))
    count = min(count or all_, all_)
    return [{k: a[i:i + 1] for k, a in arrays.items()} for i in range(count)], labels


def opset_21(model):
    """What 4-bit tensors need."""
    import onnx
    loaded = onnx.load(model)
    if max(o.version for o in loaded.opset_import if o.domain in ("", "ai.onnx")) < 21:
        loaded = onnx.version_converter.convert_version(loaded, 21)
    return loaded


def onnxsim_mixed(setting, model, calib, _, out):
    import onnx, onnxsim
    made, _ = onnxsim.simplify(opset_21(model))
    before = len(made.graph.node)
    for block in (32, 16, 4):
        made = onnxsim.apply_mixed_precision_quantization(made, calibration_data=feeds(calib, 64)[0], block_size=block,
                                                          high_bits_fraction=float(setting))
    if len(made.graph.node) == before:
        raise SystemExit("onnxsim leaves the model as it is: no MatMul or Gemm whose weight divides into blocks")
    # It leaves the float weights in the file.
    used = {name for node in made.graph.node for name in node.input} | {port.name for port in made.graph.output}
    for tensor in [t for t in made.graph.initializer if t.name not in used]:
        made.graph.initializer.remove(tensor)
    onnx.save(made, out)


def nncf_mixed(setting, model, calib, _, out):
    import nncf, onnx
    share, group = setting.split("/")
    made = nncf.compress_weights(opset_21(model), mode=nncf.CompressWeightsMode.INT4_ASYM, ratio=float(share), group_size=int(group),
                                 all_layers=True, dataset=nncf.Dataset(feeds(calib, 64)[0]),
                                 sensitivity_metric=nncf.SensitivityMetric.MAX_ACTIVATION_VARIANCE)
    onnx.save(made, out)


def nncf_accuracy(setting, model, calib, evaluation, out):
    import nncf, numpy as np, onnx, onnxruntime
    rows, labels = feeds(evaluation)

    def validate(candidate, data):
        session = onnxruntime.InferenceSession(candidate.SerializeToString(), providers=["CPUExecutionProvider"])
        right = [float(np.argmax(session.run(None, rows[i])[0]) == labels[i]) for i in data]
        return float(np.mean(right)), right

    places = nncf.Dataset(list(range(len(rows))))
    made = nncf.quantize_with_accuracy_control(onnx.load(model), nncf.Dataset(feeds(calib, 128)[0]), places, validate,
                                               max_drop=float(setting) / 100, subset_size=128)
    onnx.save(made, out)


RECIPES = {"onnxsim-mixed": ("onnxsim", onnxsim_mixed), "nncf-mixed": ("nncf", nncf_mixed), "nncf-accuracy": ("nncf", nncf_accuracy)}


def main():
    if sys.argv[1:] == ["--list"]:
        print(json.dumps(SETTINGS))
        return
    recipe, setting, model, calib, evaluation, out = sys.argv[1:7]
    package, run = RECIPES[recipe]
    run(setting, model, calib, evaluation, out)
    print(json.dumps({package: importlib.metadata.version(package)}))


if __name__ == "__main__":
    main()
