#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""tests/golden/train.json, which the trainer is tested with, is what PyTorch computes here and now. Without torch there is nothing to compare."""
import subprocess
import sys
from pathlib import Path

try:
    import torch  # noqa: F401
except ImportError as e:
    print(f"skipped: {e} (Debian: python3-torch; PyPI: torch and numpy)")
    sys.exit(0)
sys.exit(subprocess.run([sys.executable, Path(__file__).parents[2] / "golden/make_train.py", "--check"]).returncode)
