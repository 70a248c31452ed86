// HYPURA_CHECK(condition): our own invariants, on in every build. Never for what a user, a file or a device can cause:
// that is a Result (status.h). A failed check prints where and aborts, since going on would compute with wrong weights.
#pragma once

#include <cstdio>
#include <cstdlib>

#define HYPURA_CHECK(condition)                                                                       \
    do {                                                                                              \
        if (!(condition)) [[unlikely]] {                                                              \
            std::fprintf(stderr, "%s:%d: hypura check failed: %s\n", __FILE__, __LINE__, #condition); \
            std::abort();                                                                             \
        }                                                                                             \
    } while (false)
