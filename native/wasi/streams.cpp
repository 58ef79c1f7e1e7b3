// Reading and writing: standard streams from and to the call, files from and to the scratch directory.
#include "wasi.hpp"

#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <optional>

namespace edgeagent {

namespace {

constexpr std::uint32_t kVectorsMax = 1024;

struct Piece {
  std::uint8_t *data;
  std::uint32_t size;
};

// One entry of a guest's iovec array, or nothing when it points outside the memory.
std::optional<Piece> piece(const GuestMemory &memory, std::uint64_t vectors, std::uint32_t i) {
  std::uint32_t ptr = 0;
  std::uint32_t size = 0;
  if (!memory.load(vectors + std::uint64_t{i} * 8, ptr) || !memory.load(vectors + std::uint64_t{i} * 8 + 4, size)) {
    return std::nullopt;
  }
  std::uint8_t *data = memory.at(ptr, size);
  return data == nullptr ? std::nullopt : std::optional<Piece>(Piece{data, size});
}

// Fault when the array or one of its pieces is outside the memory, Inval when there are too many: nothing is read or
// written before all are known to be good.
Errno check(const GuestMemory &memory, std::uint64_t vectors, std::uint32_t count) {
  if (count > kVectorsMax) {
    return Errno::Inval;
  }
  if (memory.at(vectors, std::uint64_t{count} * 8) == nullptr) {
    return Errno::Fault;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    if (!piece(memory, vectors, i)) {
      return Errno::Fault;
    }
  }
  return Errno::Success;
}

// All pieces as host iovecs.
Errno gather(WasiCall &c, std::uint32_t vectors, std::uint32_t count, std::vector<iovec> &out, std::uint64_t &total) {
  if (Errno error = check(c.memory, vectors, count); error != Errno::Success) {
    return error;
  }
  total = 0;
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::optional<Piece> p = piece(c.memory, vectors, i);
    out.push_back({p->data, p->size});
    total += p->size;
  }
  return Errno::Success;
}

Errno read_stdin(WasiCall &c) {
  std::uint32_t total = 0;
  const std::uint32_t count = c.u32(2);
  if (Errno error = check(c.memory, c.u32(1), count); error != Errno::Success) {
    return error;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::optional<Piece> p = piece(c.memory, c.u32(1), i);
    total += static_cast<std::uint32_t>(c.wasi.read_stdin(p->data, p->size));
  }
  return c.memory.store(c.u32(3), total) ? Errno::Success : Errno::Fault;
}

Errno write_standard(WasiCall &c, Kind kind) {
  std::uint64_t total = 0;
  const std::uint32_t count = c.u32(2);
  if (Errno error = check(c.memory, c.u32(1), count); error != Errno::Success) {
    return error;
  }
  for (std::uint32_t i = 0; i < count; ++i) {
    const std::optional<Piece> p = piece(c.memory, c.u32(1), i);
    if (kind == Kind::Stderr) {
      c.wasi.write_stderr(p->data, p->size);
    } else if (!c.wasi.write_stdout(p->data, p->size)) {
      c.end_guest = true;
      return Errno::Nospc;
    }
    total += p->size;
  }
  return c.memory.store(c.u32(3), static_cast<std::uint32_t>(total)) ? Errno::Success : Errno::Fault;
}

Errno store_count(WasiCall &c, std::size_t at, ssize_t done) {
  if (done < 0) {
    return from_host(errno);
  }
  return c.memory.store(c.u32(at), static_cast<std::uint32_t>(done)) ? Errno::Success : Errno::Fault;
}

Errno read_file(WasiCall &c, const Descriptor &file, bool at_offset) {
  if (!file.can_read) {
    return Errno::Badf;
  }
  std::vector<iovec> pieces;
  std::uint64_t total = 0;
  if (Errno error = gather(c, c.u32(1), c.u32(2), pieces, total); error != Errno::Success) {
    return error;
  }
  const int n = static_cast<int>(pieces.size());
  if (at_offset) {
    return store_count(c, 4, ::preadv(file.fd, pieces.data(), n, static_cast<off_t>(c.u64(3))));
  }
  return store_count(c, 3, ::readv(file.fd, pieces.data(), n));
}

Errno write_file(WasiCall &c, const Descriptor &file, bool at_offset) {
  if (!file.can_write) {
    return Errno::Badf;
  }
  std::vector<iovec> pieces;
  std::uint64_t total = 0;
  if (Errno error = gather(c, c.u32(1), c.u32(2), pieces, total); error != Errno::Success) {
    return error;
  }
  const bool appends = (file.flags & kFdAppend) != 0; // wherever the guest says: Linux appends for pwrite too
  const off_t wanted = at_offset ? static_cast<off_t>(c.u64(3)) : ::lseek(file.fd, 0, SEEK_CUR);
  struct stat inode {};
  if (wanted < 0 || ::fstat(file.fd, &inode) != 0) {
    return Errno::Inval;
  }
  const off_t start = appends ? inode.st_size : wanted;
  if (Errno error = c.wasi.files().grow(file.fd, static_cast<std::uint64_t>(start) + total); error != Errno::Success) {
    return error;
  }
  const int n = static_cast<int>(pieces.size());
  if (at_offset) {
    return store_count(c, 4, ::pwritev(file.fd, pieces.data(), n, wanted));
  }
  return store_count(c, 3, ::writev(file.fd, pieces.data(), n));
}

Errno fd_read(WasiCall &c) {
  const Descriptor *d = c.wasi.files().get(c.u32(0));
  if (d == nullptr) {
    return Errno::Badf;
  }
  switch (d->kind) {
  case Kind::Stdin:
    return read_stdin(c);
  case Kind::File:
    return read_file(c, *d, false);
  case Kind::Directory:
    return Errno::Isdir;
  default:
    return Errno::Badf;
  }
}

Errno fd_write(WasiCall &c) {
  const Descriptor *d = c.wasi.files().get(c.u32(0));
  if (d == nullptr) {
    return Errno::Badf;
  }
  switch (d->kind) {
  case Kind::Stdout:
  case Kind::Stderr:
    return write_standard(c, d->kind);
  case Kind::File:
    return write_file(c, *d, false);
  case Kind::Directory:
    return Errno::Isdir;
  default:
    return Errno::Badf;
  }
}

Errno fd_pread(WasiCall &c) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_file(c.u32(0), error);
  return d == nullptr ? error : read_file(c, *d, true);
}

