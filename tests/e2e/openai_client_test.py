#!/usr/bin/env python3
"""The official openai client against a whole cluster: `shoal run` with two ranks.

Usage: openai_client_test.py --programs FOLDER [--model PATH] [--venv FOLDER] | --url URL

Makes a virtual environment with the `openai` package, starts the cluster on a free port, and ends
it. With --url it uses a server that runs already. Exits 77 (skipped), saying why, if pip
cannot install the package or no model is there. Takes about a minute the first time.
"""

import argparse
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request

SKIPPED = 77
ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
READY_SECONDS = 120
STOP_SECONDS = 10
CANCEL_SECONDS = 30


def skip(reason):
    print(f"skipped: {reason}")
    sys.exit(SKIPPED)


def find_model():
    smollm2 = ROOT / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"
    if smollm2.exists():
        return smollm2
    fixtures = os.environ.get("SHOAL_FIXTURES")
    if fixtures:
        return pathlib.Path(fixtures) / "tiny" / "llama"
    skip("no model: run scripts/get_model.sh or set SHOAL_FIXTURES")


def enter_venv(folder):
    """Runs this script again with the virtual environment's Python, unless it does already."""
    python = folder / "bin" / "python"
    if not (folder / "installed").exists():
        for command in ([sys.executable, "-m", "venv", str(folder)],
                        [str(python), "-m", "pip", "install", "--quiet", "openai"]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=300)
            if done.returncode != 0:
                skip(f"{' '.join(command)}: {done.stderr.strip()[-300:]}")
        (folder / "installed").touch()
    os.execv(python, [str(python), *sys.argv, "--in-venv"])


class Cluster:
    """`shoal run`, stopped by SIGTERM at the end."""

    def __init__(self, programs, model):
        command = [str(programs / "shoal"), "run", str(model), "--port", "0",
                   "--tensor-parallel", "2"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        readable, _, _ = select.select([self.process.stdout], [], [], READY_SECONDS)
        line = self.process.stdout.readline() if readable else ""
        if not re.fullmatch(r"ready http://127\.0\.0\.1:\d+\n", line):
            self.process.kill()
            sys.exit(f"expected the ready line within {READY_SECONDS} s, got {line!r}")
        self.url = line.split()[1]

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            sys.exit(f"shoal run was still there {STOP_SECONDS} s after SIGTERM")
        if status != 0:
            sys.exit(f"shoal run ended with {status} after SIGTERM")


def metric(url, name):
    with urllib.request.urlopen(url + "/metrics", timeout=10) as reply:
        return float(re.search(rf"^{name} (\S+)$", reply.read().decode(), re.MULTILINE)[1])


MESSAGES = [{"role": "user", "content": "Name the capital of France."}]


def check_models(client):
    models = list(client.models.list())
    assert len(models) == 1, models
    assert client.models.retrieve(models[0].id).id == models[0].id
    return models[0].id


def check_chat(client, model):
    whole = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=12,
                                           temperature=0, logprobs=True, top_logprobs=2)
    choice = whole.choices[0]
    assert choice.message.role == "assistant" and choice.message.content, whole
    assert choice.finish_reason in ("stop", "length"), whole
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens
    assert len(choice.logprobs.content) == whole.usage.completion_tokens
    for entry in choice.logprobs.content:
        assert entry.logprob <= 0 and len(entry.top_logprobs) == 2, entry
        assert entry.logprob == entry.top_logprobs[0].logprob, "greedy takes the most probable"
    assert re.fullmatch("fp_[0-9a-f]{16}", whole.system_fingerprint), whole

    stream = client.chat.completions.create(model=model, messages=MESSAGES, max_tokens=12,
                                            temperature=0, stream=True,
                                            stream_options={"include_usage": True})
    chunks = list(stream)
    assert chunks[0].choices[0].delta.role == "assistant"
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == choice.message.content, (text, choice.message.content)
    # The second request may find the first one's prompt in the cache.
    totals = [(u.prompt_tokens, u.completion_tokens, u.total_tokens)
              for u in (whole.usage, chunks[-1].usage)]
    assert chunks[-1].choices == [] and totals[0] == totals[1], chunks[-1]
    assert chunks[-2].choices[0].finish_reason == choice.finish_reason


