#include "files.hpp"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace edgeagent {

namespace {

constexpr std::size_t kPathMax = 4096;

int openat2_beneath(int directory, const char *path, int flags) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.mode = (flags & O_CREAT) != 0 ? 0600 : 0;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  return static_cast<int>(syscall(SYS_openat2, directory, path, &how, sizeof(how)));
}

} // namespace

Errno from_host(int host_errno) {
  switch (host_errno) {
  case 0:
    return Errno::Success;
  case E2BIG:
    return Errno::TooBig;
  case EACCES:
    return Errno::Access;
  case EAGAIN:
    return Errno::Again;
  case EBADF:
    return Errno::Badf;
  case EBUSY:
    return Errno::Busy;
  case EDQUOT:
    return Errno::Dquot;
  case EEXIST:
    return Errno::Exist;
  case EFAULT:
    return Errno::Fault;
  case EFBIG:
    return Errno::Fbig;
  case EINVAL:
    return Errno::Inval;
  case EISDIR:
    return Errno::Isdir;
  case ELOOP:
    return Errno::Loop;
  case EMFILE:
    return Errno::Mfile;
  case EMLINK:
    return Errno::Mlink;
  case ENAMETOOLONG:
    return Errno::Nametoolong;
  case ENFILE:
    return Errno::Nfile;
  case ENOENT:
    return Errno::Noent;
  case ENOMEM:
    return Errno::Nomem;
  case ENOSPC:
    return Errno::Nospc;
  case ENOTDIR:
    return Errno::Notdir;
  case ENOTEMPTY:
    return Errno::Notempty;
  case EPERM:
  case EXDEV: // RESOLVE_BENEATH says EXDEV where a path would leave the directory
    return Errno::Perm;
  case EROFS:
    return Errno::Rofs;
  case ESPIPE:
    return Errno::Spipe;
  default:
    return Errno::Io;
  }
}

Errno guest_path(std::string_view text, std::string &out) {
  if (text.size() >= kPathMax) {
    return Errno::Nametoolong;
  }
  if (text.find('\0') != std::string_view::npos) {
    return Errno::Inval;
  }
  if (text.empty()) {
    return Errno::Noent;
  }
  out.assign(text);
  return Errno::Success;
}

Parent::~Parent() {
  if (is_owned) {
    ::close(fd);
  }
}

Files::Files() {
  table_.resize(kRoot);
  table_[0].kind = Kind::Stdin;
  table_[1].kind = Kind::Stdout;
  table_[2].kind = Kind::Stderr;
}

Files::~Files() {
  for (const Descriptor &d : table_) { // from 0: a guest may renumber a file to where a stream was
    if (d.fd >= 0 && d.fd != root_fd_) {
      ::close(d.fd);
    }
  }
  if (root_fd_ >= 0) {
    empty_directory(root_fd_);
    ::close(root_fd_);
    ::rmdir(scratch_path_.c_str());
  }
}

std::string Files::open_scratch(const std::string &parent, std::uint64_t bytes_max) {
  if (parent.empty()) {
    return "";
  }
  std::string path = parent + "/call-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return "cannot make a scratch directory in " + parent + ": " + std::strerror(errno);
  }
  scratch_path_ = path;
  root_fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  const int probe = root_fd_ < 0 ? -1 : openat2_beneath(root_fd_, ".", O_RDONLY | O_DIRECTORY);
  if (probe < 0) {
    return std::string("scratch needs openat2 (Linux 5.6 or later): ") + std::strerror(errno);
  }
  ::close(probe);
  quota_.set_max(bytes_max);
  Descriptor root;
  root.kind = Kind::Directory;
  root.fd = root_fd_;
  table_.push_back(std::move(root));
  return "";
}

Descriptor *Files::get(std::uint32_t fd) {
  return fd < table_.size() && table_[fd].kind != Kind::Closed ? &table_[fd] : nullptr;
}

Descriptor *Files::get_file(std::uint32_t fd, Errno &error) {
  Descriptor *found = get(fd);
  if (found == nullptr) {
    error = Errno::Badf;
  } else if (found->kind == Kind::Directory) {
    error = Errno::Isdir;
    found = nullptr;
  } else if (found->kind != Kind::File) {
    error = Errno::Spipe;
    found = nullptr;
  }
  return found;
}

Descriptor *Files::get_directory(std::uint32_t fd, Errno &error) {
  Descriptor *found = get(fd);
  if (found == nullptr) {
    error = Errno::Badf;
  } else if (found->kind != Kind::Directory) {
    error = Errno::Notdir;
    found = nullptr;
  }
  return found;
}

Errno Files::add(Descriptor descriptor, std::uint32_t &fd) {
  std::size_t at = 0;
  while (at < table_.size() && table_[at].kind != Kind::Closed) {
    ++at;
  }
  if (at >= kDescriptorsMax) {
    ::close(descriptor.fd);
    return Errno::Mfile;
  }
  if (at == table_.size()) {
    table_.emplace_back();
  }
  table_[at] = std::move(descriptor);
  fd = static_cast<std::uint32_t>(at);
  return Errno::Success;
}

