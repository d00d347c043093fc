"""A real kernel, driven cell by cell as JupyterLab does, and notebooks run as nbclient does."""

import os
import queue
import time
from pathlib import Path

import nbformat
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient

from tests.kernel.lateness import late

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Cell:
    """What came of one execution."""

    def __init__(self):
        self.stdout, self.stderr, self.status, self.ename, self.interrupt_s = "", "", None, None, None
        self.evalue, self.traceback, self.replies = None, [], []
        self.displays, self.late, self.late_displays = [], "", []
        self.is_busy = False

    def assert_interrupted_within(self, limit_s):
        """It ended so soon after the interrupt."""
        if self.interrupt_s >= limit_s:
            late(f"the cell ended {self.interrupt_s:.2f} s after the interrupt")


class Kernel:
    """A real kernel, spoken to as JupyterLab does: cells have ids."""

    def __init__(self, setup=""):
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(HERE), env={**os.environ, "PYTHONPATH": str(ROOT)})
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        if setup:
            assert self.run(setup).status == "ok"

    def run(self, code, *, cell_id=None, interrupt_after_s=None, begun=None, limit_s=30):
        """Run a cell; `interrupt_after_s` counts from when the kernel began it, or from when `begun()` first holds."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": False,
        }
        message = self.client.session.msg("execute_request", content)
        message["metadata"] = {"cellId": cell_id} if cell_id else {}
        self.client.shell_channel.send(message)
        return self._collect(message["header"]["msg_id"], interrupt_after_s, begun, limit_s)

    def _collect(self, msg_id, interrupt_after_s, begun, limit_s):
        cell, began, pressed_s = Cell(), time.monotonic(), None
        counted_from = None
        while True:
            assert time.monotonic() - began < limit_s, f"the cell did not end: {cell.__dict__}"
            if counted_from is None and (begun() if begun else cell.is_busy):
                counted_from = time.monotonic()
            due = counted_from is not None and interrupt_after_s is not None
            if due and pressed_s is None and time.monotonic() - counted_from > interrupt_after_s:
                pressed_s = time.time()
                self.manager.interrupt_kernel()
            if pressed_s is not None and "Exception ignored" in cell.stderr and "KeyboardInterrupt" in cell.stderr:
                # It came in the middle of a destructor, where Python drops it: a person presses Stop again.
                cell.stderr, pressed_s = "", time.time()
                self.manager.interrupt_kernel()
            try:
                message = self.client.get_iopub_msg(timeout=0.02)
            except queue.Empty:
                continue
            kind, content = message["msg_type"], message["content"]
            if message["parent_header"].get("msg_id") != msg_id:
                cell.late += content.get("text", "")
                cell.late_displays += [content["data"]] if kind == "update_display_data" else []
                continue
            if kind == "stream":
                setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
            elif kind in ("display_data", "update_display_data", "execute_result"):
                cell.displays.append((kind, content["data"], content.get("transient", {})))
            elif kind == "error":
                cell.ename, cell.evalue, cell.traceback = content["ename"], content["evalue"], content["traceback"]
            elif kind == "status" and content["execution_state"] == "idle":
                break
            elif kind == "status":
                cell.is_busy = True
        # By the kernel's own word on when it was done: how soon that is read here is no matter of the kernel's.
        cell.interrupt_s = None if pressed_s is None else message["header"]["date"].timestamp() - pressed_s
        while True:
            reply = self.client.get_shell_msg(timeout=10)
            if reply["parent_header"].get("msg_id") == msg_id:
                cell.status = reply["content"]["status"]
                return cell
            cell.replies.append(reply)

    def close(self):
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def notebook(*sources):
    made = nbformat.v4.new_notebook()
    made.cells = [nbformat.v4.new_code_cell(source) for source in sources]
    return made


def execute(made):
    NotebookClient(made, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(HERE)}}).execute()
    return made