def check_completions(client, model):
    request = {"model": model, "prompt": ["Once upon a time", "The sea"], "max_tokens": 10,
               "temperature": 0.8, "seed": 7, "n": 2}
    whole = client.completions.create(**request)
    assert [c.index for c in whole.choices] == [0, 1, 2, 3]
    texts = ["", "", "", ""]
    for chunk in client.completions.create(**request, stream=True):
        for choice in chunk.choices:
            texts[choice.index] += choice.text
    assert texts == [c.text for c in whole.choices], (texts, whole)

    echo = client.completions.create(model=model, prompt="The sea", max_tokens=0, echo=True,
                                     logprobs=1)
    assert echo.choices[0].text == "The sea"
    assert echo.choices[0].logprobs.token_logprobs[0] is None
    assert "".join(echo.choices[0].logprobs.tokens).endswith("The sea")

    greedy = {"model": model, "prompt": "Once upon a time", "max_tokens": 10, "temperature": 0}
    text = client.completions.create(**greedy).choices[0].text
    stop = text[len(text) // 2:][:3]
    stopped = client.completions.create(**greedy, stop=stop).choices[0]
    assert stopped.text == text[:text.index(stop)], (text, stop, stopped)
    assert stopped.finish_reason == "stop"


def check_sampling(client, model):
    """Penalties, biases and filters, on both endpoints, streamed and not."""
    greedy = {"model": model, "prompt": "Once upon a time", "max_tokens": 6, "temperature": 0}
    ids = {"return_token_ids": True}

    def token_ids(**more):
        return client.completions.create(**greedy, extra_body=ids, **more).choices[0].token_ids

    plain = token_ids()
    assert token_ids(logit_bias={"65": 100}) == [65] * 6
    assert plain[0] not in token_ids(logit_bias={str(plain[0]): -100})
    # Five times 2 is not enough against a bias of 100.
    assert token_ids(logit_bias={"65": 100}, frequency_penalty=2) == [65] * 6

    more = {"temperature": 0.9, "seed": 11, "max_tokens": 12, "presence_penalty": 1.5,
            "frequency_penalty": 0.5, "logit_bias": {"65": -100},
            "extra_body": {"repetition_penalty": 1.1, "min_tokens": 12, "typical_p": 0.9,
                           "top_k": 40, "min_p": 0.001}}
    whole = client.chat.completions.create(model=model, messages=MESSAGES, **more)
    assert whole.usage.completion_tokens == 12, "min_tokens asks for all"
    chunks = client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **more)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content, (text, whole)


