import json
import os

import numpy as np
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.fl_constant import FLContextKey
from nvflare.apis.impl.controller import Controller, SendOrder, Task


class RelayController(Controller):
    def __init__(self, num_rounds, task_assignment_timeout, start):
        super().__init__()
        if not isinstance(num_rounds, int):
            raise TypeError("num_rounds must be int")
        self.num_rounds = num_rounds
        self.task_assignment_timeout = task_assignment_timeout
        self.last = DXO(DataKind.WEIGHTS, {"value": np.float64(start), "way": []})

    def start_controller(self, fl_ctx):
        pass

    def control_flow(self, abort_signal, fl_ctx):
        for _ in range(self.num_rounds):
            task = Task("train", self.last.to_shareable(), result_received_cb=self.pass_on)
            self.relay_and_wait(
                task=task,
                targets=[client.name for client in fl_ctx.get_engine().get_clients()],
                task_assignment_timeout=self.task_assignment_timeout,
                send_order=SendOrder.SEQUENTIAL,
                dynamic_targets=False,
                fl_ctx=fl_ctx,
                abort_signal=abort_signal,
            )
            if abort_signal.triggered:
                return

    def pass_on(self, client_task, fl_ctx):
        self.last = from_shareable(client_task.result)
        client_task.task.data = self.last.to_shareable()

    def stop_controller(self, fl_ctx):
        run_dir = os.path.dirname(fl_ctx.get_prop(FLContextKey.APP_ROOT))
        with open(os.path.join(run_dir, "relay.json"), "w") as file:
            json.dump({"value": float(self.last.data["value"]), "way": list(self.last.data["way"])}, file)

    def process_result_of_unknown_task(self, client, task_name, client_task_id, result, fl_ctx):
        pass
