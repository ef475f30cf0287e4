// The layer file: what it gives back, what it refuses, and what a crash or a
// hostile file may leave. The byte positions are those of docs/formats/layer.md.
#include <doctest/doctest.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <sstream>

#include "common/byte_order.h"
#include "common/crc32c.h"
#include "layer_builder.h"
#include "scratch_file.h"
#include "spawn_tool.h"

using namespace tidemark;

namespace {

// The order in which a file was written and synced, seen by standing in for the
// two system calls that the layer code uses. One thread.
struct FileCall {
  bool sync;
  uint64_t offset_bytes;
  bool blank;
};
std::vector<FileCall>* recorded_calls = nullptr;

bool is_blank(const iovec* parts, int count) {
  for (int i = 0; i < count; ++i) {
    const auto* bytes = static_cast<const char*>(parts[i].iov_base);
    if (std::any_of(bytes, bytes + parts[i].iov_len, [](char c) { return c != 0; })) return false;
  }
  return true;
}

ssize_t record_pwritev(int fd, const iovec* parts, int count, off_t offset) {
  if (recorded_calls != nullptr) {
    recorded_calls->push_back({false, static_cast<uint64_t>(offset), is_blank(parts, count)});
  }
  return ::syscall(SYS_pwritev, fd, parts, count, offset, 0);
}

}  // namespace

extern "C" ssize_t pwritev(int fd, const iovec* parts, int count, off_t offset) {
  return record_pwritev(fd, parts, count, offset);
}

// What it is called in code that is compiled with _FILE_OFFSET_BITS=64, as node-gyp does.
extern "C" ssize_t pwritev64(int fd, const iovec* parts, int count, off64_t offset) {
  return record_pwritev(fd, parts, count, offset);
}

extern "C" int fdatasync(int fd) {
  if (recorded_calls != nullptr) recorded_calls->push_back({true, 0, false});
  return static_cast<int>(::syscall(SYS_fdatasync, fd));
}

namespace {

constexpr size_t kHeaderCrcAt = 4092;
constexpr size_t kFooterBytes = 64;

LayerIdentity identity_of(uint64_t disk_size_bytes, uint32_t granularity_bytes = 4096) {
  return {uuid_of(1), uuid_of(2), 7, disk_size_bytes, granularity_bytes};
}

// What the layer says, read through find() in steps of any length.
void check_layer_is(const Layer& layer, const LayerModel& model, std::mt19937_64& random) {
  const uint64_t size = model.identity.disk_size_bytes;
  for (uint64_t offset = 0; offset < size;) {
    const Layer::Run run = layer.find(offset, 1 + random() % (size - offset));
    REQUIRE(run.length_bytes > 0);
    LayerBytes data(run.length_bytes);
    if (run.present && !run.zero) {
      REQUIRE(::pread(layer.fd(), data.data(), data.size(),
                      static_cast<off_t>(run.file_offset_bytes)) ==
              static_cast<ssize_t>(data.size()));
    }
    uint64_t wrong = 0;
    for (size_t i = 0; i < run.length_bytes; ++i) {
      const uint64_t at = offset + i;
      const uint64_t block = at - at % model.identity.granularity_bytes;
      const auto found = model.blocks.find(block);
      wrong += run.present != (found != model.blocks.end());
      if (!run.present || found == model.blocks.end()) continue;
      wrong += run.zero != found->second.empty();
      if (!run.zero && !found->second.empty()) wrong += data[i] != found->second[at - block];
    }
    REQUIRE(wrong == 0);
    offset += run.length_bytes;
  }
}

struct SmallLayer {
  ScratchDirectory directory;
  std::string path = directory.path() + "/small.layer";
  LayerModel model;
  LayerBytes file;

