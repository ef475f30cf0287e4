#pragma once

#include <napi.h>

namespace tidemark {

// A disk's way from one holder to the next: module functions.
void add_hand_over_functions(Napi::Env env, Napi::Object exports);

}  // namespace tidemark
