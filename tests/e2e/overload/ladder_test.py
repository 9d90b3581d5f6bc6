#!/usr/bin/env python3
"""The ladder with real groups: the main model's goes, then the alternative's, then the tiny one's."""

import http.client
import json
import os
import pathlib
import signal
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import programs  # noqa: E402
from by_hand_test import ByHand  # noqa: E402
from programs import END_SECONDS, metrics, wait_until  # noqa: E402

LADDER = """
step_down: {{refusals: 3, within: 10s}}
hold: 1s
rungs:
  - {{kind: model, path: "{alternative}", quality: 0.7, cost: 0.5}}
  - {{kind: rules, file: rules.yaml, quality: 0.5, cost: 0}}
  - {{kind: knowledge, folder: texts, quality: 0.4, cost: 0}}
  - {{kind: model, path: "{tiny}", quality: 0.2, cost: 0.1}}
"""

RULES = """
rules:
  - {name: hours, words: [opening, hours], answer: From nine to five.}
  - {name: refund, any: [refund, money back], answer: Refunds take five days.}
  - {name: order, pattern: 'order\\s+(?<number>\\d{4,})', answer: 'Order {number} is on its way.'}
  - {name: human, any: [human, support], answer: Call 555-0100.}
"""

TEXTS = {
    "heater.md": "# Heater\n\nThe heater stands in the cellar, behind the wine.\n\n"
                 "To restart the heater, hold the red button for ten seconds.\n",
    "printer.md": "The printer needs paper of size A4 in the lower tray.\n\n"
                  "A blinking orange light on the printer means that the toner is empty.\n",
    "network.txt": "The password of the guest network is written on the router.\n\n"
                   "If the network is slow, unplug the router for a minute.\n",
}

# What people ask while nothing computes. The last ones nobody here knows.
OFFLINE = [
    ("What are your opening hours?", "From nine to five."),
    ("opening hours on monday", "From nine to five."),
    ("I want my money back", "Refunds take five days."),
    ("how long does a refund take", "Refunds take five days."),
    ("where is order 48213", "Order 48213 is on its way."),
    ("Has order 7712345 left?", "Order 7712345 is on its way."),
    ("let me talk to a human", "Call 555-0100."),
    ("the number of your support please", "Call 555-0100."),
    ("heater in the cellar", "behind the wine"),
    ("restart the heater", "red button"),
    ("hold the button to restart the heater", "red button"),
    ("paper of the printer", "A4"),
    ("printer light blinking orange", "toner"),
    ("toner is empty", "toner"),
    ("password of the guest network", "written on the router"),
    ("the network is slow", "unplug the router"),
    ("Write a poem about autumn leaves", None),
    ("Translate bonjour into Finnish", None),
    ("What is 17 times 23?", None),
    ("Who painted Guernica?", None),
]


def talk(text, **fields):
    return "/v1/chat/completions", {"messages": [{"role": "user", "content": text}], "max_tokens": 6,
                                    **fields}


def prompt(text, **fields):
    return "/v1/completions", {"prompt": text, "max_tokens": 6, **fields}


# What an application needs to go on working: its kinds of requests.
CORE_SUITE = [
    prompt("The sun"), prompt("The sun", temperature=0), prompt("The sun", seed=7),
    prompt("One, two", n=2), prompt("One, two", stop=["zq", "qz"]), prompt("A", top_p=0.5, top_k=5),
    prompt(["one", "two"]), prompt("A", echo=True), prompt("A", logprobs=2), prompt("A", stream=True),
    prompt("A", stream=True, stream_options={"include_usage": True}), prompt("A", presence_penalty=1),
    talk("Hello"), talk("Hello", temperature=0), talk("Hello", stream=True), talk("Hello", n=2),
    talk("Hello", logprobs=True, top_logprobs=2), talk("Pick", response_format={"type": "json_object"}),
    talk("Hello", user="someone"), talk("Hello", seed=3, max_tokens=1),
    talk("What are your opening hours?"), talk("toner is empty"), prompt("where is order 48213"),
]