  // Data, zero, data at the disk's partial last block.
  SmallLayer() {
    std::mt19937_64 random(3);
    model.identity = identity_of(20 * 4096 + 1000);
    for (uint64_t block : {0, 1, 2, 9, 20}) {
      model.blocks[block * 4096] = random_content(random, model.length_at(block * 4096));
    }
    for (uint64_t block : {5, 6}) model.blocks[block * 4096] = {};
    (void)make_layer(path, model, random);
    file = read_file(path);
  }

  Status open_status(const LayerBytes& bytes) {
    const std::string damaged = directory.path() + "/damaged.layer";
    write_file(damaged, bytes);
    return Layer::open(damaged, uuid_of(1)).status();
  }
};

// Makes header, footer and index agree again after a change to the index.
void fix_checksums(LayerBytes& file) {
  std::byte* footer = file.data() + file.size() - kFooterBytes;
  const auto index_at = load_le<uint64_t>(footer + 8);
  const uint32_t of_identity = crc32c(file.data() + 16, 56);
  const uint32_t checksum =
      crc32c(file.data() + index_at, file.size() - kFooterBytes - index_at, of_identity);
  store_le<uint32_t>(footer + 48, checksum);
  store_le<uint32_t>(footer + 60, crc32c(footer, 60));
  store_le<uint32_t>(file.data() + 80, checksum);
  store_le<uint32_t>(file.data() + kHeaderCrcAt, crc32c(file.data(), kHeaderCrcAt));
}

uint64_t write_calls() {
  std::ifstream io("/proc/self/io");
  std::string name;
  uint64_t value = 0;
  while (io >> name >> value) {
    if (name == "syscw:") return value;
  }
  return 0;
}

}  // namespace

TEST_CASE("a layer gives back exactly what its segments were given") {
  ScratchDirectory directory;
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    CAPTURE(seed);
    std::mt19937_64 random(seed);
    const uint32_t granularity = 512U << (random() % 5);
    const uint64_t size = granularity * (1 + random() % 100) + random() % granularity;
    const LayerModel model = LayerModel::random_model(random, identity_of(size, granularity));
    const auto layer = make_layer(directory.path() + "/" + std::to_string(seed), model, random);
    CHECK(layer->identity().sequence == 7);
    CHECK(layer->identity().lineage == uuid_of(2));
    check_layer_is(*layer, model, random);
    CHECK(layer->verify().is_ok());
    CHECK_FALSE(layer->find(size + 5, 10).present);
  }
}

TEST_CASE("neighbours become one extent, within a segment and across") {
  ScratchDirectory directory;
  const std::string path = directory.path() + "/layer";
  const LayerBytes block(4096, std::byte{7});
  auto first = LayerSegmentWriter::open(path, 4096, 8192, 4096).value();
  auto second = LayerSegmentWriter::open(path, 4096 + 8192, 8192, 4096).value();
  for (uint64_t i : {0, 1}) REQUIRE(first->append(i * 4096, block).is_ok());
  for (uint64_t i : {2, 3}) REQUIRE(second->append(i * 4096, block).is_ok());
  for (uint64_t i : {8, 9, 10}) REQUIRE(first->zero(i * 4096, 4096).is_ok());
  const std::vector<LayerBytes> blobs{first->finish().value(), second->finish().value()};
  const auto summary = seal_layer(path, identity_of(1 << 20), blobs);
  REQUIRE(summary.is_ok());
  CHECK(summary.value().extent_count == 2);
  CHECK(summary.value().data_bytes == 4 * 4096);
  CHECK(summary.value().zero_bytes == 3 * 4096);
  // Header page, data, index of two extents and four checksums, footer.
  CHECK(read_file(path).size() == 4096 + 4 * 4096 + 2 * 32 + 4 * 4 + 64);
}

TEST_CASE("a layer without segments is a layer that says nothing") {
  ScratchDirectory directory;
  const std::string path = directory.path() + "/layer";
  REQUIRE(seal_layer(path, identity_of(1 << 20), {}).is_ok());
  const auto layer = open_layer(path, uuid_of(1));
  CHECK(layer->summary().extent_count == 0);
  CHECK(layer->find(4096, 100).length_bytes == 100);
  CHECK_FALSE(layer->find(4096, 100).present);
  CHECK(layer->verify().is_ok());
}

