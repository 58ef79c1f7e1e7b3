#include "bindings.hpp"

#include "crc32.hpp"
#include "remap.hpp"
#include "wire.hpp"

#include <pybind11/stl.h>

namespace py = pybind11;

namespace edgeagent {

Crossovers crossovers_of(const py::dict &fields) {
  const auto bytes = [&fields](const char *name) { return fields[name].cast<std::uint64_t>(); };
  Crossovers at;
  at.flip_bytes_min = bytes("flip_bytes_min");
  at.exchange_bytes_min = bytes("exchange_bytes_min");
  at.resident_bytes_max = bytes("resident_bytes_max");
  at.window_bytes_min = bytes("window_bytes_min");
  at.share_bytes_min = bytes("share_bytes_min");
  at.loan_bytes_min = bytes("loan_bytes_min");
  at.huge_bytes_min = bytes("huge_bytes_min");
  return at;
}

namespace {

// Bytes of a buffer of Python; the caller keeps it alive.
struct Bytes {
  const std::uint8_t *data;
  std::uint64_t count;
};

Bytes bytes_of(const py::buffer_info &info) {
  return {static_cast<const std::uint8_t *>(info.ptr), static_cast<std::uint64_t>(info.size * info.itemsize)};
}

std::uint8_t *writable(const py::buffer_info &info) {
  if (info.readonly) {
    throw py::value_error("the buffer cannot be written");
  }
  return static_cast<std::uint8_t *>(info.ptr);
}

std::int64_t ns_of(double seconds) { return static_cast<std::int64_t>(seconds * 1e9); }

std::uint32_t crc32_of(const py::buffer &data, std::uint32_t crc) {
  const py::buffer_info info = data.request();
  const Bytes bytes = bytes_of(info);
  const py::gil_scoped_release nogil;
  return crc32(crc, bytes.data, bytes.count);
}

bool is_identity(const Bytes &bytes) { return bytes.count == kIdentityBytes; }

py::tuple send_frames_of(int fd, const py::buffer &identity, const py::buffer &data, std::uint64_t offset,
                         std::uint64_t end, std::uint64_t frame_bytes, const py::bytes &before, const py::bytes &after,
                         std::uint64_t skip, bool may_wait, double stall_s) {
  const py::buffer_info identity_info = identity.request();
  const py::buffer_info data_info = data.request();
  const Bytes all = bytes_of(data_info);
  if (!is_identity(bytes_of(identity_info)) || offset > end || end > all.count || frame_bytes == 0 ||
      frame_bytes > UINT32_MAX) {
    throw py::value_error("an identity, or a range, that is none");
  }
  const std::string_view first = before;
  const std::string_view last = after;
  const Outgoing outgoing{bytes_of(identity_info).data,
                          all.data,
                          offset,
                          end,
                          frame_bytes,
                          reinterpret_cast<const std::uint8_t *>(first.data()),
                          first.size(),
                          reinterpret_cast<const std::uint8_t *>(last.data()),
                          last.size(),
                          skip,
                          may_wait,
                          ns_of(stall_s)};
  Sent sent;
  {
    const py::gil_scoped_release nogil;
    sent = send_frames(fd, outgoing);
  }
  return py::make_tuple(sent.error, sent.offset, sent.skip);
}

py::tuple exchange_of(int fd, const py::bytes &identity, const py::bytes &sha256, const py::buffer &data,
                      std::uint64_t ahead, std::uint64_t frame_bytes, double answer_s) {
  const std::string_view who = identity;
  const std::string_view whole = sha256;
  const py::buffer_info data_info = data.request();
  const Bytes all = bytes_of(data_info);
  if (who.size() != kIdentityBytes || whole.size() != kSha256Bytes || ahead > all.count || frame_bytes == 0 ||
      frame_bytes > UINT32_MAX) {
    throw py::value_error("an identity, or a range, that is none");
  }
  const Exchange wanted{reinterpret_cast<const std::uint8_t *>(who.data()),
                        reinterpret_cast<const std::uint8_t *>(whole.data()),
                        all.data,
                        all.count,
                        ahead,
                        frame_bytes,
                        ns_of(answer_s)};
  Exchanged exchanged;
  {
    const py::gil_scoped_release nogil;
    exchanged = exchange(fd, wanted);
  }
  return py::make_tuple(exchanged.sent.error, exchanged.sent.offset, exchanged.sent.skip, exchanged.answers);
}

py::tuple receive_frames_of(int fd, const py::buffer &head, const py::buffer &data, const py::buffer &identity,
                            std::uint64_t next, std::uint64_t stop, std::uint64_t credit,
                            std::uint64_t payload_bytes_max, double stall_s, bool wants_head, const py::bytes &answer) {
  const py::buffer_info head_info = head.request();
  const py::buffer_info data_info = data.request();
  const py::buffer_info identity_info = identity.request();
  if (bytes_of(head_info).count != kHeadBytes || !is_identity(bytes_of(identity_info)) ||
      credit > bytes_of(data_info).count || stop > credit || next > stop) {
    throw py::value_error("a head, or a range, that is none");
  }
  std::uint8_t *const to = writable(data_info);
  std::uint8_t *const head_to = writable(head_info);
  const std::string_view first = answer;
  const Expected expected{bytes_of(identity_info).data,
                          next,
                          stop,
                          credit,
                          payload_bytes_max,
                          ns_of(stall_s),
                          wants_head,
                          reinterpret_cast<const std::uint8_t *>(first.data()),
                          first.size()};
  Received received;
  {
    const py::gil_scoped_release nogil;
    received = receive_frames(fd, head_to, to, expected);
  }
  return py::make_tuple(static_cast<int>(received.came), received.next, received.error);
}

py::tuple receive_head_of(int fd, const py::buffer &head, double within_s, double stall_s) {
  const py::buffer_info head_info = head.request();
  if (bytes_of(head_info).count != kHeadBytes) {
    throw py::value_error("a head that is none");
  }
  std::uint8_t *const head_to = writable(head_info);
  Received received;
  {
    const py::gil_scoped_release nogil;
    received = receive_head(fd, head_to, ns_of(within_s), ns_of(stall_s));
  }
  return py::make_tuple(static_cast<int>(received.came), received.error);
}

py::tuple receive_along_of(int fd, const py::buffer &offer, const py::buffer &head, const py::buffer &answers,
                           const py::buffer &data, std::uint64_t payload_bytes_max, double within_s, double stall_s) {
  const py::buffer_info offer_info = offer.request();
  const py::buffer_info head_info = head.request();
  const py::buffer_info data_info = data.request();
  const py::buffer_info answers_info = answers.request();
  if (bytes_of(offer_info).count != kHeadBytes || bytes_of(head_info).count != kHeadBytes ||
      bytes_of(answers_info).count != 2 * kHeadBytes) {
    throw py::value_error("a head that is none");
  }
  const Room room{writable(offer_info), writable(head_info),        writable(answers_info),
                  writable(data_info),  bytes_of(data_info).count, payload_bytes_max,
                  ns_of(within_s),      ns_of(stall_s)};
  Along along;
  {
    const py::gil_scoped_release nogil;
    along = receive_along(fd, room);
  }
  return py::make_tuple(static_cast<int>(along.received.came), along.received.next, along.received.error,
                        along.is_offer);
}

} // namespace

void bind_hoses(py::module_ &module) {
  module.def("crc32_is_fast", &crc32_is_fast);
  module.def("crc32", &crc32_of, py::arg("data"), py::arg("crc") = 0);
  module.def("send_frames", &send_frames_of, py::arg("fd"), py::arg("identity"), py::arg("data"), py::arg("offset"),
             py::arg("end"), py::arg("frame_bytes"), py::arg("before"), py::arg("after"), py::arg("skip"),
             py::arg("may_wait"), py::arg("stall_s"));
  module.def("receive_frames", &receive_frames_of, py::arg("fd"), py::arg("head"), py::arg("data"),
             py::arg("identity"), py::arg("next"), py::arg("stop"), py::arg("credit"), py::arg("payload_bytes_max"),
             py::arg("stall_s"), py::arg("wants_head") = false, py::arg("answer") = py::bytes());
  module.def("exchange", &exchange_of);
  module.def("receive_along", &receive_along_of);
  module.def("receive_head", &receive_head_of);
  module.def("missing_features", &missing_features);
  module.def("break_for_tests", &break_for_tests);
  module.def(
      "choose_tier",
      [](const py::dict &at, std::uint64_t bytes, std::uint32_t consumers, bool in_hose, bool may_move,
         bool both_resident) {
        return static_cast<int>(choose_tier(crossovers_of(at), {bytes, consumers, in_hose, may_move, both_resident}));
      },
      py::arg("crossovers"), py::arg("bytes"), py::kw_only(), py::arg("consumers") = 1, py::arg("in_hose") = false,
      py::arg("may_move") = false, py::arg("both_resident") = false);
  module.def(
      "wants_resident",
      [](const py::dict &at, std::uint64_t payload_bytes, std::uint64_t memory_bytes, bool had_views,
         std::uint64_t resident_bytes) {
        return wants_resident(crossovers_of(at), {payload_bytes, memory_bytes, had_views}, resident_bytes);
      },
      py::arg("crossovers"), py::kw_only(), py::arg("payload_bytes"), py::arg("memory_bytes"), py::arg("had_views"),
      py::arg("resident_bytes"));
}

} // namespace edgeagent
