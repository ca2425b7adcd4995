#!/usr/bin/env python3
"""Block-wise rounding in NumPy, written from its description alone (docs/few-bits.md, "How weights are rounded").

    block_reference.py > block_reference.json      codes, zero points and scales of small weights in several formats

All arithmetic is in float32, one operation at a time, sums from the first weight to the last: the codes, the packed bytes
and the bits of the scales are what any implementation must have. block_quantize_test reads the file.
"""
import json

import ml_dtypes
import numpy as np

F = np.float32
ROWS, COLUMNS = 5, 70
REFITS = 2


def weights():
    """In [-0.05, 0.05) moved by 0.01: a Weyl sequence, the same in every language."""
    count = np.arange(ROWS * COLUMNS, dtype=np.uint64)
    hashed = (count * np.uint64(2654435761)) % np.uint64(1 << 32) >> np.uint64(8)
    return ((hashed.astype(F) / F(1 << 24) - F(0.5)) * F(0.1) + F(0.01)).reshape(ROWS, COLUMNS)


def importance():
    return (np.arange(COLUMNS) % 7 + 1).astype(F)


def usable(scale):
    return np.minimum(np.maximum(scale, np.finfo(F).tiny), np.finfo(F).max / F(512)).astype(F)


def by_range(w, bits, asymmetric):
    top, middle = F(2**bits - 1), F(2 ** (bits - 1))
    low, high = np.minimum(w.min(1), F(0)), np.maximum(w.max(1), F(0))
    width = high / F(2) - low / F(2) if asymmetric else np.maximum(high, -low)
    scale = usable(width * (F(2) / top if asymmetric else F(1) / max(middle - F(1), F(1))))
    zero = np.clip(np.rint(-low / scale), F(0), top) if asymmetric else np.full_like(scale, middle)
    return scale, zero


def moments(w, h, scale, zero, top):
    inverse = F(1) / scale
    a, b = np.zeros_like(scale), np.zeros_like(scale)
    for k in range(w.shape[1]):
        q = np.minimum(np.maximum(np.rint(w[:, k] * inverse), -zero), top - zero)
        hq = q if h is None else h[k] * q
        a, b = a + w[:, k] * hq, b + hq * q
    return a, b


def by_search(w, h, bits, asymmetric):
    """Of several grids that with the least error once its scale is fitted to its codes: sum wq / sum q^2."""
    top, middle = F(2**bits - 1), F(2 ** (bits - 1))
    low, high = np.minimum(w.min(1), F(0)), np.maximum(w.max(1), F(0))
    width = high * F(0.5) - low * F(0.5) if asymmetric else np.maximum(high, -low)
    step = F(2) / top if asymmetric else F(1) / max(middle - F(1), F(1))
    lowest = {2: F(0.4), 4: F(0.62), 8: F(0.97)}[bits]
    highest = F(1) if bits == 8 else F(1.05)
    ratios = 3 if bits == 8 else 14
    best_scale, best_gain = np.ones_like(width), np.full_like(width, -1)
    best_zero = np.zeros_like(width) if asymmetric else np.full_like(width, middle)

    def fitted(scale, zero):
        a, b = moments(w, h, scale, zero, top)
        assert (a > 0).all() and (b > 0).all()
        return usable(a / b), a * (a / b)

    for i in range(ratios):
        ratio = highest - (highest - lowest) * F(i) / F(ratios - 1)
        for round_zero in (np.floor, np.ceil) if asymmetric else (None,):
            scale = usable(width * ratio * step)
            zero = np.full_like(width, middle)
            if asymmetric:
                zero = np.clip(round_zero(-(low * ratio) / scale), F(0), top)
            fit, gain = fitted(scale, zero)
            better = gain > best_gain
            best_scale, best_zero = np.where(better, fit, best_scale), np.where(better, zero, best_zero)
            best_gain = np.where(better, gain, best_gain)
    for _ in range(REFITS):
        fit, gain = fitted(best_scale, best_zero)
        better = gain > best_gain
        best_scale, best_gain = np.where(better, fit, best_scale), np.where(better, gain, best_gain)
    return best_scale, best_zero


def packed(codes, bits):
    """Least significant first."""
    bytes_ = bytearray((len(codes) * bits + 7) // 8)
    for i, code in enumerate(codes):
        bytes_[i * bits // 8] |= int(code) << (i * bits % 8)
    return bytes_.hex()


def case(bits, block, asymmetric, scales, how, weighted):
    w, h = weights(), importance() if weighted else None
    size = block or COLUMNS
    starts = range(0, COLUMNS, size)
    codes, zeros, kept, restored = [], [], [], np.zeros_like(w)
    padded = [[] for _ in range(ROWS)]
    for start in starts:
        part = w[:, start:start + size]
        energy = None if h is None else h[start:start + size]
        scale, zero = (by_range(part, bits, asymmetric) if how == "range"
                       else by_search(part, energy, bits, asymmetric))
        scale = scale.astype({"float32": F, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[scales]).astype(F)
        top = F(2**bits - 1)
        q = np.clip(np.rint(part / scale[:, None]), -zero[:, None], top - zero[:, None])
        code = (q + zero[:, None]).astype(int)
        restored[:, start:start + size] = (code - zero[:, None].astype(int)).astype(F) * scale[:, None]
        codes.append(code)
        zeros.append(zero.astype(int))
        kept.append(scale)
        for r in range(ROWS):
            padded[r] += list(code[r]) + [int(zero[r])] * (size - code.shape[1])
    zeros = np.stack(zeros, 1)
    return {
        "bits": bits, "block": block, "asymmetric": asymmetric, "scales": scales, "how": how, "weighted": weighted,
        "codes": [packed(row, bits) for row in padded],
        "zero_points": [packed(row, bits) for row in zeros],
        "scale_bits": [row.astype(">f4").tobytes().hex() for row in np.stack(kept, 1)],
        "restored_bits": [row.astype(">f4").tobytes().hex() for row in restored],
    }


def main():
    cases = [case(*which) for which in [
        (4, 32, True, "float32", "range", False), (4, 16, False, "float16", "range", False),
        (8, 64, False, "float32", "range", False), (2, 32, True, "float32", "search", False),
        (4, 32, True, "float16", "search", True), (4, 0, True, "bfloat16", "search", False),
        (4, 64, False, "float16", "search", True), (8, 16, True, "float32", "search", False)]]
    print(json.dumps({"rows": ROWS, "columns": COLUMNS, "cases": cases}, indent=1))


if __name__ == "__main__":
    main()
