"""Streamed requests whose every event is kept with its time, and compared with an undisturbed twin."""

import http.client
import json
import random
import threading
import time
import urllib.parse

# A stream that brings nothing for so long, or cannot be taken up again in that time, is lost.
SILENCE_SECONDS = 60

SCHEMA = {"type": "object", "required": ["name", "ok", "size"], "properties": {
    "name": {"type": "string", "maxLength": 200}, "ok": {"type": "boolean"},
    "size": {"type": "integer"}}}


def bodies(count, tokens, seed, model, vocabulary):
    """Requests of every kind, all with answers of up to so many tokens."""
    draw = random.Random(seed)
    kinds = [{"temperature": 0}, {"temperature": 0.8, "top_p": 0.95}, {"temperature": 1, "top_k": 40},
             {"temperature": 0.7, "frequency_penalty": 0.3, "logprobs": 2},
             {"temperature": 0.6, "repetition_penalty": 1.1, "logit_bias": {"40": 2}},
             {"temperature": 0.9, "n": 2}, {"temperature": 0, "echo": True, "logprobs": 1},
             {"temperature": 0.5, "stop": ["qz", "zq"]},
             {"temperature": 1, "min_p": 0.05, "min_tokens": tokens // 2},
             {"temperature": 0.9, "response_format": {"type": "json_schema", "json_schema": {
                 "name": "it", "schema": SCHEMA}}}]
    made = []
    for i in range(count):
        body = {"model": model, "prompt": [draw.randrange(vocabulary) for _ in range(12)],
                "max_tokens": tokens, "stream": True, "stream_options": {"include_usage": True},
                "return_token_ids": True, "seed": draw.randrange(1 << 31), **kinds[i % len(kinds)]}
        if "response_format" not in body:
            body["ignore_eos"] = True
        made.append(body)
    return made


def merge(into, piece):
    """Lists grow, texts grow, what is set stays."""
    for key, value in piece.items():
        if value is None or key == "index":
            continue
        if key not in into or into[key] is None:
            into[key] = list(value) if isinstance(value, list) else value
        elif isinstance(value, str):
            into[key] += value
        elif isinstance(value, list):
            into[key] = into[key] + value
        elif isinstance(value, dict):
            merge(into[key], value)
        else:
            into[key] = value


class NotTaken(Exception):
    """The coordinator refused the request before it did anything for it."""


class Stream(threading.Thread):
    """One request, read in a thread of its own; resumed by its cursor if its connection breaks."""

    def __init__(self, url, body, resumable=False):
        super().__init__(daemon=True)
        self.place = urllib.parse.urlparse(url).netloc
        self.body = body
        self.resumable = resumable
        self.cursor = None
        self.times = []  # When tokens came, by time.monotonic().
        self.choices = {}
        self.usage = None
        self.resumes = 0
        self.recomputing = False
        self.reconnects = 0
        self.error = None
        self.done = False
        self.start()

    def run(self):
        deadline = time.monotonic() + SILENCE_SECONDS
        while not self.done and self.error is None:
            try:
                self.read()
            except NotTaken as error:
                if time.monotonic() > deadline:
                    self.error = str(error)
                time.sleep(0.05)
            except (OSError, http.client.HTTPException) as error:
                self.broken(str(error) or repr(error), deadline)
            else:
                if not self.done and self.error is None:
                    self.broken("the stream ended without an end", deadline)

    def broken(self, why, deadline):
        if not self.resumable or time.monotonic() > deadline:
            self.error = why
            return
        self.reconnects += 1
        time.sleep(0.05)

    def read(self):
        connection = http.client.HTTPConnection(self.place, timeout=SILENCE_SECONDS)
        headers = {"Content-Type": "application/json"}
        if self.resumable:
            headers["X-Shoal-Resumable"] = "1"
        if self.cursor:
            headers["Last-Event-ID"] = self.cursor
        try:
            connection.request("POST", "/v1/completions", json.dumps(self.body), headers)
            answer = connection.getresponse()
            if answer.status != 200:
                text = answer.read().decode()
                # To be tried again: nothing had begun, as there was no group at this moment.
                if answer.status == 503 and '"code":"no_group"' in text:
                    raise NotTaken(text)
                if self.resumable and answer.status == 503:
                    raise OSError(text)  # To be tried again.
                self.error = f"{answer.status}: {text}"
                return
            self.read_events(answer)
        finally:
            connection.close()

    def read_events(self, answer):
        cursor = None
        while line := answer.readline():
            line = line.decode().rstrip("\r\n")
            if line.startswith("id: "):
                cursor = line[4:]
            if not line.startswith("data: "):
                continue
            if line == "data: [DONE]":
                self.done = True
                return
            self.take(json.loads(line[6:]))
            self.cursor = cursor

    def take(self, event):
        if "error" in event:
            self.error = json.dumps(event["error"])
        if event.get("usage"):
            self.usage = event["usage"]
        extra = event.get("x_shoal") or {}
        self.resumes = max(self.resumes, extra.get("resumes", 0))
        self.recomputing = self.recomputing or extra.get("recomputing", False)
        for choice in event.get("choices", []):
            merge(self.choices.setdefault(choice["index"], {}), choice)
            if choice.get("token_ids"):
                self.times.append(time.monotonic())

    def answer(self):
        """What must be as in the undisturbed run."""
        usage = {key: value for key, value in (self.usage or {}).items() if key.endswith("_tokens")}
        return json.dumps([self.choices, usage], sort_keys=True)

    def longest_gap(self, since):
        """Milliseconds without a token that ended after a moment."""
        gaps = [(later - earlier) * 1e3 for earlier, later in zip(self.times, self.times[1:])
                if later > since]
        return max(gaps, default=0.0)


def wait_for(streams, seconds=300):
    deadline = time.monotonic() + seconds
    for stream in streams:
        stream.join(max(0.0, deadline - time.monotonic()))
        if stream.is_alive():
            stream.error = stream.error or f"no end within {seconds} s"


def differences(streams, twins):
    """Descriptions of those that were lost, and of those that were changed."""
    lost = [f"{stream.body}: {stream.error}" for stream in streams if stream.error is not None]
    changed = []
    for stream, twin in zip(streams, twins):
        if stream.error is not None or stream.answer() == twin:
            continue
        seen = stream.answer()
        at = next((i for i, (a, b) in enumerate(zip(seen, twin)) if a != b), min(len(seen), len(twin)))
        changed.append(f"{stream.body}, {stream.resumes} resumes, at byte {at}: ...{seen[at - 60:at + 60]}..."
                       f" instead of ...{twin[at - 60:at + 60]}...")
    return lost, changed
