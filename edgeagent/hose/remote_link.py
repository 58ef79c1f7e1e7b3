"""One connection between two hosts' hoses: frames and payloads over a blocking socket, used by one thread at a time.

Bulk data moves on threads and not on the event loop: a blocking ``recv`` with MSG_WAITALL fills a whole megabyte of
the destination in one call with the GIL released, plain sockets and TLS look alike, checksums run where the bytes
are still in the cache, and the loop's latency does not depend on the size of what passes. Small transfers are the
exception (``exchange``): the loop sends them itself, without waiting for the kernel.
"""

from __future__ import annotations

import errno
import functools
import ipaddress
import os
import select
import socket
import ssl
import struct
import time
from contextlib import suppress
from typing import NoReturn

from edgeagent import native
from edgeagent.hose import checksum
from edgeagent.hose.errors import HoseFault, LinkCut, LinkStalled, PeerUntrusted
from edgeagent.hose.frames import FRAME_BYTES, NO_DIGEST, NO_ID, Frame, abort, decode, encode, offer_of
from edgeagent.hose.remote_runs import Came, Exchanged, Outgoing, RunEnd
from edgeagent.hose.transfer import Run

__all__ = [
    "SOCKET_BUFFER_BYTES",
    "Link",
    "is_loopback",
    "tune",
    "worthwhile",
]

FAST_ENOUGH = 8e9  # bytes/s of a checksum that no link waits for
_NOT_NOW = (errno.EAGAIN, errno.EWOULDBLOCK)
SOCKET_BUFFER_BYTES = 4 << 20  # asked for; the kernel caps it at net.core.[rw]mem_max


@functools.cache
def worthwhile() -> checksum.Checksum:
    """The checksums that this machine offers: all, but for GMAC where that is slow. Takes a millisecond, once."""
    sample, rates = bytes(128 << 10), {}
    for kind in (checksum.Checksum.CRC32, checksum.Checksum.GMAC):
        check, best = checksum.check_of(kind, bytes(16)), float("inf")
        for number in range(4):
            nonce, start_s = checksum.nonce_of(number, 0, resent=False), time.perf_counter()
            check(sample, nonce)
            best = min(best, time.perf_counter() - start_s)
        rates[kind] = len(sample) / best
    crc32, gmac = rates[checksum.Checksum.CRC32], rates[checksum.Checksum.GMAC]
    # Frames go and come many at a time with a CRC-32 alone: that is worth more than what a busy machine measures.
    if checksum.crc32_is_native() or crc32 > gmac:
        return checksum.ALL | checksum.Checksum.CRC32_FIRST if gmac > FAST_ENOUGH else checksum.Checksum.CRC32
    return checksum.ALL


def is_loopback(host: str) -> bool:
    """True for a literal address of the loopback; False for names, since those can change."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def tune(sock: socket.socket) -> None:
    """Large buffers, no delay, and a keepalive that notices a vanished host in about a minute."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)


def _sendmsg_all(sock: socket.socket, *parts: bytes | memoryview) -> None:
    sent = sock.sendmsg(parts)
    for part in parts:
        if sent < len(part):
            sock.sendall(part[sent:])
        sent = max(sent - len(part), 0)


def _fault_of(error: Exception) -> HoseFault:
    if isinstance(error, BlockingIOError | TimeoutError):
        return LinkStalled("the connection moves no bytes")
    return LinkCut(f"the connection failed: {error}")


_IS_WHOLE = RunEnd(0, is_whole=True)


