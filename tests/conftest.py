"""One thread: the models are tiny, and threads that wait for each other on a busy machine are slower than one."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
