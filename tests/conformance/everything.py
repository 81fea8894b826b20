"""What the suite calls the everything server: its fixtures, served by our own factory.

The names and the words are the suite's. Two of its tools are tools of ours, and go through the gate; the rest are put
beside them, as they need what no tool of ours does: images, sampling, forms.
"""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from typing import Any

from mcp import MCPError
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.prompts.base import UserMessage
from mcp.types import (
    AudioContent,
    CallToolResult,
    Completion,
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmbeddedResource,
    EmptyResult,
    ImageContent,
    InputRequiredResult,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    TextResourceContents,
    UnsubscribeRequestParams,
)

from opswarm.errors import OpswarmError
from opswarm.guard.tokens import Verifier
from opswarm.mcp.factory import ToolServer
from opswarm.mcp.tools import ToolOutput, ToolSpec

_MISSING_CAPABILITY = -32021
_WAIT = 0.05
_NAME = {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]}


async def test_simple_text() -> ToolOutput:
    """Say a simple text."""
    return ToolOutput("This is a simple text response for testing.")


async def test_error_handling() -> ToolOutput:
    """Fail."""
    raise OpswarmError("This tool intentionally returns an error for testing")


def everything(verifier: Verifier) -> ToolServer:
    """The server with all fixtures."""
    own = [ToolSpec(test_simple_text), ToolSpec(test_error_handling)]
    server = ToolServer("everything", own, instructions="Fixtures of a conformance suite.", verifier=verifier)
    for add in (_contents, _talking, _asking_2025, _asking_2026, _schemas, _resources, _prompts, _legacy):
        add(server)
    return server


def _png() -> str:
    """One red pixel."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 0)
    pixel = zlib.compress(b"\0\xff\0\0")
    whole = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixel) + chunk(b"IEND", b"")
    return base64.b64encode(whole).decode()


def _wav() -> str:
    """Eight silent samples."""
    data = bytes(8)
    form = struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
    body = b"WAVEfmt " + form + b"data" + struct.pack("<I", len(data)) + data
    return base64.b64encode(b"RIFF" + struct.pack("<I", len(body)) + body).decode()


def _image() -> ImageContent:
    return ImageContent(type="image", data=_png(), mime_type="image/png")


def _text(text: str) -> TextContent:
    return TextContent(type="text", text=text)


def _embedded(uri: str, mime: str, text: str) -> EmbeddedResource:
    return EmbeddedResource(type="resource", resource=TextResourceContents(uri=uri, mime_type=mime, text=text))


def _contents(server: ToolServer) -> None:
    tool = server.sdk.tool

    @tool(structured_output=False)
    async def test_image_content() -> CallToolResult:
        """Give an image."""
        return CallToolResult(content=[_image()])

    @tool(structured_output=False)
    async def test_audio_content() -> CallToolResult:
        """Give a sound."""
        return CallToolResult(content=[AudioContent(type="audio", data=_wav(), mime_type="audio/wav")])

    @tool(structured_output=False)
    async def test_embedded_resource() -> CallToolResult:
        """Give a resource."""
        text = "This is an embedded resource content."
        return CallToolResult(content=[_embedded("test://embedded-resource", "text/plain", text)])

    @tool(structured_output=False)
    async def test_multiple_content_types() -> CallToolResult:
        """Give several kinds of content."""
        data = json.dumps({"test": "data", "value": 123})
        resource = _embedded("test://mixed-content-resource", "application/json", data)
        return CallToolResult(content=[_text("Multiple content types test:"), _image(), resource])


def _talking(server: ToolServer) -> None:
    """Tools that tell something while they work."""
    tool = server.sdk.tool

    @tool(structured_output=False)
    async def test_tool_with_logging(ctx: Context[Any, Any]) -> str:
        """Write to the client's log."""
        for said in ("Tool execution started", "Tool processing data", "Tool execution completed"):
            await _log(ctx, said)
            await asyncio.sleep(_WAIT)
        return "Tool with logging executed."

    @tool(structured_output=False)
    async def test_logging_tool(ctx: Context[Any, Any]) -> str:
        """Write to the client's log, where it asked for that."""
        await _log(ctx, "told")
        return "done"

    @tool(structured_output=False)
    async def test_tool_with_progress(ctx: Context[Any, Any]) -> str:
        """Report progress."""
        for done in (0, 50, 100):
            await ctx.report_progress(done, 100, f"{done} of 100")
            await asyncio.sleep(_WAIT)
        return "Tool with progress executed."

    @tool(structured_output=False)
    async def test_trigger_tool_change(ctx: Context[Any, Any]) -> str:
        """Say that the tools have changed."""
        await ctx.notify_tools_changed()
        return "told"

    @tool(structured_output=False)
    async def test_trigger_prompt_change(ctx: Context[Any, Any]) -> str:
        """Say that the prompts have changed."""
        await ctx.notify_prompts_changed()
        return "told"


