"""For the unit tests: no time limit on an example of hypothesis, since the first one pays for imports; one thread."""

import torch
from hypothesis import settings

settings.register_profile("course", deadline=None)
settings.load_profile("course")
torch.set_num_threads(1)  # models this small lose more to coordination than a second thread gains