TEST_CASE("a segment's writer refuses what is not whole blocks of one disk, once each") {
  ScratchDirectory directory;
  const std::string path = directory.path() + "/layer";
  auto writer = LayerSegmentWriter::open(path, 4096, 4 * 4096, 4096).value();
  const LayerBytes block(4096);
  const auto refused = [](const Status& status) {
    return status.code() == ErrorCode::kInvalidArgument;
  };
  REQUIRE(writer->append(8192, block).is_ok());
  CHECK(refused(writer->append(8192, block)));
  CHECK(refused(writer->append(100, block)));
  CHECK(refused(writer->append(4096, LayerBytes(8192))));       // reaches into another
  CHECK(refused(writer->append(4096, LayerBytes(4000))));       // partial, not the last
  CHECK(refused(writer->append(16384, LayerBytes(4 * 4096))));  // no room
  CHECK(refused(writer->append(16384, {})));
  CHECK(refused(writer->zero(0, 3 * 4096)));
  CHECK(refused(writer->zero(4096 * 10, UINT64_MAX - 4096)));
  REQUIRE(writer->append(16384, LayerBytes(100)).is_ok());  // the disk ends here
  CHECK(refused(writer->zero(20480, 4096)));
  CHECK(refused(writer->zero(12288, 8192)));
  REQUIRE(writer->finish().is_ok());
  CHECK(writer->append(0, block).code() == ErrorCode::kClosed);
  CHECK(writer->finish().status().code() == ErrorCode::kClosed);
  CHECK_FALSE(LayerSegmentWriter::open(path, 0, 4096, 4096).is_ok());
  CHECK_FALSE(LayerSegmentWriter::open(path, 4096, 4096, 1000).is_ok());
  CHECK_FALSE(LayerSegmentWriter::open(path, 4096, UINT64_MAX - 100, 4096).is_ok());
}

TEST_CASE("many small appends are few system calls") {
  ScratchDirectory directory;
  auto writer = LayerSegmentWriter::open(directory.path() + "/layer", 4096, 64 << 20, 4096).value();
  const LayerBytes block(4096, std::byte{1});
  const uint64_t before = write_calls();
  for (uint64_t i = 0; i < 2000; ++i) REQUIRE(writer->append(i * 8192, block).is_ok());
  REQUIRE(writer->finish().is_ok());
  CHECK(write_calls() - before < 20);
}

TEST_CASE("sealing refuses segments that overlap, are damaged or of another shape") {
  ScratchDirectory directory;
  const std::string path = directory.path() + "/layer";
  const LayerBytes block(4096, std::byte{7});
  const auto segment = [&](uint64_t region, uint64_t disk_offset, uint32_t granularity = 4096) {
    auto writer = LayerSegmentWriter::open(path, region, 65536, granularity).value();
    REQUIRE(writer->append(disk_offset, block).is_ok());
    return writer->finish().value();
  };
  const auto code = [&](std::vector<LayerBytes> blobs, uint64_t size = 1 << 20) {
    const Status status = seal_layer(path, identity_of(size), blobs).status();
    CHECK_FALSE(Layer::open(path, uuid_of(1)).is_ok());
    return status.code();
  };
  const LayerBytes good = segment(4096, 0);
  CHECK(code({good, segment(4096 + 65536, 0)}) == ErrorCode::kCorrupt);  // same block
  CHECK(code({good, segment(4096, 8192)}) == ErrorCode::kCorrupt);       // same place in the file
  CHECK(code({segment(4096, 0, 512)}) == ErrorCode::kCorrupt);           // another granularity
  CHECK(code({segment(4096, 8192)}, 8192) == ErrorCode::kCorrupt);       // beyond the disk
  CHECK(code({{}}) == ErrorCode::kCorrupt);
  for (size_t i = 0; i < good.size(); ++i) {
    CAPTURE(i);
    LayerBytes damaged = good;
    damaged[i] ^= std::byte{0x10};
    const ErrorCode expected = i >= 8 && i < 12 ? ErrorCode::kVersion : ErrorCode::kCorrupt;
    CHECK(code({damaged}) == expected);
    damaged.resize(i);
    CHECK(code({damaged}) == ErrorCode::kCorrupt);
  }
  REQUIRE(::truncate(path.c_str(), 5000) == 0);
  CHECK(code({good}) == ErrorCode::kTruncated);
}

