"""The connections of core.http: a request goes out once and in one piece, and a connection is nobody else's."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from core import _deadlines, _lines, _targets, http
from core._replies import Incoming
from core._targets import Place
from tests.peers import HELLO, Answer, Peer, and_later, chunks, head, then_close

REST_S = 0.06


def ask(peer: Peer, *, body: bytes = b"{}", within_s: float = 3.0) -> http.Reply:
    return http.call("POST", f"{peer.url}/", deadline=time.monotonic() + within_s, max_bytes=1_000, body=body)


def hang_up(connection: socket.socket, request: bytes = b"") -> None:
    connection.shutdown(socket.SHUT_RDWR)


def reset(connection: socket.socket, request: bytes = b"") -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


# --- once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("close", [hang_up, reset])
def test_a_connection_that_the_peer_closed_while_it_rested_is_not_used(
    close: Callable[[socket.socket, bytes], None],
) -> None:
    def answer_and_close(connection: socket.socket, request: bytes) -> None:
        connection.sendall(HELLO)
        time.sleep(0.02)
        close(connection, request)

    with Peer(answer_and_close) as peer:
        for _ in range(2):
            assert ask(peer).body == b"hello"
            time.sleep(REST_S)
        assert (len(peer.connections), len(peer.requests)) == (2, 2)


@pytest.mark.parametrize("close", [hang_up, reset])
def test_a_request_is_not_sent_again_when_the_peer_closes_a_kept_connection_on_it(
    close: Callable[[socket.socket, bytes], None],
) -> None:
    with Peer(HELLO, close) as peer:
        ask(peer)
        time.sleep(REST_S)
        with pytest.raises(http.Broken) as broken:
            ask(peer)
        assert broken.value.sent
        time.sleep(0.1)
        assert (len(peer.connections), len(peer.requests)) == (1, 2)
        assert ask(peer).body == b"hello"


def test_a_connection_on_which_something_came_while_it_rested_is_not_used() -> None:
    with Peer(and_later(HELLO, head("Content-Length: 3") + b"not")) as peer:
        ask(peer)
        time.sleep(REST_S)
        assert ask(peer).body == b"hello"
        assert len(peer.connections) == 2


def test_head_and_small_body_go_out_in_one_piece_and_at_once() -> None:
    with Peer() as peer:
        for _ in range(5):
            assert ask(peer, body=b"x" * 1_000).status == 200
            time.sleep(REST_S)
        assert peer.arrivals == [1] * 5


def test_a_large_body_arrives_whole_and_is_not_waited_with() -> None:
    body = os.urandom(3_000_000)
    with Peer() as peer:
        begun = time.monotonic()
        assert ask(peer, body=body).status == 200
        assert time.monotonic() - begun < 2
        assert peer.requests[0].endswith(b"\r\n\r\n" + body)


def test_an_answer_that_comes_before_the_body_was_read_is_read_and_the_connection_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusal = head("Content-Length: 4", status="HTTP/1.1 413 Too Large") + b"much"
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def refuse() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(100)
                connection.sendall(refusal)
                time.sleep(0.1)

        thread = threading.Thread(target=refuse, daemon=True)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        reply = http.call("POST", url, deadline=time.monotonic() + 3, max_bytes=100, body=b"x" * 20_000_000)
        assert (reply.status, reply.body) == (413, b"much")
        time.sleep(REST_S)
        monkeypatch.setattr(_lines, "_is_silent", lambda sock: True)
        assert _lines.shelf().take(_targets.find("POST", url).place) is None
        thread.join(3)


def test_a_peer_that_does_not_read_is_given_up_at_the_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        body = b"x" * 20_000_000
        begun = time.monotonic()
        with pytest.raises(http.Late):
            http.call("POST", url, deadline=begun + 0.4, max_bytes=100, body=body)
        assert 0.35 < time.monotonic() - begun < 0.9


def test_a_reply_that_is_complete_but_late_is_late() -> None:
    def play(connection: socket.socket, request: bytes) -> None:
        for at in range(0, len(HELLO), 4):
            connection.sendall(HELLO[at : at + 4])
            time.sleep(0.05)

    with Peer(play) as peer, pytest.raises(http.Late):
        ask(peer, within_s=0.3)


# --- nobody else's ----------------------------------------------------------------------------------------------------


def in_a_child(work: Callable[[], bool]) -> bool:
    """What this returns in a forked process. No exception may leave it: it would run the other tests once more."""
    child = os.fork()
    if not child:
        signal.alarm(10)  # which ends a child that waits forever
        good = False
        with contextlib.suppress(BaseException):
            good = work()
        os._exit(0 if good else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_forked_process_uses_no_connection_of_its_parent() -> None:
    with Peer() as peer:
        ask(peer, body=b"parent")
        time.sleep(REST_S)

        def call_twice() -> bool:
            good = ask(peer, body=b"child").body == b"hello"
            time.sleep(REST_S)
            return good and ask(peer, body=b"child").body == b"hello"

        assert in_a_child(call_twice)
        ask(peer, body=b"parent")
        # The child's calls share one of its own, and the parent's is still there.
        assert len(peer.connections) == 2
        bodies = [request.rpartition(b"\r\n")[2] for request in peer.requests]
        assert bodies == [b"parent", b"child", b"child", b"parent"]


def test_a_forked_process_keeps_its_own_deadlines() -> None:
    with Peer() as peer, socket.create_server(("127.0.0.1", 0)) as silent:
        ask(peer)  # the parent's watch has begun

        def wait_in_vain() -> bool:
            begun = time.monotonic()
            with pytest.raises(http.Late):
                http.call("GET", f"http://127.0.0.1:{silent.getsockname()[1]}/", deadline=begun + 0.3, max_bytes=10)
            return time.monotonic() - begun < 0.8

        assert in_a_child(wait_in_vain)


def test_a_connection_in_use_at_a_fork_is_not_kept_by_the_child() -> None:
    with Peer(and_later(head("Content-Length: 10") + b"hello", b"world", after_s=0.2)) as peer:
        place = _targets.find("GET", peer.url).place
        stream = http.stream("GET", peer.url, deadline=time.monotonic() + 3, max_bytes=100)
        found, inherited = stream.__enter__(), _lines.shelf()
        assert next(found.pieces) == b"hello"

        def read_to_the_end_too() -> bool:
            assert b"".join(found.pieces) == b"world"
            stream.__exit__(None, None, None)
            time.sleep(REST_S)
            return _lines.shelf().take(place) is None and inherited.take(place) is None

        assert in_a_child(read_to_the_end_too)
        stream.__exit__(None, None, None)


def test_many_threads_at_once_get_each_their_own_answer() -> None:
    def echo(connection: socket.socket, request: bytes) -> None:
        body = request.rpartition(b"\r\n\r\n")[2]
        connection.sendall(head(f"Content-Length: {len(body)}") + body)

    found: list[bool] = []

    def call_often(number: int) -> None:
        for turn in range(40):
            body = f"{number}.{turn}".encode()
            found.append(ask(peer, body=body, within_s=10).body == body)
            time.sleep(0.005)

    with Peer() as peer:
        peer.usual = echo
        threads = [threading.Thread(target=call_often, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found == [True] * 800
        assert len(peer.connections) < 400


@pytest.mark.parametrize(
    "said", [HELLO, head("Transfer-Encoding: chunked") + chunks(b"hel", b"lo"), then_close(head() + b"hello")]
)
def test_a_call_leaves_nothing_to_the_garbage_collector(said: Answer) -> None:
    gc.collect()
    gc.freeze()  # what was there before is not looked at
    gc.disable()
    try:
        with Peer(said, said) as peer:
            assert ask(peer).body == b"hello"
            with http.stream("GET", peer.url, deadline=time.monotonic() + 3, max_bytes=100) as stream:
                assert b"".join(stream.pieces) == b"hello"
            del stream
            # By their types: a lazy object, asked what it is, would go and find out.
            assert not [one for one in gc.get_objects() if issubclass(type(one), Incoming | _deadlines.Watched)]
    finally:
        gc.enable()


# --- where they rest --------------------------------------------------------------------------------------------------

HERE = Place(False, "127.0.0.1", 80)


@contextlib.contextmanager
def pairs(count: int) -> Iterator[list[tuple[socket.socket, socket.socket]]]:
    with contextlib.ExitStack() as stack:
        made = [socket.socketpair() for _ in range(count)]
        for one in (end for pair in made for end in pair):
            stack.enter_context(one)
        yield made


def test_the_longest_rested_is_used_first_and_none_at_once() -> None:
    shelf = _lines.Shelf()
    with pairs(3) as made:
        for ours, _ in made:
            shelf.put(HERE, ours)
        assert shelf.take(HERE) is None
        time.sleep(REST_S)
        assert [shelf.take(HERE) for _ in range(4)] == [made[0][0], made[1][0], made[2][0], None]


def test_it_keeps_so_many_to_a_place_and_to_so_many_places(monkeypatch: pytest.MonkeyPatch) -> None:
    assert (_lines._MOST_LINES, _lines._MOST_PLACES) == (2_000, 32)
    monkeypatch.setattr(_lines, "_MOST_LINES", 2)
    monkeypatch.setattr(_lines, "_MOST_PLACES", 3)
    shelf = _lines.Shelf()
    with pairs(7) as made:
        ours = [pair[0] for pair in made]
        for sock in ours[:3]:
            shelf.put(HERE, sock)
        assert [sock.fileno() < 0 for sock in ours[:3]] == [False, False, True]
        shelf.put(Place(True, "127.0.0.1", 80), ours[3])
        shelf.put(HERE._replace(port=81), ours[4])
        shelf.put(HERE, ours[5])  # one too many, but the place was given something last
        shelf.put(HERE._replace(host="::1"), ours[6])
        assert [sock.fileno() < 0 for sock in ours] == [False, False, True, True, False, True, False]
        time.sleep(REST_S)
        assert shelf.take(Place(True, "127.0.0.1", 80)) is None
        assert shelf.take(HERE) is ours[0]


def test_nothing_is_kept_by_what_was_left_at_a_fork() -> None:
    shelf = _lines.Shelf()
    with pairs(2) as made:
        (first, _), (second, _) = made
        shelf.put(HERE, first)
        shelf.abandon()
        shelf.put(HERE, second)
        assert (first.fileno(), second.fileno()) == (-1, -1)
        time.sleep(REST_S)
        assert shelf.take(HERE) is None


def test_it_calls_at_an_ipv6_address() -> None:
    with Peer(host="::1") as peer:
        assert ask(peer).body == b"hello"
        assert f"\r\nHost: [::1]:{peer.port}\r\n".encode() in peer.requests[0]


def test_it_calls_at_the_next_address_of_a_name() -> None:
    """The name's first address is, on most machines, one of IPv6, where nobody listens."""
    with Peer() as peer:
        url = f"http://localhost:{peer.port}/"
        assert http.call("GET", url, deadline=time.monotonic() + 3, max_bytes=10).body == b"hello"
        assert f"\r\nHost: localhost:{peer.port}\r\n".encode() in peer.requests[0]