Errno Files::close(std::uint32_t fd) {
  Descriptor *found = get(fd);
  if (found == nullptr) {
    return Errno::Badf;
  }
  const int host = found->fd;
  const bool is_file = found->kind == Kind::File;
  *found = Descriptor();
  if (host < 0 || host == root_fd_) {
    return Errno::Success;
  }
  struct stat inode {};
  if (is_file && ::fstat(host, &inode) == 0 && inode.st_nlink == 0 && !is_open(inode)) {
    quota_.give(static_cast<std::uint64_t>(inode.st_size));
  }
  ::close(host);
  return Errno::Success;
}

Errno Files::renumber(std::uint32_t from, std::uint32_t to) {
  if (get(from) == nullptr || get(to) == nullptr) {
    return Errno::Badf;
  }
  if (from != to) {
    close(to);
    table_[to] = std::move(table_[from]);
    table_[from] = Descriptor();
  }
  return Errno::Success;
}

int Files::open_beneath(int directory, const std::string &path, int flags, Errno &error) {
  const int fd = openat2_beneath(directory, path.c_str(), flags);
  if (fd < 0) {
    error = from_host(errno);
  }
  return fd;
}

Errno Files::open_parent(int directory, std::string_view path, Parent &out) {
  std::string text;
  if (Errno error = guest_path(path, text); error != Errno::Success) {
    return error;
  }
  const bool slash_at_end = text.size() > 1 && text.back() == '/';
  while (text.size() > 1 && text.back() == '/') {
    text.pop_back();
  }
  const std::size_t cut = text.rfind('/');
  out.base = cut == std::string::npos ? text : text.substr(cut + 1);
  if (out.base.empty() || out.base == "." || out.base == "..") {
    return out.base == ".." ? Errno::Perm : Errno::Inval;
  }
  if (slash_at_end) {
    out.base += '/'; // only directories may be named so: the kernel checks it
  }
  if (cut == std::string::npos) {
    out.fd = directory;
    return Errno::Success;
  }
  Errno error = Errno::Success;
  // A leading "/" alone is left for openat2 to refuse.
  out.fd = open_beneath(directory, cut == 0 ? "/" : text.substr(0, cut), O_PATH | O_DIRECTORY, error);
  out.is_owned = out.fd >= 0;
  return error;
}

bool Files::is_open(const struct stat &inode) const {
  for (const Descriptor &d : table_) {
    struct stat other {};
    if (d.kind == Kind::File && ::fstat(d.fd, &other) == 0 && other.st_ino == inode.st_ino) {
      return true;
    }
  }
  return false;
}

Errno Files::grow(int fd, std::uint64_t end) {
  struct stat inode {};
  if (::fstat(fd, &inode) != 0) {
    return from_host(errno);
  }
  const auto size = static_cast<std::uint64_t>(inode.st_size);
  return end <= size || quota_.take(end - size) ? Errno::Success : Errno::Nospc;
}

void Files::forget(const struct stat &before, bool open) {
  quota_.give(Quota::kNameBytes);
  if (S_ISREG(before.st_mode) && before.st_nlink <= 1 && !open) {
    quota_.give(static_cast<std::uint64_t>(before.st_size));
  }
}

bool empty_directory(int directory) {
  // Subdirectories are emptied by moving what they hold up to the top, so depth costs no stack and no descriptors.
  bool moved = true;
  unsigned serial = 0;
  for (int round = 0; moved && round < 1'000'000; ++round) {
    moved = false;
    const int copy = ::openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *top = copy < 0 ? nullptr : ::fdopendir(copy);
    if (top == nullptr) {
      return false;
    }
    while (const dirent *entry = ::readdir(top)) {
      const char *name = entry->d_name;
      if (std::strcmp(name, ".") == 0 || std::strcmp(name, "..") == 0 || ::unlinkat(directory, name, 0) == 0 ||
          ::unlinkat(directory, name, AT_REMOVEDIR) == 0) {
        continue;
      }
      const int inner = ::openat(directory, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
      DIR *children = inner < 0 ? nullptr : ::fdopendir(inner);
      if (children == nullptr) {
        continue;
      }
      while (const dirent *child = ::readdir(children)) {
        if (std::strcmp(child->d_name, ".") != 0 && std::strcmp(child->d_name, "..") != 0) {
          const std::string to = ".gone-" + std::to_string(serial++);
          moved = ::unlinkat(inner, child->d_name, 0) == 0 ||
                  ::renameat(inner, child->d_name, directory, to.c_str()) == 0 || moved;
        }
      }
      ::closedir(children);
      ::unlinkat(directory, name, AT_REMOVEDIR);
    }
    ::closedir(top);
  }
  return true;
}

} // namespace edgeagent
