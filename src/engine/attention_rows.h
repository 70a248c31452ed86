// Attends row by row, so that a pass of a few tokens gives the bits of as many passes of one.
//
// libggml 0.27 divides the attention of a single row over a long history among its threads, and adds the parts up; that
// of several rows it does not. Weights know no such difference below eight rows. So in a pass whose tokens were
// drafted, each row's flash attention is a node of our own, over as much of the KV cache as the row's own pass would
// have seen (docs/seam.md, E22).
#pragma once

#include "base/status.h"
#include "engine/eval_observer.h"
#include "engine/llama_handles.h"

#include <ggml.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace hypura::engine {

// Stands before the observer of a pass; the model thread's. On the processor only: other nodes are left alone.
class AttentionRows final : public EvalObserver {
public:
    // `threads` must be those of libllama's context: the parts of a row are theirs.
    static Result<std::unique_ptr<AttentionRows>> create(uint32_t threads);

    // `behind` observes as if nobody stood before it.
    void begin_pass(EvalObserver& behind) { behind_ = &behind; }
    // What failed, if anything did. Gives nodes back as libllama built them.
    Status end_pass();

    bool ask(ggml_tensor* node) override;
    bool computed(ggml_tensor* node) override;

private:
    explicit AttentionRows(BackendHandle backend) : backend_(std::move(backend)) {}
    Status attend(ggml_tensor* node);

    BackendHandle backend_;
    std::vector<std::byte> graph_memory_;  // of the context that a graph is built in
    EvalObserver* behind_ = nullptr;
    ggml_tensor* emptied_ = nullptr;  // a node that is cut at, whose operation is ours to do
    Status failure_;
};

}  // namespace hypura::engine
