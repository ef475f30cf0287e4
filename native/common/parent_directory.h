#pragma once

#include <string>

#include "common/status.h"

namespace tidemark {

// The directory that `path` names its file in.
std::string parent_directory_of(const std::string& path);

// Makes the name of `path` durable: created, renamed or removed. What fails is
// answered after `what`.
Status sync_parent_directory(const std::string& path, const std::string& what);

}  // namespace tidemark
