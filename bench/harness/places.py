"""Where the files lie: a disk's file system, tmpfs and overlayfs, and the files themselves."""

import os
import shutil
import subprocess
import tempfile

MIB = 1 << 20
FILE_BYTES = 128 * MIB


def filesystem(path):
    return subprocess.run(["stat", "-f", "-c", "%T", path], capture_output=True, text=True,
                          check=False).stdout.strip()


def make_file(path):
    """A file full of data, on the disk and in the page cache."""
    block = os.urandom(MIB)
    with open(path, "wb") as file:
        for _ in range(FILE_BYTES // MIB):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    with open(path, "rb") as file:
        while file.read(MIB):
            pass


class Places:
    """
    Scratch directories, made when first asked for, all gone after close(). Mounts happen in the
    harness's own mount namespace (scripts/bench takes care of that when it is root).
    """

    def __init__(self, base):
        os.makedirs(base, exist_ok=True)
        self.base = tempfile.mkdtemp(prefix="scratch-", dir=base)
        self.directories = {}
        self.mounted = []
        self.files = {}

    def directory(self, kind):
        """The directory of that kind, or None where there cannot be one."""
        if kind not in self.directories:
            self.directories[kind] = getattr(self, "_" + kind)()
        return self.directories[kind]

    def why_not(self, kind):
        return f"no {kind} here: mounting one needs root and a mount namespace"

    def file(self, kind, name):
        """A file of FILE_BYTES, cached; each use has its own name."""
        path = os.path.join(self.directory(kind), name)
        if path not in self.files:
            make_file(path)
            self.files[path] = True
        return path

    def _mount(self, arguments, where):
        os.makedirs(where, exist_ok=True)
        done = subprocess.run(["mount", *arguments, where], capture_output=True, check=False)
        if done.returncode != 0:
            return None
        self.mounted.append(where)
        return where

    def _disk(self):
        return self.base

    def _tmpfs(self):
        if filesystem("/dev/shm") == "tmpfs":
            path = tempfile.mkdtemp(prefix="fakeuring-bench-", dir="/dev/shm")
            self.directories["shm"] = path
            return path
        return self._mount(["-t", "tmpfs", "none"], os.path.join(self.base, "tmpfs"))

    def _overlay(self):
        layers = os.path.join(self.base, "layers")
        # An overlay does not take an overlay as its upper layer.
        if filesystem(self.base) == "overlayfs" and not self._mount(["-t", "tmpfs", "none"], layers):
            return None
        for name in ("lower", "upper", "work"):
            os.makedirs(os.path.join(layers, name), exist_ok=True)
        options = f"lowerdir={layers}/lower,upperdir={layers}/upper,workdir={layers}/work"
        return self._mount(["-t", "overlay", "-o", options, "overlay"],
                           os.path.join(self.base, "overlay"))

    def close(self):
        for where in reversed(self.mounted):
            subprocess.run(["umount", where], capture_output=True, check=False)
        if "shm" in self.directories:
            shutil.rmtree(self.directories["shm"], ignore_errors=True)
        shutil.rmtree(self.base, ignore_errors=True)