TEST_CASE("sealing again, with other segments, gives a whole layer of these") {
  ScratchDirectory directory;
  std::mt19937_64 random(11);
  const std::string path = directory.path() + "/layer";
  for (int round = 0; round < 5; ++round) {
    const LayerModel model = LayerModel::random_model(random, identity_of(100 * 4096));
    const auto layer = make_layer(path, model, random);
    check_layer_is(*layer, model, random);
    CHECK(layer->verify().is_ok());
  }
}

TEST_CASE("the seal is written after everything else is durable, and unsealing before changes") {
  ScratchDirectory directory;
  std::mt19937_64 random(12);
  const std::string path = directory.path() + "/layer";
  const LayerModel model = LayerModel::random_model(random, identity_of(100 * 4096));
  for (int round = 0; round < 2; ++round) {
    const auto blobs = write_segments(path, model, 2, random);
    std::vector<FileCall> calls;
    recorded_calls = &calls;
    REQUIRE(seal_layer(path, model.identity, blobs).is_ok());
    recorded_calls = nullptr;
    // Unseal and sync only where there was a seal; index, sync, header, sync.
    std::ostringstream order;
    for (const FileCall& call : calls) {
      order << (call.sync               ? "sync "
                : call.offset_bytes > 0 ? "index "
                : call.blank            ? "unseal "
                                        : "header ");
    }
    CHECK(order.str() == std::string(round == 0 ? "" : "unseal sync ") + "index sync header sync ");
  }
}

TEST_CASE("opening says which kind of wrong a file is") {
  SmallLayer small;
  CHECK(Layer::open(small.directory.path() + "/none", uuid_of(1)).status().code() ==
        ErrorCode::kNotFound);
  CHECK(Layer::open(small.path, uuid_of(9)).status().code() == ErrorCode::kForeign);
  CHECK(Layer::open(small.directory.path(), uuid_of(1)).status().code() == ErrorCode::kUnsupported);
  CHECK(small.open_status({}).code() == ErrorCode::kTruncated);
  CHECK(small.open_status(LayerBytes(9000)).code() == ErrorCode::kCorrupt);  // never sealed
  LayerBytes longer = small.file;
  longer.push_back(std::byte{0});
  CHECK(small.open_status(longer).code() == ErrorCode::kCorrupt);
  LayerBytes newer = small.file;
  newer[8] = std::byte{2};
  CHECK(small.open_status(newer).code() == ErrorCode::kVersion);
  const std::string fifo = small.directory.path() + "/fifo";
  REQUIRE(::mkfifo(fifo.c_str(), 0600) == 0);
  CHECK(Layer::open(fifo, uuid_of(1)).status().code() == ErrorCode::kUnsupported);
}

TEST_CASE("a file cut off anywhere is truncated") {
  SmallLayer small;
  REQUIRE(small.open_status(small.file).is_ok());
  for (size_t size = 0; size < small.file.size(); size += 512) {
    CAPTURE(size);
    LayerBytes cut(small.file.begin(), small.file.begin() + static_cast<ptrdiff_t>(size));
    CHECK(small.open_status(cut).code() == ErrorCode::kTruncated);
  }
  LayerBytes cut(small.file.begin(), small.file.end() - 1);
  CHECK(small.open_status(cut).code() == ErrorCode::kTruncated);
}

