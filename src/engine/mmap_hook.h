// Lets libllama map a model whose weights are not in any file.
//
// libllama maps the file that it loads (MAP_SHARED, MAP_POPULATE) and points its tensors into the mapping. This program
// defines mmap() itself, before libc's: a mapping of a *registered* file is answered with memory that we reserved, and
// everything else goes to the kernel unchanged. So tensors lie in anonymous memory of ours, in huge pages, filled by
// direct reads; tensors that are streamed lie in pages that are never touched.
//
// Rejected: mapping the memory file itself (its holes are allocated by MAP_POPULATE, and it has no huge pages by
// default); a custom ggml backend (its interface header is private).
#pragma once

#include "base/memory_region.h"

namespace hypura::engine {

// The next mapping of the file behind `fd`, whatever descriptor it is opened by, is answered with `memory`, which must
// be at least as long. Ownership passes to whoever maps, who unmaps it. Thread-safe.
void answer_mapping_with(int fd, MemoryRegion memory);

// Takes back what was registered for `fd` and not mapped; a no-op otherwise.
void forget_mapping(int fd);

}  // namespace hypura::engine
