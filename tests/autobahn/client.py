"""Autobahn's fuzzing client (Python 2.7), also against sockets that do not echo.

Pogo's own sockets take messages of its protocol. The suite sends others, and each is answered by a
refusal. Without `"echoes": true` in the specification that refusal counts as the echo which the suite
waits for, whatever it says, but its kind (text or binary) is the one that came. So what is tested is how
messages are framed, cut, compressed and closed, and that each is answered, once and in order; not that
bytes come back as they went. Cases with binary messages are then run on sockets that speak MsgPack, which
is binary.

Cases of 1,000 messages have as many as `messages` says: Pogo closes its own sockets after 64 malformed
messages in a row.
"""
import json
import sys

from autobahn.twisted.websocket import WebSocketClientProtocol
from autobahntestsuite import fuzzing
from autobahntestsuite.case import Case, Cases
from twisted.internet import reactor

BINARY = ("1.2.", "9.2.", "9.4.", "9.6.", "9.8.")


def is_refusal(message, binary):
    if binary:
        return b"status" in message and b"error" in message
    try:
        return json.loads(message).get("status") == "error"
    except ValueError:
        return False


def echo(case):
    """What the case waits for."""
    before = len([event for event in case.received if event[0] == "message"])
    expected = [event for event in case.expected.get(Case.OK, []) if event[0] == "message"]
    if before < len(expected):
        return expected[before][1]
    if case.p.sent:
        return case.p.sent.pop(0)
    length = getattr(case, "DATALEN", None)
    return b"*" * (case.LEN if length is None else length)


class Protocol(fuzzing.FuzzingClientProtocol):
    def connectionMade(self):
        self.sent = []
        fuzzing.FuzzingClientProtocol.connectionMade(self)

    def sendMessage(self, payload, isBinary=False, *rest, **named):
        self.sent.append(payload)
        WebSocketClientProtocol.sendMessage(self, payload, isBinary, *rest, **named)

    def onMessage(self, message, binary):
        if self.factory.spec.get("echoes"):
            return self.runCase.onMessage(message, binary)
        if not is_refusal(message, binary):
            raise Exception("an answer that is no refusal: %r" % message)
        self.runCase.onMessage(echo(self.runCase), binary)


class Factory(fuzzing.FuzzingClientFactory):
    def nextCase(self):
        if not fuzzing.FuzzingClientFactory.nextCase(self):
            return False
        case = Cases[self.currentCaseIndex - 1]
        binary = self.currentCaseId.startswith(BINARY) or getattr(case, "TESTDATA", {}).get("binary")
        binary = binary and not self.spec.get("echoes")
        self.setSessionParameters(
            url=self.url, useragent=self.useragent, protocols=["pogo.v1.msgpack"] if binary else []
        )
        return True

    def buildProtocol(self, address):
        protocol = Protocol()
        protocol.factory = self
        protocol.caseAgent = self.agent
        protocol.case = self.currentCaseIndex
        protocol.Case = Cases[self.currentCaseIndex - 1]
        protocol.runCase = protocol.Case(protocol)
        return protocol


with open(sys.argv[1]) as specification:
    spec = json.load(specification)
for case in Cases:
    if hasattr(case, "COUNT"):
        case.COUNT = min(case.COUNT, spec["messages"])
if "through" in spec:
    # Autobahn's echo server insists on a Host with its own port, which Pogo passes on as it is.
    fuzzing.connectWS = lambda factory, **_: reactor.connectTCP("127.0.0.1", spec["through"], factory)
factory = Factory(spec)
reactor.run()
