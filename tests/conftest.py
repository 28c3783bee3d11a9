"""One thread: the tests' tensors are tiny, and thread counts must not matter."""

import torch

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
