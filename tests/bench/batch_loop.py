#!/usr/bin/env python3
"""A zoo of 60 models: `mcompress batch` against a shell loop over `mcompress run`.

  batch_loop.py MCOMPRESS CORPUS [--models 60] [--recipe smallest-file] [--jobs 2] [--repeats 1] [--keep FOLDER]

The zoo are all .onnx files below CORPUS up to --largest bytes and variants of them that mcompress makes: cleaned, in
other operator sets, with their weights in a file beside them. Both ways start in turn from empty folders, and every
result must be byte for byte the same. Printed: wall and processor seconds of both, and their ratio. Wall time says
something on an idle machine only; the load before is printed with it.
"""
import argparse
import hashlib
import os
import pathlib
import resource
import shlex
import shutil
import subprocess
import sys
import tempfile
import time


def variants():
    yield 'plain', None
    yield 'clean', ['optimize']
    yield 'apart', ['optimize', '--external-data', 'always', '--allow-larger']
    for opset in (21, 20, 19, 18):
        yield f'opset{opset}', ['convert-opset', '--to', str(opset), '--no-verify']


def build(mcompress, corpus, zoo, count, largest):
    models = sorted(path for path in corpus.rglob('*.onnx') if path.stat().st_size <= largest)
    if not models:
        sys.exit(f'no models below {corpus}')
    made = 0
    for name, command in variants():
        for model in models:
            if made == count:
                return made
            place = zoo / name / '-'.join(model.relative_to(corpus).parts)
            place.parent.mkdir(parents=True, exist_ok=True)
            if command is None:
                shutil.copyfile(model, place)
            else:
                line = [mcompress, command[0], str(model), *command[1:], '-o', str(place), '-q']
                # Not every model can be had in every operator set.
                if subprocess.run(line, stderr=subprocess.DEVNULL, check=False).returncode != 0:
                    continue
            made += 1
    return made


def timed(line):
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def digests(folder):
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file() and '.mcompress-batch' not in path.parts}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('mcompress')
    parser.add_argument('corpus', type=pathlib.Path)
    parser.add_argument('--models', type=int, default=60)
    parser.add_argument('--largest', type=int, default=32 << 20)
    parser.add_argument('--recipe', default='smallest-file')
    parser.add_argument('--jobs', type=int, default=os.cpu_count())
    parser.add_argument('--repeats', type=int, default=1)
    parser.add_argument('--keep', type=pathlib.Path)
    args = parser.parse_args()
    args.mcompress = os.path.abspath(args.mcompress)  # the loop changes folder
    work = args.keep or pathlib.Path(tempfile.mkdtemp(prefix='batch-loop-'))
    zoo = work / 'zoo'
    if not zoo.exists():
        build(args.mcompress, args.corpus, zoo, args.models, args.largest)
    models = sorted(str(path.relative_to(zoo)) for path in zoo.rglob('*.onnx'))
    size = sum(path.stat().st_size for path in zoo.rglob('*') if path.is_file())
    print(f'{len(models)} models, {size / 1e6:.1f} MB, recipe {args.recipe}, {args.jobs} jobs, '
          f'{os.cpu_count()} processors')
    loop_out, batch_out = work / 'loop', work / 'batch'
    program = shlex.quote(args.mcompress)
    script = (f'cd {shlex.quote(str(zoo))} && find . -name "*.onnx" | sort | while read -r model; do '
              f'mkdir -p "{loop_out}/$(dirname "$model")"; '
              f'{program} run {shlex.quote(args.recipe)} "$model" -o "{loop_out}/$model" -q; done')
    batch = [args.mcompress, 'batch', str(zoo), args.recipe, '-o', str(batch_out), '--jobs', str(args.jobs), '-q']
    for repeat in range(args.repeats):
        load = os.getloadavg()[0]
        shutil.rmtree(loop_out, ignore_errors=True)
        shutil.rmtree(batch_out, ignore_errors=True)
        runs = {}
        for name, line in [('loop', ['bash', '-c', script]), ('batch', batch)][::1 if repeat % 2 == 0 else -1]:
            runs[name] = timed(line)
        one, other = digests(loop_out), digests(batch_out)
        if one != other or not one:
            sys.exit(f'results differ: {sorted(set(one.items()) ^ set(other.items()))[:4]}')
        wall, cpu = (runs['batch'][i] / runs['loop'][i] for i in (0, 1))
        print(f'load {load:.2f}: loop {runs["loop"][0]:.1f} s wall, {runs["loop"][1]:.1f} s processor; '
              f'batch {runs["batch"][0]:.1f} s, {runs["batch"][1]:.1f} s; ratio {wall:.2f} wall, {cpu:.2f} processor; '
              f'{len(one)} files the same')
    if args.keep is None:
        shutil.rmtree(work)


if __name__ == '__main__':
    main()
