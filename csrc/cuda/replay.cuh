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
    // The legacy default stream cannot be captured, so the recording takes place on another.
    const c10::cuda::CUDAStream stream = c10::cuda::getStreamFromPool();
    const c10::cuda::CUDAStreamGuard guard(stream);
    C10_CUDA_CHECK(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    cudaGraph_t graph = nullptr;
    try {
      record();
    } catch (...) {
      cudaStreamEndCapture(stream, &graph);
      if (graph) cudaGraphDestroy(graph);
      throw;
    }
    C10_CUDA_CHECK(cudaStreamEndCapture(stream, &graph));
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
  cudaGraphExec_t executable_ = nullptr;
};

// Runs `record` `times` times. It launches the same every time, so where that pays it is recorded once; inside somebody
// else's recording its launches become part of that one.
template <typename Record>
void replay(int64_t times, const Record& record) {
  const bool recording = c10::cuda::currentStreamCaptureStatusMayInitCtx() != c10::cuda::CaptureStatus::None;
  if (times < 2 || recording) {
    for (int64_t i = 0; i < times; ++i) record();
    return;
  }
  const Graph graph(record);
  for (int64_t i = 0; i < times; ++i) graph.launch();
}

#endif

}  // namespace fsc
