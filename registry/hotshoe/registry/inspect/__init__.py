"""Would the engine serve this adapter, and serve it right? Answered from the files alone, without torch.

`inspect` reads header first and refuses whatever vLLM would refuse (some of it only by dying) or, worse,
take in silence and answer wrongly. Every rule names the tensor or file and the next step; docs/trust.md
lists them.
"""

from hotshoe.registry.inspect.findings import Finding, Inspection, Severity
from hotshoe.registry.inspect.folder import (
    CONFIG_FILE,
    PLOT_FILE,
    README_FILE,
    REPORT_FILE,
    WEIGHTS_FILE,
    version_files,
)
from hotshoe.registry.inspect.inspection import inspect
from hotshoe.registry.inspect.shapes import SERVED_TARGETS

__all__ = [
    "CONFIG_FILE",
    "PLOT_FILE",
    "README_FILE",
    "REPORT_FILE",
    "SERVED_TARGETS",
    "WEIGHTS_FILE",
    "Finding",
    "Inspection",
    "Severity",
    "inspect",
    "version_files",
]