def check_schema(client, model):
    """What OpenAI's schema allows, and what clients send that leave every field in."""
    def tokens(**more):
        request = {"model": model, "prompt": "Once upon a time", "max_tokens": 6, **more}
        extra = {"return_token_ids": True, **request.pop("extra_body", {})}
        return client.completions.create(**request, extra_body=extra).choices[0].token_ids

    greedy = tokens(temperature=0)
    assert tokens(temperature=1e-8, seed=1) == greedy
    for seed in range(4):
        assert tokens(temperature=1.5, top_p=0, seed=seed) == greedy, seed
    assert tokens(temperature=0, extra_body={"max_tokens": 6.0, "seed": 3.0}) == greedy
    assert tokens(prompt="", temperature=0) == tokens(prompt=[], temperature=0)
    many = client.completions.create(model=model, prompt="Once", n=128, max_tokens=1, seed=2)
    assert len(many.choices) == 128

    def answer(*messages, **more):
        return client.chat.completions.create(model=model, messages=list(messages), max_tokens=6,
                                              temperature=0, **more).choices[0].message.content

    system = {"role": "system", "content": "Answer in one word."}
    assert answer({**system, "role": "developer"}, *MESSAGES) == answer(system, *MESSAGES)
    parts = [{"type": "text", "text": "No, "}, {"type": "refusal", "refusal": "I will not."}]
    for assistant in ({"content": None}, {}, {"content": parts}, {"refusal": "I will not."}):
        assert answer(*MESSAGES, {"role": "assistant", **assistant}, *MESSAGES)
    assert answer({"role": "function", "name": "f", "content": "3"}, *MESSAGES)
    assert answer(*MESSAGES) == answer(
        *MESSAGES, modalities=["text"], store=False, stop=[], logit_bias={}, tools=[],
        tool_choice="none", parallel_tool_calls=False, response_format={"type": "text"},
        service_tier="auto", metadata={}, user="u", prediction=None, reasoning_effort="none",
        logprobs=False, top_logprobs=0, top_p=None, frequency_penalty=None, n=None, seed=None)

    long = {"model": model, "prompt": "All the world is a stage. " * 12, "max_tokens": 2, "seed": 8}
    client.completions.create(**long)
    again = client.completions.create(**long).usage
    assert 0 < again.prompt_tokens_details.cached_tokens < again.prompt_tokens, again
    chunks = list(client.completions.create(
        **long, stream=True,
        stream_options={"include_usage": True, "continuous_usage_stats": True}))
    assert [c.usage.completion_tokens for c in chunks][-2:] == [2, 2], chunks

    raw = client.completions.with_raw_response.create(model=model, prompt="a", max_tokens=1,
                                                      extra_body={"temprature": 1})
    assert raw.headers["x-shoal-ignored"] == "temprature" and raw.headers["date"], raw.headers
    assert "temperature" in raw.parse().warnings[0]


def check_errors(openai, client, model):
    try:
        client.chat.completions.create(model="no-such-model", messages=MESSAGES)
        raise AssertionError("an unknown model was served")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found" and model in error.message, error
    try:
        client.completions.create(model=model, prompt="a", temperature=-1)
        raise AssertionError("a negative temperature was taken")
    except openai.BadRequestError as error:
        assert error.param == "temperature" and error.request_id, error
    try:
        client.chat.completions.create(model=model, messages=MESSAGES, presence_penalty=3)
        raise AssertionError("a presence penalty of 3 was taken")
    except openai.BadRequestError as error:
        assert error.param == "presence_penalty" and "from -2 to 2, not 3" in error.message, error
    try:
        client.completions.create(model=model, prompt=[1] * 1_000_000)
        raise AssertionError("a million tokens were taken")
    except openai.BadRequestError as error:
        assert error.code == "context_length_exceeded", error
        assert error.body["prompt_tokens"] == 1_000_000 > error.body["max_context"], error.body
        assert "This model's maximum context length is" in error.message, error
    try:
        client.completions.create(model=model, prompt="a", extra_body={"temprature": 1},
                                  extra_headers={"X-Shoal-Strict": "1"})
        raise AssertionError("an unknown field was taken")
    except openai.BadRequestError as error:
        assert error.code == "unknown_parameter" and error.param == "temprature", error


def check_structure(openai, client, model):
    schema = {"type": "object", "required": ["city", "population"], "additionalProperties": False,
              "properties": {"city": {"type": "string", "maxLength": 20},
                             "population": {"type": "integer", "minimum": 1},
                             "kind": {"enum": ["town", "capital"]}}}
    shape = {"type": "json_schema", "json_schema": {"name": "city", "strict": True, "schema": schema}}
    for temperature in (0, 1.5):
        request = {"model": model, "messages": MESSAGES, "temperature": temperature, "seed": 3,
                   "max_tokens": 200, "response_format": shape}
        whole = client.chat.completions.create(**request).choices[0]
        assert whole.finish_reason == "stop", whole
        city = json.loads(whole.message.content)
        assert set(city) - {"kind"} == {"city", "population"} and len(city["city"]) <= 20, city
        assert type(city["population"]) is int and city["population"] >= 1, city
        text = "".join(chunk.choices[0].delta.content or ""
                       for chunk in client.chat.completions.create(**request, stream=True))
        assert text == whole.message.content, (text, whole)
    value = client.chat.completions.create(model=model, messages=MESSAGES, seed=4, max_tokens=60,
                                           response_format={"type": "json_object"}).choices[0]
    assert value.message.content.startswith("{"), value
    if value.finish_reason == "stop":
        assert isinstance(json.loads(value.message.content), dict), value
    for extra, pattern in (({"structured_outputs": {"choice": ["Paris", "London"]}}, "Paris|London"),
                           ({"guided_regex": "[A-Z][a-z]{2,6}!"}, "[A-Z][a-z]{2,6}!")):
        text = client.completions.create(model=model, prompt="The capital of France is ", seed=5,
                                         extra_body=extra).choices[0].text
        assert re.fullmatch(pattern, text), (extra, text)
    shape["json_schema"]["schema"] = {"type": "object", "properties": {"a": {"not": {}}}}
    try:
        client.chat.completions.create(model=model, messages=MESSAGES, response_format=shape)
        raise AssertionError("an unsupported keyword was taken")
    except openai.BadRequestError as error:
        assert "#/properties/a/not" in error.message, error


