// A directory of a test's own, and sparse files in it; gone with the object.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "common/fd.h"

namespace tidemark {

class ScratchDirectory {
 public:
  ScratchDirectory() {
    std::string name = std::filesystem::temp_directory_path() / "tidemark-test-XXXXXX";
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~ScratchDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchDirectory(const ScratchDirectory&) = delete;
  ScratchDirectory& operator=(const ScratchDirectory&) = delete;

  const std::string& path() const { return path_; }

  // A new sparse file; its path.
  std::string make_file(uint64_t size_bytes) {
    std::string path = path_ + "/" + std::to_string(++file_count_) + ".img";
    const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    REQUIRE(fd.is_open());
    REQUIRE(::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) == 0);
    return path;
  }

 private:
  std::string path_;
  int file_count_ = 0;
};

}  // namespace tidemark
