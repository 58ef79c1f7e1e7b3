// The Python face of the engine: edgeagent.native._core. Policy lives in edgeagent/runtime/native_engine.py.
//
// GIL: released while a guest runs, also inline. A call's body is kept alive by a Py_buffer that is released under the
// GIL, in BodyOwner's destructor or when the outcome is taken.
#include "engine.hpp"

#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <utility>

namespace py = pybind11;

namespace edgeagent {
namespace {

// Holds the caller's buffer for as long as the guest may read it.
class BodyOwner {
public:
  explicit BodyOwner(PyObject *object) {
    if (PyObject_GetBuffer(object, &view_, PyBUF_SIMPLE) != 0) {
      throw py::error_already_set();
    }
  }
  BodyOwner(const BodyOwner &) = delete;
  BodyOwner &operator=(const BodyOwner &) = delete;
  ~BodyOwner() { PyBuffer_Release(&view_); } // every path that destroys one holds the GIL

  const std::uint8_t *data() const { return static_cast<const std::uint8_t *>(view_.buf); }
  std::size_t size() const { return static_cast<std::size_t>(view_.len); }

private:
  Py_buffer view_{};
};

// Output bytes that Python reads in place.
struct OutputView {
  Buffer bytes;
};

constexpr std::size_t kBytesMax = 64 << 10;

py::object &error_factory() {
  static auto *factory = new py::object(py::none()); // leaked: it may outlive the interpreter's teardown order
  return *factory;
}

class PyOutcome {
public:
  explicit PyOutcome(Outcome outcome) : outcome_(std::move(outcome)) {
    if (outcome_.output.size() <= kBytesMax) {
      output_ = py::bytes(reinterpret_cast<const char *>(outcome_.output.data()), outcome_.output.size());
    } else {
      auto view = std::make_unique<OutputView>(OutputView{std::move(outcome_.output)});
      output_ = py::memoryview(py::cast(std::move(view)));
    }
  }

  const py::object &output() const { return output_; }
  std::int64_t duration_us() const { return outcome_.duration_ns / kNsPerUs; }
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
};

BodyOwner *owner_of(const Call &call) { return static_cast<BodyOwner *>(call.owner); }

py::object take_outcome(Call &call) {
  delete owner_of(call);
  call.owner = nullptr;
  return py::cast(std::make_unique<PyOutcome>(std::move(call.out())));
}

class PyFunction {
public:
  PyFunction(std::shared_ptr<Engine> engine, std::shared_ptr<Function> function)
      : engine_(std::move(engine)), function_(std::move(function)) {}

  py::object call(const py::object &body, const py::object &args, double wall_ms) {
    const std::shared_ptr<Call> call = make(body, args, wall_ms);
    {
      const py::gil_scoped_release nogil;
      engine_->run(call);
    }
    return take_outcome(*call);
  }

  // An outcome, or the id (int) of a call that a worker has.
  py::object start(const py::object &body, const py::object &args, double wall_ms, bool may_inline) {
    const std::shared_ptr<Call> call = make(body, args, wall_ms);
    bool done = false;
    {
      const py::gil_scoped_release nogil;
      done = engine_->start(call, may_inline);
    }
    return done ? take_outcome(*call) : py::int_(call->id);
  }

private:
  std::shared_ptr<Call> make(const py::object &body, const py::object &args, double wall_ms) {
    if (engine_->stopped()) {
      throw std::runtime_error("the engine is closed");
    }
    auto owner = std::make_unique<BodyOwner>(body.ptr());
    const auto wall_ns = static_cast<std::int64_t>(wall_ms * static_cast<double>(kNsPerMs));
    std::shared_ptr<Call> call = engine_->make_call(function_, owner->data(), owner->size(), wall_ns);
    if (!args.is_none()) {
      call->use_args(args.cast<std::vector<std::string>>());
    }
    call->owner = owner.release();
    return call;
  }

  std::shared_ptr<Engine> engine_;
  std::shared_ptr<Function> function_;
};

class PyEngine {
public:
  explicit PyEngine(int workers) : engine_(std::make_shared<Engine>(workers)) {}