WEATHER = {"type": "object", "required": ["city", "days"], "additionalProperties": False,
           "properties": {"city": {"type": "string", "maxLength": 12},
                          "days": {"type": "integer", "minimum": 1, "maximum": 9}}}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "Weather to come.",
                                           "parameters": WEATHER}},
         {"type": "function", "function": {"name": "get_time", "parameters":
                                           {"type": "object", "properties": {}}}}]
ASK = [{"role": "user", "content": "What will the weather be like in Rome for three days?"}]


def check_call(call, names=("get_weather", "get_time")):
    assert call.type == "function" and re.fullmatch("call_[0-9a-f]{24}", call.id), call
    assert call.function.name in names, call
    arguments = json.loads(call.function.arguments)
    if call.function.name == "get_weather":
        assert set(arguments) == {"city", "days"} and 1 <= arguments["days"] <= 9, arguments


def join_stream(chunks):
    """Text, calls as [name, arguments], and the finish reason, as a client joins them."""
    text, calls, finish = "", [], None
    for chunk in chunks:
        for choice in chunk.choices:
            text += choice.delta.content or ""
            finish = choice.finish_reason or finish
            for call in choice.delta.tool_calls or []:
                if call.index == len(calls):
                    assert call.id and call.type == "function", call
                    calls.append([call.function.name, ""])
                assert call.index == len(calls) - 1, call
                calls[-1][1] += call.function.arguments
    return text, calls, finish


def check_tools(client, model):
    """A small model calls what it is made to; whether it calls unasked is its own affair."""
    request = {"model": model, "messages": ASK, "tools": TOOLS, "max_tokens": 120, "seed": 3,
               "parallel_tool_calls": False}
    for choice in ("auto", "required", "none", {"type": "function", "function": {"name": "get_time"}}):
        whole = client.chat.completions.create(**request, tool_choice=choice).choices[0]
        calls = whole.message.tool_calls or []
        if choice == "required":
            assert len(calls) == 1 and whole.finish_reason == "tool_calls", whole
            assert whole.message.content is None, whole
            check_call(calls[0])
        elif choice == "none":
            assert not calls and whole.message.content, whole
        elif choice != "auto":
            assert [call.function.name for call in calls] == ["get_time"], whole
        text, streamed, finish = join_stream(
            client.chat.completions.create(**request, tool_choice=choice, stream=True))
        assert text == (whole.message.content or ""), (text, whole)
        assert streamed == [[c.function.name, c.function.arguments] for c in calls], streamed
        assert finish == whole.finish_reason, (finish, whole)
    # Sixteen calls are the most that there can be, so that it ends by itself.
    many = {**request, "parallel_tool_calls": True, "tool_choice": "required", "max_tokens": 1200,
            "stream": True}
    _, calls, finish = join_stream(client.chat.completions.create(**many))
    assert finish == "tool_calls" and 1 < len(calls) <= 16, (finish, calls)
    for name, arguments in calls:
        assert name in ("get_weather", "get_time") and isinstance(json.loads(arguments), dict), calls


