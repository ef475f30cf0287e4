#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "layers/scratch_index.h"

namespace tidemark {

// Reads an index back, once, at open: the pages in place, and over them those of
// the journals that are whole. What neither explains is damage.
class ScratchLoader {
 public:
  ScratchLoader(std::shared_ptr<BlockDevice> device, const ScratchIdentity& identity,
                GranuleStates& states, std::string what)
      : device_(std::move(device)),
        identity_(identity),
        geometry_(ScratchGeometry::of(identity)),
        states_(states),
        what_(std::move(what)) {}

  Result<std::unique_ptr<ScratchIndex>> load();

 private:
  struct Journal {
    bool whole = false;
    unsigned number = 0;
    ScratchJournal head;
    std::vector<std::byte> pages;
  };
  struct Newest {
    uint64_t sequence;
    const std::byte* page;
  };

  Status load_header();
  Status load_journal(unsigned number, Journal& journal);
  bool take_journal_pages(const Journal& journal);
  Status load_places();
  Status load_place(uint64_t page_number, const std::byte* page);
  Status load_newest();
  Status load_states(uint64_t page_number, const std::byte* page);
  Status read(uint64_t offset_bytes, std::vector<std::byte>& into);
  Status corrupt(const std::string& because) const;

  const std::shared_ptr<BlockDevice> device_;
  const ScratchIdentity identity_;
  const ScratchGeometry geometry_;
  GranuleStates& states_;
  const std::string what_;
  uint32_t seed_ = 0;
  Journal journals_[2];
  std::map<uint64_t, Newest> newest_;  // by page number, of the whole journals
  std::unique_ptr<ScratchIndex> index_;
};

}  // namespace tidemark
