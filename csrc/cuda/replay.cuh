// The same launches many times over, as a CUDA graph.
#pragma once

#include "cuda/launch.cuh"

#ifndef FSC_EMULATE
#include <c10/cuda/CUDAGraphsC10Utils.h>
#endif

namespace fsc {

#ifdef FSC_EMULATE

template <typename Record>
void replay(int64_t times, const Record& record) {
  for (int64_t i = 0; i < times; ++i) record();
}

#else

// What `record` launches on the current stream, ready to be launched as a whole; nothing has run yet.
class Graph {
 public:
  template <typename Record>
  explicit Graph(const Record& record) {
    const OwnStream own;
    const c10::cuda::CUDAStreamGuard guard(c10::cuda::getStreamFromExternal(own.stream, c10::cuda::current_device()));
    C10_CUDA_CHECK(cudaStreamBeginCapture(own.stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      record();
    } catch (...) {
      if (cudaStreamEndCapture(own.stream, &graph) == cudaSuccess) cudaGraphDestroy(graph);
      cudaGetLastError();  // the first error is thrown on; the next launch is not to blame
      throw;
    }
    C10_CUDA_CHECK(cudaStreamEndCapture(own.stream, &graph));
    const cudaError_t made = cudaGraphInstantiate(&executable_, graph, 0);
    C10_CUDA_CHECK(cudaGraphDestroy(graph));
    C10_CUDA_CHECK(made);
  }
  Graph(const Graph&) = delete;
  Graph& operator=(const Graph&) = delete;
  // One that still runs is freed when it has run.
  ~Graph() { C10_CUDA_CHECK_WARN(cudaGraphExecDestroy(executable_)); }

  void launch() const { C10_CUDA_CHECK(cudaGraphLaunch(executable_, c10::cuda::getCurrentCUDAStream())); }

 private:
  // The legacy default stream cannot be captured, and on one that others use their work would be captured too.
  struct OwnStream {
    cudaStream_t stream = nullptr;
    OwnStream() { C10_CUDA_CHECK(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking)); }
    ~OwnStream() { C10_CUDA_CHECK_WARN(cudaStreamDestroy(stream)); }
  };

  cudaGraphExec_t executable_ = nullptr;
};

// Runs `record` `times` times. It launches the same every time, so where that pays it is recorded once; inside somebody
// else's recording its launches become part of that one.
template <typename Record>
void replay(int64_t times, const Record& record) {
  const bool recording = c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
  if (times < 3 || recording) {
    for (int64_t i = 0; i < times; ++i) record();
    return;
  }
  record();  // loads the kernels, which not every driver does while it records
  const Graph graph(record);
  for (int64_t i = 1; i < times; ++i) graph.launch();
}

#endif

}  // namespace fsc
