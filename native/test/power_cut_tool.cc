// power_cut_tool: the programs of the power-cut tests (test/system/power-cut.test.ts,
// test/guest/power-cut.test.ts).
//
//   write DIRECTORY JOURNAL SEED none|intent|map|flush [COMMAND]
//       serves DIRECTORY/disk over NBD, tracked, in the mode power-safe; guests write to
//       it and a replica commits, until it is killed. Syncs of the bitmap's log or maps, or
//       of the disk, may be left out. COMMAND is run with the number of each commit, before its
//       marks are dropped.
//   cut IMAGE STATISTICS JOURNAL COPY PROCESS SEED
//       copies the file behind the loop device under that, at a random instant
//   check DIRECTORY JOURNAL BEFORE AFTER
//   check-commit DIRECTORY JOURNAL COMMIT
//       opens what a cut left, as another boot does, and judges it by the journal: that of
//       its first AFTER records, or up to a commit
//   log LOG; replay LOG TARGET TARGET_BYTES ENTRIES
//       of dm-log-writes: lists the marks; makes the state of the first entries
#include <signal.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cinttypes>
#include <thread>

#include "device/file_device.h"
#include "dm_write_log.h"
#include "nbd/nbd_server.h"
#include "power_cut_copy.h"
#include "power_cut_guest.h"
#include "power_cut_journal.h"
#include "power_cut_storage.h"
#include "tracking/checkpoint.h"
#include "tracking/tracked_device.h"

using namespace tidemark;
using namespace tidemark::power_cut;

namespace {

using std::chrono::milliseconds;
using Arguments = std::vector<std::string>;

constexpr milliseconds kQuietInterval{100};
const Uuid kDisk = *Uuid::parse("6f1d0c1e-3c5b-4f0a-9a52-0f6a5b1c2d3e");
const Uuid kReplica = *Uuid::parse("a0000000-0000-4000-8000-000000000001");

void require(const Status& status) {
  if (!status.is_ok()) give_up(status.message());
}

uint64_t number_of(const std::string& text) { return std::strtoull(text.c_str(), nullptr, 10); }

std::shared_ptr<BlockDevice> open_disk(const std::string& path) {
  auto device = open_file_device({.path = path});
  require(device.status());
  return std::move(device).value();
}

// Answers flushes and forgets them: a planted fault.
class FlushlessDevice final : public BlockDevice {
 public:
  explicit FlushlessDevice(std::shared_ptr<BlockDevice> inner) : inner_(std::move(inner)) {}
  uint64_t size_bytes() const noexcept override { return inner_->size_bytes(); }
  const DeviceTraits& traits() const noexcept override { return inner_->traits(); }
  void submit(IoRequest& request) noexcept override {
    request.flags &= ~static_cast<uint32_t>(kIoFua);
    if (request.op == IoOp::kFlush) {
      request.complete(0);
    } else {
      inner_->submit(request);
    }
  }

 private:
  const std::shared_ptr<BlockDevice> inner_;
};

// The replica's side: takes what changed, journals it, commits it.
class Cycles {
 public:
  Cycles(std::shared_ptr<TrackedDevice> device, uint32_t slot, Journal& journal,
         std::string on_commit)
      : device_(std::move(device)),
        slot_(slot),
        journal_(journal),
        on_commit_(std::move(on_commit)) {}

  // One in so many fails: its blocks go back to where the next finds them.
  static constexpr uint64_t kFailsOneIn = 5;

  void run_one(std::mt19937_64& random) {
    const CheckpointMember member{device_, slot_, {}};
    auto outcome = take_checkpoint({&member, 1}, {.drain_limit = milliseconds(500)});
    if (outcome.status().code() == ErrorCode::kTimedOut) return;
    require(outcome.status());
    Capture& capture = *outcome.value().captures.at(0);
    Status status = read(capture);
    capture.close();
    if (status.code() == ErrorCode::kCaptureBroken || random() % kFailsOneIn == 0) {
      require(device_->give_back(slot_));
      return;
    }
    require(status);
    for (const Record& record : sent_) journal_.append(record);
    journal_.append({RecordKind::kCommitted, ++commit_count_, 0});
    if (!on_commit_.empty()) {
      const std::string command = on_commit_ + " " + std::to_string(commit_count_);
      if (std::system(command.c_str()) != 0) give_up("the command failed: " + command);
    }
    require(device_->commit(slot_));
  }

 private:
  Status read(Capture& capture) {
    std::vector<Record> sent;
    for (uint64_t from = 0; const auto extent = capture.next_extent(from, kBlockBytes);) {
      Block content;
      Status status =
          capture.read(extent->offset_bytes, std::as_writable_bytes(std::span(content)));
      if (!status.is_ok()) return status;
      const uint64_t index = extent->offset_bytes / kBlockBytes;
      const uint64_t sequence = sequence_of(index, content);
      if (sequence == kTorn) give_up("a capture has a torn block");
      sent.push_back({RecordKind::kSent, index, sequence});
      from = extent->offset_bytes + kBlockBytes;
    }
    sent_ = std::move(sent);
    return Status::ok();
  }