class Link:
    """``stall_s`` bounds every read and write of one frame with its payload, so a trickle is a stall as well.

    All methods on the owning thread, except ``interrupt``. Any of them raises LinkCut or LinkStalled, and reading
    raises FrameRefused.
    """

    def __init__(self, sock: socket.socket, *, stall_s: float) -> None:
        tune(sock)
        self._sock = sock
        self._tls: ssl.SSLSocket | None = None
        self._closed = False
        self._head = bytearray(FRAME_BYTES)
        self._head_view = memoryview(self._head)
        # Of what came whole with its offer.
        self._offer = bytearray(FRAME_BYTES)
        self._answers = bytearray(2 * FRAME_BYTES)
        self._accept = memoryview(self._answers)[:FRAME_BYTES]
        self._ack = memoryview(self._answers)[FRAME_BYTES:]
        self._have = 0  # bytes of the next head that are there
        self._stall_s = stall_s
        self._set_timeout(stall_s)
        try:
            self.remote_host = str(sock.getpeername()[0])
        except OSError as error:
            self._failed(error)

    def secure(
        self, context: ssl.SSLContext, *, server_side: bool, server_hostname: str | None = None
    ) -> None:
        """The TLS handshake. Raises LinkCut where it fails, PeerUntrusted for the certificate."""
        self._sock.settimeout(self._stall_s)
        try:
            self._sock = self._tls = context.wrap_socket(
                self._sock,
                server_side=server_side,
                server_hostname=server_hostname,
                do_handshake_on_connect=False,
                suppress_ragged_eofs=False,
            )
            self._tls.do_handshake()
        except ssl.SSLCertVerificationError as error:
            raise PeerUntrusted(f"the certificate is not trusted: {error.verify_message}") from None
        except (OSError, ValueError) as error:
            self._failed(error)

    def set_stall(self, stall_s: float) -> None:
        """Another bound from now on."""
        if stall_s != self._stall_s:
            self._stall_s = stall_s
            self._set_timeout(stall_s)

    def _set_timeout(self, seconds: float) -> None:
        if self._tls is not None:
            self._tls.settimeout(seconds)
            return
        # A timeout of Python's makes the socket non-blocking, and then MSG_WAITALL does nothing.
        self._sock.setblocking(True)
        whole = int(seconds)
        value = struct.pack("@ll", whole, max(int((seconds - whole) * 1e6), 0 if whole else 1000))
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, value)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, value)

    def read(self, within_s: float | None = None) -> Frame:
        """The next frame, waiting for it ``within_s`` (the stall bound by default)."""
        if within_s is not None and not self._have and self.has_runs:
            return self._read_within(within_s)
        self._wait_readable(self._stall_s if within_s is None else within_s)
        self._fill(self._head_view[self._have :])
        self._have = 0
        return decode(self._head)

    def _read_within(self, within_s: float) -> Frame:
        assert native.core is not None
        came, error = native.core.receive_head(self._sock.fileno(), self._head, within_s, self._stall_s)
        return self._head_of(Came(came), error)

    def _head_of(self, came: Came, error: int) -> Frame:
        match came:
            case Came.HEAD:
                return decode(self._head)
            case Came.END:
                raise LinkCut("the other side closed the connection")
            case Came.PAUSED:
                raise LinkStalled("nothing came in time")
        raise _fault_of(OSError(error, os.strerror(error)))

    def poll(self) -> Frame | None:
        """The next frame if it is there already."""
        if self._tls is None:
            try:
                got = self._sock.recv_into(self._head_view[self._have :], 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return None
            except OSError as error:
                self._failed(error)
        elif (got := self._poll_tls(self._tls)) < 0:
            return None
        if not got:
            raise LinkCut("the other side closed the connection")
        self._have += got
        if self._have < FRAME_BYTES:
            return None
        self._have = 0
        return decode(self._head)

    def _poll_tls(self, tls: ssl.SSLSocket) -> int:
        # Readable does not mean that there is a frame: it can be a session ticket of TLS itself.
        if not tls.pending() and not self._readable(0):
            return -1
        tls.settimeout(0)
        try:
            return tls.recv_into(self._head_view[self._have :])
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return -1
        except OSError as error:
            self._failed(error)
        finally:
            tls.settimeout(self._stall_s)

    @property
    def has_runs(self) -> bool:
        """Whether ``write_run`` and ``read_run`` can be had: the extension's, for plain sockets."""
        return self._tls is None and native.core is not None

    def read_run(
        self, identity: bytes, run: Run, view: memoryview, last: Frame, answer: Frame | None = None
    ) -> RunEnd:
        """Plain frames of a transfer, with their payloads to their places in ``view``, all at once; behind the last of
        them ``last`` is to come, and is waited for.

        ``answer`` is sent first. Where the peer has not waited for it, it goes out with what is sent next, or in a
        moment.
        """
        assert native.core is not None
        first, end_head = b"" if answer is None else encode(answer), encode(last)
        if self._have:
            if answer is not None:
                self.write(answer)
            return RunEnd(run.next, self.read())
        came, end, error = native.core.receive_frames(
            self._sock.fileno(),
            self._head,
            view,
            identity,
            run.next,
            run.stop,
            run.credit,
            run.payload_bytes_max,
            self._stall_s,
            run.is_last,
            first,
        )
        if came == Came.HEAD and self._head == end_head:
            return RunEnd(end, last)
        return self._run_end(Came(came), end, error)

    def _run_end(self, came: Came, end: int, error: int) -> RunEnd:
        match came:
            case Came.FAILED:
                return RunEnd(end, fault=_fault_of(OSError(error, os.strerror(error))))
            case Came.END:
                return RunEnd(end, fault=LinkCut("the other side closed the connection"))
            case Came.ALL | Came.PAUSED:
                return RunEnd(end)
            case how:
                try:
                    return RunEnd(end, decode(self._head), is_damaged=how is Came.DAMAGED)
                except HoseFault as fault:
                    return RunEnd(end, fault=fault)

    def read_along(
        self, view: memoryview, payload_bytes_max: int, within_s: float
    ) -> tuple[Frame, RunEnd | None] | None:
        """``read``, or None where nothing comes in time. Of an offer that has the right room in ``view``, and data
        along with it, these too, to ``view``, and how that ended.
        """
        assert native.core is not None
        came, end, error, is_offer = native.core.receive_along(
            self._sock.fileno(),
            self._offer,
            self._head,
            self._answers,
            view,
            payload_bytes_max,
            within_s,
            self._stall_s,
        )
        if came == Came.WHOLE:
            return offer_of(self._offer), _IS_WHOLE
        if is_offer:
            return offer_of(self._offer), self._run_end(Came(came), end, error)
        if came == Came.PAUSED:
            return None
        return self._head_of(Came(came), error), None

    def accept_whole(self) -> None:
        """Answer the offer of what came whole, with what is sent next, or in a moment where nothing is."""
        try:
            self._sock.send(self._accept, socket.MSG_MORE)
        except OSError as error:
            self._failed(error)

    def acknowledge_whole(self) -> None:
        """And then the transfer."""
        try:
            self._sock.sendall(self._ack)
        except OSError as error:
            self._failed(error)

    def write_run(self, run: Outgoing) -> None:
        """Send it, waiting for the peer."""
        assert native.core is not None
        error, _, _ = native.core.send_frames(self._sock.fileno(), *run, may_wait=True, stall_s=self._stall_s)
        if error:
            self._failed(OSError(error, os.strerror(error)))

    def exchange(
        self, identity: bytes, view: memoryview, ahead: int, frame_bytes: int, answer_s: float
    ) -> Exchanged:
        """Offer ``view``, which nobody has before, with its first ``ahead`` bytes, and the end where that is all; then
        take the answers, which are waited for that long. Nothing else is waited for.
        """
        assert native.core is not None
        error, offset, skip, answers = native.core.exchange(
            self._sock.fileno(), identity, NO_DIGEST, view, ahead, frame_bytes, answer_s
        )
        if not error:
            return Exchanged(ahead, answers=answers)
        if error in _NOT_NOW:
            return Exchanged(ahead, True, offset, skip)
        return Exchanged(ahead, fault=_fault_of(OSError(error, os.strerror(error))))

    def fileno(self) -> int:
        """For a loop that waits for the peer; afterwards ``block``."""
        return self._sock.fileno()

    def block(self) -> None:
        """Calls wait again: some loops make a descriptor that they watch one that does not."""
        if self._tls is None:
            os.set_blocking(self._sock.fileno(), True)

    def read_payload(self, view: memoryview) -> None:
        """Fill ``view``."""
        self._fill(view)

    def _wait_readable(self, within_s: float) -> None:
        if self._have or (self._tls is not None and self._tls.pending()):
            return
        if within_s == self._stall_s:
            return  # the socket's own timeout is the same, and costs no call
        if not self._readable(max(within_s, 0.0)):
            raise LinkStalled("nothing came in time")

    def _readable(self, within_s: float) -> bool:
        poller = select.poll()  # not select, which ends at descriptor 1024
        try:
            poller.register(self._sock, select.POLLIN)
            return bool(poller.poll(within_s * 1000))
        except (OSError, ValueError) as error:
            self._failed(error)

    def _fill(self, view: memoryview) -> None:
        plain = self._tls is None
        deadline_s, done, wanted = time.monotonic() + self._stall_s, 0, len(view)
        while done < wanted:
            try:
                if plain:
                    got = self._sock.recv_into(view[done:], 0, socket.MSG_WAITALL)
                else:
                    got = self._sock.recv_into(view[done:])
            except OSError as error:
                self._failed(error)
            if not got:
                raise LinkCut("the other side closed the connection")
            done += got
            if done < wanted and time.monotonic() > deadline_s:
                raise LinkStalled("bytes come too slowly")

    def write(self, frame: Frame) -> None:
        """Send a frame that has no payload."""
        try:
            self._sock.sendall(encode(frame))
        except OSError as error:
            self._failed(error)

    def write_data(self, frame: Frame, payload: memoryview, after: Frame | None = None) -> None:
        """Send a DATA frame with its payload, and what comes ``after`` it at once: a call less, and the peer waits
        less.
        """
        parts: list[bytes | memoryview] = [encode(frame), payload]
        if after is not None:
            parts.append(encode(after))
        try:
            if self._tls is None:
                _sendmsg_all(self._sock, *parts)
            else:
                for part in parts:
                    self._sock.sendall(part)
        except OSError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> NoReturn:
        raise _fault_of(error) from None

    def end(self, fault: HoseFault | None = None, transfer: bytes = NO_ID) -> None:
        """Close; with a fault of ours the peer is told first, if that can be done at once."""
        if fault is not None and not fault.from_peer and not fault.resumable and not self._closed:
            with suppress(HoseFault):
                self.set_stall(min(self._stall_s, 1.0))
                self.write(abort(fault, transfer=transfer))
                self._drain()
        self.close()

    def _drain(self) -> None:
        # Closing with unread bytes sends a reset, which can overtake the ABORT. The wait is bounded, in bytes too.
        with suppress(OSError):
            socket.socket.shutdown(self._sock, socket.SHUT_WR)
        scratch, deadline_s = bytearray(1 << 18), time.monotonic() + 1.0
        with suppress(OSError):
            while time.monotonic() < deadline_s and self._sock.recv_into(scratch):
                pass

    def interrupt(self) -> None:
        """From any thread: whatever the owner waits for ends with LinkCut."""
        with suppress(OSError):
            # The plain method even for TLS, whose own would pull the session from under the owner.
            socket.socket.shutdown(self._sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Idempotent."""
        self._closed = True
        self._sock.close()