Errno fd_pwrite(WasiCall &c) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_file(c.u32(0), error);
  return d == nullptr ? error : write_file(c, *d, true);
}

Errno seek_to(WasiCall &c, std::int64_t offset, int whence, std::size_t result) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_file(c.u32(0), error);
  if (d == nullptr) {
    return error;
  }
  const off_t at = ::lseek(d->fd, offset, whence);
  if (at < 0) {
    return from_host(errno);
  }
  return c.memory.store(c.u32(result), static_cast<std::uint64_t>(at)) ? Errno::Success : Errno::Fault;
}

Errno fd_seek(WasiCall &c) {
  const std::uint32_t whence = c.u32(2); // set, cur, end: the host's numbers
  return whence > 2 ? Errno::Inval : seek_to(c, c.args[1].i64, static_cast<int>(whence), 3);
}

Errno fd_tell(WasiCall &c) { return seek_to(c, 0, SEEK_CUR, 1); }

} // namespace

const WasiEntry kWasiStreams[] = {
    {"fd_read", "iiii", fd_read},   {"fd_write", "iiii", fd_write}, {"fd_pread", "iiiIi", fd_pread},
    {"fd_pwrite", "iiiIi", fd_pwrite}, {"fd_seek", "iIii", fd_seek},   {"fd_tell", "ii", fd_tell},
    {nullptr, nullptr, nullptr},
};

} // namespace edgeagent
