"""Opens adapters with PEFT and gives the logits, one job after the other; a job may have its adapter made first."""

import json
import sys

import peft
import torch
import transformers


def base(job):
    return transformers.AutoModelForCausalLM.from_pretrained(
        job["model"], dtype=torch.float32, local_files_only=True
    )


def make(job):
    torch.manual_seed(1)
    model = peft.get_peft_model(base(job), peft.LoraConfig(task_type="CAUSAL_LM", **job["make"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # PEFT starts B at zero, where an adapter does nothing.
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    model.save_pretrained(job["adapter"])


def logits(job):
    if job["make"]:
        make(job)
    model = peft.PeftModel.from_pretrained(base(job), job["adapter"]).eval()
    with torch.no_grad():
        return model(torch.tensor([job["ids"]])).logits[0].tolist()


transformers.utils.logging.disable_progress_bar()
print(json.dumps([logits(job) for job in json.load(sys.stdin)]))
