// The Python face of the engine: edgeagent.native._core. Policy lives in edgeagent/runtime/native_engine.py.
//
// GIL: released while a guest runs, also inline. A call's body is kept alive by a Py_buffer that is released under the
// GIL, in BodyOwner's destructor or when the outcome is taken.
#include "accel/bindings.hpp"
#include "body_owner.hpp"
#include "engine.hpp"
#include "function_spec.hpp"
#include "gpu/bindings.hpp"
#include "graph/bindings.hpp"
#include "hose/bindings.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <fcntl.h>

#include <memory>
#include <string>
#include <utility>

namespace py = pybind11;

namespace edgeagent {
namespace {

// Output bytes that Python reads in place.
struct OutputView {
  Buffer bytes;
};

constexpr std::size_t kBytesMax = 64 << 10;

py::object &error_factory() {
  static auto *factory = new py::object(py::none()); // leaked: it may outlive the interpreter's teardown order
  return *factory;
}

// A part of a hose that Python reads in place.
struct HoseView {
  HoseRange range;
};

py::object view_of(HoseRange range) {
  return py::memoryview(py::cast(std::make_unique<HoseView>(HoseView{std::move(range)})));
}

// A hose that the host fills itself: what arrives from another host.
class PyLease {
public:
  explicit PyLease(Lease hose, std::uint64_t bytes) : hose_(std::move(hose)), bytes_(bytes) {}

  std::uint8_t *data() const { return hose_->data(); }
  std::uint64_t size() const { return bytes_; }
  const Lease &hose() const { return hose_; }

private:
  Lease hose_;
  std::uint64_t bytes_;
};

// One function's output, for the next: opaque to Python.
class PyPayload {
public:
  PyPayload(std::shared_ptr<Engine> engine, std::shared_ptr<Payload> payload)
      : engine_(std::move(engine)), payload_(std::move(payload)) {}
  PyPayload(const PyPayload &) = delete;
  PyPayload &operator=(const PyPayload &) = delete;
  ~PyPayload() { close(); }

  std::shared_ptr<Payload> get() const {
    if (!payload_) {
      throw py::value_error("the payload is closed");
    }
    return payload_;
  }
  std::uint64_t size() const { return payload_ ? payload_->size() : 0; }
  std::string kind() const { return payload_ ? payload_->kind() : ""; }
  int hops() const { return payload_ ? payload_->hops : 0; }
  void set_hops(int hops) { get()->hops = hops; }
  bool share() {
    const std::shared_ptr<Payload> payload = get();
    HandOver over;
    over.bytes = payload->size();
    over.consumers = 2; // or more
    if (payload->range() == nullptr && choose_tier(engine_->crossovers(), over) != Tier::Share) {
      return false;
    }
    const py::gil_scoped_release nogil;
    return payload->share(*engine_->hoses());
  }
  py::object read() {
    const std::shared_ptr<Payload> payload = get();
    {
      const py::gil_scoped_release nogil; // whoever has it may need the interpreter to let go
      payload->gate().enter();
    }
    const std::shared_ptr<void> leaving(nullptr, [&payload](void *) { payload->gate().leave(); });
    if (payload->is_taken()) {
      throw py::value_error("the payload was taken by a function");
    }
    if (payload->range() != nullptr) {
      return view_of(*payload->range());
    }
    return py::bytes(reinterpret_cast<const char *>(payload->data()), payload->size());
  }
  // (descriptor, offset, bytes) of a memfd that nobody can change any more; the descriptor is the caller's to close.
  py::tuple export_fd() {
    const std::shared_ptr<Payload> payload = get();
    HoseRange range;
    {
      const py::gil_scoped_release nogil;
      if (payload->share(*engine_->hoses()) && payload->range()->hose->seal()) {
        range = *payload->range();
      }
    }
    const int fd = range.hose ? ::fcntl(range.hose->fd(), F_DUPFD_CLOEXEC, 3) : -1;
    if (fd < 0) {
      throw std::runtime_error("the payload cannot be sealed for another process");
    }
    return py::make_tuple(fd, range.offset, range.bytes);
  }
  void close() {
    if (payload_ && payload_->size() < Engine::kDropHereMax) {
      payload_.reset();
    } else if (payload_) {
      engine_->discard(std::move(payload_), false); // the event loop must not wait for it
      payload_.reset();
    }
  }

private:
  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Payload> payload_;
};

class PyOutcome {
public:
  PyOutcome(Outcome outcome, HoseRange range, py::object payload, py::tuple earlier)
      : outcome_(std::move(outcome)), payload_(std::move(payload)), earlier_(std::move(earlier)) {
    if (range.hose) {
      output_ = view_of(std::move(range));
    } else if (outcome_.output.size() <= kBytesMax) {
      output_ = py::bytes(reinterpret_cast<const char *>(outcome_.output.data()), outcome_.output.size());
    } else {
      auto view = std::make_unique<OutputView>(OutputView{std::move(outcome_.output)});
      output_ = py::memoryview(py::cast(std::move(view)));
    }
  }

