"""The command's first second."""

import subprocess
import sys

INTERRUPTED_WHILE_IT_LOADS = """
import os, signal, sys
from importlib.abc import MetaPathFinder

class Interrupts(MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name == "numpy":
            os.kill(os.getpid(), signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.argv = ["thalweg", "acls"]
from infra.entry import main
sys.exit(main())
"""


def test_ctrl_c_while_it_loads() -> None:
    """Exit 130 and one word, as at any later moment; the command is not begun."""
    argv = [sys.executable, "-c", INTERRUPTED_WHILE_IT_LOADS]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "\nstopped\n")
