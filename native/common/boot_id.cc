#include "common/boot_id.h"

#include <fcntl.h>
#include <unistd.h>

#include "common/fd.h"

namespace tidemark {

Uuid boot_id() {
  const UniqueFd fd(::open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC));
  char text[36];
  if (!fd.is_open() || ::read(fd.get(), text, sizeof text) != sizeof text) return {};
  return Uuid::parse({text, sizeof text}).value_or(Uuid{});
}

}  // namespace tidemark