  const py::object &output() const { return output_; }
  const py::object &payload() const { return payload_; }
  // Of a chain's last call: those of the calls before it; they succeeded.
  const py::tuple &earlier() const { return earlier_; }
  std::uint64_t passed_bytes() const { return outcome_.passed_bytes; }
  // (tier, bytes copied, bytes mapped, hand-over in ns) of the input
  py::tuple hose() const {
    const HoseReport &report = outcome_.hose;
    return py::make_tuple(static_cast<int>(report.tier), report.copied, report.mapped, report.handover_ns);
  }
  std::int64_t duration_us() const { return outcome_.duration_ns / kNsPerUs; }
  // (entered, returned): monotonic ns of a bytes function that ran outside the event loop's thread, else zeros.
  py::tuple times() const { return py::make_tuple(outcome_.entered_ns, outcome_.returned_ns); }
  std::uint32_t exit_code() const { return outcome_.exit_code; }
  bool is_inline() const { return outcome_.is_inline; }
  py::bytes stderr_tail() const { return py::bytes(outcome_.stderr_tail); }
  py::list log() const {
    py::list lines;
    for (const auto &[level, text] : outcome_.log) {
      lines.append(py::make_tuple(level, py::bytes(text)));
    }
    return lines;
  }
  // A typed EdgeError, or None; made on demand by the factory that native_engine.py sets.
  py::object error() const {
    if (outcome_.failure == Failure::None) {
      return py::none();
    }
    py::list frames;
    for (const std::string &frame : outcome_.backtrace) {
      frames.append(text(frame));
    }
    return error_factory()(static_cast<int>(outcome_.failure), text(outcome_.message), outcome_.trap_code,
                           outcome_.exit_code, std::move(frames), py::bytes(outcome_.stderr_tail));
  }
  bool ok() const { return outcome_.failure == Failure::None; }

private:
  // Guests choose their own names: never trust them to be UTF-8.
  static py::object text(const std::string &raw) {
    return py::reinterpret_steal<py::object>(
        PyUnicode_DecodeUTF8(raw.data(), static_cast<Py_ssize_t>(raw.size()), "replace"));
  }

  Outcome outcome_;
  py::object output_;
  py::object payload_;
  py::tuple earlier_;
};

BodyOwner *owner_of(const Call &call) { return static_cast<BodyOwner *>(call.owner); }

py::object take_outcome(const std::shared_ptr<Engine> &engine, const std::shared_ptr<Call> &call) {
  delete owner_of(*call);
  call->owner = nullptr;
  py::object payload = py::none();
  if (call->keeps_output()) {
    if (std::shared_ptr<Payload> kept = call->take_payload(call)) {
      payload = py::cast(std::make_unique<PyPayload>(engine, std::move(kept)));
    }
  }
  std::vector<Outcome> before = call->take_earlier();
  py::tuple earlier(before.size());
  for (std::size_t i = 0; i < before.size(); ++i) {
    earlier[i] = py::cast(std::make_unique<PyOutcome>(std::move(before[i]), HoseRange(), py::none(), py::tuple()));
  }
  return py::cast(std::make_unique<PyOutcome>(std::move(call->out()), call->take_range(), std::move(payload),
                                              std::move(earlier)));
}
std::int64_t ns_of(double ms) { return static_cast<std::int64_t>(ms * static_cast<double>(kNsPerMs)); }

class PyFunction {
public:
  PyFunction(std::shared_ptr<Engine> engine, std::shared_ptr<Function> function)
      : engine_(std::move(engine)), function_(std::move(function)) {}