  std::size_t add_pool(std::uintptr_t engine, int slots, bool is_large) {
    return engine_->add_pool(reinterpret_cast<wasm_engine_t *>(engine), slots, is_large);
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
      done.append(py::make_tuple(call->id, take_outcome(*call)));
    }
    return done;
  }
  void stop() {
    const py::gil_scoped_release nogil;
    engine_->stop();
  }
  void cancel(std::uint64_t id) { engine_->cancel(id); }
  int event_fd() const { return engine_->event_fd(); }
  py::tuple stats() {
    const EngineCounters &c = engine_->counters();
    return py::make_tuple(engine_->live_instances(), engine_->workers(), c.workers_busy.load(), engine_->queued(),
                          c.inline_calls.load(), c.worker_calls.load(), c.inline_overruns.load());
  }

private:
  std::shared_ptr<Engine> engine_;
};

FunctionSpec make_spec(const py::dict &d) {
  FunctionSpec spec;
  spec.name = d["name"].cast<std::string>();
  spec.abi = d["abi"].cast<std::string>() == "command" ? Abi::Command : Abi::Bytes;
  spec.memory_bytes = d["memory_bytes"].cast<std::int64_t>();
  spec.output_bytes = d["output_bytes"].cast<std::uint64_t>();
  spec.wall_ns = d["wall_ms"].cast<std::int64_t>() * kNsPerMs;
  spec.fuel = d["fuel"].cast<std::uint64_t>();
  spec.stack_bytes = d["stack_bytes"].cast<std::size_t>();
  spec.args = d["args"].cast<std::vector<std::string>>();
  spec.env = d["env"].cast<std::vector<std::string>>();
  spec.scratch_dir = d["scratch_dir"].cast<std::string>();
  spec.scratch_bytes_max = d["scratch_bytes_max"].cast<std::uint64_t>();
  spec.may_block = d["may_block"].cast<bool>();
  spec.has_start = d["has_start"].cast<bool>();
  spec.needs_wasi = d["needs_wasi"].cast<bool>();
  spec.has_initialize = d["has_initialize"].cast<bool>();
  return spec;
}

} // namespace
} // namespace edgeagent

PYBIND11_MODULE(_core, m, py::mod_gil_not_used()) {
  using namespace edgeagent;
  m.doc() = "edgeagent's native engine over the wasmtime wheel's own library";
  m.def("open_library", [](const std::string &path, const std::string &version) { wt.load(path, version); });
  m.def("set_error_factory", [](py::object factory) { error_factory() = std::move(factory); });

  py::class_<OutputView>(m, "OutputView", py::buffer_protocol()).def_buffer([](OutputView &view) {
    return py::buffer_info(view.bytes.data(), 1, py::format_descriptor<std::uint8_t>::format(), 1,
                           {static_cast<py::ssize_t>(view.bytes.size())}, {1}, true);
  });
  py::class_<PyOutcome>(m, "Outcome")
      .def_property_readonly("output", &PyOutcome::output)
      .def_property_readonly("duration_us", &PyOutcome::duration_us)
      .def_property_readonly("exit_code", &PyOutcome::exit_code)
      .def_property_readonly("stderr", &PyOutcome::stderr_tail)
      .def_property_readonly("log", &PyOutcome::log)
      .def_property_readonly("inline", &PyOutcome::is_inline)
      .def_property_readonly("ok", &PyOutcome::ok)
      .def_property_readonly("error", &PyOutcome::error);
  py::class_<PyFunction>(m, "Function")
      .def("call", &PyFunction::call, py::arg("body"), py::arg("args") = py::none(), py::arg("wall_ms") = 0.0)
      .def("start", &PyFunction::start, py::arg("body"), py::arg("args"), py::arg("wall_ms"), py::arg("may_inline"));
  py::class_<PyEngine>(m, "Engine")
      .def(py::init<int>(), py::arg("workers"))
      .def("add_pool", &PyEngine::add_pool, py::arg("engine"), py::arg("slots"), py::arg("is_large"))
      .def("load",
           [](PyEngine &engine, const py::dict &spec, const std::string &path, const std::vector<std::size_t> &pools) {
             return engine.load(make_spec(spec), path, pools);
           })
      .def("cancel", &PyEngine::cancel)
      .def("take_done", &PyEngine::take_done)
      .def("event_fd", &PyEngine::event_fd)
      .def("stats", &PyEngine::stats)
      .def("stop", &PyEngine::stop);
}
