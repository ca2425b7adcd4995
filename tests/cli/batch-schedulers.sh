# --print-job: what is printed runs, here under GNU parallel where it is installed.
digits=$MCOMPRESS_MODELS/digits/model.onnx
mkdir -p "with blank/zoo's"
for i in 1 2 3 4 5; do cp "$digits" "with blank/zoo's/m$i.onnx"; done
printf 'passes: [eliminate-identity]\n' >"with blank/own.yaml"
print() { "$MCOMPRESS" batch "with blank/zoo's" "with blank/own.yaml" -o "with blank/out" --print-job "$@"; }
for kind in slurm parallel kubernetes; do
  print $kind --shards 3 >"job.$kind"
  [[ ! -e "with blank/out" ]]
done
bash -n job.slurm
sh -n job.parallel
grep -q '^#SBATCH --array=1-3$' job.slurm
grep -q '^  completions: 3$' job.kubernetes
# The shares of the Slurm script, one after another.
for task in 1 2 3; do SLURM_ARRAY_TASK_ID=$task bash job.slurm 2>/dev/null; done
"$MCOMPRESS" batch "with blank/zoo's" "with blank/own.yaml" -o "with blank/out" --merge -q
for i in 1 2 3 4 5; do cmp "with blank/out/m1.onnx" "with blank/out/m$i.onnx"; done
if command -v parallel >/dev/null && parallel --version 2>/dev/null | grep -q '^GNU parallel'; then
  rm -rf "with blank/out"
  HOME=$PWD sh job.parallel 2>/dev/null
  "$MCOMPRESS" batch "with blank/zoo's" "with blank/own.yaml" -o "with blank/out" --merge -q
  [[ $(cat "with blank/out/.mcompress-batch/"journal-*-of-3.jsonl | grep -c '"status": 0') == 5 ]]
fi
status=0
print slurm --shard 1/2 2>message || status=$?
[[ $status == 1 ]] && grep -q 'print-job' message
status=0
print slrum 2>message || status=$?
[[ $status == 1 ]] && grep -q "did you mean 'slurm'" message
# A budget that one model alone exceeds: it is said, and done.
"$MCOMPRESS" batch "$digits" optimize -o small --memory-budget 1000000 2>message
grep -q 'model.onnx may take .* more than the budget of .*: it runs with nothing beside it' message
# What a job took at most is within what it was estimated at: 128 MiB and 5 times its cost.
peak=$(grep -o '"peak_bytes": [0-9]*' small/.mcompress-batch/journal-1-of-1.jsonl | grep -o '[0-9]*$')
((peak > 1000000 && peak < (128 << 20) + 5 * ((1 << 20) + $(stat -c %s "$digits"))))
