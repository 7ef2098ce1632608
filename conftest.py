"""For every test, the notebooks' cells included."""

import os
from pathlib import Path

# Progress bars would be compared with the stored outputs, character by character; nbval's kernels inherit this.
os.environ["TQDM_DISABLE"] = "1"


def pytest_configure(config):
    """Tell nbval what to leave out of its comparison, wherever it was called from."""
    if getattr(config.option, "nbval_sanitize_with", "none installed") is None:
        config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "nbval.cfg")
