// The descriptor table of one `command` invocation, and its private scratch directory with a byte quota.
//
// Every path is resolved by openat2(RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS) from a directory descriptor, so neither
// "..", an absolute path nor a symbolic link can leave the scratch directory.
#pragma once

#include "errno.hpp"

#include <sys/stat.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgeagent {

enum class Kind : std::uint8_t { Closed, Stdin, Stdout, Stderr, File, Directory };

struct DirEntry {
  std::string name;
  std::uint64_t inode;
  FileType type;
};

struct Descriptor {
  Kind kind = Kind::Closed;
  int fd = -1;
  std::uint16_t flags = 0;
  bool can_read = false;
  bool can_write = false;
  std::vector<DirEntry> listing; // snapshot taken when a directory is read from its start
};

// What a scratch directory may hold. A file's length counts, sparse or not; each name counts as 4 KiB, so that
// empty files, links and directories are bounded too.
class Quota {
public:
  static constexpr std::uint64_t kNameBytes = 4096;

  void set_max(std::uint64_t bytes) { max_ = bytes; }
  bool take(std::uint64_t bytes) {
    if (bytes > max_ - used_) {
      return false;
    }
    used_ += bytes;
    return true;
  }
  void give(std::uint64_t bytes) { used_ -= bytes < used_ ? bytes : used_; }

private:
  std::uint64_t max_ = 0;
  std::uint64_t used_ = 0;
};

// A directory descriptor of the host and the last component of a guest's path in it.
struct Parent {
  int fd = -1;
  bool is_owned = false;
  std::string base;

  Parent() = default;
  Parent(const Parent &) = delete;
  Parent &operator=(const Parent &) = delete;
  ~Parent();
};

class Files {
public:
  static constexpr std::uint32_t kRoot = 3;
  static constexpr std::size_t kDescriptorsMax = 256;

  Files();
  Files(const Files &) = delete;
  Files &operator=(const Files &) = delete;
  ~Files();

  std::string open_scratch(const std::string &parent, std::uint64_t bytes_max);
  bool has_scratch() const { return root_fd_ >= 0; }

  Descriptor *get(std::uint32_t fd);
  Descriptor *get_file(std::uint32_t fd, Errno &error);
  Descriptor *get_directory(std::uint32_t fd, Errno &error);
  Errno add(Descriptor descriptor, std::uint32_t &fd);
  Errno close(std::uint32_t fd);
  Errno renumber(std::uint32_t from, std::uint32_t to);

  // Opens beneath the directory; `flags` are the host's. Returns the host descriptor, or -1 with `error` set.
  static int open_beneath(int directory, const std::string &path, int flags, Errno &error);
  static Errno open_parent(int directory, std::string_view path, Parent &out);

  Quota &quota() { return quota_; }
  // Charges growth of a regular file to `end` bytes before it is written.
  Errno grow(int fd, std::uint64_t end);
  // Gives back what a removed name held: itself, and the file's bytes when they are gone with it (those of a file
  // that is still open are given back when it is closed). `before`: as it was while it had the name.
  void forget(const struct stat &before, bool is_open);
  bool is_open(const struct stat &inode) const;

private:
  std::string scratch_path_;
  int root_fd_ = -1;
  std::vector<Descriptor> table_;
  Quota quota_;
};

// Copies a guest's path; refuses embedded NUL and over-long ones.
Errno guest_path(std::string_view text, std::string &out);

// Removes everything inside the directory, however deep, without recursion. Returns false when something stayed.
bool empty_directory(int directory);

} // namespace edgeagent
