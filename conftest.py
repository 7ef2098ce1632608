"""For every test, the notebooks' cells included."""

import os
from pathlib import Path

# Progress bars would be compared with the stored outputs, character by character; nbval's kernels inherit this.
os.environ["TQDM_DISABLE"] = "1"


def pytest_configure(config):
    """Tell nbval what to leave out of its comparison, wherever it was called from."""
    if getattr(config.option, "nbval_sanitize_with", "none installed") is None:
        config.option.nbval_sanitize_with = str(Path(__file__).parent / "tests" / "nbval.cfg")


def pytest_terminal_summary(terminalreporter):
    """What tests measured, ``record_property("measured", ...)``, after all of them, whichever process ran them."""
    for report in terminalreporter.getreports("passed"):
        for name, value in getattr(report, "user_properties", []):
            if name == "measured" and report.when == "call":
                terminalreporter.write_line(f"MEASURED {value}")
