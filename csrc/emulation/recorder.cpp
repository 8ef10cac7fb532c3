// Launches written down instead of run, for csrc/cuda/figures: which kernel, its grid, and the buffers that it is
// given.
#include <ATen/record_function.h>
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <dlfcn.h>

#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "emulation/fibers.h"

namespace fsc::emulation {
namespace {

struct Buffer {
  at::DataPtr whole;
  size_t bytes;
};

// The memory of every tensor made while launches are recorded, by its first byte.
std::map<uintptr_t, Buffer> buffers;

// Buffers begin where no other word of a parameter points by chance, such as a flag before bytes that nobody has set.
constexpr uintptr_t kAlign = 256, kOffset = 64;

class Watched final : public c10::Allocator {
 public:
  at::DataPtr allocate(size_t bytes) override {
    at::DataPtr whole = usual->allocate(bytes + 2 * kAlign);
    const uintptr_t start = (reinterpret_cast<uintptr_t>(whole.get()) / kAlign + 1) * kAlign + kOffset;
    buffers.insert_or_assign(start, Buffer{std::move(whole), bytes});
    auto* data = reinterpret_cast<void*>(start);
    return {data, data, forget, c10::kCPU};
  }
  c10::DeleterFnPtr raw_deleter() const override { return forget; }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  c10::Allocator* usual = nullptr;

 private:
  static void forget(void* start) { buffers.erase(reinterpret_cast<uintptr_t>(start)); }
};

Watched watched;
std::string found;                 // a line a launch
std::vector<std::string> counted;  // parts of the names of kernels whose blocks are counted

std::string name_of(const void* kernel) {
  Dl_info info{};
  return dladdr(kernel, &info) && info.dli_sname ? info.dli_sname : "unknown";
}

// The bytes of all buffers whose beginning is in the parameters, each once.
size_t bytes_of(const Launch& launch) {
  std::set<uintptr_t> given;
  size_t bytes = 0;
  for (const Parameter& parameter : launch.parameters) {
    const auto* start = static_cast<const unsigned char*>(parameter.start);
    for (size_t i = 0; i + sizeof(uintptr_t) <= parameter.bytes; i += sizeof(uintptr_t)) {
      uintptr_t word = 0;
      std::memcpy(&word, start + i, sizeof(word));
      const auto buffer = buffers.find(word);
      if (buffer != buffers.end() && given.insert(word).second) bytes += buffer->second.bytes;
    }
  }
  return bytes;
}

void record(const Launch& launch, const std::function<void()>& thread) {
  const std::string name = name_of(launch.kernel);
  Counts of_block{};
  for (const std::string& part : counted) {
    if (name.find(part) == std::string::npos) continue;
    of_block = count(launch, thread);
    break;
  }
  std::ostringstream line;
  line << name << ' ' << launch.blocks_x << ' ' << launch.blocks_y << ' ' << launch.threads << ' '
       << launch.shared_bytes << ' ' << launch.together << ' ' << bytes_of(launch) << ' ' << of_block.products << ' '
       << of_block.copied_bytes << ' ' << of_block.waits << '\n';
  found += line.str();
}

at::CallbackHandle listener = 0;

std::unique_ptr<at::ObserverContext> listen(const at::RecordFunction& function) {
  found += std::string(function.name()) + '\n';
  return nullptr;
}

}  // namespace
}  // namespace fsc::emulation

// From now on launches are written down and do not run, on a device as large as said; of kernels whose name has one of
// the `parts`, which spaces separate, one block of the middle runs for what it counts. What tensors hold is undefined.
extern "C" void fsc_record(int64_t multiprocessors, int64_t shared_bytes, const char* parts) {
  using namespace fsc::emulation;
  std::istringstream words(parts);
  counted.clear();
  for (std::string part; words >> part;) counted.push_back(part);
  found.clear();
  device = {multiprocessors, shared_bytes};
  if (!observer) {
    watched.usual = c10::GetCPUAllocator();
    c10::SetCPUAllocator(&watched);
    listener = at::addGlobalCallback(at::RecordFunctionCallback(listen).scopes({at::RecordScope::FUNCTION}));
  }
  observer = record;
}

// The launches since the last call, a line each: the name of an operator that was called, or a kernel, blocks in two
// directions, threads, shared memory, whether its blocks wait for each other, bytes of its buffers, and of the block
// that was counted the products, copied bytes and waits.
extern "C" const char* fsc_recorded() {
  static std::string lines;
  lines = std::exchange(fsc::emulation::found, {});
  return lines.c_str();
}

// From now on launches run again.
extern "C" void fsc_stop_recording() {
  using namespace fsc::emulation;
  observer = nullptr;
  device = {};
  at::removeCallback(listener);
  c10::SetCPUAllocator(watched.usual);
}
