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
constexpr std::size_t kSha256Bytes = 32;

// What is to be sent: bytes [offset, end) of `data` as frames of `identity` of at most `frame_bytes`, with `before`
// ahead of the first and `after` behind the last. The first `skip` bytes of all that are out already.
struct Outgoing {
  const std::uint8_t *identity = nullptr; // kIdentityBytes
  const std::uint8_t *data = nullptr;
  std::uint64_t offset = 0;
  std::uint64_t end = 0;
  std::uint64_t frame_bytes = 0;
  const std::uint8_t *before = nullptr;
  std::size_t before_bytes = 0;
  const std::uint8_t *after = nullptr;
  std::size_t after_bytes = 0;
  std::uint64_t skip = 0;
  bool may_wait = true;
  std::int64_t stall_ns = 0;
};

// How far it came. With an error, `offset` and `skip` are where to go on, and nothing is `before` it where `offset`
// has grown.
struct Sent {
  int error = 0; // an errno; ETIMEDOUT where a frame took longer than `stall_ns`
  std::uint64_t offset = 0;
  std::uint64_t skip = 0;
};

Sent send_frames(int fd, const Outgoing &outgoing);

// A whole transfer of one stripe that nobody has offered before: the offer, and bytes [0, ahead) of `data` along with
// it; all of it, with the end behind it, where that is `total`. Then its answers are waited for.
struct Exchange {
  const std::uint8_t *identity = nullptr; // kIdentityBytes
  const std::uint8_t *sha256 = nullptr;   // 32 bytes
  const std::uint8_t *data = nullptr;
  std::uint64_t total = 0;
  std::uint64_t ahead = 0;
  std::uint64_t frame_bytes = 0;
  std::int64_t answer_ns = 0;
};

struct Exchanged {
  Sent sent;
  int answers = 0; // of ACCEPT and ACK, as they are if all goes well, that came and were taken
};

// Waits for nothing but the answers, and for these no longer than `answer_ns`.
Exchanged exchange(int fd, const Exchange &wanted);

enum class Came : std::uint8_t {
  All,     // up to `stop` or beyond
  Head,    // a head that is something else; its payload, if it has one, is still to be read
  Damaged, // a head, and its payload is in place, but is not what was sent
  End,     // the peer has closed the connection
  Failed,  // `error` says how
  Whole,   // a transfer that was offered, with its end
  Paused,  // nothing comes for now: the peer may wait for an answer
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
  bool wants_head = false; // the head behind `stop` as well, whatever it is
  // Sent first. Where the peer has sent data already it is no packet of its own, but goes with what is sent next.
  const std::uint8_t *answer = nullptr;
  std::size_t answer_bytes = 0;
};

// Receives into `data`, which has at least `credit` bytes; `head` gets the last head.
Received receive_frames(int fd, std::uint8_t *head, std::uint8_t *data, const Expected &expected);

// The next head, whatever it is: Came::Head, End, Failed, or Paused where it does not begin to come within `within_ns`.
Received receive_head(int fd, std::uint8_t *head, std::int64_t within_ns, std::int64_t stall_ns);

// Where the next head is the offer of a whole transfer, without a hash, of more than half of `room` bytes and at most
// all, and data come along with it: these, to `data`, and the offer to `offer`, with `is_offer` set. Else like
// receive_head.
struct Along {
  Received received;
  bool is_offer = false;
};

struct Room {
  std::uint8_t *offer = nullptr;   // kHeadBytes
  std::uint8_t *head = nullptr;    // kHeadBytes: the last that came
  std::uint8_t *answers = nullptr; // twice kHeadBytes: for ACCEPT and ACK of what came whole
  std::uint8_t *data = nullptr;
  std::uint64_t room = 0;
  std::uint64_t payload_bytes_max = 0;
  std::int64_t within_ns = 0;
  std::int64_t stall_ns = 0;
};

Along receive_along(int fd, const Room &room);

} // namespace edgeagent
