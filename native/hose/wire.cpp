#include "wire.hpp"

#include "../clock.hpp"
#include "crc32.hpp"

#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

namespace edgeagent {

namespace {

// Where the fields of a DATA head are; little-endian, as every machine that this runs on.
constexpr std::size_t kOffsetAt = 28;
constexpr std::size_t kLengthAt = 36;
constexpr std::size_t kStoredAt = 40;
constexpr std::size_t kFlagsAt = 44;
constexpr std::size_t kCheckAt = 46;
constexpr std::size_t kUnusedAt = 50; // the check is 16 bytes, of which a CRC-32 needs 4
constexpr std::size_t kCrcAt = 124;
constexpr std::uint8_t kStart[8] = {'E', 'H', 'R', 'W', 1, 6, 0, 0};
// What is received at once, and checked while it is in the second-level cache.
constexpr std::size_t kPieceBytes = 256 << 10;

template <typename T> T get(const std::uint8_t *head, std::size_t at) {
  T value{};
  std::memcpy(&value, head + at, sizeof(value));
  return value;
}

template <typename T> void put(std::uint8_t *head, std::size_t at, T value) {
  std::memcpy(head + at, &value, sizeof(value));
}

int send_all(int fd, std::array<iovec, 3> &parts, std::int64_t stall_ns) {
  const std::int64_t deadline = now_ns() + stall_ns;
  std::size_t at = 0;
  while (at < parts.size()) {
    msghdr message{};
    message.msg_iov = &parts[at];
    message.msg_iovlen = parts.size() - at;
    ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno != EINTR) {
      return errno;
    }
    for (auto left = static_cast<std::size_t>(std::max<ssize_t>(sent, 0)); at < parts.size(); ++at) {
      iovec &part = parts[at];
      const std::size_t done = std::min(left, part.iov_len);
      part.iov_base = static_cast<std::uint8_t *>(part.iov_base) + done;
      part.iov_len -= done;
      left -= done;
      if (part.iov_len > 0) {
        break;
      }
    }
    if (at < parts.size() && now_ns() > deadline) {
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

} // namespace

int send_frames(int fd, const std::uint8_t *head, const std::uint8_t *data, std::uint64_t offset, std::uint64_t end,
                std::uint64_t frame_bytes, const std::uint8_t *after, std::size_t after_bytes, std::int64_t stall_ns) {
  std::uint8_t mine[kHeadBytes] = {};
  std::memcpy(mine, kStart, sizeof(kStart));
  std::memcpy(mine + kIdentityAt, head + kIdentityAt, kIdentityBytes);
  while (offset < end) {
    const std::uint64_t length = std::min(frame_bytes, end - offset);
    put(mine, kOffsetAt, offset);
    put(mine, kLengthAt, static_cast<std::uint32_t>(length));
    put(mine, kStoredAt, static_cast<std::uint32_t>(length));
    put(mine, kCheckAt, crc32(0, data + offset, length));
    put(mine, kCrcAt, crc32(0, mine, kCrcAt));
    const bool is_last = offset + length == end;
    std::array<iovec, 3> parts = {{{mine, kHeadBytes},
                                   {const_cast<std::uint8_t *>(data + offset), length},
                                   {const_cast<std::uint8_t *>(after), is_last ? after_bytes : 0}}};
    if (const int error = send_all(fd, parts, stall_ns); error != 0) {
      return error;
    }
    offset += length;
  }
  return 0;
}

Received receive_frames(int fd, std::uint8_t *head, std::uint8_t *data, const Expected &expected) {
  std::uint64_t next = expected.next;
  while (next < expected.stop) {
    Received received = receive_all(fd, head, kHeadBytes, now_ns() + expected.stall_ns);
    received.next = next;
    if (received.came != Came::All) {
      return received;
    }
    if (!is_expected(head, expected, next)) {
      received.came = Came::Head;
      return received;
    }
    const std::uint64_t end = next + get<std::uint32_t>(head, kLengthAt);
    const std::int64_t deadline = now_ns() + expected.stall_ns;
    std::uint32_t check = 0;
    for (std::uint64_t at = next; at < end;) {
      const std::uint64_t piece = std::min<std::uint64_t>(kPieceBytes, end - at);
      received = receive_all(fd, data + at, piece, deadline);
      received.next = next;
      if (received.came != Came::All) {
        return received;
      }
      check = crc32(check, data + at, piece);
      at += piece;
    }
    if (check != get<std::uint32_t>(head, kCheckAt)) {
      received.came = Came::Damaged;
      return received;
    }
    next = end;
  }
  Received all;
  all.next = next;
  return all;
}

} // namespace edgeagent
