# The folder read back by MLflow itself, where it is installed: MLFLOW_PYTHON, or python3.
python=${MLFLOW_PYTHON:-python3}
"$python" -c 'import mlflow' 2>/dev/null || { echo "no mlflow" >&2; exit 0; }
digits=$MCOMPRESS_MODELS/digits
"$MCOMPRESS" quantize "$digits/model.onnx" -o wo.onnx --mode weight-only --eval "$digits/eval.npz" --report wo.json -q
mkdir zoo && cp "$digits/model.onnx" zoo/a.onnx && head -c 1000 "$digits/model.onnx" >zoo/b.onnx
"$MCOMPRESS" batch zoo smallest-file -o out -q 2>/dev/null || true
"$MCOMPRESS" report wo.json --mlflow "my runs" --experiment 'digits: "8x8"' --clock -q
"$MCOMPRESS" report out --mlflow "my runs" --experiment 'digits: "8x8"' -q
MLFLOW_ALLOW_FILE_STORE=true MLFLOW_TRACKING_URI="file://$PWD/my%20runs" "$python" - "$PWD/my runs" <<'PY'
import os, sys, time
from mlflow.tracking import MlflowClient

client = MlflowClient()
experiment = client.get_experiment_by_name('digits: "8x8"')
runs = client.search_runs([experiment.experiment_id])
assert len(runs) == 4, len(runs)
one = [r for r in runs if r.data.params.get("command") == "quantize"]
assert len(one) == 1
one = one[0]
assert one.info.status == "FINISHED"
assert abs(one.info.start_time / 1000 - time.time()) < 3600
assert one.data.metrics["bytes_after"] == os.path.getsize("wo.onnx")
assert 0.5 < one.data.metrics["top1"] <= 1
assert one.data.tags["mlflow.source.name"] == "mcompress"
assert "wo.onnx" in one.info.run_name
assert {a.path for a in client.list_artifacts(one.info.run_id)} == {"report.html", "report.json", "report.md"}
parent = [r for r in runs if "failed" in r.data.metrics]
assert len(parent) == 1 and parent[0].data.metrics["failed"] == 1
below = client.search_runs([experiment.experiment_id], f"tags.mlflow.parentRunId = '{parent[0].info.run_id}'")
assert sorted(r.info.status for r in below) == ["FAILED", "FINISHED"]
found = client.search_runs([experiment.experiment_id], "metrics.size_ratio > 2")
assert any(r.info.run_name == "a.onnx" for r in found)
path = client.download_artifacts(one.info.run_id, "report.html") if hasattr(client, "download_artifacts") else None
assert path is None or "<h1>" in open(path).read()
PY
