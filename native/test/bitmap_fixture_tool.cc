// Writes the fixture of bitmap format version 2:
//   bitmap_fixture_tool DIRECTORY   makes clean.bitmap and unclean.bitmap there
// Run once when a format version is made; the files are then kept for ever.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>

#include "bitmap/dirty_bitmap.h"
#include "common/byte_order.h"
#include "common/crc32c.h"

using namespace tidemark;

namespace {

constexpr uint64_t kBlock = 8192;

bool fill(DirtyBitmap& bitmap) {
  const auto a = bitmap.add_target(*Uuid::parse("a0000000-0000-4000-8000-000000000001"));
  const auto b = bitmap.add_target(*Uuid::parse("b0000000-0000-4000-8000-000000000002"));
  if (!a.is_ok() || !b.is_ok()) return false;
  bitmap.mark_pending(b.value(), 0, 1);
  bitmap.mark_pending(b.value(), 64 * kBlock, 1);
  bool ok = bitmap.take_pending(b.value()).is_ok() && bitmap.stage(b.value()).is_ok();
  bitmap.mark_pending(a.value(), 100 * kBlock, kBlock);
  ok = ok && bitmap.take_pending(a.value()).is_ok();
  bitmap.mark_pending(a.value(), 3 * kBlock, kBlock);
  bitmap.mark_pending(b.value(), 6 * kBlock, kBlock);
  ok = ok && bitmap.mark_suspect(a.value(), 8 * kBlock - 1, 2, SuspicionCause::kModified).is_ok();
  bitmap.mark(4 * kBlock, 2 * kBlock);
  bitmap.flip();
  ok = ok && bitmap.merge_closed().is_ok();
  bitmap.mark(999'999, 1);
  return ok;
}

// A boot that no reader's kernel is in.
bool set_boot(const std::string& path) {
  std::fstream file(path, std::ios::in | std::ios::out | std::ios::binary);
  char sector[512];
  file.read(sector, sizeof sector);
  std::memset(sector + 88, 0xb0, 16);
  store_le<uint32_t>(sector + 508, crc32c(sector, 508));
  file.seekp(0);
  file.write(sector, sizeof sector);
  return file.flush().good();
}

bool write_fixture(const std::string& path, bool clean) {
  const Uuid disk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
  auto made = DirtyBitmap::create(path, {disk, 1'000'000, kBlock});
  if (!made.is_ok()) std::fprintf(stderr, "%s\n", made.status().message().c_str());
  if (!made.is_ok() || !fill(*made.value())) return false;
  // The clean one with nothing marked in the intent log, the other with its one region.
  IntentLog& log = made.value()->intents();
  if (clean) {
    log.cool();
    log.make_quiet(log.cooling());
  }
  if (!log.finish(true).is_ok()) return false;
  if (clean && !made.value()->close().is_ok()) return false;
  return set_boot(path);
}

}  // namespace

int main(int argument_count, char** arguments) {
  if (argument_count != 2) return 2;
  const std::string directory = arguments[1];
  const bool ok = write_fixture(directory + "/clean.bitmap", true) &&
                  write_fixture(directory + "/unclean.bitmap", false);
  return ok ? 0 : 1;
}
