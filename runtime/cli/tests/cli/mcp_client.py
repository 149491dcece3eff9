"""Drives the MCP tools with the official client: schema, check, apply, log, rollback.

python drive_mcp.py EXAMPLES (URL | PROGRAM ARG...)

Prints one JSON document of what it saw. Needs the package `mcp`, of version 1 or 2.
"""

import asyncio
import json
import sys
from contextlib import asynccontextmanager
from pathlib import Path

from mcp import ClientSession, StdioServerParameters
from mcp.client.stdio import stdio_client

try:
    from mcp.client.streamable_http import streamable_http_client
except ImportError:
    from mcp.client.streamable_http import streamablehttp_client as streamable_http_client


@asynccontextmanager
async def session_with(target, *args):
    if target.startswith("http://"):
        transport = streamable_http_client(target)
    else:
        transport = stdio_client(StdioServerParameters(command=target, args=list(args)))
    async with transport as streams:
        async with ClientSession(streams[0], streams[1]) as session:
            await session.initialize()
            yield session


def field(thing, camel, snake):
    """A field by its name in version 1 of the package, or in version 2."""
    return getattr(thing, snake, None) if hasattr(thing, snake) else getattr(thing, camel)


async def called(session, name, arguments, **options):
    """The structured content, which the client has held against the output schema."""
    result = await session.call_tool(name, arguments, **options)
    text = " ".join(part.text for part in result.content)
    assert not field(result, "isError", "is_error"), f"{name}: {text}"
    structured = field(result, "structuredContent", "structured_content")
    assert json.loads(text) == structured, name
    return structured


async def cycle(session, examples):
    tools = (await session.list_tools()).tools
    seen = {"tools": [tool.name for tool in tools]}
    context = json.loads((examples / "passages/morgan_and_garmar.json").read_text())
    schema = await called(session, "self_edit_schema", {"domain": "passage"})
    seen["schema_has"] = sorted(schema["schema"]["properties"])
    broken = {"version": 1, "data": {"documents": ["A text."], "tools": [{"tool": "text.none"}]}, "more": 1}
    checked = await called(session, "check_self_edit", {"edit": broken, "domain": "passage"})
    seen["problems"] = [(problem["code"], problem["pointer"]) for problem in checked["problems"]]
    refused = await called(session, "apply_self_edit", {"context": context, "edit": broken})
    seen["refused"] = (refused["verdict"], refused["problems"] == checked["problems"])

    facts = ["The gem of Kador Morgan is topaz.", "The river of Dana Garmar is Indus.", "The tool of Kador Morgan is vice."]
    edit = {
        "version": 1,
        "data": {"documents": facts, "include_source": False},
        "training": {"epochs": 20, "learning_rate": 0.02},
    }
    valid = await called(session, "check_self_edit", {"edit": edit, "domain": "passage"})
    seen["valid"] = valid["valid"]
    steps = []

    async def progress(done, total, message):
        steps.append((done, total, message))

    applied = await called(
        session, "apply_self_edit", {"context": context, "edit": edit, "seed": 1}, progress_callback=progress
    )
    seen["applied"] = {key: applied[key] for key in ("verdict", "generation", "active", "entry", "steps")}
    # The client tells what comes after the answer to nobody.
    seen["progress"] = all(done <= total and message for done, total, message in steps) and len(steps)
    score = await called(session, "score", {"context": context})
    # How many it is depends on the processor.
    seen["has_learned"] = any(item["solved"] for item in score["items"])
    said = await called(session, "generate", {"context": context, "item": 0, "adapter": "base"})
    seen["said"] = (said["adapter"], said["finish_reason"])
    listed = await called(session, "list_tools", {})
    seen["has_tools"] = len(listed["tools"]) > 0
    back = await called(session, "rollback", {"to": "parent"})
    seen["back"] = (back["was"], back["active"])
    log = await called(session, "log", {"limit": 5})
    seen["log"] = [entry["what"] for entry in log["entries"]]
    seen["active"] = log["active"]
    return seen


async def main():
    async with session_with(*sys.argv[2:]) as session:
        print(json.dumps(await cycle(session, Path(sys.argv[1]))))


asyncio.run(main())
