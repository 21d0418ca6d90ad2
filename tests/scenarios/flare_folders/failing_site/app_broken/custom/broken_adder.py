from nvflare.apis.executor import Executor


class BrokenAdder(Executor):
    def execute(self, task_name, shareable, fl_ctx, abort_signal):
        raise ValueError("cannot read batch 7")
