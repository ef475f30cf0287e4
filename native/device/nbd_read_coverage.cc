#include <algorithm>

#include "device/nbd_client_part.h"

namespace tidemark {

bool NbdReadCoverage::add(uint32_t begin, uint32_t end) {
  const auto after = std::lower_bound(ranges_.begin(), ranges_.end(), begin,
                                      [](const Range& r, uint32_t at) { return r.begin < at; });
  const bool has_before = after != ranges_.begin();
  if (has_before && (after - 1)->end > begin) return false;
  if (after != ranges_.end() && after->begin < end) return false;
  const bool joins_before = has_before && (after - 1)->end == begin;
  const bool joins_after = after != ranges_.end() && after->begin == end;
  if (joins_before && joins_after) {
    (after - 1)->end = after->end;
    ranges_.erase(after);
  } else if (joins_before) {
    (after - 1)->end = end;
  } else if (joins_after) {
    after->begin = begin;
  } else if (ranges_.size() < kMaximumRanges) {
    ranges_.insert(after, {begin, end});
  } else {
    return false;
  }
  return true;
}

}  // namespace tidemark
