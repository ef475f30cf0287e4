// ScratchIndex: a scratch's granule states on disk, and one flush cycle's part
// of writing them.
//
// A cycle's changed pages go to one of two journals in turn; once the journal is
// durable the cycle is committed, and the pages are copied to their places. The
// next cycle's sync makes the copies durable, and only the cycle after that
// overwrites the journal. So a torn page always has a whole one in a journal,
// and a page that is damaged without that is known to be damaged.
//
// Not thread-safe: one cycle at a time, its steps one after another.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device/block_device.h"
#include "layers/granule_states.h"
#include "layers/scratch_format.h"

namespace tidemark {

class ScratchIndex {
 public:
  // Makes an empty index on a device of zeroes, durably. Blocks.
  static Status format(BlockDevice& device, const ScratchIdentity& identity,
                       const std::string& what);

  // What it was made for; kCorrupt, kVersion, kTruncated. Blocks.
  static Result<ScratchHeader> read_header(BlockDevice& device, const std::string& what);

  // Reads the states; kForeign, kCorrupt, kVersion, kTruncated. Blocks. The states
  // outlive the index.
  static Result<std::unique_ptr<ScratchIndex>> load(std::shared_ptr<BlockDevice> device,
                                                    const ScratchIdentity& identity,
                                                    GranuleStates& states, const std::string& what);

  BlockDevice& device() noexcept { return *device_; }

  // Takes the dirty pages; before the data's sync, so that it covers what they
  // say. 0 or ENOMEM.
  int begin_cycle() noexcept;
  bool has_changes() const noexcept { return cycle_.page_count > 0; }
  void make_journal_write(IoRequest& request) noexcept;
  void commit() noexcept;
  // The next copy to its place; false when there is none left.
  bool make_copy_write(IoRequest& request) noexcept;
  void copy_failed(const IoRequest& request) noexcept;
  // Instead of commit(): what this cycle and the one before took is dirty again.
  void abandon_cycle() noexcept;

 private:
  struct Pages {
    std::unique_ptr<std::byte[]> bytes;  // a journal's head, then the pages
    uint64_t page_count = 0;
    std::byte* page(uint64_t index) const noexcept {
      return bytes.get() + kScratchPageBytes * (1 + index);
    }
    uint64_t number_of(uint64_t index) const noexcept;
  };

  ScratchIndex(std::shared_ptr<BlockDevice> device, const ScratchGeometry& geometry, uint32_t seed,
               GranuleStates& states);
  void take_dirty_pages() noexcept;
  void mark_dirty(const Pages& pages) noexcept;

  friend class ScratchLoader;

  const std::shared_ptr<BlockDevice> device_;
  const ScratchGeometry geometry_;
  const uint32_t seed_;
  GranuleStates& states_;
  std::vector<bool> written_;  // by page: was it ever part of a cycle
  uint64_t written_count_ = 0;
  uint64_t sequence_ = 0;  // of the latest cycle, committed or not
  unsigned journal_ = 0;   // the next to be written
  Pages cycle_;
  Pages previous_;  // of the last committed cycle: copied, perhaps not durable
  uint64_t copied_count_ = 0;
};

}  // namespace tidemark
