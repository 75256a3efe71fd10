"""How long a data set of many members takes to open, and how much memory: ImageNet's number of them, made up.

    python bench/members.py FEWSTEP [members, default 1300000]

Writes a zip of small PNG files with labels (as EDM's tools write them) into a temporary folder, some GB, and a description of it by `fewstep
info`. It fails where that takes more than ten seconds or a GB. Minutes; Linux.
"""

from __future__ import annotations

import json
import struct
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from pathlib import Path

CLASSES = 1000
#: What ImageNet's number of members may take.
MOST_SECONDS, MOST_KB = 10, 1_000_000


def png(grey: int) -> bytes:
    """8 by 8 pixels of one grey."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 8, 8, 8, 0, 0, 0, 0)
    rows = (b"\0" + bytes([grey]) * 8) * 8
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write(path: Path, members: int) -> None:
    pictures = [png(grey) for grey in range(256)]
    name = "{:05d}/img{:08d}.png".format
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for member in range(members):
            archive.writestr(name(member // 1000, member), pictures[member % 256])
        labels = [[name(member // 1000, member), member % CLASSES] for member in range(members)]
        archive.writestr("dataset.json", json.dumps({"labels": labels}))


def peak_of(process: int) -> int:
    """The most memory in KB that a process has had; of a child that `resource` knows, it would be its parent's before it began."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


def main() -> None:
    program = str(Path(sys.argv[1]).resolve())
    members = int(sys.argv[2]) if len(sys.argv) > 2 else 1_300_000
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "members.zip"
        write(path, members)
        started, peak = time.monotonic(), 0
        with subprocess.Popen([program, "info", str(path)]) as running:
            while running.poll() is None:
                peak = max(peak, peak_of(running.pid))
                time.sleep(0.01)
        seconds = time.monotonic() - started
        if running.returncode:
            sys.exit(running.returncode)
        print(f"{members} members, {path.stat().st_size / 1e6:.0f} MB: {seconds:.1f} s, {peak / 1e3:.0f} MB of memory")
        if seconds > MOST_SECONDS or peak > MOST_KB:
            sys.exit(f"that is more than {MOST_SECONDS} s or {MOST_KB / 1e6:g} GB")


if __name__ == "__main__":
    main()
