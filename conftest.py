"""For every test, the notebooks' cells included."""

import os

# Progress bars would be compared with the stored outputs, character by character; nbval's kernels inherit this.
os.environ["TQDM_DISABLE"] = "1"
