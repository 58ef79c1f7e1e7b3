#include "bindings.hpp"

#include "registration.hpp"
#include "ring.hpp"

#include <limits>
#include <utility>

#include <pybind11/stl.h>

namespace py = pybind11;

namespace edgeagent {

namespace {

using namespace gpu;

// What Python holds. Its end may wait for locks or the device, so it lets other threads run.
template <typename T> struct Held {
  std::shared_ptr<T> it;
  explicit Held(std::shared_ptr<T> one) : it(std::move(one)) {}
  Held(Held &&) noexcept = default;
  Held &operator=(Held &&) noexcept = default;
  Held(const Held &) = delete;
  Held &operator=(const Held &) = delete;
  ~Held() {
    if (it) {
      const py::gil_scoped_release nogil;
      it.reset();
    }
  }
};

// The registered buffer, kept until after its registration.
struct Registered {
  py::buffer_info buffer;
  Held<Registration> held;
};

template <typename F> auto nogil(F &&work) {
  const py::gil_scoped_release released;
  return std::forward<F>(work)();
}

template <typename P> std::uintptr_t number(P *handle) { return reinterpret_cast<std::uintptr_t>(handle); }

py::object &fault_factory() {
  static auto *factory = new py::object(); // never destroyed: the interpreter may be gone by then
  return *factory;
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) {
      std::rethrow_exception(thrown);
    }
  } catch (const Fault &fault) {
    if (!fault_factory()) {
      PyErr_SetString(PyExc_RuntimeError, fault.what());
      return;
    }
    try {
      const py::object error = fault_factory()(static_cast<int>(fault.kind), fault.code, fault.function, fault.what());
      PyErr_SetObject(reinterpret_cast<PyObject *>(Py_TYPE(error.ptr())), error.ptr());
    } catch (py::error_already_set &of_the_factory) {
      of_the_factory.restore();
    }
  }
}

// A contiguous buffer; `writable` refuses one that is not.
py::buffer_info bytes_of(const py::buffer &buffer, bool writable) {
  py::buffer_info info = buffer.request(writable);
  py::ssize_t expected = info.itemsize;
  for (std::size_t i = info.shape.size(); i-- > 0;) {
    if (info.shape[i] > 1 && info.strides[i] != expected) {
      throw py::value_error("the buffer is not contiguous");
    }
    expected *= info.shape[i];
  }
  return info;
}

std::uint64_t size_of(const py::buffer_info &info) { return static_cast<std::uint64_t>(info.size * info.itemsize); }

Seconds seconds(double value) { return Seconds(value); }

py::dict facts_of(const DeviceFacts &facts) {
  py::dict fields;
  fields["ordinal"] = facts.ordinal;
  fields["name"] = facts.name;
  fields["uuid"] = facts.uuid;
  fields["capability"] = py::make_tuple(facts.capability_major, facts.capability_minor);
  fields["total_bytes"] = facts.total_bytes;
  fields["multiprocessors"] = facts.multiprocessors;
  fields["driver_version"] = facts.driver_version;
  fields["integrated"] = facts.integrated;
  fields["can_map_host"] = facts.can_map_host;
  fields["unified_addressing"] = facts.unified_addressing;
  fields["concurrent_managed"] = facts.concurrent_managed;
  fields["host_pointer_is_device_pointer"] = facts.host_pointer_is_device_pointer;
  fields["host_register"] = facts.host_register;
  fields["read_only_register"] = facts.read_only_register;
  fields["memory_pools"] = facts.memory_pools;
  return fields;
}

void bind_blocks(py::module_ &m) {
  py::class_<Held<Block>>(m, "Block")
      .def_property_readonly("ptr", [](const Held<Block> &self) { return self.it->ptr(); })
      .def_property_readonly("size", [](const Held<Block> &self) { return self.it->size(); })
      .def_property_readonly("live", [](const Held<Block> &self) { return self.it->is_live(); })
      .def("free", [](const Held<Block> &self) { nogil([&] { self.it->free(); }); })
      .def("upload",
           [](const Held<Block> &self, const py::buffer &from, std::uint64_t offset) {
             const py::buffer_info info = bytes_of(from, false);
             nogil([&] { self.it->upload(info.ptr, size_of(info), offset); });
           })
      .def("download", [](const Held<Block> &self, const py::buffer &to, std::uint64_t offset) {
        const py::buffer_info info = bytes_of(to, true);
        nogil([&] { self.it->download(info.ptr, size_of(info), offset); });
      });
  py::class_<Held<Slot>>(m, "Slot")
      .def_property_readonly("size", [](const Held<Slot> &self) { return self.it->size(); })
      .def_property_readonly("offset", [](const Held<Slot> &self) { return self.it->offset(); })
      .def_property_readonly("host_ptr", [](const Held<Slot> &self) { return number(self.it->host()); })
      .def_property_readonly("device_ptr", [](const Held<Slot> &self) { return self.it->device(); })
      .def("write",
           [](const Held<Slot> &self, const py::buffer &from, std::uint64_t at) {
             const py::buffer_info info = bytes_of(from, false);
             nogil([&] { self.it->write(info.ptr, size_of(info), at); });
           })
      .def("read_into",
           [](const Held<Slot> &self, const py::buffer &to, std::uint64_t at) {
             const py::buffer_info info = bytes_of(to, true);
             nogil([&] { self.it->read(info.ptr, size_of(info), at); });
           })
      .def("upload",
           [](const Held<Slot> &self, const Held<Block> &block, std::uint64_t bytes, std::uint64_t offset) {
             nogil([&] { self.it->upload(*block.it, bytes, offset); });
           })
      .def("download",
           [](const Held<Slot> &self, const Held<Block> &block, std::uint64_t bytes, std::uint64_t offset) {
             nogil([&] { self.it->download(*block.it, bytes, offset); });
           })
      .def("retire", [](const Held<Slot> &self, std::uintptr_t stream) {
        nogil([&] { self.it->retire(reinterpret_cast<CUstream>(stream)); });
      });
}

