// StateFile: a disk's tracking state on its way from one holder to the next
// (docs/formats/disk-state.md).
//
// Representation: a header sector, a claim sector, the bitmap's own header sector, then
// one record for each page of the bitmap file that is not all zero: its index, its 4096
// bytes, their checksum; last an annex. As long as its maps are full, which is little for
// most disks.
//
// A state is written, then sealed, and can be claimed once: by the import that takes it
// or by its writer taking it back. Both marks are single sectors, written whole and made
// durable. The object holds an exclusive lock of the file, so that two who want to
// claim it wait for nobody and one of them is refused (kInUse).
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>

#include "bitmap/bitmap_header.h"
#include "common/fd.h"
#include "common/sealed_sector.h"
#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

inline constexpr uint32_t kStateFormatVersion = 1;

enum class StateClaim : uint32_t { kNone = 0, kImported = 1, kTakenBack = 2 };

class StateFile {
 public:
  using Page = std::span<const std::byte>;  // one page of the bitmap file
  using Pages = std::function<Status(const std::function<Status(uint64_t index, Page page)>&)>;

  struct Content {
    Uuid id;  // of this hand-over
    uint64_t epoch = 0;
    uint32_t live_index = 0;
    BitmapHeader bitmap;
    std::string annex;  // what the holder wants the next one to know, for those above
  };
  static constexpr uint64_t kMaxAnnexBytes = 64 << 10;

  // A new file, unsealed, durable, its name too. One that is there is replaced if nobody
  // can import it, because it never was sealed; else kAlreadyExists.
  static Result<StateFile> write(const std::string& path, const Content& content,
                                 const Pages& pages);
  // Sealed or not. Checks every byte: kTruncated, kCorrupt, kVersion, kInUse, kNotFound.
  static Result<StateFile> open(const std::string& path);

  const std::string& path() const noexcept { return path_; }
  const Content& content() const noexcept { return content_; }
  bool is_sealed() const noexcept { return is_sealed_; }
  StateClaim claim() const noexcept { return claim_; }
  const Uuid& claimant() const noexcept { return claimant_; }

  // Durable on return.
  Status seal();
  Status set_claim(StateClaim claim, const Uuid& claimant);
  // Those that are not zero, ascending; the bitmap's header page is not among them.
  Status for_each_page(const std::function<Status(uint64_t index, Page page)>& take) const;

 private:
  StateFile(std::string path, UniqueFd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  static Result<StateFile> locked(const std::string& path, int flags);
  Status load();
  Status load_header();
  Status load_annex();
  Status load_claim(const SealedSector& sector);
  Status write_annex();
  Status write_header(bool is_sealed);

  std::string path_;
  UniqueFd fd_;
  Content content_;
  uint64_t page_count_ = 0;
  uint32_t pages_checksum_ = 0;  // over the records' checksums
  uint64_t annex_bytes_ = 0;
  uint32_t annex_checksum_ = 0;
  bool is_sealed_ = false;
  StateClaim claim_ = StateClaim::kNone;
  Uuid claimant_;
};

}  // namespace tidemark
