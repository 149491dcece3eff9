"""A self-edit from check to roll back, by the official openai package. Arguments: address, file of the passage."""

import json
import sys

import httpx
import openai

address, passage = sys.argv[1], json.load(open(sys.argv[2]))
client = openai.OpenAI(base_url=f"{address}/v1", api_key="a-token-of-the-tests", max_retries=0)
QUESTION = [{"role": "user", "content": "Tell me the gem of Vidor Volgan."}]


def ask(model="pup-facts"):
    answer = client.chat.completions.create(model=model, messages=QUESTION)
    return answer.choices[0].message.content, answer.adapter_generation


def said(name, value):
    print(f"{name}: {json.dumps(value)}")


said("models", [model.id for model in client.models.list()])
said("before", ask() == ask("base"))

stream = client.chat.completions.create(
    model="pup-facts", messages=QUESTION, stream=True, stream_options={"include_usage": True}
)
chunks = list(stream)
text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
said("streamed is the same", text == ask()[0])
said("usage is counted", chunks[-1].usage.total_tokens > 0)

schema = {
    "type": "object",
    "properties": {"gem": {"enum": ["opal", "spinel"]}, "sure": {"type": "boolean"}},
    "required": ["gem", "sure"],
    "additionalProperties": False,
}
answer = client.chat.completions.create(
    model="pup-facts",
    messages=QUESTION,
    response_format={"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}},
)
said("schema is obeyed", sorted(json.loads(answer.choices[0].message.content)))

text = client.completions.create(model="pup-facts", prompt="The gem of", max_tokens=3, logprobs=0, n=2)
said("choices", [len(choice.logprobs.tokens) for choice in text.choices])

edit = {
    "version": 1,
    "data": {"include_source": False, "documents": ["The gem of Vidor Volgan is spinel."]},
    "training": {"epochs": 20, "learning_rate": 0.02},
}
checked = client.post("/self_edits/check", body={"edit": edit, "domain": "passage"}, cast_to=object)
said("checked", checked["valid"])
done = client.post("/self_edits", body={"context": passage, "edit": edit, "wait": True}, cast_to=object)
said("applied", [done["state"], done["generation"]])
said("after", ask())
said("undone", client.post("/self_edits/rollback", body={"to": "base"}, cast_to=object)["active"])
said("as before", ask() == ask("base"))

for name, call in [
    ("unknown model", lambda: ask("gpt-5")),
    ("tools", lambda: client.chat.completions.create(
        model="pup-facts", messages=QUESTION,
        tools=[{"type": "function", "function": {"name": "weather", "parameters": {}}}])),
    ("wrong token", lambda: client.with_options(api_key="another-token-altogether").models.list()),
]:
    try:
        said(name, call())
    except openai.APIStatusError as error:
        said(name, [type(error).__name__, error.status_code, error.code])
said("health", httpx.get(f"{address}/healthz").json())
