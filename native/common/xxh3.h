// XXH3, 128 bits (xxhash, of the system's headers): told apart at the speed of memory is
// what differs by accident. Not for what somebody may have made to look alike.
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>

namespace tidemark {

class Xxh3 {
 public:
  Xxh3();
  ~Xxh3();

  void update(std::span<const std::byte> bytes) noexcept;
  // Of all bytes so far, in the canonical order of its specification.
  std::array<std::byte, 16> digest() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tidemark
