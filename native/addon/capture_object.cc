#include "addon/capture_object.h"

#include <algorithm>
#include <cstring>
#include <map>
#include <mutex>

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/known_content_object.h"
#include "common/crc32c.h"
#include "tracking/capture_device.h"
#include "tracking/changed_runs.h"

namespace tidemark {

namespace {

// The process's open captures by id, so that lanes in worker threads find the
// capture whose plan they were handed.
class CaptureRegistry {
 public:
  static CaptureRegistry& instance() {
    static CaptureRegistry registry;
    return registry;
  }

  uint64_t id_of(const std::shared_ptr<Capture>& capture) {
    std::lock_guard lock(mutex_);
    std::erase_if(by_id_, [](const auto& entry) { return entry.second.capture.expired(); });
    for (const auto& [id, known] : by_id_) {
      if (known.capture.lock() == capture) return id;
    }
    by_id_.emplace(++last_id_, Entry{capture, {}});
    return last_id_;
  }

  std::shared_ptr<Capture> find(uint64_t id) {
    std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second.capture.lock();
  }

  void set_filter(uint64_t id, const std::shared_ptr<ContentFilter>& filter) {
    std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    if (found != by_id_.end()) found->second.filter = filter;
  }

  std::shared_ptr<ContentFilter> filter_of(uint64_t id) {
    std::lock_guard lock(mutex_);
    const auto found = by_id_.find(id);
    return found == by_id_.end() ? nullptr : found->second.filter.lock();
  }

 private:
  struct Entry {
    std::weak_ptr<Capture> capture;
    std::weak_ptr<ContentFilter> filter;
  };

