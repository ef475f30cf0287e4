// The two places that a merge may go to; see layer_merge.h.
#pragma once

#include <memory>
#include <string>

#include "layers/layer_merge.h"

namespace tidemark {

Result<std::unique_ptr<MergeTarget>> open_layer_target(const std::string& path,
                                                       const LayerIdentity& identity,
                                                       uint64_t data_bytes);
Result<std::unique_ptr<MergeTarget>> open_base_target(const std::string& path);

}  // namespace tidemark
