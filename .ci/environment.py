"""Build `.venv` with everything CineLabel needs; standard library only, any Python starts it.

The order matters: monailabel asks for sam2, which exists as source alone and names torch as a
build requirement. Left to itself pip would download and unpack torch a second time (several GB)
to build it. So torch comes first, sam2 is built against the installed one, and then the rest.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CONSTRAINTS = os.path.join(ROOT, "constraints.txt")
SUPPORTED = [(3, 12), (3, 11), (3, 10)]
SECONDS_BETWEEN_LINES = 20  # where the output is a file and a line cannot be rewritten


def version_of(command):
    """(major, minor) of an interpreter that has venv and pip, or None."""
    probe = "import sys, venv, ensurepip; print(*sys.version_info[:2])"
    try:
        done = subprocess.run(
            command + ["-c", probe], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=60
        )
        return tuple(int(part) for part in done.stdout.split()[:2])  # empty after a failure
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


def find_python(wished):
    """The command of the newest usable interpreter, or the one that was asked for."""
    if wished:
        candidates = [[wished]]
    else:
        candidates = [[f"python{major}.{minor}"] for major, minor in SUPPORTED]
        candidates += [["python3"], ["python"], [sys.executable]]
        if os.name == "nt":
            candidates = [["py", f"-{major}.{minor}"] for major, minor in SUPPORTED] + candidates
    for command in candidates:
        if version_of(command) in SUPPORTED:
            return command
    sys.exit(
        f"No usable Python was found{f' as {wished}' if wished else ''}. CineLabel needs Python "
        "3.10, 3.11 or 3.12 with its venv module (Debian and Ubuntu: apt install python3-venv)."
    )


class Progress:
    """Where a step is: one line that is rewritten on a terminal, else a line now and then."""

    def __init__(self, step):
        self.step = step
        self.started = time.monotonic()
        self.shown = self.started
        self.terminal = sys.stdout.isatty()
        if not self.terminal:
            print(f"  {step} ...", flush=True)

    def show(self, doing):
        """Show what is being done if it is time for it."""
        now = time.monotonic()
        if now - self.shown < (0.2 if self.terminal else SECONDS_BETWEEN_LINES):
            return
        self.shown = now
        text = f"  {self.step}, {now - self.started:.0f} s: {doing}"
        if self.terminal:
            width = shutil.get_terminal_size().columns - 1
            print("\r" + text[:width].ljust(width), end="", flush=True)
        else:
            print(text, flush=True)

    def end(self):
        """Replace the last line by how long it took."""
        text = f"  {self.step}: {time.monotonic() - self.started:.0f} s"
        if self.terminal:
            text = "\r" + text.ljust(shutil.get_terminal_size().columns - 1)
        print(text, flush=True)


def copy_lines(stream, lines):
    """Put each line of a process into a queue, then None."""
    for line in stream:
        lines.put(line)
    lines.put(None)


def run(step, command, log, environment=None):
    """Run one command with its output in the log, progress on the screen, its end on failure."""
    progress = Progress(step)
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=dict(os.environ, **(environment or {})),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )
    lines = queue.Queue()
    threading.Thread(target=copy_lines, args=(process.stdout, lines), daemon=True).start()
    tail = collections.deque(maxlen=25)
    doing, packages, line = "starting", 0, ""
    with open(log, "a", encoding="utf-8") as stream:
        while line is not None:
            with contextlib.suppress(queue.Empty):
                line = lines.get(timeout=1)
                if line is not None:
                    stream.write(line)
                    tail.append(line)
                    packages += line.startswith(("Collecting", "Processing"))
                    doing = what_pip_does(line, packages) or doing
            progress.show(doing)
    if process.wait():
        print("\n" + "".join(tail))
        sys.exit(f"{step} failed; the whole output is in {log}.")
    progress.end()


def what_pip_does(line, packages):
    """What a line of pip means for the one who waits, or None."""
    if line.startswith(("Collecting", "Processing")):
        return f"package {packages}, {os.path.basename(line.split()[1])}"
    found = re.match(r"\s*(Downloading \S+ \(\d.*\)|Building wheel for \S+)", line)
    if found:
        return f"package {packages}, {found.group(1)}"
    if line.startswith("Installing collected packages"):
        return f"unpacking {line.count(',') + 1} packages"
    return None


def build(venv, wished, extras):
    """Create or complete the environment."""
    python = os.path.join(venv, "Scripts" if os.name == "nt" else "bin", "python")
    log = os.path.join(venv, "build.log")
    print(
        f"Building the environment in {os.path.relpath(venv)}. The first time takes some minutes: "
        "PyTorch and MONAI Label are several GB. Later calls start at once.",
        flush=True,
    )
    if version_of([python]) not in SUPPORTED:
        command = find_python(wished)
        major, minor = version_of(command)
        print(f"  using {' '.join(command)} (Python {major}.{minor})", flush=True)
        subprocess.check_call(command + ["-m", "venv", "--clear", venv])
    pip = [python, "-m", "pip", "install", "--disable-pip-version-check", "--no-input"]
    pinned = pip + ["-c", CONSTRAINTS]
    run("1/4 pip", pip + ["--upgrade", "pip"], log)
    run("2/4 PyTorch", pinned + ["torch", "torchvision", "setuptools", "wheel"], log)
    run(
        "3/4 sam2, a part of MONAI Label",
        pinned + ["--no-build-isolation", "--no-deps", "sam2"],
        log,
        {"SAM2_BUILD_CUDA": "0"},
    )
    run("4/4 CineLabel and the rest", pinned + ["-e", f".[{extras}]"], log)


def main():
    """Command line of the build."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--venv", default=os.path.join(ROOT, ".venv"))
    parser.add_argument("--python", default="", help="interpreter to use instead of the newest")
    parser.add_argument("--extras", default="server,train,dev")
    arguments = parser.parse_args()
    try:
        build(os.path.abspath(arguments.venv), arguments.python, arguments.extras)
    except KeyboardInterrupt:
        sys.exit("\nInterrupted; the next call goes on where this one stopped.")


if __name__ == "__main__":
    main()