void bind_tenant(py::module_ &m) {
  py::class_<Held<Tenant>>(m, "Tenant")
      .def_property_readonly("name", [](const Held<Tenant> &self) { return self.it->name(); })
      .def_property_readonly("quota_bytes", [](const Held<Tenant> &self) { return self.it->quota_bytes(); })
      .def_property_readonly("stream",
                             [](const Held<Tenant> &self) {
                               return nogil([&] {
                                 const Child::Entry entry(*self.it);
                                 return number(self.it->stream());
                               });
                             })
      .def_property_readonly("pool",
                             [](const Held<Tenant> &self) {
                               return nogil([&] {
                                 const Child::Entry entry(*self.it);
                                 return number(self.it->pool());
                               });
                             })
      .def_property_readonly("generation", [](const Held<Tenant> &self) { return self.it->generation(); })
      .def("usage", // used, held, blocks, runs
           [](const Held<Tenant> &self) {
             const std::lock_guard<std::mutex> held(self.it->context().books);
             return py::make_tuple(self.it->used_bytes, self.it->held_bytes, self.it->blocks.size(), self.it->runs);
           })
      .def("reserved_bytes", [](const Held<Tenant> &self) { return nogil([&] { return self.it->reserved_bytes(); }); })
      .def("alloc",
           [](const Held<Tenant> &self, std::uint64_t bytes) {
             return Held<Block>(nogil([&] { return std::shared_ptr<Block>(self.it->alloc(bytes)); }));
           })
      .def("begin", [](const Held<Tenant> &self) { nogil([&] { self.it->begin(); }); })
      .def("end", [](const Held<Tenant> &self) { self.it->end(); })
      .def("trim", [](const Held<Tenant> &self) { nogil([&] { self.it->trim(); }); })
      .def("evict", [](const Held<Tenant> &self) { nogil([&] { self.it->evict(); }); })
      .def("is_idle", [](const Held<Tenant> &self) { return nogil([&] { return self.it->is_idle(); }); })
      .def("synchronize",
           [](const Held<Tenant> &self, std::optional<double> timeout_s) {
             return nogil([&] {
               const Seconds patience(timeout_s.value_or(0.0));
               return self.it->synchronize(timeout_s ? &patience : nullptr);
             });
           })
      .def("close", [](const Held<Tenant> &self) { nogil([&] { self.it->leave(); }); });
}

void bind_rest(py::module_ &m) {
  py::class_<Held<Ring>>(m, "Ring")
      .def_property_readonly("size", [](const Held<Ring> &self) { return self.it->size(); })
      .def_property_readonly("used_bytes",
                             [](const Held<Ring> &self) { return nogil([&] { return self.it->used(); }); })
      .def("reserve",
           [](const Held<Ring> &self, std::uint64_t bytes, double timeout_s) {
             return Held<Slot>(nogil([&] { return self.it->reserve(bytes, seconds(timeout_s)); }));
           })
      .def("close", [](const Held<Ring> &self) { nogil([&] { self.it->leave(); }); });
  py::class_<Registered>(m, "Registration")
      .def_property_readonly("host_ptr", [](const Registered &self) { return number(self.held.it->host()); })
      .def_property_readonly("device_ptr", [](const Registered &self) { return self.held.it->device(); })
      .def_property_readonly("size", [](const Registered &self) { return self.held.it->size(); })
      .def_property_readonly("read_only", [](const Registered &self) { return self.held.it->is_read_only(); })
      .def_property_readonly("zero_copy", [](const Registered &self) { return self.held.it->is_zero_copy(); })
      .def("close", [](Registered &self) {
        nogil([&] { self.held.it->leave(); });
        self.buffer = py::buffer_info(); // whoever has it may unmap it now
      });
  py::class_<Held<Event>>(m, "Event")
      .def("record",
           [](const Held<Event> &self, const Held<Tenant> &tenant) { nogil([&] { self.it->record(*tenant.it); }); })
      .def("is_done", [](const Held<Event> &self) { return nogil([&] { return self.it->is_done(); }); })
      .def("wait",
           [](const Held<Event> &self, double timeout_s) {
             return nogil([&] { return self.it->wait(seconds(timeout_s)); });
           })
      .def("ms_until",
           [](const Held<Event> &self, const Held<Event> &later) {
             return nogil([&] { return self.it->ms_until(*later.it); });
           })
      .def("close", [](const Held<Event> &self) { nogil([&] { self.it->leave(); }); });
}

