"""An executor on several processes that torch starts."""

from __future__ import annotations

import shlex
import sys

from hansa.components.executors.multi_process_executor import MultiProcessExecutor


class PTMultiProcessExecutor(MultiProcessExecutor):
    """Runs an executor on several processes of this host, as `torchrun` starts them.

    The executor in each of them finds what `torch.distributed.init_process_group` needs in its environment.
    """

    def get_multi_process_command(self) -> str:
        """`python -m torch.distributed.run` for a single host."""
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nnodes=1", "--log-dir=/dev/null"]
        return shlex.join([*command, f"--nproc_per_node={self.num_of_processes}"])
