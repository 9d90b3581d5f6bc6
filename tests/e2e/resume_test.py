#!/usr/bin/env python3
"""Answers that outlive the coordinator: it is killed, and the one that takes its place goes on."""

import http.client
import json
import signal
import urllib.parse

import programs
from by_hand_test import PROMPT, ByHand
from programs import free_port, program, wait_until

HEADERS = {"Content-Type": "application/json"}


def read_events(answer, at_most=None):
    """(cursor, data) of each whole event; fewer than asked for if the server dies."""
    events, cursor, data = [], None, None
    try:
        while at_most is None or len(events) < at_most:
            line = answer.readline().decode()
            if not line:
                break
            if line.startswith("id: "):
                cursor = line[4:].strip()
            elif line.startswith("data: "):
                data = line[6:].strip()
            elif line == "\n" and data:  # Without it, it was no whole event.
                events.append((cursor, data))
                if data == "[DONE]":
                    break
                data = None
    except (http.client.IncompleteRead, ConnectionError):
        pass
    return events


def joined(events):
    """Tokens by choice, finish reasons, usage."""
    tokens, finish, usage = {}, {}, None
    for _, data in events:
        if data == "[DONE]":
            continue
        chunk = json.loads(data)
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            tokens.setdefault(choice["index"], []).extend(choice["token_ids"])
            if choice["finish_reason"]:
                finish[choice["index"]] = choice["finish_reason"]
    return tokens, finish, (usage["prompt_tokens"], usage["completion_tokens"]) if usage else None


class Resume(ByHand):
    def post(self, url, body, headers):
        connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc,
                                                timeout=programs.END_SECONDS)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/completions", json.dumps(body), {**HEADERS, **headers})
        return connection.getresponse()

    def go_on(self, url, body, cursor):
        """The answer with that cursor, once a group is there."""
        def ask():
            try:
                answer = self.post(url, body, {"Last-Event-ID": cursor})
            except ConnectionError:
                return None
            if answer.status == 503:
                return None
            if answer.status != 200:
                self.fail(answer.read().decode())
            return answer

        return wait_until(ask, programs.READY_SECONDS, "a coordinator that goes on")

    def test_answers_go_on_after_the_coordinator_was_killed(self):
        model = self.write_model("q4_1")
        ports = ["--port", free_port(), "--rpc-port", free_port()]
        command = [program("shoal-coordinator"), "--model", model, *ports,
                   "--state-dir", self.folder / "state"]
        coordinator = self.start(*command)
        self.start_group(model, f"127.0.0.1:{ports[3]}", 2)
        url = coordinator.wait_until_ready()
        body = {"prompt": PROMPT, "max_tokens": 200, "n": 3, "temperature": 0.9, "seed": 3,
                "stream": True, "ignore_eos": True, "return_token_ids": True,
                "stream_options": {"include_usage": True, "resumable": True}}
        whole = joined(read_events(self.post(url, body, {})))
        self.assertEqual([len(tokens) for _, tokens in sorted(whole[0].items())], [200] * 3)
        events = []
        answer = self.post(url, body, {})
        for _ in range(3):
            events += read_events(answer, 7)
            coordinator.signal(signal.SIGKILL)
            events += read_events(answer)
            coordinator = self.start(*command)
            answer = self.go_on(url, body, events[-1][0])
        events += read_events(answer)
        self.assertEqual(events[-1][1], "[DONE]", coordinator.log())
        self.assertEqual(joined(events), whole)


if __name__ == "__main__":
    programs.main()
