#include "wire.hpp"

#include "../clock.hpp"
#include "crc32.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <initializer_list>

namespace edgeagent {

namespace {

// Where the fields of a DATA head are; little-endian, as every machine that this runs on.
constexpr std::size_t kGenerationAt = 24;
constexpr std::size_t kOffsetAt = 28;
constexpr std::size_t kLengthAt = 36;
constexpr std::size_t kStoredAt = 40;
constexpr std::size_t kFlagsAt = 44;
constexpr std::size_t kCheckAt = 46;
constexpr std::size_t kUnusedAt = 50; // the check is 16 bytes, of which a CRC-32 needs 4
constexpr std::size_t kCrcAt = 124;
// Of other types: all have the identity first.
enum Type : std::uint8_t { kOffer = 4, kAccept = 5, kDone = 9, kAck = 10 };
constexpr std::size_t kTypeAt = 5;
constexpr std::size_t kNumbersAt = 28; // total, base, length; resume, credit; end
constexpr std::size_t kStripesAt = 54;
constexpr std::size_t kSha256At = 56;
constexpr std::uint8_t kStart[8] = {'E', 'H', 'R', 'W', 1, 6, 0, 0};
// What is received at once, and checked while it is in the second-level cache. Of small transfers less, since what is
// left to be checked when the last byte is there is what their sender waits for.
constexpr std::size_t kPieceBytes = 256 << 10;
constexpr std::size_t kSmallPieceBytes = 64 << 10;
constexpr std::size_t kSmallBytes = 1 << 20;
// How long an answer that need not be a packet of its own is kept back from a peer that has stopped sending, and may
// well be waiting for it.
constexpr int kPatienceMs = 2;

template <typename T> T get(const std::uint8_t *head, std::size_t at) {
  T value{};
  std::memcpy(&value, head + at, sizeof(value));
  return value;
}

template <typename T> void put(std::uint8_t *head, std::size_t at, T value) {
  std::memcpy(head + at, &value, sizeof(value));
}

using Parts = std::array<iovec, 4>;

iovec part_of(const std::uint8_t *data, std::size_t bytes) { return {const_cast<std::uint8_t *>(data), bytes}; }

std::size_t forward(Parts &parts, std::size_t at, std::uint64_t bytes) {
  for (; at < parts.size(); ++at) {
    iovec &part = parts[at];
    const std::size_t done = std::min<std::uint64_t>(bytes, part.iov_len);
    part.iov_base = static_cast<std::uint8_t *>(part.iov_base) + done;
    part.iov_len -= done;
    bytes -= done;
    if (part.iov_len > 0) {
      break;
    }
  }
  return at;
}

// 0 or an errno; `sent` grows by what went out.
int send_all(int fd, Parts &parts, int flags, std::int64_t stall_ns, std::uint64_t &sent) {
  const std::int64_t deadline = now_ns() + stall_ns;
  for (std::size_t at = forward(parts, 0, sent); at < parts.size();) {
    msghdr message{};
    message.msg_iov = &parts[at];
    message.msg_iovlen = parts.size() - at;
    const ssize_t count = ::sendmsg(fd, &message, MSG_NOSIGNAL | flags);
    if (count < 0 && errno != EINTR) {
      return errno;
    }
    const auto done = static_cast<std::uint64_t>(std::max<ssize_t>(count, 0));
    sent += done;
    at = forward(parts, at, done);
    if (at < parts.size() && (flags & MSG_DONTWAIT) == 0 && now_ns() > deadline) {
      return ETIMEDOUT;
    }
  }
  return 0;
}

// Came::All when all of it came.
Received receive_all(int fd, std::uint8_t *to, std::size_t bytes, std::int64_t deadline) {
  Received received;
  for (std::size_t have = 0; have < bytes;) {
    const ssize_t got = ::recv(fd, to + have, bytes - have, MSG_WAITALL);
    if (got == 0) {
      received.came = Came::End;
      return received;
    }
    if (got < 0 && errno != EINTR) {
      received.came = Came::Failed;
      received.error = errno;
      return received;
    }
    have += static_cast<std::size_t>(std::max<ssize_t>(got, 0));
    if (have < bytes && now_ns() > deadline) {
      received.came = Came::Failed;
      received.error = ETIMEDOUT;
      return received;
    }
  }
  return received;
}

bool is_expected(const std::uint8_t *head, const Expected &expected, std::uint64_t next) {
  const auto length = get<std::uint32_t>(head, kLengthAt);
  return std::memcmp(head, kStart, sizeof(kStart)) == 0 &&
         crc32(0, head, kCrcAt) == get<std::uint32_t>(head, kCrcAt) &&
         std::memcmp(head + kIdentityAt, expected.identity, kIdentityBytes) == 0 &&
         get<std::uint64_t>(head, kOffsetAt) == next && length > 0 && length <= expected.payload_bytes_max &&
         length <= expected.credit - next && get<std::uint32_t>(head, kStoredAt) == length &&
         get<std::uint16_t>(head, kFlagsAt) == 0 &&
         std::all_of(head + kUnusedAt, head + kCrcAt, [](std::uint8_t byte) { return byte == 0; });
}

Received failed(int error, std::uint64_t next) {
  Received received;
  received.came = Came::Failed;
  received.error = error;
  received.next = next;
  return received;
}

// Whether something can be read, or the connection is at its end.
bool is_readable(int fd, int within_ms) {
  pollfd wanted{fd, POLLIN, 0};
  return ::poll(&wanted, 1, within_ms) != 0; // an error shows when it is read
}

// What was sent with MSG_MORE goes out now; a socket that is not of TCP has not kept it.
void flush(int fd) {
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
}

// The payload of a head that was expected, to its place.
Received receive_payload(int fd, const std::uint8_t *head, std::uint8_t *data, const Expected &expected,
                         std::uint64_t next) {
  const std::uint64_t end = next + get<std::uint32_t>(head, kLengthAt);
  const std::int64_t deadline = now_ns() + expected.stall_ns;
  const std::uint64_t most = expected.credit <= kSmallBytes ? kSmallPieceBytes : kPieceBytes;
  std::uint32_t check = 0;
  Received received;
  for (std::uint64_t at = next; at < end;) {
    const std::uint64_t piece = std::min(most, end - at);
    received = receive_all(fd, data + at, piece, deadline);
    if (received.came != Came::All) {
      received.next = next;
      return received;
    }
    check = crc32(check, data + at, piece);
    at += piece;
  }
  received.came = check == get<std::uint32_t>(head, kCheckAt) ? Came::All : Came::Damaged;
  received.next = received.came == Came::All ? end : next;
  return received;
}

// The next head and, where it is the one of a frame that is expected at `next`, its payload.
Received receive_frame(int fd, std::uint8_t *head, std::uint8_t *data, const Expected &expected, std::uint64_t next) {
  Received received = receive_all(fd, head, kHeadBytes, now_ns() + expected.stall_ns);
  received.next = next;
  if (received.came != Came::All) {
    return received;
  }
  if (next >= expected.stop || !is_expected(head, expected, next)) {
    received.came = Came::Head;
    return received;
  }
  return receive_payload(fd, head, data, expected, next);
}

using Head = std::array<std::uint8_t, kHeadBytes>;

Head head_of(Type type, const std::uint8_t *identity, std::initializer_list<std::uint64_t> numbers) {
  Head head{};
  std::memcpy(head.data(), kStart, sizeof(kStart));
  head[kTypeAt] = type;
  std::memcpy(head.data() + kIdentityAt, identity, kIdentityBytes);
  std::size_t at = kNumbersAt;
  for (const std::uint64_t number : numbers) {
    put(head.data(), at, number);
    at += sizeof(number);
  }
  return head;
}

void sign(Head &head) { put(head.data(), kCrcAt, crc32(0, head.data(), kCrcAt)); }

// How many of the two came, each as it is expected; what is not is left where it is.
int take_answers(int fd, const std::array<Head, 2> &expected, std::int64_t deadline) {
  for (int taken = 0;;) {
    const std::int64_t left = std::max<std::int64_t>(deadline - now_ns(), 0);
    const timespec within{left / 1'000'000'000, left % 1'000'000'000};
    pollfd wanted{fd, POLLIN, 0};
    if (::ppoll(&wanted, 1, &within, nullptr) <= 0) {
      return taken;
    }
    std::array<Head, 2> came{};
    const std::size_t most = kHeadBytes * (2 - static_cast<std::size_t>(taken));
    const ssize_t got = ::recv(fd, came.data(), most, MSG_PEEK | MSG_DONTWAIT);
    const int heads = got > 0 ? static_cast<int>(static_cast<std::size_t>(got) / kHeadBytes) : 0;
    if (heads == 0 || !std::equal(came.begin(), came.begin() + heads, expected.begin() + taken)) {
      return taken;
    }
    ::recv(fd, came.data(), kHeadBytes * static_cast<std::size_t>(heads), MSG_DONTWAIT);
    taken += heads;
    if (taken == 2) {
      return taken;
    }
  }
}

// Whether it offers a whole that is worth so many bytes of room. All else of an offer is the Receiver's to check.
bool fits(const std::uint8_t *head, std::uint64_t room) {
  const auto total = get<std::uint64_t>(head, kNumbersAt);
  const auto is_zero = [](std::uint8_t byte) { return byte == 0; };
  if (total == 0 || total > room || total <= room / 2 ||
      std::all_of(head + kIdentityAt, head + kGenerationAt, is_zero)) {
    return false;
  }
  // Encoded again it is the same: so no other field has anything in it, a hash or a stripe.
  Head plain = head_of(kOffer, head + kIdentityAt, {total, 0, total});
  put(plain.data(), kStripesAt, std::uint16_t{1});
  sign(plain);
  return std::memcmp(plain.data(), head, kHeadBytes) == 0;
}

} // namespace

Exchanged exchange(int fd, const Exchange &wanted) {
  Head offer = head_of(kOffer, wanted.identity, {wanted.total, 0, wanted.total});
  put(offer.data(), kStripesAt, std::uint16_t{1});
  std::memcpy(offer.data() + kSha256At, wanted.sha256, kSha256Bytes);
  sign(offer);
  Head done = head_of(kDone, wanted.identity, {wanted.total});
  sign(done);
  const bool is_whole = wanted.ahead == wanted.total;
  Outgoing outgoing;
  outgoing.identity = wanted.identity;
  outgoing.data = wanted.data;
  outgoing.end = wanted.ahead;
  outgoing.frame_bytes = wanted.frame_bytes;
  outgoing.before = offer.data();
  outgoing.before_bytes = offer.size();
  outgoing.after = done.data();
  outgoing.after_bytes = is_whole ? done.size() : 0;
  outgoing.may_wait = false;
  Exchanged exchanged{send_frames(fd, outgoing), 0};
  if (exchanged.sent.error == 0 && is_whole && wanted.answer_ns > 0) {
    const std::int64_t deadline = now_ns() + wanted.answer_ns;
    std::array<Head, 2> answers = {head_of(kAccept, wanted.identity, {0, wanted.total}),
                                   head_of(kAck, wanted.identity, {})};
    std::for_each(answers.begin(), answers.end(), sign);
    exchanged.answers = take_answers(fd, answers, deadline);
  }
  return exchanged;
}

Sent send_frames(int fd, const Outgoing &outgoing) {
  std::uint8_t mine[kHeadBytes] = {};
  std::memcpy(mine, kStart, sizeof(kStart));
  std::memcpy(mine + kIdentityAt, outgoing.identity, kIdentityBytes);
  const int flags = outgoing.may_wait ? 0 : MSG_DONTWAIT;
  Sent sent{0, outgoing.offset, outgoing.skip};
  for (bool is_first = true, is_last = false; !is_last; is_first = false) {
    const std::uint64_t length = std::min(outgoing.frame_bytes, outgoing.end - sent.offset);
    const std::uint8_t *const payload = outgoing.data + sent.offset;
    is_last = sent.offset + length == outgoing.end;
    put(mine, kOffsetAt, sent.offset);
    put(mine, kLengthAt, static_cast<std::uint32_t>(length));
    put(mine, kStoredAt, static_cast<std::uint32_t>(length));
    put(mine, kCheckAt, crc32(0, payload, length));
    put(mine, kCrcAt, crc32(0, mine, kCrcAt));
    Parts parts = {part_of(outgoing.before, is_first ? outgoing.before_bytes : 0),
                   part_of(mine, length > 0 ? kHeadBytes : 0), part_of(payload, length),
                   part_of(outgoing.after, is_last ? outgoing.after_bytes : 0)};
    sent.error = send_all(fd, parts, flags, outgoing.stall_ns, sent.skip);
    if (sent.error != 0) {
      break;
    }
    sent.offset += length;
    sent.skip = 0;
  }
  return sent;
}

Received receive_frames(int fd, std::uint8_t *head, std::uint8_t *data, const Expected &expected) {
  bool is_kept_back = false;
  if (expected.answer_bytes > 0) {
    is_kept_back = is_readable(fd, 0);
    Parts parts = {part_of(expected.answer, expected.answer_bytes)};
    std::uint64_t sent = 0;
    if (const int error = send_all(fd, parts, is_kept_back ? MSG_MORE : 0, expected.stall_ns, sent); error != 0) {
      return failed(error, expected.next);
    }
  }
  std::uint64_t next = expected.next;
  while (next < expected.stop || expected.wants_head) {
    if (is_kept_back && !is_readable(fd, kPatienceMs)) {
      flush(fd);
      is_kept_back = false;
    }
    const Received received = receive_frame(fd, head, data, expected, next);
    if (received.came != Came::All) {
      return received;
    }
    next = received.next;
  }
  Received all;
  all.next = next;
  return all;
}

Received receive_head(int fd, std::uint8_t *head, std::int64_t within_ns, std::int64_t stall_ns) {
  // Rounded up: a wait that ends too early would look like a stall.
  const std::int64_t within_ms = std::min<std::int64_t>((within_ns + 999'999) / 1'000'000, INT32_MAX);
  Received received;
  if (!is_readable(fd, static_cast<int>(std::max<std::int64_t>(within_ms, 0)))) {
    received.came = Came::Paused;
    return received;
  }
  received = receive_all(fd, head, kHeadBytes, now_ns() + stall_ns);
  if (received.came == Came::All) {
    received.came = Came::Head;
  }
  return received;
}

Along receive_along(int fd, const Room &room) {
  Along along{receive_head(fd, room.head, room.within_ns, room.stall_ns), false};
  Received &received = along.received;
  if (received.came != Came::Head || !fits(room.head, room.room) || !is_readable(fd, 0)) {
    return along;
  }
  along.is_offer = true;
  std::memcpy(room.offer, room.head, kHeadBytes);
  const auto total = get<std::uint64_t>(room.offer, kNumbersAt);
  const std::uint8_t *const identity = room.offer + kIdentityAt;
  const Expected expected{identity, 0, total, total, room.payload_bytes_max, room.stall_ns, true, nullptr, 0};
  Head done = head_of(kDone, identity, {total});
  sign(done);
  for (received = {}; received.came == Came::All;) {
    if (!is_readable(fd, kPatienceMs)) {
      received.came = Came::Paused;
      return along;
    }
    received = receive_frame(fd, room.head, room.data, expected, received.next);
  }
  if (received.came == Came::Head && received.next == total && std::memcmp(room.head, done.data(), kHeadBytes) == 0) {
    received.came = Came::Whole;
    Head accept = head_of(kAccept, identity, {0, total});
    Head ack = head_of(kAck, identity, {});
    sign(accept);
    sign(ack);
    std::copy(accept.begin(), accept.end(), room.answers);
    std::copy(ack.begin(), ack.end(), room.answers + kHeadBytes);
  }
  return along;
}

} // namespace edgeagent