  std::mutex mutex_;
  std::map<uint64_t, Entry> by_id_;
  uint64_t last_id_ = 0;
};

struct ChangedOutcome {
  std::vector<ChangedRun> runs;
  std::vector<uint32_t> crcs;
  std::vector<uint8_t> zeros;
};

struct ReadOutcome {
  std::vector<uint32_t> crcs;
  std::vector<uint8_t> zeros;
};

bool is_all_zero(std::span<const std::byte> data) noexcept {
  return data.empty() || (data[0] == std::byte{0} &&
                          std::memcmp(data.data(), data.data() + 1, data.size() - 1) == 0);
}

uint64_t laid_out_bytes(const std::vector<ByteExtent>& extents, uint64_t gap_bytes) {
  uint64_t total_bytes = 0;
  for (const ByteExtent& extent : extents) total_bytes += gap_bytes + extent.length_bytes;
  return total_bytes;
}

Result<ReadOutcome> read_extents(Capture& capture, const std::vector<ByteExtent>& extents,
                                 std::span<std::byte> into, uint64_t gap_bytes) {
  ReadOutcome outcome;
  uint64_t position = 0;
  for (const ByteExtent& extent : extents) {
    position += gap_bytes;
    const auto place = into.subspan(position, extent.length_bytes);
    Status status = capture.read(extent.offset_bytes, place);
    if (!status.is_ok()) return status;
    const bool zero = is_all_zero(place);
    outcome.zeros.push_back(zero ? 1 : 0);
    outcome.crcs.push_back(zero ? 0 : crc32c(place.data(), place.size()));
    position += extent.length_bytes;
  }
  return outcome;
}

Result<ChangedOutcome> read_changed_extents(Capture& capture, ContentFilter* filter,
                                            const std::vector<ByteExtent>& extents,
                                            std::span<std::byte> into, uint64_t gap_bytes) {
  auto runs = read_changed_runs(capture, filter, extents, into, gap_bytes);
  if (!runs.is_ok()) return runs.status();
  ChangedOutcome outcome{std::move(runs).value(), {}, {}};
  for (const ChangedRun& run : outcome.runs) {
    const auto content = into.subspan(run.position_bytes, run.length_bytes);
    const bool zero = is_all_zero(content);
    outcome.zeros.push_back(zero ? 1 : 0);
    outcome.crcs.push_back(zero ? 0 : crc32c(content.data(), content.size()));
  }
  return outcome;
}

Napi::Value to_js_changed(Napi::Env env, ChangedOutcome& outcome) {
  auto runs = Napi::Float64Array::New(env, outcome.runs.size() * 3);
  for (size_t i = 0; i < outcome.runs.size(); ++i) {
    runs[3 * i] = static_cast<double>(outcome.runs[i].position_bytes);
    runs[3 * i + 1] = static_cast<double>(outcome.runs[i].offset_bytes);
    runs[3 * i + 2] = static_cast<double>(outcome.runs[i].length_bytes);
  }
  auto crcs = Napi::Uint32Array::New(env, outcome.crcs.size());
  std::copy(outcome.crcs.begin(), outcome.crcs.end(), crcs.Data());
  auto zeros = Napi::Uint8Array::New(env, outcome.zeros.size());
  std::copy(outcome.zeros.begin(), outcome.zeros.end(), zeros.Data());
  Napi::Object object = Napi::Object::New(env);
  object.Set("runs", runs);
  object.Set("crcs", crcs);
  object.Set("zeros", zeros);
  return object;
}

void require_room(const Napi::CallbackInfo& info, const std::vector<ByteExtent>& extents,
                  std::span<std::byte> into, uint64_t gap_bytes) {
  if (laid_out_bytes(extents, gap_bytes) <= into.size()) return;
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot read the extents: the buffer is too small."));
}

Napi::Value to_js_read(Napi::Env env, ReadOutcome& outcome) {
  auto crcs = Napi::Uint32Array::New(env, outcome.crcs.size());
  std::copy(outcome.crcs.begin(), outcome.crcs.end(), crcs.Data());
  auto zeros = Napi::Uint8Array::New(env, outcome.zeros.size());
  std::copy(outcome.zeros.begin(), outcome.zeros.end(), zeros.Data());
  Napi::Object object = Napi::Object::New(env);
  object.Set("crcs", crcs);
  object.Set("zeros", zeros);
  return object;
}

}  // namespace

Napi::Function CaptureObject::define(Napi::Env env) {
  using Self = CaptureObject;
  return DefineClass(env, "Capture",
                     {
                         InstanceAccessor("id", &Self::id, nullptr),
                         InstanceAccessor("diskSizeBytes", &Self::disk_size_bytes, nullptr),
                         InstanceAccessor("granularityBytes", &Self::granularity_bytes, nullptr),
                         InstanceAccessor("dirtyBytes", &Self::dirty_bytes, nullptr),
                         InstanceMethod("extents", &Self::extents),
                         InstanceMethod("device", &Self::device),
                         InstanceMethod("read", &Self::read),
                         InstanceMethod("readChanged", &Self::read_changed),
                         InstanceMethod("filterBy", &Self::filter_by),
                         InstanceMethod("release", &Self::release),
                         InstanceMethod("brokenReason", &Self::broken_reason),
                         InstanceMethod("savedBytes", &Self::saved_bytes),
                         InstanceMethod("detach", &Self::detach),
                         InstanceMethod("close", &Self::close),
                     });
}

CaptureObject::CaptureObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<CaptureObject>(info) {
  auto capture = unwrap_external<Capture>(info);
  id_ = CaptureRegistry::instance().id_of(capture);
  filter_ = CaptureRegistry::instance().filter_of(id_);
  handle_.set(std::move(capture));
}

Napi::Object new_capture_object(Napi::Env env, std::shared_ptr<Capture> capture) {
  return wrap_new(env, AddonData::of(env).capture, std::move(capture));
}

Napi::Value CaptureObject::id(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(id_));
}

Napi::Value CaptureObject::disk_size_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(),
                           static_cast<double>(handle_.get(info.Env()).disk_size_bytes()));
}

Napi::Value CaptureObject::granularity_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), handle_.get(info.Env()).granularity_bytes());
}

Napi::Value CaptureObject::dirty_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(handle_.get(info.Env()).dirty_bytes()));
}

