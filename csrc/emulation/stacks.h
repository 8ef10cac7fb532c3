// The stack of one fiber, also as AddressSanitizer wants it where it watches.
#pragma once

#include <cstddef>
#include <memory>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#endif

namespace fsc::emulation {

struct Fiber {
#ifdef __SANITIZE_ADDRESS__
  static constexpr size_t kStackBytes = 256 << 10;  // watched frames are larger

  // The last thread has not returned from its calls: what lay around their variables is still marked.
  void forget_frames() { ASAN_UNPOISON_MEMORY_REGION(stack.get(), kStackBytes); }
#else
  static constexpr size_t kStackBytes = 64 << 10;

  void forget_frames() {}
#endif

  std::unique_ptr<unsigned char[]> stack{new unsigned char[kStackBytes]};  // the host maps what is touched of it
  void* position = nullptr;
  bool done = false;
};

}  // namespace fsc::emulation
