// What the bitmap tests share: a directory of their own, a bitmap's file edited
// as damage would, and a map's content read out the slow way.
#pragma once

#include <doctest/doctest.h>
#include <fcntl.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "bitmap/dirty_bitmap.h"
#include "common/byte_order.h"
#include "common/crc32c.h"
#include "common/fd.h"

namespace tidemark {

class TempDirectory {
 public:
  explicit TempDirectory(
      const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string name = (parent / "bitmap-XXXXXX").string();
    REQUIRE(::mkdtemp(name.data()) != nullptr);
    path_ = name;
  }
  ~TempDirectory() { std::filesystem::remove_all(path_); }
  TempDirectory(const TempDirectory&) = delete;
  TempDirectory& operator=(const TempDirectory&) = delete;

  std::string file(const std::string& name) const { return path_ / name; }
  size_t entry_count() const {
    return static_cast<size_t>(std::distance(std::filesystem::directory_iterator(path_), {}));
  }

 private:
  std::filesystem::path path_;
};

// For tests of content, not of durability: a sync costs nothing in memory.
inline std::filesystem::path memory_directory() {
  const std::filesystem::path shared = "/dev/shm";
  return ::access(shared.c_str(), W_OK) == 0 ? shared : std::filesystem::temp_directory_path();
}

inline const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
inline const Uuid kReplicaA = *Uuid::parse("a0000000-0000-4000-8000-000000000001");
inline const Uuid kReplicaB = *Uuid::parse("b0000000-0000-4000-8000-000000000002");

using BitmapPtr = std::unique_ptr<DirtyBitmap>;

inline BitmapPtr create_bitmap(const std::string& path, uint64_t disk_size_bytes,
                               uint32_t granularity_bytes = 4096) {
  auto made = DirtyBitmap::create(path, {kDisk, disk_size_bytes, granularity_bytes});
  INFO(made.status().message());
  REQUIRE(made.is_ok());
  return std::move(made).value();
}

inline BitmapPtr open_bitmap(const std::string& path, uint64_t disk_size_bytes) {
  auto opened = DirtyBitmap::open(path, kDisk, disk_size_bytes);
  INFO(opened.status().message());
  REQUIRE(opened.is_ok());
  return std::move(opened).value();
}

inline ErrorCode open_error(const std::string& path, uint64_t disk_size_bytes,
                            const Uuid& disk = kDisk) {
  return DirtyBitmap::open(path, disk, disk_size_bytes).status().code();
}

inline uint32_t add_target(DirtyBitmap& bitmap, const Uuid& id) {
  const auto slot = bitmap.add_target(id);
  INFO(slot.status().message());
  REQUIRE(slot.is_ok());
  return slot.value();
}

inline void require_ok(const Status& status) {
  INFO(status.message());
  REQUIRE(status.is_ok());
}

inline std::set<uint64_t> blocks_of(const DirtyBitmap& bitmap, MapId map) {
  std::set<uint64_t> blocks;
  for (uint64_t block = 0; block < bitmap.block_count(); ++block) {
    if (bitmap.is_dirty(map, block)) blocks.insert(block);
  }
  return blocks;
}

// Overwrites bytes of a file that nobody has open.
inline void write_at(const std::string& path, uint64_t offset_bytes, const void* bytes,
                     size_t length_bytes) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::pwrite(fd.get(), bytes, length_bytes, static_cast<off_t>(offset_bytes)) ==
          static_cast<ssize_t>(length_bytes));
}

inline void flip_bit(const std::string& path, uint64_t offset_bytes, unsigned bit) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  uint8_t byte = 0;
  REQUIRE(::pread(fd.get(), &byte, 1, static_cast<off_t>(offset_bytes)) == 1);
  byte = static_cast<uint8_t>(byte ^ (1U << bit));
  REQUIRE(::pwrite(fd.get(), &byte, 1, static_cast<off_t>(offset_bytes)) == 1);
}

// Changes the header's sector and makes its checksum hold again.
inline void edit_header(const std::string& path, const std::function<void(uint8_t*)>& edit) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  uint8_t sector[512];
  REQUIRE(::pread(fd.get(), sector, sizeof sector, 0) == sizeof sector);
  edit(sector);
  store_le<uint32_t>(sector + 508, crc32c(sector, 508));
  REQUIRE(::pwrite(fd.get(), sector, sizeof sector, 0) == sizeof sector);
}

}  // namespace tidemark