  const std::shared_ptr<TrackedDevice> device_;
  const uint32_t slot_;
  Journal& journal_;
  const std::string on_commit_;
  std::vector<Record> sent_;
  uint64_t commit_count_ = 0;
};

// Some long enough for regions to go quiet with changes that no commit took.
milliseconds until_next_cycle(std::mt19937_64& random) {
  return milliseconds(random() % (random() % 3 == 0 ? 600 : 100));
}

Fault fault_of(const std::string& name) {
  if (name == "intent") return Fault::kIntentSync;
  return name == "map" ? Fault::kMapSync : Fault::kNone;
}

bool is_anything_marked(int bitmap_fd) {
  const RegionLayout layout = RegionLayout::of(kDiskBytes);
  std::array<std::byte, kIntentPageBytes> bytes;
  if (::pread(bitmap_fd, bytes.data(), bytes.size(), kIntentPageOffsetBytes) !=
      static_cast<ssize_t>(bytes.size())) {
    give_up("the bitmap cannot be read");
  }
  const auto page = IntentPage::decode(bytes, kDisk, layout);
  if (!page.is_ok() || !page.value().is_exact()) return true;
  for (uint32_t region = 0; region < layout.count; ++region) {
    if (page.value().is_marked(region)) return true;
  }
  return false;
}

// A new bitmap counts all as marked until everything was quiet once. Then what the disk
// says of it is exact, so that nothing but syncs protects what follows.
void settle_new_bitmap(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
  while (is_anything_marked(fd)) std::this_thread::sleep_for(milliseconds(10));
  if (::fsync(fd) != 0) give_up("the bitmap cannot be synced");
  ::close(fd);
}

int write(const Arguments& arguments) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const std::string& directory = arguments.at(0);
  const uint64_t seed = number_of(arguments.at(2));
  OtherStorage storage(false);
  const std::string disk_path = directory + "/disk";
  const int disk_fd = ::open(disk_path.c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600);
  if (disk_fd < 0 || ::ftruncate(disk_fd, kDiskBytes) != 0) give_up("no disk");
  auto bitmap = DirtyBitmap::create(directory + "/bitmap", {kDisk, kDiskBytes, 0}, storage);
  require(bitmap.status());
  std::shared_ptr<DirtyBitmap> shared(std::move(bitmap).value());
  std::shared_ptr<BlockDevice> backing = open_disk(disk_path);
  if (arguments.at(3) == "flush") backing = std::make_shared<FlushlessDevice>(backing);
  auto device = std::make_shared<TrackedDevice>(backing, shared, kQuietInterval);
  const auto slot = device->add_target(kReplica);
  require(slot.status());
  settle_new_bitmap(directory + "/bitmap");
  storage.plant(fault_of(arguments.at(3)));

  const std::string socket_path = arguments.at(1) + ".socket";
  NbdServerParameters listening;
  listening.unix_path = socket_path;
  auto server = NbdServer::start(listening);
  require(server.status());
  require(server.value()->add_export({.name = {}, .description = {}, .device = device}));
  Journal journal(arguments.at(1));
  for (uint64_t number = 0; number < kGuests; ++number) {
    std::thread([&, number] { Guest(socket_path, journal, number, seed).run(); }).detach();
  }
  Cycles cycles(device, slot.value(), journal, arguments.size() > 4 ? arguments[4] : "");
  std::mt19937_64 random(seed);
  std::printf("writing\n");
  std::fflush(stdout);
  for (;;) {
    std::this_thread::sleep_for(until_next_cycle(random));
    cycles.run_one(random);
  }
}

int cut(const Arguments& arguments) {
  DiskCopier copier(arguments.at(0), arguments.at(1), arguments.at(2));
  const auto writer = static_cast<pid_t>(number_of(arguments.at(4)));
  const auto cut = copier.cut(writer, number_of(arguments.at(5)));
  if (!cut) give_up("no copy could be made without a flush in between");
  if (!copier.save(arguments.at(3))) give_up("the copy could not be saved");
  std::printf("{\"before\":%" PRIu64 ",\"after\":%" PRIu64 ",\"attempts\":%" PRIu64
              ",\"stopped\":%s}\n",
              cut->journal_before, cut->journal_after, cut->attempt_count,
              cut->was_stopped ? "true" : "false");
  return 0;
}

// What a cut left, and what speaks against it.
struct Findings {
  uint64_t differing = 0;  // from the replica
  uint64_t torn = 0;
  uint64_t suspect_regions = 0;
  std::vector<uint64_t> lost;       // blocks that differ, and nobody would send them
  std::vector<uint64_t> unflushed;  // blocks older than a flush that was answered

