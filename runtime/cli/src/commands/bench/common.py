"""What the three scripts share: the request on stdin, the answer on stdout, and the clocks."""

import json
import math
import sys
import time

try:
    import torch
    import transformers
    import peft
except ImportError as error:
    # The one exit that the caller tells apart from a failure.
    print(json.dumps({"missing": error.name, "reason": str(error)}))
    sys.exit(0)

transformers.logging.set_verbosity_error()
transformers.utils.logging.disable_progress_bar()


def peak_rss_mb():
    """The most memory that this process ever had, in MB (10^6 bytes)."""
    try:
        # ru_maxrss would also count what the parent had when it started this process.
        with open("/proc/self/status", encoding="ascii") as status:
            lines = [line for line in status if line.startswith("VmHWM:")]
        return int(lines[0].split()[1]) * 1024 / 1e6
    except OSError:
        import resource

        unit = 1 if sys.platform == "darwin" else 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


def load(request, dtype):
    """The base model, frozen."""
    torch.set_num_threads(request["threads"])
    model = transformers.AutoModelForCausalLM.from_pretrained(
        request["model"], dtype=dtype, attn_implementation="sdpa", local_files_only=True
    )
    return model.requires_grad_(False).to(request["device"])


def trainer(request):
    """A model with the adapter in training, and a function that does one step on a batch."""
    on_cpu = request["device"] == "cpu"
    # On a GPU the base is in bf16, and the adapter in f32, as PEFT casts it.
    model = peft.PeftModel.from_pretrained(
        load(request, torch.float32 if on_cpu else torch.bfloat16), request["adapter"], is_trainable=True
    )
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=request["learning_rate"], weight_decay=0.0)

    def step(batch, learning_rate):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate
        batch = {name: rows.to(request["device"]) for name, rows in batch.items()}
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return loss.item()

    return step


class Clock:
    """CPU time of the whole process (user and system, all threads) and wall time since it was made."""

    def __init__(self):
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def read(self):
        """Both, in milliseconds."""
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        return {"cpu_ms": cpu * 1e3, "wall_ms": wall * 1e3}


def answer(clock, losses=(), **more):
    """Prints what was measured. JSON has no number that is not finite."""
    losses = [loss if math.isfinite(loss) else None for loss in losses]
    versions = {module.__name__: module.__version__ for module in (torch, transformers, peft)}
    measured = {**clock, **more, "losses": losses, "peak_rss_mb": peak_rss_mb()}
    print(json.dumps({**measured, "versions": versions}))


def read_request():
    """The JSON on stdin."""
    return json.load(sys.stdin)


if __name__ == "__main__":
    print("{}")
