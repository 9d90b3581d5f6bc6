#!/usr/bin/env python3
"""The real model through `shoal run`: two ranks answer a question as one does."""

import pathlib
import unittest

import programs
from programs import ProgramTest, request

MODEL = pathlib.Path(__file__).resolve().parents[2] / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf"


@unittest.skipUnless(MODEL.exists(), f"no models/{MODEL.name}; run scripts/get_model.sh")
class SmolLM2(ProgramTest):
    def test_answers_alike_on_one_rank_and_on_two(self):
        answers = []
        for ranks in ("1", "2"):
            running = self.start_run(MODEL, "--tensor-parallel", ranks)
            status, answer = request(running.url, "/v1/chat/completions", {
                "model": "SmolLM2-135M-Instruct.Q4_1", "temperature": 0, "max_tokens": 24,
                "messages": [{"role": "user", "content": "What is two plus two?"}]})
            self.assertEqual(status, 200, answer)
            answers.append((answer["choices"][0]["message"]["content"], answer["usage"],
                            answer["system_fingerprint"]))
            self.assert_stops(running)
        self.assertTrue(answers[0][0].strip())
        self.assertEqual(answers[0], answers[1])


if __name__ == "__main__":
    programs.main()