void bind_context(py::module_ &m) {
  using Self = Held<Context>;
  py::class_<Self>(m, "Context")
      .def(py::init([](const std::string &library, int ordinal, std::uint64_t budget, std::uint64_t pinned,
                       unsigned flags) {
             return Self(nogil([&] { return Context::open(Driver::open(library), {ordinal, budget, pinned, flags}); }));
           }),
           py::arg("library"), py::kw_only(), py::arg("ordinal"), py::arg("budget_bytes"), py::arg("pinned_bytes_max"),
           py::arg("schedule_flags"))
      .def_property_readonly("handle", [](const Self &self) { return number(self.it->handle()); })
      .def_property_readonly("facts", [](const Self &self) { return facts_of(self.it->facts()); })
      .def_property_readonly("closed", [](const Self &self) { return self.it->is_closed(); })
      .def_property_readonly("poison", [](const Self &self) { return self.it->poison(); })
      .def("memory",
           [](const Self &self) {
             std::uint64_t free = 0;
             std::uint64_t total = 0;
             nogil([&] { self.it->memory(free, total); });
             return py::make_tuple(free, total);
           })
      .def("stats",
           [](const Self &self) {
             const ContextStats s = self.it->stats();
             return py::make_tuple(s.tenants, s.used_bytes, s.held_bytes, s.pinned_bytes, s.trims, s.evictions,
                                   s.children);
           })
      .def(
          "tenant",
          [](const Self &self, const std::string &name, std::uint64_t quota, std::uint64_t keep, int priority,
             bool is_evictable) {
            return Held<Tenant>(
                nogil([&] { return Tenant::make(self.it, {name, quota, keep, priority, is_evictable}); }));
          },
          py::arg("name"), py::kw_only(), py::arg("quota_bytes"), py::arg("keep_bytes"), py::arg("priority"),
          py::arg("evictable"))
      .def("ring",
           [](const Self &self, std::uint64_t bytes) {
             return Held<Ring>(nogil([&] { return Ring::make(self.it, bytes); }));
           })
      .def("event",
           [](const Self &self, bool has_timing) {
             return Held<Event>(nogil([&] { return Event::make(self.it, has_timing); }));
           })
      .def("register",
           [](const Self &self, const py::buffer &buffer, bool read_only) {
             py::buffer_info info = bytes_of(buffer, false);
             Held<Registration> held(
                 nogil([&] { return Registration::make(self.it, info.ptr, size_of(info), read_only); }));
             return Registered{std::move(info), std::move(held)};
           })
      .def("close", [](const Self &self, double timeout_s, bool reset) {
        return nogil([&] { return self.it->close(seconds(timeout_s), reset); });
      });
}

} // namespace

void bind_gpu(py::module_ &module) {
  py::module_ m = module.def_submodule("gpu", "contexts of the CUDA driver API");
  py::register_exception_translator(&translate);
  m.def("set_fault_factory", [](py::object factory) { fault_factory() = std::move(factory); });
  m.def("fault_table", [] {
    py::list rows;
    for (const FaultRow &row : fault_table()) {
      rows.append(py::make_tuple(row.code, row.name, static_cast<int>(row.kind)));
    }
    return rows;
  });
  m.def("classify", [](int code) { return py::make_tuple(static_cast<int>(kind_of(code)), fault_name(code)); });
  m.def("devices", [](const std::string &library) {
    const auto found = nogil([&] {
      const auto driver = Driver::open(library);
      std::vector<DeviceFacts> devices;
      for (int i = 0; i < driver->count(); ++i) {
        devices.push_back(driver->facts(i));
      }
      return devices;
    });
    py::list devices;
    for (const DeviceFacts &facts : found) {
      devices.append(facts_of(facts));
    }
    return devices;
  });
  bind_blocks(m);
  bind_tenant(m);
  bind_rest(m);
  bind_context(m);
}

} // namespace edgeagent
