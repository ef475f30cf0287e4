// The host's files as another boot of the machine sees them, and with syncs that are
// left out: planted faults, which the power cuts must find.
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>

#include "bitmap/bitmap_storage.h"
#include "bitmap/intent_page.h"

namespace tidemark::power_cut {

enum class Fault : uint8_t { kNone, kIntentSync, kMapSync };

class ForgetfulFile final : public BitmapStorage::File {
 public:
  ForgetfulFile(std::unique_ptr<BitmapStorage::File> inner, const std::atomic<Fault>& fault)
      : inner_(std::move(inner)), fault_(fault) {}

  BitmapStorage::File& inner() { return *inner_; }
  Result<uint64_t> size_bytes() const override { return inner_->size_bytes(); }
  Status set_size(uint64_t size_bytes) override { return inner_->set_size(size_bytes); }
  Status allocate(uint64_t offset_bytes, uint64_t length_bytes) override {
    return inner_->allocate(offset_bytes, length_bytes);
  }
  Status release(uint64_t offset_bytes, uint64_t length_bytes) override {
    return inner_->release(offset_bytes, length_bytes);
  }
  Result<size_t> read(uint64_t offset_bytes, std::span<std::byte> into) const override {
    return inner_->read(offset_bytes, into);
  }
  Status write(uint64_t offset_bytes, std::span<const std::byte> from) override {
    return inner_->write(offset_bytes, from);
  }
  Status map() override { return inner_->map(); }
  std::byte* data() const noexcept override { return inner_->data(); }
  void renew(uint64_t offset_bytes, uint64_t length_bytes) noexcept override {
    inner_->renew(offset_bytes, length_bytes);
  }
  Status sync(uint64_t offset_bytes, uint64_t length_bytes) override {
    const bool is_left_out = fault_.load() == Fault::kMapSync;
    return is_left_out ? Status::ok() : inner_->sync(offset_bytes, length_bytes);
  }
  Status sync_all() override { return inner_->sync_all(); }
  Status sync_log(uint64_t offset_bytes, uint64_t length_bytes) override {
    const bool is_left_out = fault_.load() == Fault::kIntentSync;
    return is_left_out ? Status::ok() : inner_->sync_log(offset_bytes, length_bytes);
  }
  bool is_locked() const noexcept override { return inner_->is_locked(); }
  void unlock() noexcept override { inner_->unlock(); }

 private:
  const std::unique_ptr<BitmapStorage::File> inner_;
  const std::atomic<Fault>& fault_;
};

class OtherStorage final : public BitmapStorage {
 public:
  explicit OtherStorage(bool is_other_boot) : is_other_boot_(is_other_boot) {}

  void plant(Fault fault) { fault_.store(fault); }

  Result<std::unique_ptr<File>> create(const std::string& path) override {
    return wrapped(host_.create(path));
  }
  Status publish(File& file) override {
    return host_.publish(static_cast<ForgetfulFile&>(file).inner());
  }
  Result<std::unique_ptr<File>> open(const std::string& path) override {
    return wrapped(host_.open(path));
  }
  Status rename(const std::string& from, const std::string& to) override {
    return host_.rename(from, to);
  }
  void remove(const std::string& path) noexcept override { host_.remove(path); }
  Status sync_directory(const std::string& path) override { return host_.sync_directory(path); }
  Uuid boot() const override {
    Uuid boot = host_.boot();
    if (is_other_boot_) boot.bytes[0] = static_cast<uint8_t>(~boot.bytes[0]);
    return boot;
  }

 private:
  Result<std::unique_ptr<File>> wrapped(Result<std::unique_ptr<File>> file) const {
    if (!file.is_ok()) return file;
    return std::unique_ptr<File>(std::make_unique<ForgetfulFile>(std::move(file).value(), fault_));
  }

  BitmapStorage& host_ = file_bitmap_storage();
  std::atomic<Fault> fault_{Fault::kNone};
  const bool is_other_boot_;
};

}  // namespace tidemark::power_cut
