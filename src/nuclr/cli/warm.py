"""Run commands in a warm process that has already imported the libraries.

Small jobs spend most of their time importing libraries, and a workflow has hundreds of small jobs. Therefore
the workflow starts one server process, :mod:`nuclr.cli.server`, and passes its socket in ``NUCLR_WARM``. The
server forks for each command. The fork has all libraries imported and otherwise is an independent process: it
gets the folder, environment, files and signals of the requesting process, and fails or is killed alone.
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
# A server of another installation would run different code.
WHO = [sys.prefix, sys.version, __file__]


def start() -> None:
    """Start a server that ends with this process, and pass its socket to later child processes.

    Nothing happens on systems without the required features (Linux has them); commands then import libraries
    themselves.
    """
    import subprocess
    from tempfile import mkdtemp

    if not hasattr(os, "pidfd_open"):
        return
    place = os.path.join(mkdtemp(prefix="nuclr-"), "socket")  # readable for this user only
    command = [sys.executable, "-m", "nuclr.cli.server", place]
    # Forks set their own number of threads; one thread here avoids idle threads in the server.
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    nowhere = subprocess.DEVNULL
    subprocess.Popen(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=environment)
    os.environ[PLACE] = place


def ask(place: str) -> int | None:
    """Run this process's command in the server that listens at a socket.

    Returns
    -------
    int or None
        The exit code. None if no server listens or it refuses the command, so nothing was run.
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
        # End by the same signal as the fork, so that a waiting process sees it.
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return int(code)
