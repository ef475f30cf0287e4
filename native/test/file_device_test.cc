// What FileDevice adds to the contract: waiting reads, durability, full disks,
// files changed behind it, engines that are not to be had.
#include "device/file_device.h"

#include <doctest/doctest.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include <cerrno>
#include <csignal>
#include <deque>
#include <latch>
#include <thread>

#include "device/io_engine.h"
#include "device_contract.h"
#include "scratch_file.h"

using namespace tidemark;
using namespace tidemark::device_contract;

namespace {

std::shared_ptr<BlockDevice> open_device(const std::string& path,
                                         IoEngineKind engine = IoEngineKind::kAutomatic,
                                         bool direct = false) {
  FileDeviceParameters parameters;
  parameters.path = path;
  parameters.engine = engine;
  parameters.direct = direct;
  auto device = open_file_device(parameters);
  REQUIRE_MESSAGE(device.is_ok(), device.status().message());
  return device.value();
}

Status open_status(const std::string& path, bool read_only = false, bool direct = false) {
  FileDeviceParameters parameters;
  parameters.path = path;
  parameters.read_only = read_only;
  parameters.direct = direct;
  return open_file_device(parameters).status();
}

// cachestat(2), Linux 6.5: pages of the whole file that still have to be written.
constexpr long kCachestatCall = 451;
struct CachestatRange {
  uint64_t offset, length;
};
struct Cachestat {
  uint64_t cached, dirty, writeback, evicted, recently_evicted;
};
int64_t unwritten_pages(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  CachestatRange range{0, 0};
  Cachestat state{};
  if (::syscall(kCachestatCall, fd.get(), &range, &state, 0) != 0) return -1;
  return static_cast<int64_t>(state.dirty + state.writeback);
}

// Drops the cached pages of a range (clean ones; the file is synced before).
void drop_cache(const std::string& path, uint64_t offset, uint64_t length) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  REQUIRE(::fsync(fd.get()) == 0);
  REQUIRE(::posix_fadvise(fd.get(), static_cast<off_t>(offset), static_cast<off_t>(length),
                          POSIX_FADV_DONTNEED) == 0);
}

