// Bytes on their way from one function to the next, and whatever keeps them alive.
#pragma once

#include "../outcome.hpp"
#include "hose.hpp"

#include <condition_variable>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace edgeagent {

class Call;

// A part of a hose that nobody can write any more.
struct HoseRange {
  Lease hose;
  std::uint64_t offset = 0;
  std::uint64_t bytes = 0;

  const std::uint8_t *data() const { return hose->data() + offset; }
};

// What a run has published, by the ids that its guests know. Whoever is not part of the run cannot name them.
using Attachments = std::map<std::int32_t, HoseRange>;

// Who uses a payload now: any number of readers, or one that takes it. Not a shared_mutex, for a call begins to read on
// one thread and ends on another.
class Gate {
public:
  void enter();
  void leave();
  // The only reader becomes the taker; false when there are others, and it stays a reader.
  bool become_taker();
  // ... and a reader again.
  void become_reader();
  void enter_as_taker(); // waits until nobody reads
  void leave_as_taker();

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  int readers_ = 0;
  bool is_being_taken_ = false;
};

class Payload {
public:
  // The output of a finished call whose store is kept until the bytes have been taken.
  Payload(std::shared_ptr<Call> producer, std::uint64_t start, std::uint64_t bytes, Attachments attachments);
  // `holder`: the call that filled it, if its store is still there; it goes with the payload.
  Payload(HoseRange range, std::shared_ptr<Call> holder, Attachments attachments);
  Payload(Buffer bytes, Attachments attachments);
  Payload(const Payload &) = delete;
  Payload &operator=(const Payload &) = delete;

  std::uint64_t size() const { return bytes_; }
  const Attachments &attachments() const { return attachments_; }
  // "guest", "hose", "host", or "" when the bytes have been moved away.
  const char *kind() const;

  // Valid inside `gate()`: for readers, and for the one that moves the pages away.
  const std::uint8_t *data() const;
  const HoseRange *range() const { return range_.hose ? &range_ : nullptr; }
  Call *producer() const { return producer_.get(); }
  std::uint64_t producer_start() const { return start_; }
  bool is_taken() const { return is_taken_; }
  // The producer's store goes with the payload, not here: to delete it takes longer than to hand over its pages.
  void set_taken() { is_taken_ = true; }
  Gate &gate() { return gate_; }
  // How many runs were started by messages of each other before the one that made this; set before anybody else has it.
  int hops = 0;

  // Copies the bytes into a hose, once, so that any number of consumers can map them; whoever made them is let go. False
  // when there is no hose to be had, and nothing has changed.
  bool share(HosePool &pool);

private:
  bool share_alone(HosePool &pool);

  Gate gate_;
  std::shared_ptr<Call> producer_;
  std::shared_ptr<Call> holder_;
  std::uint64_t start_ = 0;
  std::uint64_t bytes_ = 0;
  HoseRange range_;
  Buffer buffer_;
  Attachments attachments_;
  bool is_taken_ = false;
};

} // namespace edgeagent
