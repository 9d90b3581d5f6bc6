"""A network of its own for one group, behind a router that can be told to drop everything silently.

Needs root and network namespaces. The host is 10.77.N.1, the group 10.78.N.1.
"""

import os
import subprocess


def run(*words):
    subprocess.run([str(word) for word in words], check=True, capture_output=True, text=True)


class Blackhole:
    def __init__(self, number=os.getpid() % 200):
        self.number = number
        self.router, self.inner = f"shoalr{number}", f"shoalg{number}"
        self.host_address = f"10.77.{number}.1"
        self.cut_now = False

    def open(self):
        """Errors: subprocess.CalledProcessError where namespaces cannot be made."""
        n, router, inner = self.number, self.router, self.inner
        for name in (router, inner):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", f"shh{n}", "type", "veth", "peer", "name", f"shr{n}", "netns", router)
        run("ip", "-n", router, "link", "add", f"shs{n}", "type", "veth", "peer", "name", f"shg{n}",
            "netns", inner)
        run("ip", "addr", "add", f"{self.host_address}/24", "dev", f"shh{n}")
        run("ip", "-n", router, "addr", "add", f"10.77.{n}.2/24", "dev", f"shr{n}")
        run("ip", "-n", router, "addr", "add", f"10.78.{n}.2/24", "dev", f"shs{n}")
        run("ip", "-n", inner, "addr", "add", f"10.78.{n}.1/24", "dev", f"shg{n}")
        run("ip", "link", "set", f"shh{n}", "up")
        for name, device in ((router, f"shr{n}"), (router, f"shs{n}"), (inner, f"shg{n}")):
            run("ip", "-n", name, "link", "set", device, "up")
        run("ip", "-n", inner, "route", "add", "default", "via", f"10.78.{n}.2")
        run("ip", "route", "add", f"10.78.{n}.0/24", "via", f"10.77.{n}.2")
        self.cut(False)

    def cut(self, yes):
        """From now on no packet passes, either way; nobody is told."""
        run("ip", "netns", "exec", self.router, "sysctl", "-qw", f"net.ipv4.ip_forward={int(not yes)}")

    def wrap(self):
        return ["ip", "netns", "exec", self.inner]

    def close(self):
        for words in (("ip", "link", "del", f"shh{self.number}"), ("ip", "netns", "del", self.inner),
                      ("ip", "netns", "del", self.router)):
            subprocess.run(words, check=False, capture_output=True)
