// QEMU's image locks between descriptions of one process; test/system has the
// same against QEMU itself.
#include "device/image_lock.h"

#include <doctest/doctest.h>

#include "device/file_device.h"
#include "scratch_file.h"

using namespace tidemark;

namespace {

struct Scene {
  ScratchDirectory scratch;
  std::string path = scratch.make_file(1 << 20);

  UniqueFd open() const { return UniqueFd(::open(path.c_str(), O_RDWR | O_CLOEXEC)); }
  ErrorCode lock(const UniqueFd& fd, ImageLockMode mode, bool read_only = false) const {
    return lock_image(fd.get(), mode, read_only, path).code();
  }
};

// As another program sees a byte.
bool is_locked(const UniqueFd& fd, off_t offset) {
  struct flock lock {};
  lock.l_type = F_WRLCK;
  lock.l_whence = SEEK_SET;
  lock.l_start = offset;
  lock.l_len = 1;
  REQUIRE(::fcntl(fd.get(), F_OFD_GETLK, &lock) == 0);
  return lock.l_type != F_UNLCK;
}

std::string locked_bytes(const UniqueFd& fd) {
  std::string text;
  for (off_t offset = 0; offset < 300; ++offset) {
    if (is_locked(fd, offset)) text += (text.empty() ? "" : " ") + std::to_string(offset);
  }
  return text;
}

}  // namespace

TEST_CASE("the locks are the bytes that QEMU looks at, and those alone") {
  const Scene scene;
  const UniqueFd ours = scene.open();
  const UniqueFd other = scene.open();
  const auto bytes = [&](ImageLockMode mode, bool read_only) {
    REQUIRE(scene.lock(ours, mode, read_only) == ErrorCode::kOk);
    return locked_bytes(other);
  };
  CHECK(bytes(ImageLockMode::kExclusive, false) == "100 101 102 103 201 203");
  CHECK(bytes(ImageLockMode::kShared, false) == "100 101 102 103");
  CHECK(bytes(ImageLockMode::kExclusive, true) == "100 201 203");
  CHECK(bytes(ImageLockMode::kShared, true) == "100");
  CHECK(bytes(ImageLockMode::kNone, false).empty());
}

TEST_CASE("one writer excludes another and readers that do not allow one") {
  const Scene scene;
  const UniqueFd first = scene.open();
  const UniqueFd second = scene.open();
  REQUIRE(scene.lock(first, ImageLockMode::kExclusive) == ErrorCode::kOk);
  CHECK(scene.lock(second, ImageLockMode::kExclusive) == ErrorCode::kInUse);
  CHECK(scene.lock(second, ImageLockMode::kExclusive, true) == ErrorCode::kInUse);
  CHECK(locked_bytes(first).empty());  // the refused one left nothing behind
  CHECK(scene.lock(second, ImageLockMode::kShared, true) == ErrorCode::kOk);
  CHECK(scene.lock(second, ImageLockMode::kNone) == ErrorCode::kOk);
}

TEST_CASE("a hand-over shares, and who comes during it is refused") {
  const Scene scene;
  const UniqueFd from = scene.open();
  const UniqueFd to = scene.open();
  const UniqueFd third = scene.open();
  REQUIRE(scene.lock(from, ImageLockMode::kExclusive) == ErrorCode::kOk);
  CHECK(scene.lock(to, ImageLockMode::kShared) == ErrorCode::kOk);
  CHECK(scene.lock(third, ImageLockMode::kExclusive) == ErrorCode::kInUse);
  REQUIRE(scene.lock(from, ImageLockMode::kNone) == ErrorCode::kOk);
  CHECK(scene.lock(third, ImageLockMode::kExclusive) == ErrorCode::kInUse);
  CHECK(scene.lock(to, ImageLockMode::kExclusive) == ErrorCode::kOk);
}

TEST_CASE("readers share with readers, and a reader keeps a writer away") {
  const Scene scene;
  const UniqueFd first = scene.open();
  const UniqueFd second = scene.open();
  CHECK(scene.lock(first, ImageLockMode::kExclusive, true) == ErrorCode::kOk);
  CHECK(scene.lock(second, ImageLockMode::kExclusive, true) == ErrorCode::kOk);
  const UniqueFd writer = scene.open();
  CHECK(scene.lock(writer, ImageLockMode::kExclusive) == ErrorCode::kInUse);
}

TEST_CASE("a device holds its lock until it goes, whatever else the process closes") {
  const Scene scene;
  FileDeviceParameters parameters;
  parameters.path = scene.path;
  parameters.lock = ImageLockMode::kExclusive;
  auto device = open_file_device(parameters).value();
  scene.open().reset();  // a lock of the process would be gone now
  const Status refused = open_file_device(parameters).status();
  CHECK(refused.code() == ErrorCode::kInUse);
  CHECK(refused.message().find("'write'") != std::string::npos);
  device.reset();
  CHECK(open_file_device(parameters).is_ok());
}
