#include "addon/scratch_budget_object.h"

#include "addon/addon_data.h"
#include "addon/arguments.h"
#include "addon/errors.h"

namespace tidemark {

namespace {

constexpr napi_type_tag kBudgetTag = {0x7469646d61726b02, 0x6275646765740001};

}  // namespace

Napi::Function ScratchBudgetObject::define(Napi::Env env) {
  using Self = ScratchBudgetObject;
  return DefineClass(env, "ScratchBudget", {InstanceMethod("refusedCount", &Self::refused_count)});
}

ScratchBudgetObject::ScratchBudgetObject(const Napi::CallbackInfo& info)
    : Napi::ObjectWrap<ScratchBudgetObject>(info), budget_(unwrap_external<ScratchBudget>(info)) {
  napi_type_tag_object(info.Env(), info.This(), &kBudgetTag);
}

Napi::Value ScratchBudgetObject::refused_count(const Napi::CallbackInfo& info) {
  return Napi::Number::New(info.Env(), static_cast<double>(budget_->refused_count()));
}

std::shared_ptr<ScratchBudget> budget_argument(const Napi::CallbackInfo& info, size_t index) {
  if (info[index].IsUndefined()) return nullptr;
  bool is_budget = false;
  if (info[index].IsObject()) {
    napi_check_object_type_tag(info.Env(), info[index], &kBudgetTag, &is_budget);
  }
  if (is_budget) return ScratchBudgetObject::Unwrap(info[index].As<Napi::Object>())->budget();
  throw to_js_error(info.Env(), Status(ErrorCode::kInvalidArgument,
                                       "Cannot use this value: it is not a budget of scratches."));
}

Napi::Value scratch_budget_js(const Napi::CallbackInfo& info) {
  return wrap_new(
      info.Env(), AddonData::of(info.Env()).scratch_budget,
      std::make_shared<ScratchBudget>(bytes_argument(info, 0), bytes_argument(info, 1)));
}

}  // namespace tidemark
