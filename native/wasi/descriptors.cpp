// What a guest can ask of, or do to, an open descriptor, but for reading and writing (streams.cpp).
#include "stat.hpp"
#include "wasi.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>

namespace edgeagent {

FileType file_type(mode_t mode) {
  if (S_ISREG(mode)) {
    return FileType::RegularFile;
  }
  if (S_ISDIR(mode)) {
    return FileType::Directory;
  }
  return S_ISLNK(mode) ? FileType::SymbolicLink : FileType::Unknown;
}

Errno store_stat(const GuestMemory &memory, std::uint64_t at, const struct stat &inode) {
  const auto ns = [](const timespec &t) {
    return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(t.tv_nsec);
  };
  std::uint8_t *to = memory.at(at, 64);
  if (to == nullptr) {
    return Errno::Fault;
  }
  std::memset(to, 0, 64);
  memory.store(at + 8, static_cast<std::uint64_t>(inode.st_ino));
  memory.store(at + 16, file_type(inode.st_mode));
  memory.store(at + 24, static_cast<std::uint64_t>(inode.st_nlink));
  memory.store(at + 32, static_cast<std::uint64_t>(inode.st_size));
  memory.store(at + 40, ns(inode.st_atim));
  memory.store(at + 48, ns(inode.st_mtim));
  memory.store(at + 56, ns(inode.st_ctim));
  return Errno::Success;
}

Errno file_times(std::uint64_t atime_ns, std::uint64_t mtime_ns, std::uint32_t flags, timespec out[2]) {
  const auto choose = [](std::uint64_t ns, bool set, bool now, timespec &to) {
    to.tv_sec = static_cast<time_t>(ns / 1'000'000'000U);
    to.tv_nsec = static_cast<long>(ns % 1'000'000'000U);
    if (!set) {
      to.tv_nsec = now ? UTIME_NOW : UTIME_OMIT;
    }
    return !(set && now);
  };
  const bool fits = choose(atime_ns, (flags & 1U) != 0, (flags & 2U) != 0, out[0]) &&
                    choose(mtime_ns, (flags & 4U) != 0, (flags & 8U) != 0, out[1]);
  return fits ? Errno::Success : Errno::Inval;
}

namespace {

Errno fd_close(WasiCall &c) { return c.wasi.files().close(c.u32(0)); }
Errno fd_renumber(WasiCall &c) { return c.wasi.files().renumber(c.u32(0), c.u32(1)); }

Errno fd_fdstat_get(WasiCall &c) {
  const Descriptor *d = c.wasi.files().get(c.u32(0));
  if (d == nullptr) {
    return Errno::Badf;
  }
  // Standard streams are of unknown type without seek rights: no guest takes them for a terminal.
  FileType type = FileType::Unknown;
  std::uint64_t rights = kRightPollFdReadwrite | (d->kind == Kind::Stdin ? kRightFdRead : kRightFdWrite);
  if (d->kind == Kind::File || d->kind == Kind::Directory) {
    type = d->kind == Kind::File ? FileType::RegularFile : FileType::Directory;
    rights = kRightsAll;
  }
  const std::uint64_t at = c.u32(1);
  std::uint8_t *to = c.memory.at(at, 24);
  if (to == nullptr) {
    return Errno::Fault;
  }
  std::memset(to, 0, 24);
  c.memory.store(at, type);
  c.memory.store(at + 2, d->flags);
  c.memory.store(at + 8, rights);
  c.memory.store(at + 16, d->kind == Kind::Directory ? kRightsAll : std::uint64_t{0});
  return Errno::Success;
}

Errno fd_fdstat_set_flags(WasiCall &c) {
  Descriptor *d = c.wasi.files().get(c.u32(0));
  if (d == nullptr) {
    return Errno::Badf;
  }
  const auto flags = static_cast<std::uint16_t>(c.u32(1));
  if (d->kind == Kind::File) {
    if (::fcntl(d->fd, F_SETFL, (flags & kFdAppend) != 0 ? O_APPEND : 0) != 0) {
      return from_host(errno);
    }
  }
  d->flags = flags; // streams never block, so that NONBLOCK changes nothing for them
  return Errno::Success;
}

Errno fd_fdstat_set_rights(WasiCall &c) {
  // Rights have left WASI; dropping them is allowed to do nothing.
  return c.wasi.files().get(c.u32(0)) == nullptr ? Errno::Badf : Errno::Success;
}

Errno fd_prestat_get(WasiCall &c) {
  if (c.u32(0) != Files::kRoot || !c.wasi.files().has_scratch() || c.wasi.files().get(Files::kRoot) == nullptr) {
    return Errno::Badf;
  }
  const std::uint64_t at = c.u32(1);
  const bool stored = c.memory.at(at, 8) != nullptr && c.memory.store(at, std::uint32_t{0}) &&
                      c.memory.store(at + 4, std::uint32_t{1}); // a directory whose name has one byte
  return stored ? Errno::Success : Errno::Fault;
}

Errno fd_prestat_dir_name(WasiCall &c) {
  if (c.u32(0) != Files::kRoot || !c.wasi.files().has_scratch() || c.wasi.files().get(Files::kRoot) == nullptr) {
    return Errno::Badf;
  }
  if (c.u32(2) < 1) {
    return Errno::Nametoolong;
  }
  return c.memory.store(c.u32(1), '/') ? Errno::Success : Errno::Fault;
}

Errno fd_filestat_get(WasiCall &c) {
  const Descriptor *d = c.wasi.files().get(c.u32(0));
  if (d == nullptr) {
    return Errno::Badf;
  }
  struct stat inode {};
  if (d->fd >= 0 && ::fstat(d->fd, &inode) != 0) {
    return from_host(errno);
  }
  return store_stat(c.memory, c.u32(1), inode);
}

Errno resize(WasiCall &c, const Descriptor &file, std::uint64_t size) {
  struct stat inode {};
  if (size > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) || ::fstat(file.fd, &inode) != 0) {
    return Errno::Inval;
  }
  const auto before = static_cast<std::uint64_t>(inode.st_size);
  if (Errno error = c.wasi.files().grow(file.fd, size); error != Errno::Success) {
    return error;
  }
  if (::ftruncate(file.fd, static_cast<off_t>(size)) != 0) {
    return from_host(errno);
  }
  if (size < before) {
    c.wasi.files().quota().give(before - size);
  }
  return Errno::Success;
}

Errno fd_filestat_set_size(WasiCall &c) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_file(c.u32(0), error);
  if (d == nullptr) {
    return error;
  }
  return d->can_write ? resize(c, *d, c.u64(1)) : Errno::Badf;
}

Errno fd_allocate(WasiCall &c) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_file(c.u32(0), error);
  if (d == nullptr || !d->can_write) {
    return d == nullptr ? error : Errno::Badf;
  }
  const std::uint64_t end = c.u64(1) + c.u64(2);
  struct stat inode {};
  if (end < c.u64(1) || ::fstat(d->fd, &inode) != 0) {
    return Errno::Inval;
  }
  return end <= static_cast<std::uint64_t>(inode.st_size) ? Errno::Success : resize(c, *d, end);
}

Errno fd_filestat_set_times(WasiCall &c) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get(c.u32(0));
  timespec times[2]{};
  if (d == nullptr || d->fd < 0) {
    return d == nullptr ? Errno::Badf : Errno::Notsup;
  }
  if (error = file_times(c.u64(1), c.u64(2), c.u32(3), times); error != Errno::Success) {
    return error;
  }
  return ::futimens(d->fd, times) == 0 ? Errno::Success : from_host(errno);
}