def check_tool_turn(client, model):
    """What a call returned goes back, and the model goes on."""
    request = {"model": model, "tools": TOOLS, "max_tokens": 60, "temperature": 0}
    weather = {"type": "function", "function": {"name": "get_weather"}}
    first = client.chat.completions.create(messages=ASK, tool_choice=weather, **request)
    message = first.choices[0].message
    check_call(message.tool_calls[0], ["get_weather"])
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "Sunny, 31 C."}
    messages = [*ASK, message.model_dump(exclude_none=True), result]
    answer = client.chat.completions.create(messages=messages, **request)
    other = client.chat.completions.create(messages=[*messages[:2], {**result, "content": "Snow."}],
                                           **request)
    assert answer.usage.prompt_tokens > first.usage.prompt_tokens + 10, answer
    assert answer.usage.prompt_tokens != other.usage.prompt_tokens, "the result is not in the prompt"
    assert answer.choices[0].message.content or answer.choices[0].message.tool_calls, answer
    started = {"role": "assistant", "content": "The sky over Rome is"}
    more = client.chat.completions.create(
        model=model, messages=[*ASK, started], max_tokens=6, temperature=0,
        extra_body={"continue_final_message": True, "chat_template_kwargs": {"x": 1}})
    again = client.chat.completions.create(
        model=model, messages=[*ASK, {**started, "content": "The sky over Rome"}], max_tokens=7,
        temperature=0, extra_body={"continue_final_message": True})
    assert more.choices[0].message.content, more
    assert more.usage.prompt_tokens > again.usage.prompt_tokens, (more, again)


def check_tool_helpers(openai, client, model):
    """The client's own helper, which makes tools of classes and reads their arguments back."""
    import pydantic

    class Weather(pydantic.BaseModel):
        city: str = pydantic.Field(max_length=12)
        days: int = pydantic.Field(ge=1, le=9)

    tool = openai.pydantic_function_tool(Weather)
    parsed = client.chat.completions.parse(model=model, messages=ASK, tools=[tool], max_tokens=200,
                                           tool_choice="required", parallel_tool_calls=False)
    weather = parsed.choices[0].message.tool_calls[0].function.parsed_arguments
    assert isinstance(weather, Weather), parsed
    with client.chat.completions.stream(model=model, messages=ASK, tools=[tool], max_tokens=200,
                                        tool_choice="required", seed=5) as stream:
        events = {event.type for event in stream}
        final = stream.get_final_completion().choices[0]
    assert "tool_calls.function.arguments.delta" in events, events
    assert isinstance(final.message.tool_calls[0].function.parsed_arguments, Weather), final


def check_tool_errors(openai, client, model):
    def bad_tool(**function):
        return [{"type": "function", "function": {"name": "f", **function}}]

    unsupported = {"type": "object", "properties": {"a": {"not": {}}}}
    cases = (({"tools": bad_tool(name="a b")}, "tools[0].function.name", "a b"),
             ({"tools": bad_tool(parameters=unsupported), "tool_choice": "required"},
              "tools[0].function.parameters", "#/properties/a/not"),
             ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "g"}}},
              "tool_choice.function.name", "get_weather, get_time"),
             ({"tools": TOOLS, "tool_choice": "required",
               "response_format": {"type": "json_object"}}, "tool_choice", "response_format.type"),
             ({"extra_body": {"chat_template_kwargs": {"messages": []}}},
              "chat_template_kwargs.messages", "messages"),
             ({"extra_body": {"continue_final_message": True}}, "messages[0]", "assistant"))
    for fields, param, part in cases:
        try:
            client.chat.completions.create(model=model, messages=ASK, **fields)
            raise AssertionError(f"taken: {fields}")
        except openai.BadRequestError as error:
            assert error.param == param and part in error.message, (fields, error)
    try:
        client.models.retrieve("no-such-model")
        raise AssertionError("an unknown model was found")
    except openai.NotFoundError as error:
        assert error.code == "model_not_found" and model in error.message, error


