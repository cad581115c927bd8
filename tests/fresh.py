"""Runs code as a new interpreter would that has imported torch, and nothing of ours. Torch is imported once for all.

What must see an interpreter without torch, or the command's own start, is no matter for this file.
"""

import atexit
import json
import subprocess
import sys
from functools import cache
from pathlib import Path

# answers each line of its input, a job, with the status of a child that runs the job's code
PARENT = """
import json, os, signal, sys, traceback
import torch

def run(job):
    os.chdir(job["folder"])
    os.environ |= job["environment"]
    for number, stream in (1, sys.stdout), (2, sys.stderr):
        os.dup2(os.open(job["put out"][number - 1], os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    signal.alarm(120)
    sys.argv, sys.path[0] = ["-c"], ""
    exec(compile(job["code"], "<fresh>", "exec"), {"__name__": "__main__"})

for line in sys.stdin:
    child = os.fork()
    if not child:
        status = 1
        try:
            run(json.loads(line))
            status = 0
        except SystemExit as stopped:
            status = stopped.code
        except BaseException:
            traceback.print_exc()
        sys.exit(status)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


@cache
def parent() -> subprocess.Popen:
    """Warnings are errors in it and in its children."""
    command = [sys.executable, "-W", "error", "-c", PARENT]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(process.communicate)  # it ends with its input
    return process


def run(code: str, folder: Path, **environment: str) -> str:
    """What the code prints when it is run in a folder; an error, with what it wrote to stderr, when it fails."""
    outputs = [folder / ".stdout", folder / ".stderr"]
    job = {"code": code, "folder": str(folder), "environment": environment, "put out": list(map(str, outputs))}
    process = parent()
    process.stdin.write(json.dumps(job) + "\n")
    process.stdin.flush()
    status = process.stdout.readline().strip()
    printed, complaints = (path.read_text(encoding="utf-8") for path in outputs)
    for path in outputs:
        path.unlink()
    assert status == "0", f"status {status}\n{complaints}"
    return printed