TEST_CASE("a flipped bit in header, index or footer is found at open, one in the data by verify") {
  SmallLayer small;
  const auto index_at = load_le<uint64_t>(small.file.data() + small.file.size() - kFooterBytes + 8);
  for (size_t i = 0; i < small.file.size(); ++i) {
    const bool in_data = i >= 4096 && i < index_at;
    if (in_data && i % 97 != 0) continue;
    CAPTURE(i);
    LayerBytes damaged = small.file;
    damaged[i] ^= std::byte{0x20};
    const std::string path = small.directory.path() + "/flipped.layer";
    write_file(path, damaged);
    const auto layer = Layer::open(path, uuid_of(1));
    if (!in_data) {
      const ErrorCode expected = i >= 8 && i < 12 ? ErrorCode::kVersion : ErrorCode::kCorrupt;
      REQUIRE(layer.status().code() == expected);
      continue;
    }
    REQUIRE(layer.is_ok());
    const bool padding = i >= 4096 + 4 * 4096 + 1000;
    REQUIRE(layer.value()->verify().is_ok() == padding);
  }
}

TEST_CASE("verify names the damaged block by its disk offset") {
  SmallLayer small;
  LayerBytes damaged = small.file;
  damaged[4096 + 3 * 4096 + 5] ^= std::byte{1};  // the fourth block of data: block 9
  write_file(small.path, damaged);
  const Status status = open_layer(small.path, uuid_of(1))->verify();
  CHECK(status.code() == ErrorCode::kCorrupt);
  CHECK(status.message().find("disk offset " + std::to_string(9 * 4096) + " ") !=
        std::string::npos);
}

TEST_CASE("an index that lies is refused although its checksums hold") {
  SmallLayer small;
  const auto index_at = load_le<uint64_t>(small.file.data() + small.file.size() - kFooterBytes + 8);
  const struct {
    const char* what;
    unsigned extent, field;  // fields: disk offset, length, file offset, checksum number
    uint64_t value;
  } lies[] = {
      {"overlaps the one before", 1, 0, 8192},
      {"not sorted", 1, 0, 0},
      {"inside a block", 1, 0, 5 * 4096 + 1},
      {"empty", 0, 1, 0},
      {"beyond the disk", 3, 0, 1ULL << 40},
      {"length overflows", 0, 1, UINT64_MAX - 4095},
      {"offset overflows", 3, 0, UINT64_MAX - 4095},
      {"ends inside a block", 0, 1, 4097},
      {"data in the header", 0, 2, 512},
      {"data in the index", 0, 2, index_at},
      {"data offset overflows", 0, 2, UINT64_MAX - 4096},
      {"checksum number beyond the table", 2, 3, 1ULL << 60},
      {"checksum number of another", 2, 3, 0},
      {"more data than the footer says", 1, 2, 4096},
  };
  for (const auto& lie : lies) {
    CAPTURE(lie.what);
    LayerBytes file = small.file;
    store_le<uint64_t>(file.data() + index_at + lie.extent * 32 + lie.field * 8, lie.value);
    fix_checksums(file);
    CHECK(small.open_status(file).code() == ErrorCode::kCorrupt);
  }
  for (const unsigned field : {8U, 16U, 24U, 32U, 40U}) {
    for (const uint64_t value : {uint64_t{0}, uint64_t{1} << 40, UINT64_MAX}) {
      LayerBytes file = small.file;
      store_le<uint64_t>(file.data() + file.size() - kFooterBytes + field, value);
      std::byte* footer = file.data() + file.size() - kFooterBytes;
      store_le<uint32_t>(footer + 60, crc32c(footer, 60));
      CHECK(small.open_status(file).code() == ErrorCode::kCorrupt);
    }
  }
}