Napi::Value CaptureObject::extents(const Napi::CallbackInfo& info) {
  Capture& capture = handle_.get(info.Env());
  uint64_t from_bytes = bytes_argument(info, 0);
  const uint32_t max_extents = uint32_argument(info, 1);
  const uint64_t max_extent_bytes = bytes_argument(info, 2);
  std::vector<ByteExtent> extents;
  while (extents.size() < max_extents) {
    const auto extent = capture.next_extent(from_bytes, max_extent_bytes);
    if (!extent) break;
    extents.push_back(*extent);
    from_bytes = extent->offset_bytes + extent->length_bytes;
  }
  return to_js_extents(info.Env(), extents);
}

Napi::Value CaptureObject::device(const Napi::CallbackInfo& info) {
  return wrap_new(info.Env(), AddonData::of(info.Env()).device,
                  make_capture_device(handle_.share(info.Env()), string_argument(info, 0)));
}

Napi::Value CaptureObject::read(const Napi::CallbackInfo& info) {
  auto capture = handle_.lease(info.Env());
  const auto extents = extents_argument(info, 0);
  const auto into = buffer_argument(info, 1);
  const uint64_t gap_bytes = bytes_argument(info, 2);
  require_room(info, extents, into, gap_bytes);
  return AsyncTask<ReadOutcome>::run(
      info.Env(),
      [capture, extents, into, gap_bytes] {
        return read_extents(*capture, extents, into, gap_bytes);
      },
      to_js_read, info[1]);
}

Napi::Value CaptureObject::read_changed(const Napi::CallbackInfo& info) {
  auto capture = handle_.lease(info.Env());
  const auto extents = extents_argument(info, 0);
  const auto into = buffer_argument(info, 1);
  const uint64_t gap_bytes = bytes_argument(info, 2);
  require_room(info, extents, into, gap_bytes);
  return AsyncTask<ChangedOutcome>::run(
      info.Env(),
      [capture, filter = filter_, extents, into, gap_bytes] {
        return read_changed_extents(*capture, filter.get(), extents, into, gap_bytes);
      },
      to_js_changed, info[1]);
}

Napi::Value CaptureObject::filter_by(const Napi::CallbackInfo& info) {
  const Capture& capture = handle_.get(info.Env());
  filter_ = known_content_argument(info, 0).begin_filter(info.Env(), capture);
  CaptureRegistry::instance().set_filter(id_, filter_);
  return info.Env().Undefined();
}

Napi::Value CaptureObject::release(const Napi::CallbackInfo& info) {
  Capture& capture = handle_.get(info.Env());
  for (const ByteExtent& extent : extents_argument(info, 0)) {
    capture.release(extent.offset_bytes, extent.length_bytes);
  }
  return info.Env().Undefined();
}

Napi::Value CaptureObject::broken_reason(const Napi::CallbackInfo& info) {
  Capture& capture = handle_.get(info.Env());
  if (!capture.is_broken()) return info.Env().Null();
  return Napi::String::New(info.Env(), capture.broken_reason());
}

Napi::Value CaptureObject::saved_bytes(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(handle_.get(info.Env()).saved_bytes()));
}

Napi::Value CaptureObject::detach(const Napi::CallbackInfo& info) {
  handle_.set(nullptr);
  filter_ = nullptr;
  return info.Env().Undefined();
}

Napi::Value CaptureObject::close(const Napi::CallbackInfo& info) {
  return handle_.close(info.Env(), [](std::shared_ptr<Capture> capture) {
    capture->close();
    return Status::ok();
  });
}

Napi::Value attach_capture_js(const Napi::CallbackInfo& info) {
  auto capture = CaptureRegistry::instance().find(bytes_argument(info, 0));
  if (capture == nullptr) {
    throw to_js_error(info.Env(),
                      Status(ErrorCode::kClosed, "Cannot attach to the capture: it is closed."));
  }
  return new_capture_object(info.Env(), std::move(capture));
}

}  // namespace tidemark
