"""A server that forks for each requested command, so that libraries are imported only once; see ``warm``.

``python -m nuclr.cli.server SOCKET`` ends with the process that started it. Before it forks for a frequent
subcommand, it imports the modules in ``FOR_MANY``. Other modules that a subcommand imports are recorded the
first time, and imported here when the subcommand is requested again.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import json
import os
import re
import selectors
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import NoReturn

from nuclr.cli.warm import CODE, LENGTH, WHO

FOR_MANY = {
    "chunk": ["nuclr.data.archives", "nuclr.data.chunk", "nuclr.data.formats.nwb"],
    "pretrain": ["nuclr.training.run", "nuclr.training.pretrain", "torch._dynamo"],
    "embed": ["nuclr.data.own", "nuclr.representation.embed"],
    "baseline": ["nuclr.representation.baselines", "nuclr.data.store"],
    "probe": ["nuclr.evaluation.probe", "sklearn.linear_model"],
    "scaling": ["nuclr.report.figures.curves"],
}


@dataclass(frozen=True)
class Request:
    """A requested command: its arguments, folder, environment, standard streams, and the waiting socket."""

    asking: socket.socket
    arguments: list[str]
    folder: str
    environment: dict[str, str]
    files: Sequence[int]

    @property
    def subcommand(self) -> str:
        """Name of the subcommand: the first argument that is not an option."""
        return next((a for a in self.arguments[1:] if re.fullmatch("[a-z][a-z-]*", a)), "")


@dataclass(frozen=True, eq=False)
class Job:
    """A running command: its request, the forked process, and a file that lists the imported modules."""

    request: Request
    process: int
    ends: int
    loaded: int

    def signal(self, number: int) -> None:
        """Send a signal to the forked process and its child processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process, number)


class Server:
    """Server that forks for each requested command.

    Parameters
    ----------
    place
        Path of the socket to listen at; the socket and its folder are removed when this process ends.
    """

    def __init__(self, place: str) -> None:
        self.place = place
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(place)
        self.listener.listen(128)
        self.parent = os.pidfd_open(os.getppid())
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(self.parent, selectors.EVENT_READ)
        self.jobs: list[Job] = []
        self.needs = dict(FOR_MANY)
        self.before: set[str] = set()

    def serve(self) -> tuple[Request, int]:
        """Wait for commands; return in each fork, with its request and a file to list imported modules in."""
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.listener:
                    request = self._accept()
                    if request is not None and (loaded := self._fork(request)) is not None:
                        return request, loaded
                elif key.fileobj == self.parent:
                    for job in self.jobs:
                        job.signal(signal.SIGTERM)
                    with contextlib.suppress(OSError):
                        os.unlink(self.place)
                        os.rmdir(os.path.dirname(self.place))
                    sys.exit()
                elif key.fileobj == key.data.ends:
                    self._finish(key.data)
                elif key.data in self.jobs:  # the job may have ended since select() returned
                    self._hear(key.data)

    def _accept(self) -> Request | None:
        """Read a request; None if it comes from another installation."""
        asking, _ = self.listener.accept()
        files: Sequence[int] = ()
        with contextlib.suppress(OSError, ValueError, struct.error):
            head, files, _, _ = socket.recv_fds(asking, LENGTH.size, 3)
            (length,) = LENGTH.unpack(head)
            content = json.loads(asking.recv(length, socket.MSG_WAITALL))
            if content.pop("who") == WHO:
                asking.sendall(b"\1")
                return Request(asking, files=files, **content)
        asking.close()
        for file in files:
            os.close(file)
        return None

    def _fork(self, request: Request) -> int | None:
        """Fork for a request; return in the fork the file for imported modules, and in the server None."""
        for name in self.needs.pop(request.subcommand, []):
            # Some modules can only be imported by the module that needs them.
            with contextlib.suppress(Exception):
                import_module(name)
        self.before = set(sys.modules)
        loaded = os.memfd_create("loaded")
        gc.freeze()  # the garbage collector of a fork skips shared objects
        process = os.fork()
        if not process:
            return loaded
        for file in request.files:
            os.close(file)
        job = Job(request, process, os.pidfd_open(process), loaded)
        self.jobs.append(job)
        self.selector.register(job.ends, selectors.EVENT_READ, job)
        self.selector.register(request.asking, selectors.EVENT_READ, job)
        return None

    def _hear(self, job: Job) -> None:
        """Pass a signal on to a job; terminate the job if the waiting process has ended."""
        number = b""
        with contextlib.suppress(ConnectionError):
            number = job.request.asking.recv(1)
        if not number:
            self.selector.unregister(job.request.asking)
        job.signal(number[0] if number else signal.SIGTERM)

    def _finish(self, job: Job) -> None:
        """Send the exit code of a finished command, and record the modules that it imported."""
        code = os.waitstatus_to_exitcode(os.waitpid(job.process, 0)[1])
        with contextlib.suppress(OSError):
            job.request.asking.sendall(CODE.pack(code))
        with contextlib.suppress(KeyError):
            self.selector.unregister(job.request.asking)
        self.selector.unregister(job.ends)
        self.jobs.remove(job)
        job.request.asking.close()
        os.close(job.ends)
        with os.fdopen(job.loaded, "rb") as file:
            file.seek(0)
            names = file.read().decode().split()
        self.needs[job.request.subcommand] = names  # of the last run; most are imported by now

    def leave(self, request: Request) -> None:
        """Close the server's sockets and files in a fork."""
        self.selector.close()
        for end in (self.listener, request.asking, *(job.request.asking for job in self.jobs)):
            end.close()
        for file in (self.parent, *(file for job in self.jobs for file in (job.ends, job.loaded))):
            os.close(file)


def become(request: Request) -> None:
    """Take over the folder, environment, standard streams and arguments of the requesting process."""
    os.setsid()  # signals come from the requesting process, not also from the terminal
    os.chdir(request.folder)
    os.environ.clear()
    os.environ.update(request.environment)
    for number, file in enumerate(request.files):
        os.dup2(file, number)
        os.close(file)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = request.arguments
    # Lightning restarts a run on several devices by its arguments, and must not restart this module.
    sys.modules["__main__"].__spec__ = None
    if threads := os.environ.get("OMP_NUM_THREADS"):
        use_threads(int(threads))


def use_threads(count: int) -> None:
    """Set the number of threads of libraries that were imported before the environment was known."""
    from threadpoolctl import threadpool_limits

    threadpool_limits(count)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(count)


def main() -> None:
    """Serve until the process that started this one ends."""
    from nuclr.cli.app import run

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = Server(sys.argv[1])
    except OSError:  # this system lacks the required features
        sys.exit(1)
    request, loaded = server.serve()
    server.leave(request)
    become(request)
    code: object = 0
    try:
        run()
    except SystemExit as ended:
        code = ended.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    os.write(loaded, " ".join(name for name in sys.modules if name not in server.before).encode())
    end(code if isinstance(code, int) else int(code is not None))


def end(code: int) -> NoReturn:
    """End a fork like Python does, but without freeing the memory that it shares with other forks.

    Freeing would touch all memory of the libraries, which would then be copied, in half a second.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