  py::object call(const py::object &body, const py::object &args, double wall_ms, bool keep, bool move,
                  const std::vector<PyFunction *> &then) {
    std::shared_ptr<Call> call = make(body, args, wall_ms, keep, move, then);
    {
      const py::gil_scoped_release nogil;
      call = engine_->run(call);
    }
    return take_outcome(engine_, call);
  }

  // An outcome, or the id (int) of a call that a worker has.
  py::object start(const py::object &body, const py::object &args, double wall_ms, bool may_inline, bool keep,
                   bool move, const std::vector<PyFunction *> &then) {
    const std::shared_ptr<Call> call = make(body, args, wall_ms, keep, move, then);
    bool done = false;
    {
      const py::gil_scoped_release nogil;
      done = engine_->start(call, may_inline);
    }
    return done ? take_outcome(engine_, call) : py::int_(call->id);
  }

private:
  // The first call of a chain of this function and those in `then`, whose last one keeps its output if that is asked.
  std::shared_ptr<Call> make(const py::object &body, const py::object &args, double wall_ms, bool keep, bool move,
                             const std::vector<PyFunction *> &then) {
    std::shared_ptr<Call> call = make_first(body, args, wall_ms, keep || !then.empty(), move);
    Call *before = call.get();
    for (std::size_t i = 0; i < then.size(); ++i) {
      const std::shared_ptr<Call> next = engine_->make_call(then[i]->function_, nullptr, 0, ns_of(wall_ms));
      if (keep || i + 1 < then.size()) {
        next->keep_output();
      }
      before->run_next(next);
      before = next.get();
    }
    return call;
  }
  std::shared_ptr<Call> make_first(const py::object &body, const py::object &args, double wall_ms, bool keep, bool move) {
    if (engine_->stopped()) {
      throw std::runtime_error("the engine is closed");
    }
    const std::int64_t wall_ns = ns_of(wall_ms);
    std::shared_ptr<Call> call;
    if (py::isinstance<PyPayload>(body)) {
      call = engine_->make_call(function_, nullptr, 0, wall_ns);
      if (!call->use_input(body.cast<PyPayload &>().get(), move)) {
        throw py::value_error("the payload was taken by a function");
      }
    } else {
      auto owner = std::make_unique<BodyOwner>(body.ptr());
      call = engine_->make_call(function_, owner->data(), owner->size(), wall_ns);
      call->owner = owner.release();
    }
    if (keep) {
      call->keep_output();
    }
    if (!args.is_none()) {
      call->use_args(args.cast<std::vector<std::string>>());
    }
    return call;
  }

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Function> function_;
};

class PyEngine {
public:
  explicit PyEngine(int workers) : engine_(std::make_shared<Engine>(workers)) {}