# --- watched ----------------------------------------------------------------------------------------------------------


def test_it_sends_nothing_where_nobody_can_keep_the_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def no_more(thread: threading.Thread) -> None:
        if thread.name == "http-deadlines":
            raise RuntimeError("can't start new thread")
        start(thread)

    with Peer() as peer:
        monkeypatch.setattr(_deadlines, "_reaper", _deadlines._Reaper())
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", no_more)
            with pytest.raises(http.NotSent):
                ask(peer)
        assert ask(peer).body == b"hello"
        assert len(peer.requests) == 1


def test_a_watch_that_ended_by_an_error_begins_again(monkeypatch: pytest.MonkeyPatch) -> None:
    reaper = _deadlines._Reaper()
    monkeypatch.setattr(_deadlines, "_reaper", reaper)
    failed = threading.Event()

    def fail(args: threading.ExceptHookArgs) -> None:
        failed.set()

    with monkeypatch.context() as patched, pairs(1) as made:
        patched.setattr(threading, "excepthook", fail)
        patched.setattr(reaper, "_look", lambda: 1 // 0)  # of this one alone: another's thread runs since earlier tests
        first = _deadlines.Watched(time.monotonic() + 5)
        first.sock = made[0][0]
        _deadlines.watch(first)
        assert failed.wait(3)
    with pairs(1) as made:
        late = _deadlines.Watched(time.monotonic() + 0.1)
        late.sock, theirs = made[0]
        _deadlines.watch(late)
        time.sleep(0.3)
        assert _is_shut(theirs)


def test_a_watch_ends_what_is_late_and_nothing_else() -> None:
    now = time.monotonic()
    with pairs(4) as made:
        calls = [_deadlines.Watched(now + within_s) for within_s in (5, 0.1, 0.3, 0.1)]
        for call, (ours, _) in zip(calls, made, strict=True):
            call.sock = ours
            _deadlines.watch(call)
        assert _deadlines.unwatch(calls[3])
        time.sleep(0.2)
        assert [_is_shut(theirs) for _, theirs in made] == [False, True, False, False]
        assert [_deadlines.unwatch(call) for call in calls[:3]] == [True, False, True]
        time.sleep(0.2)
        assert [_is_shut(theirs) for _, theirs in made] == [False, True, False, False]


def _is_shut(theirs: socket.socket) -> bool:
    try:
        return theirs.recv(1, socket.MSG_DONTWAIT | socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
