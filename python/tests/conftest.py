import os

# small networks on few cores: threads of one test would wait for those of another
os.environ.setdefault("OMP_NUM_THREADS", "1")