uint64_t allocated_bytes(const std::string& path) {
  struct stat status {};
  REQUIRE(::stat(path.c_str(), &status) == 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

// Runs `body` on a thread with a mount namespace of its own, in which `directory`
// is a tmpfs of 1 MiB; nothing of it is seen by any other process. False where
// that is not allowed.
bool with_small_tmpfs(const std::string& directory, const std::function<void()>& body) {
  bool mounted = false;
  std::thread([&] {
    mounted = ::unshare(CLONE_NEWNS) == 0 &&
              ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
              ::mount("tmpfs", directory.c_str(), "tmpfs", 0, "size=1m") == 0;
    if (!mounted) return;
    body();
    ::umount2(directory.c_str(), MNT_DETACH);
  }).join();
  return mounted;
}

// Makes io_uring_setup fail with EPERM on this thread, as containers do.
bool forbid_io_uring() {
  sock_filter filter[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{4, filter};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

}  // namespace

TEST_CASE("a read that is only partly cached is finished by the engine") {
  for (const IoEngineKind engine : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
    ScratchDirectory scratch;
    // As much as is read inline.
    const std::string path = scratch.make_file(kMiB / 4);
    const auto device = open_device(path, engine);
    CAPTURE(device->traits().engine);
    std::mt19937_64 random(1);
    const Bytes content = random_bytes(random, kMiB / 4);
    REQUIRE(write_sync(*device, 0, content).is_ok());
    for (const uint64_t kept : {uint64_t{0}, uint64_t{4096}, kMiB / 8, kMiB / 4 - 4096}) {
      drop_cache(path, kept, 0);
      CHECK(read_all(*device) == content);
    }
  }
}

TEST_CASE("a large transfer does not keep its submitter, a small write needs no other thread") {
  ScratchDirectory scratch;
  const auto device = open_device(scratch.make_file(4 * kMiB));
  REQUIRE(write_sync(*device, 0, Bytes(4 * kMiB)).is_ok());
  for (const IoOp op : {IoOp::kRead, IoOp::kWrite}) {
    for (const uint64_t length : {uint64_t{4096}, kMiB / 4, kMiB / 4 + 1, 4 * kMiB}) {
      CAPTURE(length);
      Probe probe(op, 0, length);
      std::thread::id completed_on;
      probe.after = [&] { completed_on = std::this_thread::get_id(); };
      probe.submit(*device);
      CHECK(probe.wait() == 0);
      const bool is_inline = completed_on == std::this_thread::get_id();
      if (length > kMiB / 4) CHECK_FALSE(is_inline);
      if (length <= kMiB / 4 && op == IoOp::kWrite) CHECK(is_inline);
    }
  }
}

TEST_CASE("many cold reads are in flight at once") {
  for (const IoEngineKind engine : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
    ScratchDirectory scratch;
    const std::string path = scratch.make_file(8 * kMiB);
    const auto device = open_device(path, engine);
    Bytes content(8 * kMiB);
    for (uint64_t i = 0; i < 2048; ++i) describe_block(content.data() + i * 4096, i, 1);
    REQUIRE(write_sync(*device, 0, content).is_ok());
    drop_cache(path, 0, 0);
    std::deque<Probe> reads;
    for (uint64_t i = 0; i < 2048; ++i) {
      reads.emplace_back(IoOp::kRead, (i * 37 % 2048) * 4096, 4096).submit(*device);
    }
    for (uint64_t i = 0; i < 2048; ++i) {
      REQUIRE(reads[i].wait() == 0);
      REQUIRE(is_block(reads[i].data(), i * 37 % 2048, 1));
    }
  }
}

TEST_CASE("FUA and flush leave nothing to be written") {
  ScratchDirectory scratch;
  const std::string path = scratch.make_file(kMiB);
  struct statfs file_system {};
  REQUIRE(::statfs(path.c_str(), &file_system) == 0);
  constexpr long kTmpfsMagic = 0x01021994;
  if (unwritten_pages(path) < 0 || file_system.f_type == kTmpfsMagic) {
    MESSAGE("durability is not checked: needs cachestat and a disk's file system");
    return;
  }
  for (const IoEngineKind engine : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
    const auto device = open_device(path, engine);
    const Bytes content(64 * 1024, std::byte{1});
    REQUIRE(write_sync(*device, 0, content).is_ok());
    CHECK(unwritten_pages(path) > 0);  // or else the rest could not fail
    REQUIRE(flush_sync(*device).is_ok());
    CHECK(unwritten_pages(path) == 0);
    REQUIRE(write_sync(*device, 0, content, kIoFua).is_ok());
    CHECK(unwritten_pages(path) == 0);
    REQUIRE(write_sync(*device, 0, content).is_ok());
    Probe zero(IoOp::kWriteZeroes, 128 * 1024, 4096, kIoFua);
    CHECK(zero.run(*device) == 0);
    CHECK(unwritten_pages(path) == 0);
  }
}

TEST_CASE("a full file system is ENOSPC, and what is written stays readable") {
  ScratchDirectory scratch;
  const bool ran = with_small_tmpfs(scratch.path(), [&] {
    for (const IoEngineKind engine : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
      for (const uint32_t flags : {0U, kIoFua}) {
        const std::string path = scratch.make_file(4 * kMiB);
        {
          const auto device = open_device(path, engine);
          const Bytes content(512 * 1024, std::byte{7});
          CHECK(write_sync(*device, 0, content, flags).is_ok());
          const Status full = write_sync(*device, kMiB, Bytes(2 * kMiB, std::byte{8}), flags);
          CHECK(full.sys_errno() == ENOSPC);
          CHECK(full.code() == ErrorCode::kNoSpace);
          Probe zero(IoOp::kWriteZeroes, 2 * kMiB, 2 * kMiB, kIoNoHole);
          CHECK(zero.run(*device) == ENOSPC);
          Bytes seen(content.size());
          CHECK(read_sync(*device, 0, seen).is_ok());
          CHECK(seen == content);
          CHECK(trim_sync(*device, 0, 4 * kMiB).is_ok());
          CHECK(write_sync(*device, 3 * kMiB, content, flags).is_ok());
        }
        ::unlink(path.c_str());
      }
    }
  });
  if (!ran) MESSAGE("ENOSPC is not checked: no mount namespace may be made here");
}

TEST_CASE("fast zero without a hole is refused where the file system cannot, altering nothing") {
  ScratchDirectory scratch;
  const bool ran = with_small_tmpfs(scratch.path(), [&] {
    const auto device = open_device(scratch.make_file(256 * 1024));
    const Bytes content(256 * 1024, std::byte{9});
    REQUIRE(write_sync(*device, 0, content).is_ok());
    Probe fast(IoOp::kWriteZeroes, 4096, 65536, kIoNoHole | kIoFastZero);
    CHECK(fast.run(*device) == ENOTSUP);
    CHECK(read_all(*device) == content);
    Probe slow(IoOp::kWriteZeroes, 100, 65536, kIoNoHole);
    CHECK(slow.run(*device) == 0);
    Bytes expected = content;
    std::fill(expected.begin() + 100, expected.begin() + 100 + 65536, std::byte{0});
    CHECK(read_all(*device) == expected);
  });
  if (!ran) MESSAGE("not checked: no mount namespace may be made here");
}

TEST_CASE("a short write goes on until the kernel says why not") {
  ScratchDirectory scratch;
  const std::string path = scratch.make_file(4 * kMiB);
  const auto device = open_device(path);
  rlimit before{};
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit small{kMiB + 4096, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &small) == 0);
  const Status cut = write_sync(*device, kMiB, Bytes(65536, std::byte{3}));
  const Status durable = write_sync(*device, kMiB, Bytes(65536, std::byte{3}), kIoFua);
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, old_handler);
  CHECK(cut.sys_errno() == EFBIG);
  CHECK(durable.sys_errno() == EFBIG);
}

TEST_CASE("a file cut behind the device is an error, never zeroes") {
  for (const IoEngineKind engine : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
    ScratchDirectory scratch;
    const std::string path = scratch.make_file(kMiB);
    const auto device = open_device(path, engine);
    REQUIRE(::truncate(path.c_str(), 10'000) == 0);
    Bytes seen(8192);
    CHECK(read_sync(*device, 0, seen).is_ok());
    CHECK(read_sync(*device, 8192, seen).sys_errno() == EIO);
    CHECK(read_sync(*device, 65536, seen).sys_errno() == EIO);
  }
}

TEST_CASE("trim and write-zeroes give the file's space back, and extents say so") {
  ScratchDirectory scratch;
  const std::string path = scratch.make_file(16 * kMiB);
  const auto device = open_device(path);
  REQUIRE(device->traits().trim_reads_zero);
  REQUIRE(write_sync(*device, 0, Bytes(16 * kMiB, std::byte{1})).is_ok());
  REQUIRE(flush_sync(*device).is_ok());
  const uint64_t before = allocated_bytes(path);
  CHECK(trim_sync(*device, 4 * kMiB, 4 * kMiB).is_ok());
  CHECK(write_zeroes_sync(*device, 8 * kMiB, 4 * kMiB).is_ok());
  CHECK(before - allocated_bytes(path) >= 8 * kMiB);
  std::vector<DeviceExtent> extents;
  CHECK(device->query_extents("base:allocation", kMiB, 14 * kMiB, 10, extents).is_ok());
  REQUIRE(extents.size() == 3);
  CHECK(extents[0].flags == 0);
  CHECK(extents[0].length_bytes == 3 * kMiB);
  CHECK(extents[1].flags == (kExtentHole | kExtentZero));
  CHECK(extents[1].length_bytes == 8 * kMiB);
  CHECK(extents[2].length_bytes == 3 * kMiB);
}

TEST_CASE("a size that is no multiple of a sector is served to its last byte") {
  ScratchDirectory scratch;
  const std::string path = scratch.make_file(100'001);
  const auto device = open_device(path);
  CHECK(device->size_bytes() == 100'001);
  std::mt19937_64 random(2);
  const Bytes content = random_bytes(random, 100'001);
  CHECK(write_sync(*device, 0, content).is_ok());
  drop_cache(path, 0, 0);
  CHECK(read_all(*device) == content);
  CHECK(write_zeroes_sync(*device, 100'000, 1).is_ok());
  CHECK(read_all(*device).back() == std::byte{0});
  CHECK(device->size_bytes() == 100'001);
}

TEST_CASE("what cannot be opened is refused with its reason") {
  ScratchDirectory scratch;
  CHECK(open_status(scratch.path() + "/none").code() == ErrorCode::kNotFound);
  CHECK(open_status(scratch.path()).code() == ErrorCode::kUnsupported);
  CHECK(open_status("/dev/null").code() == ErrorCode::kUnsupported);
  const std::string pipe = scratch.path() + "/pipe";
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(open_status(pipe).code() == ErrorCode::kUnsupported);
  const std::string odd = scratch.make_file(100'001);
  const ErrorCode code = open_status(odd, false, true).code();
  CHECK((code == ErrorCode::kInvalidArgument || code == ErrorCode::kUnsupported));
}

TEST_CASE("a device opened read-only serves reads and refuses every kind of write") {
  ScratchDirectory scratch;
  FileDeviceParameters parameters;
  parameters.path = scratch.make_file(kMiB);
  parameters.read_only = true;
  const auto device = open_file_device(parameters).value();
  CHECK(device->traits().read_only);
  CHECK(is_zero(read_all(*device)));
  CHECK(write_sync(*device, 0, Bytes(512)).sys_errno() == EROFS);
  CHECK(trim_sync(*device, 0, 512).sys_errno() == EROFS);
  CHECK(write_zeroes_sync(*device, 0, 512).sys_errno() == EROFS);
  CHECK(flush_sync(*device).is_ok());
}

TEST_CASE("where io_uring is forbidden, threads take its place") {
  bool forbidden = false;
  std::thread([&] {
    forbidden = forbid_io_uring();
    if (!forbidden) return;
    ScratchDirectory scratch;
    const auto device = open_device(scratch.make_file(kMiB), IoEngineKind::kIoUring);
    CHECK(device->traits().engine == "threads");
    CHECK(write_sync(*device, 0, Bytes(4096, std::byte{1}), kIoFua).is_ok());
  }).join();
  if (!forbidden) MESSAGE("the fallback is not checked: seccomp is not to be had");
}

TEST_CASE("an engine asked for by name is the one that works") {
  ScratchDirectory scratch;
  const std::string path = scratch.make_file(kMiB);
  CHECK(open_device(path, IoEngineKind::kThreads)->traits().engine == "threads");
  const std::string automatic = open_device(path)->traits().engine;
  CHECK(open_device(path, IoEngineKind::kIoUring)->traits().engine == automatic);
  MESSAGE("this kernel gives " << automatic);
}

TEST_CASE("devices share their engine, which starts again after the last is gone") {
  ScratchDirectory scratch;
  for (int round = 0; round < 10; ++round) {
    std::vector<std::shared_ptr<BlockDevice>> devices;
    for (int i = 0; i < 4; ++i) devices.push_back(open_device(scratch.make_file(kMiB)));
    std::deque<Probe> probes;
    for (int i = 0; i < 32; ++i) {
      probes.emplace_back(IoOp::kWrite, 4096 * static_cast<uint64_t>(i), 4096, kIoFua)
          .submit(*devices[static_cast<size_t>(i % 4)]);
    }
    for (Probe& probe : probes) CHECK(probe.wait() == 0);
    devices.erase(devices.begin(), devices.begin() + 3);
    CHECK(flush_sync(*devices[0]).is_ok());
  }
}

// Each waits for all the others: done only if they run at once (else this hangs).
struct MeetingTask : IoTask {
  std::latch* meeting = nullptr;
  std::latch* finished = nullptr;
};

TEST_CASE("a blocking call does not hold up another") {
  constexpr ptrdiff_t kCount = 8;
  for (const IoEngineKind kind : {IoEngineKind::kIoUring, IoEngineKind::kThreads}) {
    const std::shared_ptr<IoEngine> engine = acquire_io_engine(kind);
    std::latch meeting(kCount), finished(kCount);
    std::deque<MeetingTask> tasks(kCount);
    for (MeetingTask& task : tasks) {
      task.kind = IoTask::Kind::kBlockingCall;
      task.meeting = &meeting;
      task.finished = &finished;
      task.call = [](IoTask& called) noexcept {
        static_cast<MeetingTask&>(called).meeting->arrive_and_wait();
        return 0;
      };
      task.done = [](IoTask& done, int) noexcept {
        static_cast<MeetingTask&>(done).finished->count_down();
      };
      engine->submit(task);
    }
    finished.wait();
    CHECK(meeting.try_wait());
  }
}
