// LiveStates: granule states as they are at this moment, in a file beside the index.
//
// The index has what was flushed. A process that dies takes nothing else with it that
// counts: what its guest was told is written is in the kernel's page cache, data as
// well as these states, and the guest may go on with the next process and never
// write it again. So they are kept in a mapping of a file, which survives the process
// and not the machine: a file of another boot counts for nothing.
//
// Representation: a page with magic, version, boot, scratch and granule count, then
// the words of GranuleStates. Preallocated: a store to it cannot fail. It is made
// under another name and renamed when it is whole.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "common/fd.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

class LiveStates {
 public:
  struct Page {
    uint64_t number = 0;
    std::vector<std::byte> words;  // GranuleStates::kWordsPerPage * 8 bytes
  };

  static std::string path_beside(const std::string& index_path) { return index_path + ".live"; }

  // What a process of this boot has left of that scratch: pages in which anything is
  // set. None: nothing, or of another boot, another scratch or another size.
  static Result<std::vector<Page>> left_behind(const std::string& path, const Uuid& scratch,
                                               uint64_t granule_count);

  // Empty, and not yet under its name. kNoSpace.
  static Result<LiveStates> create(std::string path, const Uuid& scratch, uint64_t granule_count);

  int fd() const noexcept { return fd_.get(); }
  static constexpr uint64_t kWordsOffsetBytes = 4096;

  // From now on it counts, and what was left behind does not.
  Status publish();
  // All of it is in the index.
  void remove() noexcept;

 private:
  LiveStates(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  std::string path_;
  UniqueFd fd_;
};

}  // namespace tidemark
