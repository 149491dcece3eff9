"""Greedy generation with Transformers and its cache of keys and values, one prompt."""

from common import Clock, answer, load, read_request, torch

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16}

request = read_request()
on_cpu = request["device"] == "cpu"
model = load(request, DTYPES[request["dtype"]] if on_cpu else torch.bfloat16).eval()
# Every run makes as many tokens as were asked for.
model.generation_config.eos_token_id = None
prompt = torch.tensor([request["prompt"]], device=request["device"])


def generate(new_tokens):
    with torch.inference_mode():
        mask = torch.ones_like(prompt)
        out = model.generate(
            prompt, attention_mask=mask, max_new_tokens=new_tokens, do_sample=False, pad_token_id=0
        )
    return out[0, prompt.shape[1] :].tolist()


generate(2)
clock = Clock()
tokens = generate(request["new_tokens"])
answer(clock.read(), tokens=tokens)