  std::size_t add_pool(std::uintptr_t engine, int slots, bool is_large, std::uint64_t resident_bytes) {
    return engine_->add_pool(reinterpret_cast<wasm_engine_t *>(engine), slots, is_large, resident_bytes);
  }
  std::unique_ptr<PyFunction> load(FunctionSpec spec, const std::string &path, const std::vector<std::size_t> &pools) {
    std::shared_ptr<Function> function;
    {
      const py::gil_scoped_release nogil;
      function = engine_->load(std::move(spec), path, pools);
    }
    return std::make_unique<PyFunction>(engine_, std::move(function));
  }
  py::list take_done() {
    py::list done;
    for (const std::shared_ptr<Call> &call : engine_->take_done()) {
      done.append(py::make_tuple(call->id, take_outcome(engine_, call)));
    }
    return done;
  }
  void stop() {
    const py::gil_scoped_release nogil;
    engine_->stop();
  }
  void cancel(std::uint64_t id) { engine_->cancel(id); }
  // (call id, function, kind, name, slot, may wait, payload or None, extra, window or None) of each thing that running calls ask.
  py::list take_asks() {
    py::list asks;
    for (Ask &ask : engine_->take_asks()) {
      py::object payload = py::none();
      if (ask.payload) {
        payload = py::cast(std::make_unique<PyPayload>(engine_, std::move(ask.payload)));
      }
      asks.append(py::make_tuple(ask.call_id, ask.function, static_cast<int>(ask.kind), py::bytes(ask.name), ask.slot,
                                 ask.may_wait, std::move(payload), py::bytes(ask.extra), std::move(ask.window)));
    }
    return asks;
  }
  void answer(std::uint64_t id, std::int32_t status, const py::object &payload) {
    Answer answer;
    answer.status = status;
    if (!payload.is_none()) {
      answer.payload = payload.cast<PyPayload &>().get();
    }
    engine_->answer(id, std::move(answer));
  }
  // Bytes of the host as a message.
  std::unique_ptr<PyPayload> payload_of(const py::buffer &bytes) {
    const py::buffer_info info = bytes.request();
    Buffer copy;
    copy.append(static_cast<const std::uint8_t *>(info.ptr), static_cast<std::size_t>(info.size * info.itemsize));
    return std::make_unique<PyPayload>(engine_, std::make_shared<Payload>(std::move(copy), Attachments()));
  }
  void set_hoses(const py::dict &d) {
    engine_->crossovers() = crossovers_of(d);
    engine_->hoses()->set_limits(d["pool_bytes_max"].cast<std::size_t>(),
                                  std::chrono::milliseconds(d["idle_ms"].cast<std::int64_t>()));
  }
  // None when the pool is at its bound.
  py::object lease(std::uint64_t bytes) {
    Lease hose;
    {
      const py::gil_scoped_release nogil;
      hose = engine_->hoses()->acquire(bytes, true);
    }
    if (!hose) {
      return py::none();
    }
    hose->dirty_bytes = bytes;
    return py::cast(std::make_unique<PyLease>(std::move(hose), bytes));
  }
  // The first `bytes` of a filled lease; nobody may write to it any more.
  std::unique_ptr<PyPayload> publish(const PyLease &lease, std::uint64_t bytes) {
    if (bytes > lease.size()) {
      throw py::value_error("more bytes than were leased");
    }
    return std::make_unique<PyPayload>(
        engine_, std::make_shared<Payload>(HoseRange{lease.hose(), 0, bytes}, nullptr, Attachments()));
  }
  // A message of another process; raises ValueError where its memfd is not what it must be.
  std::unique_ptr<PyPayload> adopt(int fd, std::uint64_t offset, std::uint64_t bytes) {
    std::string why;
    std::unique_ptr<Hose> hose = Hose::adopt(fd, offset, bytes, why);
    if (!hose) {
      throw py::value_error(why);
    }
    return std::make_unique<PyPayload>(
        engine_, std::make_shared<Payload>(HoseRange{Lease(std::move(hose)), offset, bytes}, nullptr, Attachments()));
  }
  // bytes, idle bytes, hoses, of 2 MiB pages, made, refused, scrubbed in line, stores in quarantine
  py::tuple hose_stats() {
    const HosePoolStats s = engine_->hoses()->stats();
    return py::make_tuple(s.bytes, s.idle_bytes, s.hoses, s.huge, s.made, s.refused, s.scrubbed_in_line,
                          s.quarantined);
  }
  void trim_hoses() { engine_->hoses()->trim(); }
  void settle_hoses() {
    const py::gil_scoped_release nogil;
    engine_->settle();
  }
  int event_fd() const { return engine_->event_fd(); }
  py::tuple stats() {
    const EngineCounters &c = engine_->counters();
    return py::make_tuple(engine_->live_instances(), engine_->workers(), c.workers_busy.load(), engine_->queued(),
                          c.inline_calls.load(), c.worker_calls.load(), c.inline_overruns.load());
  }

private:
  std::shared_ptr<Engine> engine_;
};

} // namespace
} // namespace edgeagent

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  using namespace edgeagent;
  m.doc() = "edgeagent's native engine over the wasmtime wheel's own library";
  bind_graph(m);
  bind_hoses(m);
  bind_accel(m);
  bind_gpu(m);
  m.def("open_library", [](const std::string &path, const std::string &version) { wt.load(path, version); });
  m.def("set_error_factory", [](py::object factory) { error_factory() = std::move(factory); });

  py::class_<OutputView>(m, "OutputView", py::buffer_protocol()).def_buffer([](OutputView &view) {
    return py::buffer_info(view.bytes.data(), 1, py::format_descriptor<std::uint8_t>::format(), 1,
                           {static_cast<py::ssize_t>(view.bytes.size())}, {1}, true);
  });
  py::class_<HoseView>(m, "HoseView", py::buffer_protocol()).def_buffer([](HoseView &view) {
    // Read-only: other holders of the hose see the same bytes.
    return py::buffer_info(const_cast<std::uint8_t *>(view.range.data()), 1,
                           py::format_descriptor<std::uint8_t>::format(), 1,
                           {static_cast<py::ssize_t>(view.range.bytes)}, {1}, true);
  });
  py::class_<PyPayload>(m, "Payload")
      .def_property_readonly("size", &PyPayload::size)
      .def_property_readonly("kind", &PyPayload::kind)
      .def_property("hops", &PyPayload::hops, &PyPayload::set_hops)
      .def("share", &PyPayload::share)
      .def("read", &PyPayload::read)
      .def("export", &PyPayload::export_fd)
      .def("close", &PyPayload::close);
  py::class_<PyLease>(m, "Lease", py::buffer_protocol()).def_buffer([](PyLease &lease) {
    return py::buffer_info(lease.data(), 1, py::format_descriptor<std::uint8_t>::format(), 1,
                           {static_cast<py::ssize_t>(lease.size())}, {1}, false);
  });
  py::class_<PyOutcome>(m, "Outcome")
      .def_property_readonly("output", &PyOutcome::output)
      .def_property_readonly("duration_us", &PyOutcome::duration_us)
      .def_property_readonly("exit_code", &PyOutcome::exit_code)
      .def_property_readonly("stderr", &PyOutcome::stderr_tail)
      .def_property_readonly("log", &PyOutcome::log)
      .def_property_readonly("inline", &PyOutcome::is_inline)
      .def_property_readonly("ok", &PyOutcome::ok)
      .def_property_readonly("payload", &PyOutcome::payload)
      .def_property_readonly("earlier", &PyOutcome::earlier)
      .def_property_readonly("passed_bytes", &PyOutcome::passed_bytes)
      .def_property_readonly("hose", &PyOutcome::hose)
      .def_property_readonly("times_ns", &PyOutcome::times)
      .def_property_readonly("error", &PyOutcome::error);
  py::class_<PyFunction>(m, "Function")
      .def("call", &PyFunction::call, py::arg("body"), py::arg("args") = py::none(), py::arg("wall_ms") = 0.0,
           py::arg("keep") = false, py::arg("move") = true, py::arg("then") = py::tuple())
      .def("start", &PyFunction::start, py::arg("body"), py::arg("args"), py::arg("wall_ms"), py::arg("may_inline"),
           py::arg("keep") = false, py::arg("move") = true, py::arg("then") = py::tuple());
  py::class_<PyEngine>(m, "Engine")
      .def(py::init<int>(), py::arg("workers"))
      .def("add_pool", &PyEngine::add_pool, py::arg("engine"), py::arg("slots"), py::arg("is_large"),
           py::arg("resident_bytes"))
      .def("load",
           [](PyEngine &engine, const py::dict &spec, const std::string &path, const std::vector<std::size_t> &pools) {
             return engine.load(make_spec(spec), path, pools);
           })
      .def("cancel", &PyEngine::cancel)
      .def("take_done", &PyEngine::take_done)
      .def("take_asks", &PyEngine::take_asks)
      .def("answer", &PyEngine::answer, py::arg("call_id"), py::arg("status"), py::arg("payload") = py::none())
      .def("payload_of", &PyEngine::payload_of)
      .def("event_fd", &PyEngine::event_fd)
      .def("stats", &PyEngine::stats)
      .def("set_hoses", &PyEngine::set_hoses)
      .def("lease", &PyEngine::lease)
      .def("publish", &PyEngine::publish)
      .def("adopt", &PyEngine::adopt)
      .def("hose_stats", &PyEngine::hose_stats)
      .def("trim_hoses", &PyEngine::trim_hoses)
      .def("settle_hoses", &PyEngine::settle_hoses)
      .def("stop", &PyEngine::stop);
}