  void print(uint64_t commit_count) const {
    std::printf("{\"commits\":%" PRIu64 ",\"differing\":%" PRIu64 ",\"torn\":%" PRIu64
                ",\"suspectRegions\":%" PRIu64 ",\"lost\":[%s],\"unflushed\":[%s]}\n",
                commit_count, differing, torn, suspect_regions, list(lost).c_str(),
                list(unflushed).c_str());
  }
  static std::string list(const std::vector<uint64_t>& blocks) {
    std::string text;
    for (const uint64_t block : blocks) text += (text.empty() ? "" : ",") + std::to_string(block);
    return text;
  }
};

bool will_travel(const DirtyBitmap& bitmap, uint32_t slot, uint64_t block) {
  const MapId maps[] = {MapId::suspect(slot), MapId::pending(slot), MapId::in_flight(slot),
                        MapId::live(), MapId::closed()};
  return std::any_of(std::begin(maps), std::end(maps),
                     [&](MapId map) { return bitmap.is_dirty(map, block); });
}

int judge(const std::string& directory, const Replica& replica, const Sequences& durable) {
  OtherStorage storage(true);
  auto bitmap = DirtyBitmap::open(directory + "/bitmap", kDisk, kDiskBytes, storage);
  require(bitmap.status());
  const auto slot = bitmap.value()->find_target(kReplica);
  if (!slot) give_up("the target is gone");
  const int fd = ::open((directory + "/disk").c_str(), O_RDONLY | O_CLOEXEC);
  Findings findings;
  for (uint64_t region = 0; region < kRegionCount; ++region) {
    const uint64_t first = region * kRegionBlocks;
    const MapId suspect = MapId::suspect(*slot);
    findings.suspect_regions += bitmap.value()->is_dirty(suspect, first + kWrittenBlocks) ? 1 : 0;
    for (uint64_t index = first; index < first + kWrittenBlocks; ++index) {
      Block content;
      if (::pread(fd, &content, sizeof content, static_cast<off_t>(index * kBlockBytes)) !=
          sizeof content) {
        give_up("the disk cannot be read");
      }
      const uint64_t sequence = sequence_of(index, content);
      const auto there = replica.blocks.find(index);
      const bool is_equal = sequence == (there == replica.blocks.end() ? 0 : there->second);
      findings.torn += sequence == kTorn ? 1 : 0;
      findings.differing += is_equal ? 0 : 1;
      if (!is_equal && !will_travel(*bitmap.value(), *slot, index)) findings.lost.push_back(index);
      const auto promised = durable.find(index);
      if (promised != durable.end() && sequence < promised->second) {
        findings.unflushed.push_back(index);
      }
    }
  }
  ::close(fd);
  findings.print(replica.commit_count);
  return 0;
}

int check(const Arguments& arguments) {
  const std::vector<Record> records = read_journal(arguments.at(1));
  const auto first = [&](const std::string& count) {
    return std::span(records).first(std::min<size_t>(number_of(count), records.size()));
  };
  return judge(arguments.at(0), replica_after(first(arguments.at(3)), UINT64_MAX),
               durable_after(first(arguments.at(2))));
}

int check_commit(const Arguments& arguments) {
  const std::vector<Record> records = read_journal(arguments.at(1));
  const uint64_t commit = number_of(arguments.at(2));
  return judge(arguments.at(0), replica_after(records, commit),
               durable_after(until_commit(records, commit)));
}

int list_log(const Arguments& arguments) {
  DmWriteLog log(arguments.at(0));
  if (!log.load()) give_up("that is not a log of dm-log-writes");
  for (size_t i = 0; i < log.entries().size(); ++i) {
    const std::string& mark = log.entries()[i].mark;
    if (!mark.empty()) std::printf("%zu %s\n", i, mark.c_str());
  }
  std::printf("%zu end\n", log.entries().size());
  return 0;
}

int replay(const Arguments& arguments) {
  DmWriteLog log(arguments.at(0));
  if (!log.load()) give_up("that is not a log of dm-log-writes");
  const size_t entry_count = std::min<size_t>(number_of(arguments.at(3)), log.entries().size());
  if (!log.replay(arguments.at(1), number_of(arguments.at(2)), entry_count)) {
    give_up("the log cannot be replayed");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  struct Mode {
    const char* name;
    size_t argument_count;
    int (*run)(const Arguments&);
  };
  constexpr Mode kModes[] = {{"write", 4, write},  {"cut", 6, cut},
                             {"check", 4, check},  {"check-commit", 3, check_commit},
                             {"log", 1, list_log}, {"replay", 4, replay}};
  const std::string name = argc > 1 ? argv[1] : "";
  const Arguments arguments(argv + std::min(argc, 2), argv + argc);
  for (const Mode& mode : kModes) {
    if (name == mode.name && arguments.size() >= mode.argument_count) return mode.run(arguments);
  }
  std::fputs("usage: power_cut_tool write|cut|check|check-commit|log|replay ...\n", stderr);
  return 2;
}
