"""The code that runs on the cluster: tasks, bases, learners and the one Tune trainable."""

import os

from trainables.import_path import own_modules_last

own_modules_last()  # before anything else is imported

# Before torch's first matrix product, when MKL reads it. In its strict mode, a row of a product has the same bits in a
# batch of any size, so batches of trials that share a base need no filling up (`packed/determinism.py` measures it).
# Without it, some Intel processors choose another kernel for fewer rows; the strict one is as fast.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
