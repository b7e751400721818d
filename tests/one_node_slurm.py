"""A SLURM cluster of this machine alone, with pretended nodes and GPUs, on ports of its own.

    python tests/one_node_slurm.py FOLDER     # starts it, says how to talk to it, and ends with Ctrl-C

It needs Debian's `apt-get install slurmctld slurmd slurm-client munge`. Nothing of it is accounted for (no
slurmdbd), as on many real clusters: jobs are asked after with squeue.
"""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

NEEDED = ("slurmctld", "slurmd", "sbatch", "squeue", "scancel", "scontrol", "srun", "sinfo", "munged")
CONF = """\
ClusterName=pretended
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
# What needs no cgroups, so that it runs inside a container.
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
# A job over its memory is killed, by what is measured every second.
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
KillWait=2
InactiveLimit=0
SchedulerParameters=sched_interval=1,batch_sched_delay=0,defer
MpiDefault=none
GresTypes=gpu
{nodes}
PartitionName=cpu Nodes=ALL Default=YES State=UP
PartitionName=gpu Nodes=ALL State=UP
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
    "CPUs=4 RealMemory=64000 Gres=gpu:{gpus}"
)
STARTED_WITHIN_S = 30
# Snakemake's job steps forget SLURM_CONF, so the configuration is linked to from where SLURM looks.
SYSTEM_CONF = Path("/etc/slurm/slurm.conf")


@dataclass(frozen=True)
class Cluster:
    """A cluster that runs.

    Attributes
    ----------
    environment
        For whoever talks to it.
    nodes
        Names.
    folder
        Configuration, state and logs.
    """

    environment: dict[str, str]
    nodes: list[str]
    folder: Path

    def ask(self, *command: str) -> str:
        """Run one of SLURM's commands; what it says."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=60)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
        return done.stdout


def lacking() -> str:
    """Why a cluster cannot be started here; empty if it can."""
    if missing := [name for name in NEEDED if shutil.which(name, path=search_path()) is None]:
        return f"{', '.join(missing)} not installed: apt-get install slurmctld slurmd slurm-client munge"
    if os.getuid() != 0:
        return "SLURM's daemons are started as root"
    if SYSTEM_CONF.exists():
        return f"{SYSTEM_CONF} is there: this machine belongs to a cluster"
    return ""


def search_path() -> str:
    """Where programs are, those of the system's administrator too."""
    return os.pathsep.join([os.environ["PATH"], "/usr/sbin", "/sbin"])


@contextmanager
def cluster(folder: Path, nodes: int = 2, gpus: int = 1) -> Iterator[Cluster]:
    """Start a cluster in a folder, and end it with all its jobs.

    Raises
    ------
    RuntimeError
        If it does not come up; the daemons' logs are in the message.
    """
    folder = folder.absolute()
    for name in ("state", *(f"spool-n{i}" for i in range(nodes))):
        (folder / name).mkdir(parents=True)
    (folder / "munge.key").write_bytes(secrets.token_bytes(128))
    (folder / "munge.key").chmod(0o400)
    names, host = [f"n{i}" for i in range(nodes)], socket.gethostname().split(".")[0]
    ports = free_ports(nodes + 1)
    # Plain files stand for the GPUs' device files.
    devices = [folder / f"gpu{i}" for i in range(gpus)]
    for device in devices:
        device.touch()
    (folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in devices))
    described = "\n".join(
        NODE.format(name=name, host=host, port=port, gpus=gpus)
        for name, port in zip(names, ports[1:], strict=True)
    )
    (folder / "slurm.conf").write_text(
        CONF.format(host=host, ports=ports, user=getpass.getuser(), folder=folder, nodes=described)
    )
    SYSTEM_CONF.parent.mkdir(exist_ok=True)
    SYSTEM_CONF.unlink(missing_ok=True)  # of a cluster that was killed
    SYSTEM_CONF.symlink_to(folder / "slurm.conf")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "PATH": search_path()}
    munge = ["munged", "--foreground", "--force", f"--key-file={folder}/munge.key"]
    munge += [
        f"--socket={folder}/munge.socket",
        f"--pid-file={folder}/munge.pid",
        f"--log-file={folder}/munge.log",
    ]
    munge += [f"--seed-file={folder}/munge.seed"]
    commands = [munge, ["slurmctld", "-D"], *(["slurmd", "-D", "-N", name] for name in names)]
    daemons = []
    try:
        for command in commands:
            with (folder / f"{command[0]}-{command[-1].rpartition('/')[2]}.out").open("w") as said:
                daemons.append(subprocess.Popen(command, env=environment, stdout=said, stderr=said))
            waiting = time.monotonic()
            while command is munge and not (folder / "munge.socket").exists():
                if time.monotonic() - waiting > STARTED_WITHIN_S:
                    raise RuntimeError(f"munge did not start: {logs(folder)}")
                time.sleep(0.05)
        running = Cluster(environment, names, folder)
        wait_until_idle(running)
        yield running
    finally:
        subprocess.run(
            ["scancel", "--user", getpass.getuser()], env=environment, capture_output=True, timeout=60
        )
        time.sleep(1)
        SYSTEM_CONF.unlink(missing_ok=True)
        for daemon in reversed(daemons):
            daemon.terminate()
        for daemon in daemons:
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()


def wait_until_idle(running: Cluster) -> None:
    """Wait until all nodes take jobs."""
    waiting = time.monotonic()
    while True:
        try:
            states = running.ask("sinfo", "--noheader", "--Node", "--partition=cpu", "--format=%T").split()
        except RuntimeError:
            states = []
        if states == ["idle"] * len(running.nodes):
            return
        if time.monotonic() - waiting > STARTED_WITHIN_S:
            raise RuntimeError(f"the cluster did not come up ({states}): {logs(running.folder)}")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    """Find ports that nobody listens at."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def logs(folder: Path) -> str:
    """Ends of all daemons' logs."""
    files = sorted([*folder.glob("*.log"), *folder.glob("*.out")])
    return "\n".join(f"== {path.name}\n{path.read_text(errors='replace')[-1500:]}" for path in files)


if __name__ == "__main__":
    if reason := lacking():
        sys.exit(reason)
    with cluster(Path(sys.argv[1])) as started:
        print(f"export SLURM_CONF={started.environment['SLURM_CONF']}", flush=True)
        try:
            while True:
                time.sleep(3600)
        except KeyboardInterrupt:
            print("ending the cluster")
