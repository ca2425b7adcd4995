# A Slurm array job, under a Slurm of our own on this machine. Needs its daemons, and root.
command -v slurmctld >/dev/null && command -v slurmd >/dev/null && command -v munged >/dev/null || exit 0
[[ $(id -u) == 0 ]] || exit 0
digits=$MCOMPRESS_MODELS/digits/model.onnx
root=$PWD
mkdir -p state spool munge zoo
# Daemons that need root for cgroups get none: processes are followed by their session.
dd if=/dev/urandom of=munge/key bs=1024 count=1 2>/dev/null
chmod 0700 munge
chmod 0600 munge/key
free_port() { while :; do local port=$((20000 + RANDOM % 20000)); (exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || { echo $port; return; }; done; }
host=$(hostname -s)
cat >slurm.conf <<END
ClusterName=test
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=$(free_port)
SlurmdPort=$(free_port)
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$root/munge/socket
StateSaveLocation=$root/state
SlurmdSpoolDir=$root/spool
SlurmctldPidFile=$root/slurmctld.pid
SlurmdPidFile=$root/slurmd.pid
SlurmctldLogFile=$root/slurmctld.log
SlurmdLogFile=$root/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
NodeName=$host NodeAddr=127.0.0.1 CPUs=$(nproc) State=UNKNOWN
PartitionName=all Nodes=$host Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$root/slurm.conf
pids=()
stop() { for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done; wait 2>/dev/null || true; }
trap stop EXIT
munged --foreground --force --num-threads=1 --key-file="$root/munge/key" --socket="$root/munge/socket" \
  --pid-file="$root/munge/pid" --log-file="$root/munge/log" --seed-file="$root/munge/seed" 2>/dev/null &
pids+=($!)
for _ in $(seq 50); do [[ -S munge/socket ]] && break; sleep 0.1; done
slurmctld -D >/dev/null 2>&1 & pids+=($!)
slurmd -D -N "$host" >/dev/null 2>&1 & pids+=($!)
for _ in $(seq 150); do
  [[ $(sinfo -h -o %t 2>/dev/null) == idle ]] && break
  sleep 0.2
done
# Where Slurm does not come up, as in a container without what it needs, there is nothing to test.
[[ $(sinfo -h -o %t 2>/dev/null) == idle ]] || { tail -n 5 slurmctld.log slurmd.log >&2; exit 0; }

for i in 1 2 3 4 5 6; do cp "$digits" "zoo/m$i.onnx"; done
"$MCOMPRESS" batch zoo optimize -o out --print-job slurm --shards 3 >job.sh
job=$(sbatch --parsable --wait job.sh)
[[ -n $job ]]
"$MCOMPRESS" batch zoo optimize -o out --merge -q
"$MCOMPRESS" optimize "$digits" -o one.onnx -q
for i in 1 2 3 4 5 6; do cmp one.onnx "out/m$i.onnx"; done
# Each task did its own share.
for task in 1 2 3; do [[ $(wc -l <"out/.mcompress-batch/journal-$task-of-3.jsonl") == 2 ]]; done
# A model that fails fails its task alone, and submitting again does nothing but that one.
head -c 1000 "$digits" >zoo/m6.onnx
status=0
sbatch --parsable --wait job.sh >/dev/null || status=$?
((status != 0))
[[ $(cat out/.mcompress-batch/journal-*-of-3.jsonl | grep -c '"status": 0') == 6 ]]
echo "Slurm $(sinfo --version): 3 tasks, 6 models" >&2
