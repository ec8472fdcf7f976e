"""The connection under a WebSocket: what it parses itself is what the library would have read."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn import Config
from uvicorn.protocols.utils import ClientDisconnected
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.uri import parse_uri

from app.http.ahead import FREE, MOST, MOST_BYTES, PARTS, Ahead
from app.http.extensions import STOPPING, WAITING
from app.http.websocket import FRAMES, WebSocket
from tests.terms import terms

LONGEST = 70_000  # bytes of a message
NO_TEXT = Frame(Opcode.CLOSE, b"\x03\xef").serialize(mask=False)  # 1007, for which the library gives no reason
WHY = "a text message must be UTF-8"
NO_TEXT_TOLD = Frame(Opcode.CLOSE, b"\x03\xef" + WHY.encode()).serialize(mask=False)


class Transport(asyncio.Transport):
    """Records what is written, and whether reading is paused."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.reading = True
        self.closed = self.aborted = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True


class Counting(WebSocket):
    """Counts the frames that it handles, and the messages."""

    frames_handled = messages = 0

    def handle_events(self) -> None:
        self.frames_handled += len(self.conn.events)
        super().handle_events()

    def send_receive_event_to_app(self) -> None:
        self.messages += 1
        super().send_receive_event_to_app()


class Peer:
    """A server's end of a connection, an application that a test controls, and a client's protocol."""

    def __init__(self, kind: type[WebSocketsSansIOProtocol], *, room: int = 2**30) -> None:
        self.terms = terms(room=room)
        self.over = asyncio.Event()
        self.accepting = asyncio.Event()
        self.accepting.set()
        self.send: Any = None
        self.receive: Any = None
        config = Config(
            self.app, interface="asgi3", log_config=None, ws_max_size=LONGEST, ws_ping_interval=None, ws_per_message_deflate=False
        )
        config.load()
        self.server: Any = (
            kind(config, ServerState(), app=self.app, terms=self.terms, lost=lambda: None)
            if issubclass(kind, WebSocket)
            else kind(config, ServerState(), {})
        )
        self.transport = Transport()
        self.client = ClientProtocol(parse_uri("ws://localhost/"))

    async def app(self, _: Any, receive: Any, send: Any) -> None:
        self.receive, self.send = receive, send
        await receive()
        await self.accepting.wait()
        await send({"type": "websocket.accept"})
        await self.over.wait()

    async def open(self) -> None:
        self.server.connection_made(self.transport)
        self.client.send_request(self.client.connect())
        self.server.data_received(b"".join(self.client.data_to_send()))
        await self.accepted()

    async def accepted(self) -> None:
        while not self.transport.written:  # noqa: ASYNC110  # a few turns of the loop
            await asyncio.sleep(0)
        self.client.receive_data(self.transport.written)
        self.client.events_received()
        self.transport.written = b""

    async def close(self) -> None:
        self.over.set()
        await asyncio.gather(*self.server.tasks)

    def heard(self) -> list[Any]:
        """What the application would receive, and what was written back."""
        messages = []
        while not self.server.queue.empty():
            message = self.server.queue.get_nowait()
            messages.append({name: bytes(each) if name == "bytes" else each for name, each in message.items()})
        return [messages, self.transport.written, self.transport.closed or self.server.close_sent]


frames = st.one_of(
    st.builds(Frame, st.just(Opcode.BINARY), st.binary(max_size=300)),
    st.builds(Frame, st.just(Opcode.BINARY), st.integers(60_000, 80_000).map(bytes)),
    st.builds(Frame, st.just(Opcode.TEXT), st.text(max_size=80).map(str.encode)),
    st.builds(Frame, st.just(Opcode.TEXT), st.binary(max_size=9)),
    st.builds(Frame, st.sampled_from([Opcode.BINARY, Opcode.TEXT]), st.binary(max_size=9), st.just(False)),
    st.builds(Frame, st.just(Opcode.CONT), st.binary(max_size=9), st.booleans()),
    st.builds(Frame, st.sampled_from([Opcode.PING, Opcode.PONG]), st.binary(max_size=9)),
    st.builds(Frame, st.just(Opcode.CLOSE), st.just(b"\x03\xe8bye")),
)


