#!/usr/bin/env python3
"""A client that goes away while its request waits frees its place, and the request is never executed."""

import http.client
import json
import os
import pathlib
import signal
import socket
import sys
import urllib.parse

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))
import programs  # noqa: E402
from programs import END_SECONDS, ProgramTest, request, wait_until  # noqa: E402

# A rank that is stopped for a while is not lost here. One request waits at most.
FLAGS = ["--heartbeats-missed-max", "10000", "--progress-timeout-ms", "600000",
         "--sequences-max", "1", "--queue-requests-max", "1"]
REQUESTS_MAX = 40


class Abandoned(ProgramTest):
    def kinds(self, name):
        """What became of the request so far."""
        records = request(self.run_.url, f"/v1/records?request={name}")[1]["records"]
        return [record["kind"] for record in records]

    def send(self, name):
        """Sends a request and returns its connection, once the region has decided on it."""
        connection = http.client.HTTPConnection(urllib.parse.urlparse(self.run_.url).netloc,
                                                timeout=END_SECONDS)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/completions", json.dumps({
            "prompt": list(range(7, 20)), "max_tokens": 4, "ignore_eos": True}),
            {"Content-Type": "application/json", "X-Request-Id": name})
        wait_until(lambda: self.kinds(name), END_SECONDS, f"a record of {name}")
        return connection

    def fill(self):
        """Requests until one is refused; returns the name and the connection of each that was not."""
        taken = []
        for number in range(REQUESTS_MAX):
            name = f"filling-{number}"
            connection = self.send(name)
            if self.kinds(name) == ["rejected"]:
                return taken
            taken.append((name, connection))
        self.fail(f"{REQUESTS_MAX} requests found room")

    def abandon_one(self, taken, leave):
        """The last one that was taken waits; its place is free once its client is gone."""
        name, connection = taken.pop()
        self.assertEqual(self.kinds(name), ["admitted"])
        leave(connection)
        wait_until(lambda: self.kinds(name)[-1] == "cancelled", END_SECONDS, f"the end of {name}")
        after = f"after-{name}"
        taken.append((after, self.send(after)))
        self.assertEqual(self.kinds(after), ["admitted"])
        return name

    def test_frees_its_place_and_is_never_executed(self):
        self.run_ = self.start_run(self.write_model("q4_1"), *FLAGS)
        rank = self.run_.ranks()[0]
        os.kill(rank, signal.SIGSTOP)
        try:
            taken = self.fill()
            gone = [self.abandon_one(taken, lambda connection: connection.close()),
                    self.abandon_one(taken, lambda connection:
                                     connection.sock.shutdown(socket.SHUT_WR))]
        finally:
            os.kill(rank, signal.SIGCONT)
        for name, connection in taken:
            self.assertEqual(connection.getresponse().status, 200, self.kinds(name))
        for name in gone:
            self.assertEqual(self.kinds(name), ["admitted", "cancelled"], "no group heard of it")
        self.assert_stops(self.run_)


if __name__ == "__main__":
    programs.main()
