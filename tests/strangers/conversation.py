#!/usr/bin/env python3
"""Holds the conversation that docs/PROTOCOL.md prints, as a client of another make: Python's standard library only.

    conversation.py http://127.0.0.1:8080

It logs in as a development user, says every line that begins with `>` and expects every line that begins with `<`; the
lines with `>>` and `<<` are another user's, on a connection of their own. `…` in an expected value stands for anything. What
the server says by itself may come before or after its neighbours; nothing may be missing and nothing may be left over. The
exit code is 0 when the server said what is printed.
"""

import base64
import fnmatch
import hashlib
import json
import os
import pathlib
import secrets
import socket
import struct
import sys
import time
import urllib.parse
import urllib.request

DOCUMENT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "PROTOCOL.md"
PATIENCE_S = 5.0
ACCEPT_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
TEXT, CLOSE, PING, PONG = 0x1, 0x8, 0x9, 0xA
# Who speaks, by how often a mark repeats its sign: said, heard, closed.
MARKS = {">", "<", "=", ">>", "<<", "=="}
USERS = {1: "alice", 2: "bob"}


class Difference(Exception):
    """The server did not say what is printed."""


class WebSocket:
    """As much of RFC 6455 as a client needs that sends short texts."""

    def __init__(self, url, subprotocol):
        parts = urllib.parse.urlsplit(url)
        if parts.scheme != "ws":
            raise SystemExit(f"{url}: this client speaks ws:// only")
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=PATIENCE_S)
        self.received = b""
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
            f"Sec-WebSocket-Protocol: {subprotocol}\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.received:
            self._read()
        head, self.received = self.received.split(b"\r\n\r\n", 1)
        status, *lines = head.decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        accept = base64.b64encode(hashlib.sha1((key + ACCEPT_GUID).encode()).digest()).decode()
        if " 101 " not in status or headers.get("sec-websocket-accept") != accept.lower():
            raise Difference(f"no upgrade: {status}")
        if headers.get("sec-websocket-protocol") != subprotocol:
            raise Difference(f"another subprotocol: {headers.get('sec-websocket-protocol')}")

    def _read(self):
        chunk = self.socket.recv(65536)
        if not chunk:
            raise Difference("the connection ended without a close frame")
        self.received += chunk

    def _take(self, count):
        while len(self.received) < count:
            self._read()
        taken, self.received = self.received[:count], self.received[count:]
        return taken

    def send(self, opcode, payload):
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
        length = len(payload)
        if length < 126:
            head = struct.pack("!BB", 0x80 | opcode, 0x80 | length)
        else:
            head = struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, length)
        self.socket.sendall(head + mask + masked)

    def receive(self):
        """The next text, or the number of a close frame."""
        while True:
            first, second = self._take(2)
            length = second & 0x7F
            if length == 126:
                (length,) = struct.unpack("!H", self._take(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", self._take(8))
            opcode, payload = first & 0x0F, self._take(length)
            if not first & 0x80 or second & 0x80:
                raise Difference("a fragmented or masked frame, which this server does not send")
            if opcode == TEXT:
                return payload.decode()
            if opcode == CLOSE:
                return struct.unpack("!H", payload[:2])[0]
            if opcode == PING:
                self.send(PONG, payload)
            elif opcode != PONG:
                raise Difference(f"a frame with opcode {opcode}")


def printed():
    """The lines of the fence that is marked `conversation`, as (mark, rest)."""
    _, after = DOCUMENT.read_text(encoding="utf-8").split("```conversation\n", 1)
    lines = after.split("```", 1)[0].splitlines()
    lines = [tuple(line.split(" ", 1)) for line in lines if line.split(" ", 1)[0] in MARKS]
    if len(lines) < 10:
        raise SystemExit(f"{DOCUMENT} has no conversation")
    return lines


def matches(expected, said):
    if expected == "…":
        return True
    if isinstance(expected, dict):
        return isinstance(said, dict) and expected.keys() == said.keys() and all(matches(expected[key], said[key]) for key in expected)
    if isinstance(expected, list):
        return isinstance(said, list) and len(expected) == len(said) and all(map(matches, expected, said))
    if isinstance(expected, str) and "…" in expected:
        return isinstance(said, str) and fnmatch.fnmatchcase(said, expected.replace("…", "*"))
    return type(expected) is type(said) and expected == said


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
        return json.load(response)


def get(url):
    with urllib.request.urlopen(url, timeout=PATIENCE_S) as response:
        return json.load(response)


class Speaker:
    """One user's connection, and what it has heard that was not expected yet."""

    def __init__(self, base, user):
        self.token = post(f"{base}/dev/login", {"user": user})["token"]
        self.websocket = WebSocket(get(f"{base}/veza.json")["websocketUrl"], "veza.v1.json")
        self.waiting = []

    def say(self, line):
        self.websocket.send(TEXT, line.replace("TOKEN", self.token).encode())

    def expect(self, line):
        expected = json.loads(line)
        deadline = time.monotonic() + PATIENCE_S
        while not any(matches(expected, said) for said in self.waiting):
            self.websocket.socket.settimeout(max(deadline - time.monotonic(), 0.01))
            try:
                said = self.websocket.receive()
            except TimeoutError:
                raise Difference(f"not said: {line}\ninstead:  {json.dumps(self.waiting)}") from None
            if isinstance(said, int):
                raise Difference(f"closed with {said} before: {line}\ninstead:  {json.dumps(self.waiting)}")
            self.waiting.append(json.loads(said))
        found = next(said for said in self.waiting if matches(expected, said))
        self.waiting.remove(found)
        return found

    def expect_close(self, number):
        self.websocket.socket.settimeout(PATIENCE_S)
        said = self.websocket.receive()
        if not isinstance(said, int):
            raise Difference(f"not printed: {said}")
        if self.waiting:
            raise Difference(f"not printed: {json.dumps(self.waiting)}")
        if said != number:
            raise Difference(f"closed with {said} instead of {number}")
        self.websocket.send(CLOSE, struct.pack("!H", number))


def hold(base):
    # What is printed would be there already the second time, and these users in other rooms too.
    run = secrets.token_hex(4)
    fresh = {f'"{name}"': f'"{name}-{run}"' for name in ("porch", *USERS.values())}
    speakers = {}
    for mark, line in printed():
        for name, new in fresh.items():
            line = line.replace(name, new)
        who = len(mark)
        if who not in speakers:
            speakers[who] = Speaker(base, f"{USERS[who]}-{run}")
        if mark[0] == ">":
            print(f"{mark} {line}")
            speakers[who].say(line)
        elif mark[0] == "<":
            print(f"{mark} {json.dumps(speakers[who].expect(line), ensure_ascii=False)}")
        else:
            speakers.pop(who).expect_close(int(line.split()[1]))
            print(f"{mark} {line}")
    if speakers:
        raise Difference("the conversation does not end with a close code for each (`= close 1000`)")


def main():
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    try:
        hold(sys.argv[1].rstrip("/"))
    except (Difference, OSError) as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    print("\nthe server says what docs/PROTOCOL.md prints")
    return 0


if __name__ == "__main__":
    sys.exit(main())
