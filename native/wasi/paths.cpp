// The path_* functions: everything happens beneath a directory descriptor, and every new byte and inode is charged.
#include "stat.hpp"
#include "wasi.hpp"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

namespace edgeagent {

namespace {

// A guest's (directory descriptor, path) pair, resolved up to its last component.
Errno parent_of(WasiCall &c, std::uint32_t fd, std::uint32_t ptr, std::uint32_t count, Parent &out) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_directory(fd, error);
  std::string_view path;
  if (d == nullptr) {
    return error == Errno::Notdir && !c.wasi.files().has_scratch() ? Errno::Notcapable : error;
  }
  if (!c.memory.text(ptr, count, path)) {
    return Errno::Fault;
  }
  return Files::open_parent(d->fd, path, out);
}

Errno whole_path(WasiCall &c, std::uint32_t fd, std::uint32_t ptr, std::uint32_t count, int &directory,
                 std::string &path) {
  Errno error = Errno::Success;
  const Descriptor *d = c.wasi.files().get_directory(fd, error);
  std::string_view text;
  if (d == nullptr) {
    return error;
  }
  if (!c.memory.text(ptr, count, text)) {
    return Errno::Fault;
  }
  directory = d->fd;
  return guest_path(text, path);
}

Errno result(int host) { return host == 0 ? Errno::Success : from_host(errno); }

// Opens the inode itself, following a final link or not.
int open_inode(int directory, const std::string &path, std::uint32_t lookup, Errno &error) {
  const int no_follow = (lookup & kLookupSymlinkFollow) != 0 ? 0 : O_NOFOLLOW;
  return Files::open_beneath(directory, path, O_PATH | no_follow, error);
}

Errno path_create_directory(WasiCall &c) {
  Parent parent;
  if (Errno error = parent_of(c, c.u32(0), c.u32(1), c.u32(2), parent); error != Errno::Success) {
    return error;
  }
  if (!c.wasi.files().quota().take(Quota::kNameBytes)) {
    return Errno::Nospc;
  }
  const Errno error = result(::mkdirat(parent.fd, parent.base.c_str(), 0700));
  if (error != Errno::Success) {
    c.wasi.files().quota().give(Quota::kNameBytes);
  }
  return error;
}

Errno path_filestat_get(WasiCall &c) {
  int directory = -1;
  std::string path;
  if (Errno error = whole_path(c, c.u32(0), c.u32(2), c.u32(3), directory, path); error != Errno::Success) {
    return error;
  }
  Errno error = Errno::Success;
  const int fd = open_inode(directory, path, c.u32(1), error);
  if (fd < 0) {
    return error;
  }
  struct stat inode {};
  error = result(::fstat(fd, &inode));
  ::close(fd);
  return error == Errno::Success ? store_stat(c.memory, c.u32(4), inode) : error;
}

Errno path_filestat_set_times(WasiCall &c) {
  timespec times[2]{};
  Parent parent;
  if (Errno error = file_times(c.u64(4), c.u64(5), c.u32(6), times); error != Errno::Success) {
    return error;
  }
  if (Errno error = parent_of(c, c.u32(0), c.u32(2), c.u32(3), parent); error != Errno::Success) {
    return error;
  }
  // The kernel does not look at the path where both times are left as they are.
  struct stat inode {};
  if (::fstatat(parent.fd, parent.base.c_str(), &inode, AT_SYMLINK_NOFOLLOW) != 0) {
    return from_host(errno);
  }
  // Never through a final link: it could lead out of the scratch directory.
  return result(::utimensat(parent.fd, parent.base.c_str(), times, AT_SYMLINK_NOFOLLOW));
}

Errno path_link(WasiCall &c) {
  Parent from;
  Parent to;
  if (Errno error = parent_of(c, c.u32(0), c.u32(2), c.u32(3), from); error != Errno::Success) {
    return error;
  }
  if (Errno error = parent_of(c, c.u32(4), c.u32(5), c.u32(6), to); error != Errno::Success) {
    return error;
  }
  if (!c.wasi.files().quota().take(Quota::kNameBytes)) {
    return Errno::Nospc;
  }
  const Errno error = result(::linkat(from.fd, from.base.c_str(), to.fd, to.base.c_str(), 0));
  if (error != Errno::Success) {
    c.wasi.files().quota().give(Quota::kNameBytes);
  }
  return error;
}

Errno path_readlink(WasiCall &c) {
  Parent parent;
  if (Errno error = parent_of(c, c.u32(0), c.u32(1), c.u32(2), parent); error != Errno::Success) {
    return error;
  }
  std::uint8_t *to = c.memory.at(c.u32(3), c.u32(4));
  if (to == nullptr) {
    return Errno::Fault;
  }
  const ssize_t n = ::readlinkat(parent.fd, parent.base.c_str(), reinterpret_cast<char *>(to), c.u32(4));
  if (n < 0) {
    return from_host(errno);
  }
  return c.memory.store(c.u32(5), static_cast<std::uint32_t>(n)) ? Errno::Success : Errno::Fault;
}

Errno remove(WasiCall &c, int flags) {
  Parent parent;
  if (Errno error = parent_of(c, c.u32(0), c.u32(1), c.u32(2), parent); error != Errno::Success) {
    return error;
  }
  struct stat inode {};
  if (::fstatat(parent.fd, parent.base.c_str(), &inode, AT_SYMLINK_NOFOLLOW) != 0) {
    return from_host(errno);
  }
  if (flags == 0 && S_ISDIR(inode.st_mode)) {
    return Errno::Isdir;
  }
  if (::unlinkat(parent.fd, parent.base.c_str(), flags) != 0) {
    return from_host(errno);
  }
  c.wasi.files().forget(inode, c.wasi.files().is_open(inode));
  return Errno::Success;
}

Errno path_unlink_file(WasiCall &c) { return remove(c, 0); }
Errno path_remove_directory(WasiCall &c) { return remove(c, AT_REMOVEDIR); }

Errno path_rename(WasiCall &c) {
  Parent from;
  Parent to;
  if (Errno error = parent_of(c, c.u32(0), c.u32(1), c.u32(2), from); error != Errno::Success) {
    return error;
  }
  if (Errno error = parent_of(c, c.u32(3), c.u32(4), c.u32(5), to); error != Errno::Success) {
    return error;
  }
  struct stat source {};
  struct stat target {};
  const bool has_source = ::fstatat(from.fd, from.base.c_str(), &source, AT_SYMLINK_NOFOLLOW) == 0;
  const bool replaces = ::fstatat(to.fd, to.base.c_str(), &target, AT_SYMLINK_NOFOLLOW) == 0;
  if (::renameat(from.fd, from.base.c_str(), to.fd, to.base.c_str()) != 0) {
    return from_host(errno);
  }
  if (replaces && has_source && source.st_ino != target.st_ino) {
    c.wasi.files().forget(target, c.wasi.files().is_open(target));
  }
  return Errno::Success;
}

Errno path_symlink(WasiCall &c) {
  std::string_view text;
  std::string target;
  Parent parent;
  if (!c.memory.text(c.u32(0), c.u32(1), text)) {
    return Errno::Fault;
  }
  if (Errno error = guest_path(text, target); error != Errno::Success) {
    return error;
  }
  if (target.front() == '/') {
    return Errno::Perm; // could never be followed
  }
  if (Errno error = parent_of(c, c.u32(2), c.u32(3), c.u32(4), parent); error != Errno::Success) {
    return error;
  }
  if (!c.wasi.files().quota().take(Quota::kNameBytes)) {
    return Errno::Nospc;
  }
  const Errno error = result(::symlinkat(target.c_str(), parent.fd, parent.base.c_str()));
  if (error != Errno::Success) {
    c.wasi.files().quota().give(Quota::kNameBytes);
  }
  return error;
}

// O_TRUNC is done by hand, so that the quota sees what was given up.
Errno truncate_opened(WasiCall &c, int fd) {
  struct stat inode {};
  if (::fstat(fd, &inode) != 0 || ::ftruncate(fd, 0) != 0) {
    return from_host(errno);
  }
  c.wasi.files().quota().give(static_cast<std::uint64_t>(inode.st_size));
  return Errno::Success;
}

int host_flags(WasiCall &c, bool reads, bool writes) {
  const std::uint32_t open = c.u32(4);
  int flags = writes ? (reads ? O_RDWR : O_WRONLY) : O_RDONLY;
  flags |= (open & kOpenDirectory) != 0 ? O_DIRECTORY : 0;
  flags |= (c.u32(1) & kLookupSymlinkFollow) != 0 ? 0 : O_NOFOLLOW;
  flags |= (c.u32(7) & kFdAppend) != 0 ? O_APPEND : 0;
  return flags | O_NONBLOCK;
}

// Opens what is there, else creates it if asked; a new inode is charged before it exists.
int open_or_create(WasiCall &c, int directory, const std::string &path, int flags, Errno &error) {
  const std::uint32_t open = c.u32(4);
  const bool creates = (open & kOpenCreat) != 0;
  const bool exclusive = creates && (open & kOpenExcl) != 0;
  int fd = exclusive ? -1 : Files::open_beneath(directory, path, flags, error);
  if (fd >= 0 || !creates || (!exclusive && error != Errno::Noent)) {
    return fd;
  }
  if (!c.wasi.files().quota().take(Quota::kNameBytes)) {
    error = Errno::Nospc;
    return -1;
  }
  error = Errno::Success;
  fd = Files::open_beneath(directory, path, flags | O_CREAT | O_EXCL, error);
  if (fd < 0) {
    c.wasi.files().quota().give(Quota::kNameBytes);
  }
  return fd;
}

Errno path_open(WasiCall &c) {
  int directory = -1;
  std::string path;
  if (Errno error = whole_path(c, c.u32(0), c.u32(2), c.u32(3), directory, path); error != Errno::Success) {
    return error;
  }
  const std::uint64_t rights = c.u64(5);
  const bool truncates = (c.u32(4) & kOpenTrunc) != 0;
  const bool reads = (rights & (kRightFdRead | kRightFdReaddir)) != 0;
  const bool writes =
      truncates || (rights & (kRightFdWrite | kRightFdDatasync | kRightFdAllocate | kRightFdFilestatSetSize)) != 0;
  const bool wants_directory = (c.u32(4) & kOpenDirectory) != 0;
  Errno error = Errno::Success;
  int fd = open_or_create(c, directory, path, host_flags(c, reads, writes && !wants_directory), error);
  if (fd < 0 && error == Errno::Isdir && !truncates && (c.u32(4) & kOpenCreat) == 0) {
    // A directory opened with every right (as libraries do): read-only is what there is.
    fd = open_or_create(c, directory, path, host_flags(c, true, false), error);
  }
  if (fd < 0) {
    return error;
  }
  struct stat inode {};
  error = result(::fstat(fd, &inode));
  if (error == Errno::Success && truncates) {
    error = truncate_opened(c, fd);
  }
  if (error != Errno::Success) {
    ::close(fd);
    return error;
  }
  Descriptor opened;
  opened.kind = S_ISDIR(inode.st_mode) ? Kind::Directory : Kind::File;
  opened.fd = fd;
  opened.flags = static_cast<std::uint16_t>(c.u32(7));
  opened.can_read = reads || !writes;
  opened.can_write = writes;
  std::uint32_t number = 0;
  if (error = c.wasi.files().add(std::move(opened), number); error != Errno::Success) {
    return error;
  }
  return c.memory.store(c.u32(8), number) ? Errno::Success : Errno::Fault;
}

} // namespace

const WasiEntry kWasiPaths[] = {
    {"path_create_directory", "iii", path_create_directory},
    {"path_filestat_get", "iiiii", path_filestat_get},
    {"path_filestat_set_times", "iiiiIIi", path_filestat_set_times},
    {"path_link", "iiiiiii", path_link},
    {"path_open", "iiiiiIIii", path_open},
    {"path_readlink", "iiiiii", path_readlink},
    {"path_remove_directory", "iii", path_remove_directory},
    {"path_rename", "iiiiii", path_rename},
    {"path_symlink", "iiiii", path_symlink},
    {"path_unlink_file", "iii", path_unlink_file},
    {nullptr, nullptr, nullptr},
};

} // namespace edgeagent
