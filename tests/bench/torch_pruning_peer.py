"""Halves the multiplications of the residual digit model by Torch-Pruning, without training.

torch_pruning_peer.py MODEL.onnx CALIB.npz EVAL.npz [SHARE...]

MODEL is the labelled ResNet of five basic blocks (16, 32, 64 channels). The PyTorch module is built
anew from the weights in the file, so both tools begin at the same numbers; it prints the accuracy of
that module, and then, for each importance of Torch-Pruning and each share of multiplications, what
is left, as it is and with the statistics of BatchNormalization taken anew on CALIB. Needs torch, torch-pruning, onnx and numpy.
"""
import sys

import numpy as np
import onnx
import torch
import torch_pruning as tp
from onnx import numpy_helper
from torch import nn


class Block(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.a = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.ba = nn.BatchNorm2d(outputs)
        self.b = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bb = nn.BatchNorm2d(outputs)
        self.sc = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.sc = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False),
                                    nn.BatchNorm2d(outputs))

    def forward(self, x):
        y = self.bb(self.b(torch.relu(self.ba(self.a(x)))))
        return torch.relu(y + self.sc(x))


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(1, 16, 3, 1, 1, bias=False)
        self.bn = nn.BatchNorm2d(16)
        self.body = nn.Sequential(Block(16, 16, 1), Block(16, 32, 2), Block(32, 32, 1),
                                  Block(32, 64, 2), Block(64, 64, 1))
        self.fc = nn.Linear(64, 10)

    def forward(self, x):
        x = self.body(torch.max_pool2d(torch.relu(self.bn(self.stem(x))), 2))
        return self.fc(x.mean((2, 3)))


def from_onnx(path):
    graph = onnx.load(path).graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for node in graph.node:  # equal tensors are stored once
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    net = Net()
    state = {name: torch.tensor(values[name]) if name in values else tensor
             for name, tensor in net.state_dict().items()}
    net.load_state_dict(state)
    return net.eval()


def top1(net, images, labels):
    with torch.no_grad():
        answers = torch.cat([net(part) for part in torch.split(images, 256)]).argmax(1)
    return 100 * (answers.numpy() == labels).mean()


def prune(path, importance, share, is_global, multiple):
    """The module with that share of its multiplications, found by halving the ratio of channels."""
    example = torch.zeros(1, 1, 28, 28)
    low, high, best = 0.0, 0.9, None
    for _ in range(12):
        ratio = (low + high) / 2
        net = from_onnx(path)
        before, _ = tp.utils.count_ops_and_params(net, example)
        tp.pruner.MetaPruner(net, example, importance=importance(), global_pruning=is_global,
                             pruning_ratio=ratio, max_pruning_ratio=0.75, round_to=multiple,
                             ignored_layers=[net.fc]).step()
        after, _ = tp.utils.count_ops_and_params(net, example)
        left = after / before
        if best is None or abs(left - share) < abs(best[0] - share):
            best = left, net
        low, high = (ratio, high) if left > share else (low, ratio)
    return best


def images_of(data):
    images = data["input"].astype(np.float32)
    if "input_scale" in data:
        images = images * data["input_scale"] + data["input_bias"]
    return torch.tensor(images.astype(np.float32))


def with_new_statistics(net, images):
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        for part in torch.split(images, 64):
            net(part)
    return net.eval()


def main():
    path, calib, labelled, *shares = sys.argv[1:]
    data = np.load(labelled)
    seen, images, labels = images_of(np.load(calib)), images_of(data), data["labels"]
    print(f"torch-pruning {tp.__version__}, as it is: {top1(from_onnx(path), images, labels):.2f}")
    kinds = {"magnitude": lambda: tp.importance.GroupMagnitudeImportance(p=2),
             "group norm, no normalising": lambda: tp.importance.GroupMagnitudeImportance(
                 p=2, normalizer=None),
             "BN scale": lambda: tp.importance.BNScaleImportance()}
    for share in [float(text) for text in shares or ["0.5"]]:
        for name, importance in kinds.items():
            for is_global in (False, True):
                for multiple in (None, 4):
                    left, net = prune(path, importance, share, is_global, multiple)
                    print(f"{name:28}{'global' if is_global else 'uniform':9}"
                          f"{f'x{multiple}' if multiple else 'any':5}{left:6.3f}"
                          f"{top1(net, images, labels):8.2f}"
                          f"{top1(with_new_statistics(net, seen), images, labels):8.2f}",
                          flush=True)


main()
