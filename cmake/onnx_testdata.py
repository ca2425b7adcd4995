"""Writes ONNX's own backend test data to the folder named: node/ (one model per operator example, with its expected inputs and
outputs), simple/, and the models that lie ready in the package: light/, pytorch-converted/, pytorch-operator/."""
import argparse
import os
import shutil
import sys
import warnings

import onnx.backend.test.case.model as model_cases
import onnx.backend.test.case.node as node_cases
from onnx.backend.test import cmd_tools

out = sys.argv[1]
warnings.simplefilter("ignore")  # the examples divide by zero on purpose

packaged = os.path.join(os.path.dirname(cmd_tools.__file__), "data")
for folder in ("light", "pytorch-converted", "pytorch-operator"):
    shutil.copytree(os.path.join(packaged, folder), os.path.join(out, folder))

# The package's writer collects the model cases only; hand it the node cases as well. The "real" ones are downloads.
cases = [c for c in model_cases.collect_testcases() + node_cases.collect_testcases() if c.kind != "real"]
model_cases.collect_testcases = lambda: cases
cmd_tools.generate_data(argparse.Namespace(output=out))