TEST_CASE("garbage behind right checksums is refused or read without harm") {
  SmallLayer small;
  std::mt19937_64 random(5);
  const auto index_at = load_le<uint64_t>(small.file.data() + small.file.size() - kFooterBytes + 8);
  const size_t index_bytes = small.file.size() - kFooterBytes - index_at;
  for (int round = 0; round < 3000; ++round) {
    LayerBytes file = small.file;
    for (uint64_t i = 0; i <= random() % 3; ++i) {
      file[index_at + random() % index_bytes] = static_cast<std::byte>(random());
    }
    fix_checksums(file);
    const std::string path = small.directory.path() + "/garbage.layer";
    write_file(path, file);
    const auto layer = Layer::open(path, uuid_of(1));
    if (!layer.is_ok()) continue;
    (void)layer.value()->verify();
    for (int i = 0; i < 20; ++i) {
      const Layer::Run run = layer.value()->find(random() % 100'000, 1 + random() % 100'000);
      REQUIRE(run.length_bytes > 0);
      if (run.present && !run.zero) {
        REQUIRE(run.file_offset_bytes + run.length_bytes <= index_at);
      }
    }
  }
}

TEST_CASE("a writer or seal that is killed at any step leaves no layer, or the whole one") {
  int completed = 0;
  for (const char* name : {"layer.append", "layer.sync", "layer.seal"}) {
    for (int passage = 1;; ++passage) {
      REQUIRE(passage < 100);
      CAPTURE(name);
      CAPTURE(passage);
      ScratchDirectory directory;
      const std::string path = directory.path() + "/layer";
      const bool killed = !run_tool("layers_crash_tool", {"seal", path},
                                    std::string(name) + ":" + std::to_string(passage));
      const auto layer = Layer::open(path, uuid_of(1));
      if (layer.is_ok()) {
        ++completed;
        CHECK(layer.value()->verify().is_ok());
        CHECK(layer.value()->summary().data_bytes == 12 * 4096);
        CHECK(layer.value()->summary().zero_bytes == 4 * 4096);
      }
      if (!killed) {
        CHECK(layer.is_ok());
        CHECK(passage > 1);
        break;
      }
      // Only the last two passages of the seal come after the header is there.
      if (std::string(name) != "layer.seal") CHECK_FALSE(layer.is_ok());
    }
  }
  CHECK(completed == 3 + 2);
}

TEST_CASE("the committed layer of format version 1 opens, and is what it was") {
  const std::string directory = fixture_directory() + "/layer-v1";
  const auto layer = open_layer(directory + "/sealed.layer", uuid_of(0x11));
  CHECK(layer->identity().lineage == uuid_of(0x22));
  CHECK(layer->identity().sequence == 42);
  CHECK(layer->identity().disk_size_bytes == 64 * 1024 - 100);
  CHECK(layer->identity().granularity_bytes == 4096);
  CHECK(layer->verify().is_ok());
  LayerModel model;
  model.identity = layer->identity();
  for (uint64_t block : {1, 2, 8, 15}) {
    LayerBytes& content = model.blocks[block * 4096];
    content.resize(model.length_at(block * 4096));
    for (size_t i = 0; i < content.size(); ++i) content[i] = static_cast<std::byte>(block * 31 + i);
  }
  model.blocks[4 * 4096] = {};
  std::mt19937_64 random(1);
  check_layer_is(*layer, model, random);
  // The blobs of that layer still seal, to the same bytes.
  ScratchDirectory scratch;
  const std::string copy = scratch.path() + "/layer";
  write_file(copy, read_file(directory + "/sealed.layer"));
  const std::vector<LayerBytes> blobs{read_file(directory + "/segment-0.index"),
                                      read_file(directory + "/segment-1.index")};
  REQUIRE(seal_layer(copy, layer->identity(), blobs).is_ok());
  CHECK(read_file(copy) == read_file(directory + "/sealed.layer"));
}