def check_resume(openai, client, model):
    """Cut off after some event, and gone on with by its cursor: the client takes all that comes."""
    request = {"model": model, "prompt": "Once upon a time", "max_tokens": 24, "temperature": 0.7,
               "seed": 9, "stream": True, "stream_options": {"include_usage": True}}
    with client.completions.with_streaming_response.create(
            **request, extra_headers={"X-Shoal-Resumable": "1"}) as raw:
        lines = list(raw.iter_lines())
    cursors = [line[4:] for line in lines if line.startswith("id: ")]
    data = [line[6:] for line in lines if line.startswith("data: ")]
    assert len(cursors) == len(data) and data[-1] == "[DONE]", lines
    whole = [json.loads(text) for text in data[:-1]]

    def text_of(chunks):
        return "".join(choice["text"] for chunk in chunks for choice in chunk["choices"])

    for cut in (0, len(whole) // 2, len(whole) - 2, len(whole) - 1):
        rest = [chunk.model_dump() for chunk in client.completions.create(
            **request, extra_headers={"Last-Event-ID": cursors[cut]})]
        assert text_of(whole[:cut + 1]) + text_of(rest) == text_of(whole), (cut, rest)
        assert {chunk["id"] for chunk in rest} <= {whole[0]["id"]}, rest
        if cut + 1 < len(whole):
            usage, expected = rest[-1]["usage"], whole[-1]["usage"]
            assert usage["total_tokens"] == expected["total_tokens"], (usage, expected)

    # One that a stop string has ended is nowhere any more.
    stop = text_of(whole)[len(text_of(whole)) // 2:][:3]
    with client.completions.with_streaming_response.create(
            **request, stop=stop, extra_headers={"X-Shoal-Resumable": "1"}) as raw:
        stopped = [line[4:] for line in raw.iter_lines() if line.startswith("id: ")]
    assert len(stopped) > 3, "the stop string came with the first token: take another seed"
    first = stopped[0]
    chunks = list(client.completions.create(**request, stop=stop,
                                            extra_headers={"Last-Event-ID": first}))
    assert chunks[0].choices == [] and chunks[0].model_extra["x_shoal"] == {"recomputing": True}
    assert chunks[-1].model_extra["x_shoal"]["recomputing"] is True, chunks[-1]
    for header, code in (("x" + first, "cursor_invalid"), (cursors[0], "cursor_mismatch")):
        try:
            client.completions.create(**request, stop=stop, extra_headers={"Last-Event-ID": header})
            raise AssertionError(f"a cursor was taken that is {code}")
        except openai.BadRequestError as error:
            assert error.code == code, error


def check_hang_up(client, model, url):
    stream = client.completions.create(model=model, prompt="Once", max_tokens=1500, stream=True,
                                       extra_body={"ignore_eos": True})
    next(iter(stream))
    stream.close()
    deadline = time.monotonic() + CANCEL_SECONDS
    while metric(url, "shoal_sequences_running") > 0 or metric(url, "shoal_kv_blocks_used") > 0:
        assert time.monotonic() < deadline, "a sequence outlived its client"
        time.sleep(0.05)  # Between two looks at the metrics.


def check(url):
    import openai

    client = openai.OpenAI(base_url=url + "/v1", api_key="none", timeout=120, max_retries=0)
    model = check_models(client)
    check_chat(client, model)
    check_completions(client, model)
    check_sampling(client, model)
    check_schema(client, model)
    check_errors(openai, client, model)
    check_structure(openai, client, model)
    check_tools(client, model)
    check_tool_turn(client, model)
    check_tool_helpers(openai, client, model)
    check_tool_errors(openai, client, model)
    check_resume(openai, client, model)
    check_hang_up(client, model, url)
    print(f"openai {openai.__version__}: all checks passed")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--programs", type=pathlib.Path)
    parser.add_argument("--model", type=pathlib.Path)
    parser.add_argument("--url")
    parser.add_argument("--venv", type=pathlib.Path, default=ROOT / "build" / "openai_venv")
    parser.add_argument("--in-venv", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.url and not options.programs:
        parser.error("give --programs or --url")
    if not options.in_venv:
        enter_venv(options.venv)
    if options.url:
        check(options.url)
        return
    cluster = Cluster(options.programs, options.model or find_model())
    try:
        check(cluster.url)
    finally:
        cluster.stop()


if __name__ == "__main__":
    main()