async def _log(ctx: Context[Any, Any], text: str) -> None:
    await ctx.request_context.session.send_log_message(level="info", data=text, related_request_id=ctx.request_id)


def _asking_2025(server: ToolServer) -> None:
    """Tools that ask the client something while the call waits."""
    tool = server.sdk.tool

    @tool(structured_output=False)
    async def test_sampling(prompt: str, ctx: Context[Any, Any]) -> str:
        """Ask the client's model."""
        result = await ctx.request_context.session.create_message(
            messages=[SamplingMessage(role="user", content=_text(prompt))],
            max_tokens=100,
            related_request_id=ctx.request_id,
        )
        return f"LLM response: {_said(result)}"

    async def form(ctx: Context[Any, Any], message: str, schema: dict[str, Any]) -> ElicitResult:
        session = ctx.request_context.session
        return await session.elicit_form(message=message, requested_schema=schema, related_request_id=ctx.request_id)

    @tool(structured_output=False)
    async def test_elicitation(message: str, ctx: Context[Any, Any]) -> str:
        """Ask the person."""
        fields = {
            "username": {"type": "string", "description": "User's response"},
            "email": {"type": "string", "description": "User's email address"},
        }
        answer = await form(ctx, message, {"type": "object", "properties": fields, "required": list(fields)})
        return f"User response: action={answer.action}, content={json.dumps(answer.content)}"

    @tool(structured_output=False)
    async def test_elicitation_sep1034_defaults(ctx: Context[Any, Any]) -> str:
        """Ask the person, with defaults of every type."""
        fields = {
            "name": {"type": "string", "default": "John Doe"},
            "age": {"type": "integer", "default": 30},
            "score": {"type": "number", "default": 95.5},
            "status": {"type": "string", "enum": ["active", "inactive", "pending"], "default": "active"},
            "verified": {"type": "boolean", "default": True},
        }
        answer = await form(ctx, "Please look at the defaults", {"type": "object", "properties": fields})
        return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"

    @tool(structured_output=False)
    async def test_elicitation_sep1330_enums(ctx: Context[Any, Any]) -> str:
        """Ask the person to choose, in each of the five ways."""
        titled = [
            {"const": f"value{n}", "title": f"{w} Option"} for n, w in ((1, "First"), (2, "Second"), (3, "Third"))
        ]
        choices = [
            {"const": f"value{n}", "title": f"{w} Choice"} for n, w in ((1, "First"), (2, "Second"), (3, "Third"))
        ]
        plain = ["option1", "option2", "option3"]
        fields = {
            "untitledSingle": {"type": "string", "enum": plain},
            "titledSingle": {"type": "string", "oneOf": titled},
            "legacyEnum": {
                "type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"],
            },
            "untitledMulti": {"type": "array", "items": {"type": "string", "enum": plain}},
            "titledMulti": {"type": "array", "items": {"anyOf": choices}},
        }  # fmt: skip
        answer = await form(ctx, "Please choose", {"type": "object", "properties": fields})
        return f"Elicitation completed: action={answer.action}, content={json.dumps(answer.content)}"


def _said(result: CreateMessageResult) -> str:
    return result.content.text if isinstance(result.content, TextContent) else str(result.content)


def _form(message: str, schema: dict[str, Any]) -> ElicitRequest:
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _sample(text: str, tokens: int) -> CreateMessageRequest:
    message = SamplingMessage(role="user", content=_text(text))
    return CreateMessageRequest(params=CreateMessageRequestParams(messages=[message], max_tokens=tokens))


def _answered(ctx: Context[Any, Any], key: str, kind: type[Any]) -> Any:
    """The answer under `key` if it is of this kind, and of an accepted form what it says; None for anything else."""
    answer = (ctx.input_responses or {}).get(key)
    if not isinstance(answer, kind):
        return None
    if isinstance(answer, ElicitResult):
        return answer.content if answer.action == "accept" and answer.content else None
    return answer