Errno fd_advise(WasiCall &c) {
  Errno error = Errno::Success;
  return c.wasi.files().get_file(c.u32(0), error) == nullptr ? error : Errno::Success;
}

// Scratch is wiped after the call, so that there is nothing to make durable.
Errno fd_sync(WasiCall &c) { return c.wasi.files().get(c.u32(0)) == nullptr ? Errno::Badf : Errno::Success; }

Errno list(Descriptor &directory) {
  directory.listing.clear();
  const int copy = ::openat(directory.fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *stream = copy < 0 ? nullptr : ::fdopendir(copy);
  if (stream == nullptr) {
    return from_host(errno);
  }
  while (const dirent *entry = ::readdir(stream)) {
    const FileType type = entry->d_type == DT_REG   ? FileType::RegularFile
                          : entry->d_type == DT_DIR ? FileType::Directory
                          : entry->d_type == DT_LNK ? FileType::SymbolicLink
                                                    : FileType::Unknown;
    directory.listing.push_back({entry->d_name, entry->d_ino, type});
  }
  ::closedir(stream);
  std::sort(directory.listing.begin(), directory.listing.end(),
            [](const DirEntry &a, const DirEntry &b) { return a.name < b.name; });
  return Errno::Success;
}

Errno fd_readdir(WasiCall &c) {
  Errno error = Errno::Success;
  Descriptor *d = c.wasi.files().get_directory(c.u32(0), error);
  std::uint8_t *to = c.memory.at(c.u32(1), c.u32(2));
  if (d == nullptr || to == nullptr) {
    return d == nullptr ? error : Errno::Fault;
  }
  const std::uint64_t cookie = c.u64(3);
  if (cookie == 0) {
    if (error = list(*d); error != Errno::Success) {
      return error;
    }
  }
  const std::uint32_t room = c.u32(2);
  std::uint32_t used = 0;
  for (std::uint64_t i = cookie; i < d->listing.size() && used < room; ++i) {
    const DirEntry &entry = d->listing[i];
    std::string record(24, '\0');
    const std::uint64_t next = i + 1;
    const auto name_bytes = static_cast<std::uint32_t>(entry.name.size());
    std::memcpy(record.data(), &next, 8);
    std::memcpy(record.data() + 8, &entry.inode, 8);
    std::memcpy(record.data() + 16, &name_bytes, 4);
    record[20] = static_cast<char>(entry.type);
    record += entry.name;
    // A record that does not fit is cut: the guest sees a full buffer and asks again with more room.
    const std::uint32_t n = std::min(room - used, static_cast<std::uint32_t>(record.size()));
    std::memcpy(to + used, record.data(), n);
    used += n;
  }
  return c.memory.store(c.u32(4), used) ? Errno::Success : Errno::Fault;
}

} // namespace

const WasiEntry kWasiDescriptors[] = {
    {"fd_advise", "iIIi", fd_advise},
    {"fd_allocate", "iII", fd_allocate},
    {"fd_close", "i", fd_close},
    {"fd_datasync", "i", fd_sync},
    {"fd_fdstat_get", "ii", fd_fdstat_get},
    {"fd_fdstat_set_flags", "ii", fd_fdstat_set_flags},
    {"fd_fdstat_set_rights", "iII", fd_fdstat_set_rights},
    {"fd_filestat_get", "ii", fd_filestat_get},
    {"fd_filestat_set_size", "iI", fd_filestat_set_size},
    {"fd_filestat_set_times", "iIIi", fd_filestat_set_times},
    {"fd_prestat_dir_name", "iii", fd_prestat_dir_name},
    {"fd_prestat_get", "ii", fd_prestat_get},
    {"fd_readdir", "iiiIi", fd_readdir},
    {"fd_renumber", "ii", fd_renumber},
    {"fd_sync", "i", fd_sync},
    {nullptr, nullptr, nullptr},
};

} // namespace edgeagent
