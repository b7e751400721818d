"""Asking a warm process to carry a command out: one that has loaded the libraries already.

Most of what a small job takes is the loading of libraries, and a workflow has hundreds of small jobs. So the
workflow starts one process beside them, :mod:`nuclr.cli.server`, and names its socket in ``NUCLR_WARM``. It
forks for each command. The copy has everything loaded and is in all else a process of its own: it gets the
folder, environment, files and signals of the process that asked, and fails or is killed alone.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import struct
import sys
from typing import Any

PLACE = "NUCLR_WARM"
LENGTH = struct.Struct("!I")
CODE = struct.Struct("!i")
# A server of another installation would carry out other code.
WHO = [sys.prefix, sys.version, __file__]


def start() -> None:
    """Start a server that ends with this process, and name it to all that this process starts from now on.

    Nothing happens where a system has not what it takes (Linux has); commands then load for themselves.
    """
    import subprocess
    from tempfile import mkdtemp

    if not hasattr(os, "pidfd_open"):
        return
    place = os.path.join(mkdtemp(prefix="nuclr-"), "socket")  # others may not look into it
    command = [sys.executable, "-m", "nuclr.cli.server", place]
    # Copies set their number of threads; what is set here only keeps idle ones from being made.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nowhere = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=environment)
    os.environ[PLACE] = place


def ask(place: str) -> int | None:
    """Have this process' command carried out by the process that listens at a socket.

    Returns
    -------
    int or None
        The exit code. None where nobody listens or the command is not taken: nothing was done.
    """
    request = {
        "who": WHO,
        "arguments": sys.argv,
        "folder": os.getcwd(),
        "environment": {name: value for name, value in os.environ.items() if name != PLACE},
    }
    content = json.dumps(request).encode()
    asking = socket.socket(socket.AF_UNIX)
    try:
        asking.connect(place)
        socket.send_fds(asking, [LENGTH.pack(len(content))], [0, 1, 2])
        asking.sendall(content)
        if not asking.recv(1):
            return None
    except OSError:
        return None

    def pass_on(number: int, frame: Any) -> None:
        asking.sendall(bytes([number]))

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, pass_on)
    answer = asking.recv(CODE.size, socket.MSG_WAITALL)
    if len(answer) < CODE.size:
        print(
            "nuclr: error: the background process ended before the command was finished; run it again",
            file=sys.stderr,
        )
        return 1
    (code,) = CODE.unpack(answer)
    if code < 0:
        # Whoever waits for this process is to see what became of the copy.
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return int(code)
