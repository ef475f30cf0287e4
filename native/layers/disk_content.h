#pragma once

#include <cstdint>

#include "device/io_request.h"
#include "layers/content_source.h"
#include "layers/scratch.h"

namespace tidemark {

// Every byte of the disk: the scratch, where there is one, over what is below.
class DiskContent final : public ContentSource {
 public:
  DiskContent(const ContentSource& below, Scratch* scratch) noexcept
      : below_(below), scratch_(scratch) {}

  SourceRun find(uint64_t offset_bytes, uint64_t max_bytes) const noexcept override;

  // Completes the request when all of its bytes are there.
  void read(IoRequest& request) const noexcept;

 private:
  const ContentSource& below_;
  Scratch* const scratch_;
};

}  // namespace tidemark