def _asking_2026(server: ToolServer) -> None:
    """Tools that end a call with a question, and are called again with the answer."""
    tool = server.sdk.tool

    def name_of(ctx: Context[Any, Any], key: str) -> str:
        answer = _answered(ctx, key, ElicitResult)
        name = answer.get("name") if answer else None
        return name if isinstance(name, str) else ""

    @tool(structured_output=False)
    async def test_input_required_result_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask for a name."""
        name = name_of(ctx, "user_name")
        if not name:
            return InputRequiredResult(input_requests={"user_name": _form("What is your name?", _NAME)})
        return f"Hello, {name}!"

    @tool(structured_output=False)
    async def test_streaming_elicitation(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask for a name, on a stream."""
        await ctx.report_progress(1)
        return await test_input_required_result_elicitation(ctx)

    @tool(structured_output=False)
    async def test_input_required_result_sampling(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask the client's model."""
        answer = _answered(ctx, "capital_question", CreateMessageResult)
        if answer is None:
            question = _sample("What is the capital of France?", 100)
            return InputRequiredResult(input_requests={"capital_question": question})
        return _said(answer)

    @tool(structured_output=False)
    async def test_input_required_result_list_roots(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask for the client's roots."""
        answer = _answered(ctx, "client_roots", ListRootsResult)
        if answer is None:
            return InputRequiredResult(input_requests={"client_roots": ListRootsRequest()})
        return f"Roots: {', '.join(str(root.uri) for root in answer.roots)}"

    confirm = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"]}

    @tool(structured_output=False)
    async def test_input_required_result_request_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask, and be told again what was said."""
        if _answered(ctx, "confirm", ElicitResult) is None or ctx.request_state != "asked":
            return InputRequiredResult(
                input_requests={"confirm": _form("Please confirm", confirm)}, request_state="asked"
            )
        return "state-ok"

    @tool(structured_output=False)
    async def test_input_required_result_tampered_state(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask, with a state that nobody may change."""
        return await test_input_required_result_request_state(ctx)

    @tool(structured_output=False)
    async def test_input_required_result_multiple_inputs(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask three things at once."""
        greeting = _answered(ctx, "greeting", CreateMessageResult)
        roots = _answered(ctx, "client_roots", ListRootsResult)
        name = name_of(ctx, "user_name")
        if greeting is None or roots is None or not name:
            return InputRequiredResult(
                input_requests={
                    "user_name": _form("What is your name?", _NAME),
                    "greeting": _sample("Generate a greeting", 50),
                    "client_roots": ListRootsRequest(),
                },
                request_state="asked",
            )
        return f"{_said(greeting)} {name}, {len(roots.roots)} roots"

    colour = {"type": "object", "properties": {"color": {"type": "string"}}, "required": ["color"]}

    @tool(structured_output=False)
    async def test_input_required_result_multi_round(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask twice."""
        if ctx.request_state is None or not ctx.request_state.startswith(("one", "two:")):
            return InputRequiredResult(
                input_requests={"step1": _form("Step 1: What is your name?", _NAME)}, request_state="one"
            )
        if ctx.request_state == "one":
            name = name_of(ctx, "step1")
            return InputRequiredResult(
                input_requests={"step2": _form("Step 2: What is your favorite color?", colour)},
                request_state=f"two:{name}",
            )
        answer = _answered(ctx, "step2", ElicitResult) or {}
        return f"{ctx.request_state.partition(':')[2]} likes {answer.get('color')}"

    @tool(structured_output=False)
    async def test_input_required_result_capabilities(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        """Ask only what the client can answer."""
        able = ctx.client_capabilities
        asked: dict[str, Any] = {}
        if able is not None and able.elicitation is not None:
            asked["user_name"] = _form("What is your name?", _NAME)
        if able is not None and able.sampling is not None:
            asked["greeting"] = _sample("Generate a greeting", 50)
        return InputRequiredResult(input_requests=asked) if asked and not ctx.input_responses else "done"

    @tool(structured_output=False)
    async def test_missing_capability(ctx: Context[Any, Any]) -> str:
        """Need a client that has a model."""
        able = ctx.client_capabilities
        if able is None or able.sampling is None:
            raise MCPError(
                _MISSING_CAPABILITY, "This needs the capability sampling.", {"requiredCapabilities": {"sampling": {}}}
            )
        return "able"


_SCHEMA: dict[str, Any] = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "$defs": {
        "address": {
            "$anchor": "addressDef",
            "type": "object",
            "properties": {"street": {"type": "string"}, "city": {"type": "string"}},
        }
    },
    "properties": {
        "name": {"type": "string"},
        "address": {"$ref": "#/$defs/address"},
        "contactMethod": {"type": "string", "enum": ["phone", "email"]},
        "phone": {"type": "string"},
        "email": {"type": "string"},
    },
    "allOf": [{"anyOf": [{"required": ["phone"]}, {"required": ["email"]}]}],
    "if": {"properties": {"contactMethod": {"const": "phone"}}, "required": ["contactMethod"]},
    "then": {"required": ["phone"]},
    "else": {"required": ["email"]},
    "additionalProperties": False,
}


def _schemas(server: ToolServer) -> None:
    """Tools whose schema is the point of them."""

    @server.sdk.tool(structured_output=False)
    async def json_schema_2020_12_tool(name: str = "") -> str:
        """Tool with JSON Schema 2020-12 features"""
        return name

    @server.sdk.tool(structured_output=False)
    async def test_custom_header(region: str = "", limit: int = 0) -> str:
        """Have an argument that is mirrored in a header."""
        return f"{region} {limit}"

    tools = {tool.name: tool for tool in server.sdk._tool_manager.list_tools()}
    tools["json_schema_2020_12_tool"].parameters = _SCHEMA
    tools["test_custom_header"].parameters["properties"]["region"]["x-mcp-header"] = "Region"


def _resources(server: ToolServer) -> None:
    @server.sdk.resource("test://static-text", name="static text", description="A text.", mime_type="text/plain")
    async def static_text() -> str:
        return "This is the content of the static text resource."

    @server.sdk.resource("test://static-binary", name="static binary", description="A pixel.", mime_type="image/png")
    async def static_binary() -> bytes:
        return base64.b64decode(_png())

    @server.sdk.resource("test://watched-resource", name="watched", description="One to watch.", mime_type="text/plain")
    async def watched() -> str:
        return "Nothing has changed."

    @server.sdk.resource(
        "test://template/{id}/data", name="template", description="By its id.", mime_type="application/json"
    )
    async def template(id: str) -> str:
        return json.dumps({"id": id, "templateTest": True, "data": f"Data for ID: {id}"})


def _prompts(server: ToolServer) -> None:
    @server.sdk.prompt(description="A simple prompt.")
    async def test_simple_prompt() -> str:
        return "This is a simple prompt for testing."

    @server.sdk.prompt(description="A prompt with arguments.")
    async def test_prompt_with_arguments(arg1: str, arg2: str) -> str:
        return f"Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"

    @server.sdk.prompt(description="A prompt with a resource.")
    async def test_prompt_with_embedded_resource(resourceUri: str) -> list[UserMessage]:
        resource = _embedded(resourceUri, "text/plain", "Embedded resource content for testing.")
        return [UserMessage(resource), UserMessage("Please process the embedded resource above.")]

    @server.sdk.prompt(description="A prompt with an image.")
    async def test_prompt_with_image() -> list[UserMessage]:
        return [UserMessage(_image()), UserMessage("Please analyze the image above.")]

    context = {"type": "object", "properties": {"context": {"type": "string"}}, "required": ["context"]}

    @server.sdk.prompt(description="A prompt that asks first.")
    async def test_input_required_result_prompt(ctx: Context[Any, Any]) -> str | InputRequiredResult:
        answer = _answered(ctx, "user_context", ElicitResult)
        if not answer:
            question = _form("What context should the prompt use?", context)
            return InputRequiredResult(input_requests={"user_context": question})
        return f"Use the context {answer['context']}."

    @server.sdk.completion()  # type: ignore[no-untyped-call, untyped-decorator]
    async def complete(ref: Any, argument: Any, about: Any) -> Completion:
        known = ["paris", "park", "party"]
        return Completion(values=[one for one in known if one.startswith(argument.value)], has_more=False)


def _legacy(server: ToolServer) -> None:
    """Requests of 2025 that no server of ours needs."""

    async def nothing(ctx: Any, params: Any) -> EmptyResult:
        return EmptyResult()

    lowlevel = server.sdk._lowlevel_server
    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, nothing)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, nothing)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, nothing)
