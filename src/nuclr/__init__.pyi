from nuclr.data.formats.memory import from_spike_times as from_spike_times
from nuclr.data.formats.memory import from_traces as from_traces
from nuclr.data.own import read as read
from nuclr.errors import NuclrError as NuclrError
from nuclr.evaluation.answers.probe_training import train_probe as train_probe
from nuclr.evaluation.answers.saved_probe import load_probe as load_probe
from nuclr.sharing.loaded import load_model as load_model
from nuclr.training.own import pretrain as pretrain

__version__: str
