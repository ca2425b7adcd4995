"""Runs a model in ONNX Runtime straight from an archive of `mcompress pack`, in memory only.

    load_archive.py LIBRARY MODEL.mca [MODEL.onnx]

LIBRARY is libmcompress_archive.so. Inputs are filled with 0, 1/7, 2/7, ...; unknown dimensions count
as 1. Prints the outputs. With the unpacked model beside it, runs that too and fails unless all bytes
are the same. Needs onnxruntime and numpy.
"""
import ctypes
import sys

import numpy
import onnxruntime

# TensorProto.DataType: types that numpy has. A program with others hands them to OrtValue itself.
DTYPES = {1: "f4", 2: "u1", 3: "i1", 4: "u2", 5: "i2", 6: "i4", 7: "i8", 9: "?", 10: "f2", 11: "f8", 12: "u4", 13: "u8"}


class Tensor(ctypes.Structure):  # mca_tensor
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dims", ctypes.POINTER(ctypes.c_int64)),
        ("rank", ctypes.c_size_t),
        ("bytes", ctypes.c_uint64),
        ("dtype", ctypes.c_int32),
    ]


class Archive:
    """An open archive: `model` are the bytes of the graph, `weights()` its weights by name."""

    def __init__(self, library, path):
        self._mca = ctypes.CDLL(library)
        self._mca.mca_last_error.restype = ctypes.c_char_p
        self._mca.mca_tensor_count.restype = ctypes.c_size_t
        self._mca.mca_tensor_count.argtypes = [ctypes.c_void_p]
        self._mca.mca_tensor_info.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(Tensor)]
        self._mca.mca_tensor_read.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t]
        self._mca.mca_model_bytes.argtypes = [
            ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p), ctypes.POINTER(ctypes.c_size_t)]
        self._mca.mca_close.argtypes = [ctypes.c_void_p]
        self._mca.mca_close.restype = None
        self._handle = ctypes.c_void_p()
        self._check(self._mca.mca_open(path.encode(), ctypes.byref(self._handle)))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._mca.mca_close(self._handle)

    def _check(self, status):
        if status != 0:
            raise RuntimeError(self._mca.mca_last_error().decode())

    def model(self):
        place, size = ctypes.c_void_p(), ctypes.c_size_t()
        self._check(self._mca.mca_model_bytes(self._handle, ctypes.byref(place), ctypes.byref(size)))
        return ctypes.string_at(place, size.value)

    def weights(self):
        weights = {}
        for index in range(self._mca.mca_tensor_count(self._handle)):
            tensor = Tensor()
            self._check(self._mca.mca_tensor_info(self._handle, index, ctypes.byref(tensor)))
            array = numpy.empty(tensor.dims[: tensor.rank], DTYPES[tensor.dtype])
            self._check(self._mca.mca_tensor_read(self._handle, index, array.ctypes.data, array.nbytes))
            weights[tensor.name.decode()] = array
        return weights


def open_archive(library, path):
    with Archive(library, path) as archive:
        weights = archive.weights()
        options = onnxruntime.SessionOptions()
        if weights:
            values = [onnxruntime.OrtValue.ortvalue_from_numpy(array) for array in weights.values()]
            options.add_external_initializers(list(weights), values)
        # The session copies what it needs.
        return onnxruntime.InferenceSession(archive.model(), options, providers=["CPUExecutionProvider"])


def run(session):
    feeds = {}
    for entry in session.get_inputs():
        shape = [size if isinstance(size, int) else 1 for size in entry.shape]
        count = int(numpy.prod(shape))
        dtype = {"tensor(float)": "f4", "tensor(int64)": "i8"}[entry.type]
        feeds[entry.name] = (numpy.arange(count) % 8 / 7).astype(dtype).reshape(shape)
    return session.run(None, feeds)


def main():
    if len(sys.argv) not in (3, 4):
        sys.exit(__doc__)
    outputs = run(open_archive(sys.argv[1], sys.argv[2]))
    for output in outputs:
        print(f"{output.size} values:", *output.ravel()[:8])
    if len(sys.argv) == 3:
        return
    expected = run(onnxruntime.InferenceSession(sys.argv[3], providers=["CPUExecutionProvider"]))
    for number, (ours, theirs) in enumerate(zip(outputs, expected, strict=True)):
        if ours.shape != theirs.shape or ours.tobytes() != theirs.tobytes():
            sys.exit(f"output {number} differs from that of the unpacked model")
    print("same as the unpacked model")


main()
