// BitmapStorage: what a bitmap needs of the storage under it.
//
// Two implementations: files (file_bitmap_storage()) and, for tests, a simulated
// page cache and disk that lose, tear and refuse (native/test/simulated_storage.h).
// Both run native/test/bitmap_storage_contract.h.
//
// What is durable. Stores through the mapping and write() go to a cache that a
// killed process leaves as it is and a power loss takes: of what was not synced
// any part may be there afterwards, in steps of 8 aligned bytes, of a write()
// inside one sector of 512 bytes all or nothing. sync() and sync_all() end that
// for what they cover, sync_directory() for names. After a failed sync nothing
// is known of what it covered, and a later success says nothing about it, in this
// process and the next: the cache may take for clean what the disk never got. What
// is renew()ed in between, the later sync covers.
//
// Called by one thread at a time, but for stores through the mapping, and for write()
// and sync_log() of the intent log's page: they come from a thread of its own, beside
// everything else but unlock(). A storage outlives its files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "common/status.h"
#include "common/uuid.h"

namespace tidemark {

class BitmapStorage {
 public:
  // An open file and the lock that excludes every other holder of it. The lock
  // goes with unlock(), with the object, and with the process.
  class File {
   public:
    virtual ~File() = default;

    virtual Result<uint64_t> size_bytes() const = 0;
    // New bytes read as zeroes. Never while the file is mapped.
    virtual Status set_size(uint64_t size_bytes) = 0;
    // Room that no later store can be refused; the content stays. kNoSpace.
    virtual Status allocate(uint64_t offset_bytes, uint64_t length_bytes) = 0;
    // Gives the room back; reads as zeroes from then on. Whole pages of a mapped file.
    virtual Status release(uint64_t offset_bytes, uint64_t length_bytes) = 0;

    // Fewer than asked for where the file ends.
    virtual Result<size_t> read(uint64_t offset_bytes, std::span<std::byte> into) const = 0;
    // All of it, or an error; seen through the mapping at once.
    virtual Status write(uint64_t offset_bytes, std::span<const std::byte> from) = 0;

    // Once, the whole file. data() is valid until the object goes.
    virtual Status map() = 0;
    virtual std::byte* data() const noexcept = 0;

    // Of the mapping: content stays as it is, and counts as changed for the next sync.
    // Zeroes need not. Beside stores of other threads; false positives only cost writes.
    virtual void renew(uint64_t offset_bytes, uint64_t length_bytes) noexcept = 0;
    // The pages that hold [offset, offset + length) of the mapping.
    virtual Status sync(uint64_t offset_bytes, uint64_t length_bytes) = 0;
    virtual Status sync_all() = 0;
    // As sync(), of the first kLogSyncBytes of the file. Who calls the others learns of
    // every failure, and so does who calls this: none takes the other's news away.
    virtual Status sync_log(uint64_t offset_bytes, uint64_t length_bytes) = 0;
    static constexpr uint64_t kLogSyncBytes = 8192;

    virtual bool is_locked() const noexcept = 0;
    // Nothing but data() may be used afterwards.
    virtual void unlock() noexcept = 0;
  };

  virtual ~BitmapStorage() = default;

  // A new, empty, locked file for `path`, to be published: one that never is
  // leaves nothing behind, where the storage can do that even of a killed process.
  // kAlreadyExists: something bears the name.
  virtual Result<std::unique_ptr<File>> create(const std::string& path) = 0;
  // Gives a created file the name that it was made for.
  virtual Status publish(File& file) = 0;
  // kNotFound, kInUse: somebody else holds it, or it lost its name meanwhile.
  virtual Result<std::unique_ptr<File>> open(const std::string& path) = 0;

  // What bore the name `to` loses it, and goes once nobody has it open.
  virtual Status rename(const std::string& from, const std::string& to) = 0;
  virtual void remove(const std::string& path) noexcept = 0;
  // Makes the names in the directory of `path` durable.
  virtual Status sync_directory(const std::string& path) = 0;

  // Whose cache it is: another one after a power loss or a restart of the machine.
  // Nil: not known, and never the same as before.
  virtual Uuid boot() const = 0;
};

// Files of the host. One object, without state.
BitmapStorage& file_bitmap_storage();

}  // namespace tidemark