def ask(url, path, body, headers=None):
    """Returns the status, the JSON of the body or of its events, and the headers."""
    connection = http.client.HTTPConnection(urllib.parse.urlparse(url).netloc, timeout=END_SECONDS)
    try:
        connection.request("POST", path, json.dumps(body),
                           {"Content-Type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        text = answer.read().decode()
    finally:
        connection.close()
    if not body.get("stream") or answer.status != 200:
        return answer.status, json.loads(text), answer.headers
    events = [line[6:] for line in text.splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]", events
    return answer.status, [json.loads(event) for event in events[:-1]], answer.headers


def note_of(answer):
    """What it says of its being degraded; empty if it is not."""
    first = answer[0] if isinstance(answer, list) else answer
    return first.get("x_shoal", {})


def is_answer(status, answer):
    if status != 200:
        return False
    parts = answer if isinstance(answer, list) else [answer]
    finishes = [choice["finish_reason"] for part in parts for choice in part["choices"]]
    return any(finish in ("stop", "length") for finish in finishes)


class Ladder(ByHand):
    def start_all(self):
        main, alternative, tiny = (self.write_model(name) for name in ("q4_1", "q8_0", "f16"))
        self.names = [os.path.basename(path).removesuffix(".gguf") for path in (main, alternative, tiny)]
        ladder = self.folder / "ladder.yaml"
        ladder.write_text(LADDER.format(alternative=alternative, tiny=tiny))
        (self.folder / "rules.yaml").write_text(RULES)
        (self.folder / "texts").mkdir(exist_ok=True)
        for name, text in TEXTS.items():
            (self.folder / "texts" / name).write_text(text)
        coordinator, rpc = self.start_coordinator(main, "--other-models", "--ladder", ladder,
                                                  "--resume-timeout-ms", "500")
        groups = [self.start_group(path, rpc, 1) for path in (main, alternative, tiny)]
        url = coordinator.wait_until_ready()
        self.wait_for_groups(url, 3)
        return coordinator, url, groups

    def kill(self, url, group, left):
        for rank in group.ranks():
            os.kill(rank, signal.SIGKILL)
        self.wait_for_groups(url, left)

    def run_core_suite(self, url, models):
        """At least 95 % of it is answered, by one of these and saying so."""
        answered = 0
        for path, body in CORE_SUITE:
            status, answer, headers = ask(url, path, body)
            if not is_answer(status, answer):
                print(f"not answered: {status} {body} {answer}")
                continue
            answered += 1
            note = note_of(answer)
            if models == [self.names[0]]:
                self.assertNotIn("degraded", note)
                continue
            first = answer[0] if isinstance(answer, list) else answer
            self.assertTrue(note.get("degraded"), answer)
            self.assertIn(note["model_used"], models)
            self.assertEqual(first["model"], note["model_used"])
            self.assertEqual(headers["X-Shoal-Degraded"], str(note["rung"]))
        print(f"{answered} of {len(CORE_SUITE)} answered by {models}")
        self.assertGreaterEqual(answered, 0.95 * len(CORE_SUITE))

    def ask_offline(self, url):
        """At least 70 % of the questions are answered, rightly and labelled."""
        answered = 0
        for question, expected in OFFLINE:
            status, answer, _ = ask(url, *talk(question, max_tokens=64))
            if expected is None:
                self.assertEqual((status, answer.get("error", {}).get("code")), (503, "no_group"), answer)
                continue
            if status != 200:
                print(f"not answered: {question}: {answer}")
                continue
            text = answer["choices"][0]["message"]["content"]
            self.assertIn(expected, text)
            self.assertTrue(answer["x_shoal"]["degraded"] and answer["x_shoal"]["offline"], answer)
            self.assertIn(answer["x_shoal"]["model_used"], ("rules", "knowledge"))
            self.assertTrue(answer["x_shoal"]["source"])
            answered += 1
        print(f"{answered} of {len(OFFLINE)} questions answered offline")
        self.assertGreaterEqual(answered, 0.7 * len(OFFLINE))

    def test_goes_down_as_the_models_are_lost_and_up_again(self):
        coordinator, url, (main, alternative, tiny) = self.start_all()
        self.run_core_suite(url, self.names[:1])
        self.kill(url, main, 2)
        self.run_core_suite(url, self.names[1:2])
        refused = ask(url, *prompt("The sun"), headers={"X-Shoal-Degrade": "0"})
        self.assertEqual((refused[0], refused[1]["error"]["code"]), (503, "no_group"))
        self.kill(url, alternative, 1)
        self.run_core_suite(url, ["rules", "knowledge", self.names[2]])
        self.kill(url, tiny, 0)
        self.ask_offline(url)
        counts = metrics(url, labels=True)
        for rung in range(1, 5):
            self.assertGreater(counts[f'shoal_degraded_total{{rung="{rung}"}}'], 0, rung)
        rpc = tiny.process.args[tiny.process.args.index("--coordinator") + 1]
        self.start_group(self.write_model("q4_1"), rpc, 1)
        self.wait_for_groups(url, 1)
        wait_until(lambda: metrics(url)["shoal_ladder_rung"] == 0, END_SECONDS, "the way up")
        self.run_core_suite(url, self.names[:1])
        self.assertIn("the ladder goes from rung", coordinator.log())
        self.assert_stops(coordinator)

    def test_is_refused_if_it_is_wrong(self):
        model = self.write_model("q4_1")
        ladder = self.folder / "wrong.yaml"
        for text, words in (("rungs: [{kind: rules, file: nowhere.yaml, quality: 1, cost: 0}]",
                             "nowhere.yaml: cannot be read"),
                            ("rungs: [{kind: model, path: nowhere.gguf, quality: 1, cost: 0}]",
                             "nowhere.gguf"),
                            ("rungs:\n  - {kind: oracle}", "wrong.yaml, line 2: kind: expected one of")):
            ladder.write_text(text)
            self.assert_ends(2, [words], programs.program("shoal-coordinator"), "--model", model, "--port",
                             "0", "--rpc-port", "0", "--ladder", ladder)


if __name__ == "__main__":
    programs.main()
