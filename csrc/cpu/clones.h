// Hot element-wise loops are compiled for AVX-512, AVX2 and the baseline, and chosen when the library
// is loaded, so that one build runs on every x86-64 machine. Sanitizers watch one of them: they are the same source.
#pragma once

#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define FSC_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FSC_CLONES
#endif
