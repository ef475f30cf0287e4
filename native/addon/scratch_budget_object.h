#pragma once

#include <napi.h>

#include <memory>

#include "layers/scratch_budget.h"

namespace tidemark {

class ScratchBudgetObject final : public Napi::ObjectWrap<ScratchBudgetObject> {
 public:
  static Napi::Function define(Napi::Env env);
  explicit ScratchBudgetObject(const Napi::CallbackInfo& info);

  const std::shared_ptr<ScratchBudget>& budget() const { return budget_; }

 private:
  Napi::Value refused_count(const Napi::CallbackInfo& info);

  const std::shared_ptr<ScratchBudget> budget_;
};

// Null where none was passed; refuses whatever else is no budget.
std::shared_ptr<ScratchBudget> budget_argument(const Napi::CallbackInfo& info, size_t index);

// Module function.
Napi::Value scratch_budget_js(const Napi::CallbackInfo& info);

}  // namespace tidemark
