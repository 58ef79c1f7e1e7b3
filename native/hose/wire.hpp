// DATA frames between hosts, many at a time: what docs/hose-wire.md says of frames in order, whole, and plain.
//
// Everything else (offers, credit, holes, resumption, compression, TLS) is edgeagent/hose/transfer.py's and the shells'
// around it: they say which bytes may go or come without a word between, and get back what was out of the ordinary.
// Each frame is checked while it is in the cache, which costs a tenth of reading it from memory a second time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace edgeagent {

constexpr std::size_t kHeadBytes = 128;
// Transfer and generation, as a head holds them.
constexpr std::size_t kIdentityAt = 8;
constexpr std::size_t kIdentityBytes = 20;

// Sends [offset, end) of `data` as frames of `frame_bytes`, and `after` with the last of them. `head`: any DATA head of
// the transfer. 0 or an errno; ETIMEDOUT where a frame took longer than `stall_ns`.
int send_frames(int fd, const std::uint8_t *head, const std::uint8_t *data, std::uint64_t offset, std::uint64_t end,
                std::uint64_t frame_bytes, const std::uint8_t *after, std::size_t after_bytes, std::int64_t stall_ns);

enum class Came : std::uint8_t {
  All,     // up to `stop` or beyond
  Head,    // a head that is something else; its payload, if it has one, is still to be read
  Damaged, // a head, and its payload is in place, but is not what was sent
  End,     // the peer has closed the connection
  Failed,  // `error` says how
};

struct Received {
  Came came = Came::All;
  std::uint64_t next = 0; // up to here the bytes are there and right
  int error = 0;
};

// What may come: frames of `identity` that follow each other from `next`, at most to `credit`.
struct Expected {
  const std::uint8_t *identity = nullptr; // kIdentityBytes
  std::uint64_t next = 0;
  std::uint64_t stop = 0;
  std::uint64_t credit = 0;
  std::uint64_t payload_bytes_max = 0;
  std::int64_t stall_ns = 0;
};

// Receives into `data`, which has at least `credit` bytes; `head` gets the last head.
Received receive_frames(int fd, std::uint8_t *head, std::uint8_t *data, const Expected &expected);

} // namespace edgeagent