async def hear(kind: type[WebSocketsSansIOProtocol], parts: Sequence[bytes]) -> list[Any]:
    peer = Peer(kind)
    await peer.open()
    for part in parts:
        if not peer.transport.closed:
            peer.server.data_received(part)
    for _ in range(len(b"".join(parts)) // FRAMES // 6 + 1):  # as many turns as the smallest frames could take
        await asyncio.sleep(0)
    heard = peer.heard()
    await peer.close()
    return heard


@given(st.lists(frames, max_size=8), st.lists(st.integers(1, 200), max_size=40), st.booleans())
@example([Frame(Opcode.BINARY, b"abc"), Frame(Opcode.BINARY, bytes(200)), Frame(Opcode.BINARY, bytes(70_001))], [1] * 40, True)
@example([Frame(Opcode.PING, b""), Frame(Opcode.CONT, b"", False)] * FRAMES, [], True)
@example([Frame(Opcode.BINARY, b"a", False), *[Frame(Opcode.CONT, b"b", False)] * PARTS * 3, Frame(Opcode.CONT, b"c")], [], True)
@example([Frame(Opcode.PING, b"")] * FRAMES * 3 + [Frame(Opcode.CLOSE, b"")], [7] * FRAMES, True)
def test_any_frames_in_any_pieces_are_read_as_the_library_reads_them(sent: list[Frame], sizes: list[int], masked: bool) -> None:
    """Frames are short and long, fragmented, with pings between, too large, unmasked, and cut anywhere, even within a header.

    The library gets one frame at a time: it drops frames that arrive together with a bad one.
    """
    written = [each.serialize(mask=masked) for each in sent]
    whole = b"".join(written)
    parts, at = [], 0
    for size in [*sizes, len(whole)]:
        parts.append(whole[at : at + size])
        at += size

    async def both() -> tuple[list[Any], list[Any]]:
        return await hear(WebSocket, parts), await hear(WebSocketsSansIOProtocol, written)

    ours, theirs = asyncio.run(both())
    if theirs[1].endswith(NO_TEXT):
        theirs = [[*theirs[0][:-1], {**theirs[0][-1], "reason": WHY}], theirs[1].removesuffix(NO_TEXT) + NO_TEXT_TOLD, theirs[2]]
    assert [str(each)[:300] for each in ours] == [str(each)[:300] for each in theirs]  # short forms first, for a readable failure
    assert ours == theirs


@pytest.mark.parametrize("parts", [[b"\xff"], [b"{\xe2", b"(\xa1}"]], ids=["one frame", "two"])
def test_a_text_that_is_none_closes_the_connection_and_says_nothing_in_the_log(
    parts: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """Anybody can send such text: a traceback each time would fill the log, and look like a defect."""
    sent = [Frame(Opcode.CONT if at else Opcode.TEXT, part, part is parts[-1]) for at, part in enumerate(parts)]
    messages, written, closed = asyncio.run(hear(WebSocket, [each.serialize(mask=True) for each in sent]))
    assert [each["code"] for each in messages] == [1007]
    assert (written, closed) == (NO_TEXT_TOLD, True)
    assert caplog.records == []


@pytest.mark.parametrize("kind", ["bytes", "text"])
@pytest.mark.parametrize("bad", [Frame(Opcode.TEXT, b"\xff"), Frame(Opcode.CONT, b""), Frame(Opcode.BINARY, bytes(LONGEST + 1))])
@pytest.mark.parametrize("reads", [True, False])
def test_an_answer_that_comes_after_an_error_of_its_caller_is_dropped_and_says_nothing_in_the_log(
    kind: str, bad: Frame, reads: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Such an error closes the connection, and the answer to an earlier message may still be under way, which is no defect."""

    async def main() -> None:
        peer = Peer(WebSocket)
        await peer.open()
        peer.server.data_received(Frame(Opcode.BINARY, b"a").serialize(mask=True))
        assert (await peer.receive())["bytes"] == b"a"
        if not reads:
            peer.server.pause_writing()
        answer = {"bytes": b"b"} if kind == "bytes" else {"text": "b"}
        sending = asyncio.ensure_future(peer.send({"type": "websocket.send", **answer})) if not reads else None
        await asyncio.sleep(0)
        peer.server.data_received(bad.serialize(mask=True))
        written = peer.transport.written
        assert written[0] == 0x88
        peer.server.resume_writing()
        with pytest.raises(ClientDisconnected):
            await (sending or peer.send({"type": "websocket.send", **answer}))
        assert peer.transport.written == written
        await peer.close()

    asyncio.run(main())
    assert caplog.records == []


def test_what_is_sent_is_read_by_a_client_whatever_its_length() -> None:
    payloads = [bytes(length) for length in (0, 1, 125, 126, 2**16 - 1, 2**16, 2**17)]

    async def main() -> list[Any]:
        peer = Peer(WebSocket)
        await peer.open()
        for payload in payloads:
            await peer.send({"type": "websocket.send", "bytes": payload})
        peer.client.receive_data(peer.transport.written)
        await peer.close()
        return [(event.opcode, bytes(event.data)) for event in peer.client.events_received()]

    assert asyncio.run(main()) == [(Opcode.BINARY, payload) for payload in payloads]


def test_a_sender_that_is_ahead_is_held_back_by_number_and_by_bytes_and_let_go_on() -> None:
    """This holds however small or large its messages are."""

    async def main() -> None:
        for size, most in ((8, MOST), (60_000, MOST_BYTES // 60_000 + 1)):
            peer = Peer(WebSocket)
            await peer.open()
            message = Frame(Opcode.BINARY, bytes(size)).serialize(mask=True)
            for at_once in (False, True):
                for number in range(1, most + 1):
                    assert peer.transport.reading
                    peer.server.data_received(message)
                    assert peer.transport.reading == (number < most)
                for _ in range(most):
                    assert not peer.transport.reading
                    assert peer.server.scope["extensions"][WAITING]() if at_once else await peer.receive()
                assert peer.transport.reading
            await peer.close()

    asyncio.run(main())


def test_what_waits_takes_room_until_it_is_answered() -> None:
    """Messages take room as bodies do, even while incomplete: thousands of large ones at once would not fit into memory."""

    async def main() -> None:
        first, second = Peer(WebSocket, room=2 * LONGEST), Peer(WebSocket)
        second.server._ahead = Ahead(first.terms.room, second.server.conn)
        room = first.terms.room
        for peer in (first, second):
            await peer.open()
        large = Frame(Opcode.BINARY, bytes(LONGEST)).serialize(mask=True)
        small = Frame(Opcode.TEXT, "\u00e9".encode() * 100).serialize(mask=True)
        first.server.data_received(small * 3)
        for _ in range(3):
            await first.receive()
        assert room.left == 2 * LONGEST
        first.server.data_received(large[:-1])
        assert room.left == LONGEST + 1 - 200  # the last of the small messages is not answered yet
        first.server.data_received(large[-1:])
        waits = asyncio.ensure_future(first.receive())
        await asyncio.sleep(0)
        assert room.left == LONGEST
        assert (await waits)["bytes"] == bytes(LONGEST)
        second.server.data_received(large[: len(large) - LONGEST + FREE + 1])
        assert room.left == LONGEST - FREE - 1
        first.server.data_received(large[: LONGEST // 2])
        assert room.left == LONGEST - FREE - 1  # it keeps what it had, and nothing of what was refused
        assert (1013).to_bytes(2, "big") in first.heard()[1]
        first.server.connection_lost(None)
        assert room.left == 2 * LONGEST - FREE - 1
        await first.close()
        second.server.data_received(large[len(large) - LONGEST + FREE + 1 :])  # its first message
        room.left -= 2_000
        third = Peer(WebSocket)
        third.server._ahead = Ahead(room, third.server.conn)
        await third.open()
        third.server.data_received(Frame(Opcode.BINARY, bytes(66_000), fin=False).serialize(mask=True))
        assert room.left == LONGEST - 68_000
        third.server.data_received(Frame(Opcode.CONT, bytes(3_000), fin=False).serialize(mask=True))
        assert (1013).to_bytes(2, "big") in third.heard()[1]
        assert room.left == LONGEST - 2_000  # the parts are dropped
        room.left += 2_000
        third.server.connection_lost(None)
        await third.close()
        second.server.connection_lost(None)
        assert room.left == 2 * LONGEST
        await second.close()

    asyncio.run(main())


def test_a_client_that_goes_on_sending_after_the_end_is_closed_when_there_is_no_room_for_it() -> None:
    """The close frame has been sent: a second one is an error of the protocol."""

    async def main() -> None:
        peer = Peer(WebSocket, room=10)
        await peer.open()
        await peer.send({"type": "websocket.close", "code": 4422})
        peer.server.data_received(Frame(Opcode.BINARY, bytes(LONGEST)).serialize(mask=True)[:-1])
        for _ in range(3):  # turns of the loop
            await asyncio.sleep(0)
        assert peer.transport.closed
        assert peer.terms.room.left == 10
        peer.server.connection_lost(None)
        await peer.close()

    asyncio.run(main())


def test_who_answers_no_ping_is_cut_off_unless_the_answer_may_stand_behind_messages_that_wait() -> None:
    """What was written to a client that reads nothing would be kept for ever; a client ahead of a slow model behaves well."""

    async def main() -> None:
        stuck, ahead = Peer(WebSocket), Peer(WebSocket)
        for peer in (stuck, ahead):
            await peer.open()
            peer.server.ping_timeout = 60.0
        stuck.server.pause_writing()
        stuck.server.keepalive_timeout()
        assert stuck.transport.aborted
        message = Frame(Opcode.BINARY, bytes(8)).serialize(mask=True)
        ahead.server.data_received(message * MOST)
        ahead.server.keepalive_timeout()
        assert not ahead.transport.closed
        assert ahead.server.pong_timer is not None
        ahead.server.stop_keepalive()
        for peer in (stuck, ahead):
            await peer.close()

    asyncio.run(main())


def test_pings_of_a_caller_who_does_not_read_do_not_fill_the_memory() -> None:
    """Only the last of them is answered, once the client reads again."""

    async def main() -> None:
        peer = Peer(WebSocket)
        await peer.open()
        peer.server.pause_writing()
        before = peer.transport.written
        for number in range(100):
            peer.server.data_received(Frame(Opcode.PING, b"%d" % number).serialize(mask=True))
        assert peer.transport.written == before
        peer.server.resume_writing()
        assert peer.transport.written == before + Frame(Opcode.PONG, b"99").serialize(mask=False)
        await peer.close()

    asyncio.run(main())


TINY = {
    "empty continuations": Frame(Opcode.CONT, b"", False),
    "pings": Frame(Opcode.PING, b""),
    "pongs": Frame(Opcode.PONG, b""),
    "empty messages": Frame(Opcode.BINARY, b""),
}


@pytest.mark.parametrize("kind", TINY)
def test_one_connection_does_not_take_the_whole_turn_of_the_event_loop(kind: str) -> None:
    """Empty frames are the cheapest way to keep a worker busy: 43,000 of them fit into one read.

    However they are cut, a turn handles only so many frames of one connection, and no more is read until then. None is lost.
    """
    count = 5 * FRAMES
    begun = Frame(Opcode.BINARY, b"", False).serialize(mask=True) if TINY[kind].opcode is Opcode.CONT else b""
    sent = begun + TINY[kind].serialize(mask=True) * count

    async def main() -> None:
        peer = Peer(Counting)
        server: Any = peer.server
        await peer.open()
        server.frames_handled = server.messages = before = 0
        for at in range(0, len(sent), 1000):
            server.data_received(sent[at : at + 1000])
        while not peer.transport.reading:
            handled = server.frames_handled + server.messages
            assert 0 <= handled - before <= FRAMES
            before = handled
            while not server.queue.empty():
                await server.receive()
            await asyncio.sleep(0)
        assert before > count - FRAMES
        assert server.frames_handled + server.messages == count + bool(begun)
        await peer.close()

    asyncio.run(main())


def test_messages_that_were_sent_at_once_are_taken_in_order_as_far_ahead_as_others() -> None:
    """This holds even if they came in one read: messages beyond the limit wait as bytes until the application has caught up."""
    count = 300

    async def main() -> None:
        peer = Peer(WebSocket)
        await peer.open()
        peer.server.data_received(b"".join(Frame(Opcode.BINARY, b"%d" % number).serialize(mask=True) for number in range(count)))
        for number in range(count):
            assert 0 < peer.server.queue.qsize() <= MOST
            assert (await peer.receive())["bytes"] == b"%d" % number
            await asyncio.sleep(0)
        assert peer.transport.reading
        await peer.close()

    asyncio.run(main())


@pytest.mark.parametrize("cut", [1, 3, 20])
def test_what_comes_before_the_handshake_is_answered_is_read_after_it(cut: int) -> None:
    """The library would parse it at once, and not recognise the end of a frame that has come only in part."""
    sent = b"".join(Frame(Opcode.BINARY, b"%d" % number).serialize(mask=True) for number in range(3))

    async def main() -> None:
        peer = Peer(WebSocket)
        peer.accepting.clear()
        peer.server.connection_made(peer.transport)
        peer.client.send_request(peer.client.connect())
        peer.server.data_received(b"".join(peer.client.data_to_send()))
        await asyncio.sleep(0)
        peer.server.data_received(sent[:cut])
        assert not peer.transport.reading
        peer.accepting.set()
        await peer.accepted()
        assert peer.transport.reading
        peer.server.data_received(sent[cut:])
        assert [(await peer.receive())["bytes"] for _ in range(3)] == [b"0", b"1", b"2"]
        await peer.close()

    asyncio.run(main())


def test_a_handshake_that_is_under_way_as_the_service_stops_is_answered() -> None:
    """The library would answer 500, as for a defect, though the stream can be reached a moment later."""

    async def main() -> None:
        peer = Peer(WebSocket)
        peer.accepting.clear()
        peer.server.connection_made(peer.transport)
        peer.client.send_request(peer.client.connect())
        peer.server.data_received(b"".join(peer.client.data_to_send()))
        await asyncio.sleep(0)
        peer.server.shutdown()
        peer.accepting.set()
        await peer.accepted()
        assert peer.client.handshake_exc is None
        assert await peer.receive() == {"type": STOPPING}
        assert not peer.transport.closed
        await peer.close()

    asyncio.run(main())


def test_who_answers_no_close_is_cut_off_and_who_reads_is_not_before_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the service stops, a slow chunk may take longer, but a client that reads nothing must not keep it from stopping."""
    monkeypatch.setattr("app.http.websocket.CLOSING", 0.0)

    async def main() -> None:
        reads, stuck, silent = peers = [Peer(WebSocket) for _ in range(3)]
        for peer in peers:
            await peer.open()
        stuck.server.pause_writing()
        for peer in (reads, stuck):
            peer.server.shutdown()
        await silent.send({"type": "websocket.close", "code": 1000})
        for _ in range(5):
            await asyncio.sleep(0)
        assert [peer.transport.aborted for peer in peers] == [False, True, True]
        for peer in peers:
            await peer.close()

    asyncio.run(main())


def test_the_answer_to_a_close_is_found_behind_what_was_sent_before_it() -> None:
    """It is found turn by turn, too, though the application has left."""
    sent = (TINY["pings"].serialize(mask=True) + TINY["empty messages"].serialize(mask=True)) * FRAMES

    async def main() -> None:
        peer = Peer(Counting)
        server: Any = peer.server
        await peer.open()
        server.data_received(sent)
        await peer.send({"type": "websocket.close", "code": 1000})
        server.data_received(Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True))
        turns = 0
        while not peer.transport.closed:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= len(sent) // 12 // FRAMES
        assert server.messages == FRAMES
        await peer.close()

    asyncio.run(main())


def test_the_parts_of_a_message_are_joined_before_they_are_many() -> None:
    """As an object, a part of one byte takes forty."""
    count = 10 * PARTS

    async def main() -> None:
        peer = Peer(WebSocket)
        await peer.open()
        peer.server.data_received(Frame(Opcode.BINARY, b"a", False).serialize(mask=True))
        for number in range(count):
            peer.server.data_received(Frame(Opcode.CONT, b"b", number == count - 1).serialize(mask=True))
            assert len(peer.server.frames) <= PARTS
            if not peer.transport.reading:
                await asyncio.sleep(0)
        assert (await peer.receive())["bytes"] == b"a" + b"b" * count
        await peer.close()

    asyncio.run(main())


def test_nothing_is_read_on_when_the_connection_is_lost() -> None:
    """Frames that wait for their next turn are not read either."""

    async def main() -> None:
        peer = Peer(WebSocket)
        await peer.open()
        peer.server.data_received(TINY["pings"].serialize(mask=True) * FRAMES * 3)
        written = peer.transport.written
        peer.server.connection_lost(None)
        for _ in range(5):
            await asyncio.sleep(0)
        assert peer.transport.written == written
        await peer.close()

    asyncio.run(main())
