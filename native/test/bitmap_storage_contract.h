// What every BitmapStorage does, as far as a live process can see.
#pragma once

#include <doctest/doctest.h>

#include <cstring>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bitmap/bitmap_storage.h"

namespace tidemark::storage_contract {

// A storage, and how a name in it is spelt.
struct World {
  BitmapStorage& storage;
  std::function<std::string(const std::string&)> path;
};

using StoredFile = std::unique_ptr<BitmapStorage::File>;

inline constexpr uint64_t kFileBytes = 16 * 4096;

inline void must(const Status& status) {
  INFO(status.message());
  REQUIRE(status.is_ok());
}

inline StoredFile make_file(const World& world, const std::string& name) {
  Result<StoredFile> made = world.storage.create(world.path(name));
  must(made.status());
  StoredFile file = std::move(made).value();
  must(file->set_size(kFileBytes));
  must(file->allocate(0, kFileBytes / 2));
  must(file->sync_all());
  must(world.storage.publish(*file));
  must(world.storage.sync_directory(world.path(name)));
  must(file->map());
  return file;
}

inline ErrorCode open_code(const World& world, const std::string& name) {
  return world.storage.open(world.path(name)).status().code();
}

inline void a_new_file_is_zero_and_has_its_size(const World& world) {
  const StoredFile file = make_file(world, "new");
  CHECK(file->size_bytes().value() == kFileBytes);
  for (uint64_t at = 0; at < kFileBytes; ++at) REQUIRE(file->data()[at] == std::byte{0});
}

inline void a_file_that_was_never_published_leaves_nothing(const World& world) {
  {
    Result<StoredFile> made = world.storage.create(world.path("unnamed"));
    must(made.status());
    must(made.value()->set_size(kFileBytes));
  }
  CHECK(open_code(world, "unnamed") == ErrorCode::kNotFound);
  make_file(world, "unnamed");
}

inline void a_name_is_given_once(const World& world) {
  make_file(world, "taken");
  CHECK(world.storage.create(world.path("taken")).status().code() == ErrorCode::kAlreadyExists);
}

inline void what_is_written_and_what_is_stored_is_one_content(const World& world) {
  const StoredFile file = make_file(world, "content");
  const char text[] = "sector";
  must(file->write(512, std::as_bytes(std::span(text))));
  CHECK(std::memcmp(file->data() + 512, text, sizeof text) == 0);
  file->data()[4096] = std::byte{7};
  std::byte byte{0};
  CHECK(file->read(4096, {&byte, 1}).value() == 1);
  CHECK(byte == std::byte{7});
  must(file->sync(4096, 8));
  must(file->sync_all());
}

inline void a_read_past_the_end_is_short(const World& world) {
  const StoredFile file = make_file(world, "short");
  std::vector<std::byte> into(4096);
  CHECK(file->read(kFileBytes - 100, into).value() == 100);
  CHECK(file->read(kFileBytes + 1, into).value() == 0);
}

inline void room_that_was_released_reads_as_zeroes(const World& world) {
  const StoredFile file = make_file(world, "released");
  std::memset(file->data(), 0x5A, kFileBytes / 2);
  must(file->release(4096, 2 * 4096));
  CHECK(file->data()[4095] == std::byte{0x5A});
  for (uint64_t at = 4096; at < 3 * 4096; ++at) REQUIRE(file->data()[at] == std::byte{0});
  CHECK(file->data()[3 * 4096] == std::byte{0x5A});
  must(file->allocate(4096, 2 * 4096));
  CHECK(file->data()[4096] == std::byte{0});
  CHECK(file->size_bytes().value() == kFileBytes);
}

inline void one_holder_at_a_time(const World& world) {
  StoredFile file = make_file(world, "held");
  CHECK(open_code(world, "held") == ErrorCode::kInUse);
  CHECK(file->is_locked());
  file->unlock();
  CHECK_FALSE(file->is_locked());
  CHECK(file->data()[0] == std::byte{0});
  CHECK(open_code(world, "held") == ErrorCode::kOk);
  file = make_file(world, "held by an object");
  file.reset();
  CHECK(open_code(world, "held by an object") == ErrorCode::kOk);
}

inline void content_outlives_its_holder(const World& world) {
  make_file(world, "kept")->data()[5000] = std::byte{9};
  Result<StoredFile> file = world.storage.open(world.path("kept"));
  must(file.status());
  must(file.value()->map());
  CHECK(file.value()->data()[5000] == std::byte{9});
}

inline void what_is_renewed_stays_as_it_is(const World& world) {
  const StoredFile file = make_file(world, "renewed");
  file->data()[4096] = std::byte{7};
  file->data()[8191] = std::byte{8};
  must(file->sync_all());
  file->renew(0, 8192);
  CHECK(file->data()[0] == std::byte{0});
  CHECK(file->data()[4096] == std::byte{7});
  CHECK(file->data()[8191] == std::byte{8});
  must(file->sync(4096, 4096));
}

inline void a_renamed_file_takes_the_name_over(const World& world) {
  const StoredFile older = make_file(world, "name");
  older->data()[0] = std::byte{1};
  StoredFile newer = make_file(world, "name.grow");
  newer->data()[0] = std::byte{2};
  must(world.storage.rename(world.path("name.grow"), world.path("name")));
  must(world.storage.sync_directory(world.path("name")));
  CHECK(open_code(world, "name.grow") == ErrorCode::kNotFound);
  CHECK(older->data()[0] == std::byte{1});
  CHECK(open_code(world, "name") == ErrorCode::kInUse);
  newer.reset();
  Result<StoredFile> opened = world.storage.open(world.path("name"));
  must(opened.status());
  must(opened.value()->map());
  CHECK(opened.value()->data()[0] == std::byte{2});
}

inline void a_name_that_is_not_there(const World& world) {
  CHECK(open_code(world, "nothing") == ErrorCode::kNotFound);
  CHECK_FALSE(world.storage.rename(world.path("nothing"), world.path("something")).is_ok());
  world.storage.remove(world.path("nothing"));
  make_file(world, "gone");
  world.storage.remove(world.path("gone"));
  CHECK(open_code(world, "gone") == ErrorCode::kNotFound);
}

inline void the_boot_stays_the_same(const World& world) {
  CHECK(world.storage.boot() == world.storage.boot());
  CHECK_FALSE(world.storage.boot().is_nil());
}

// Runs every function above, each in a world of its own.
inline void check_storage(const std::function<void(const std::function<void(const World&)>&)>& in) {
  SUBCASE("a new file is zero and has its size") { in(a_new_file_is_zero_and_has_its_size); }
  SUBCASE("a file that was never published leaves nothing") {
    in(a_file_that_was_never_published_leaves_nothing);
  }
  SUBCASE("a name is given once") { in(a_name_is_given_once); }
  SUBCASE("what is written and what is stored is one content") {
    in(what_is_written_and_what_is_stored_is_one_content);
  }
  SUBCASE("a read past the end is short") { in(a_read_past_the_end_is_short); }
  SUBCASE("room that was released reads as zeroes") { in(room_that_was_released_reads_as_zeroes); }
  SUBCASE("one holder at a time") { in(one_holder_at_a_time); }
  SUBCASE("content outlives its holder") { in(content_outlives_its_holder); }
  SUBCASE("what is renewed stays as it is") { in(what_is_renewed_stays_as_it_is); }
  SUBCASE("a renamed file takes the name over") { in(a_renamed_file_takes_the_name_over); }
  SUBCASE("a name that is not there") { in(a_name_that_is_not_there); }
  SUBCASE("the boot stays the same") { in(the_boot_stays_the_same); }
}

}  // namespace tidemark::storage_contract
