// libllama's evaluation callback and abort callback as an interface.
//
// The scheduler asks about every node in graph order before it computes it; where the answer is true it computes
// everything up to and including that node, waits, and calls computed(). So ask() runs while nothing is being computed,
// all nodes before the last computed() are done, and later ones are not begun.
#pragma once

#include <ggml-backend.h>

#include <atomic>

namespace hypura::engine {

class EvalObserver {
public:
    virtual ~EvalObserver() = default;
    // True cuts the graph after `node`.
    virtual bool ask(ggml_tensor* node) = 0;
    // Only for nodes that ask() cut at. False abandons the rest of the graph.
    virtual bool computed(ggml_tensor* node) = 0;
};

// What the context is created with; the observer can be exchanged between passes. Null: nothing is observed.
struct EvalSwitch {
    EvalObserver* observer = nullptr;
    std::atomic<bool> abort = false;  // read after every node: ends the pass with "aborted"

    static bool on_eval(ggml_tensor* node, bool ask, void* self) {
        EvalObserver* const observer = static_cast<EvalSwitch*>(self)->observer;
        if (observer == nullptr) return !ask;
        return ask ? observer->ask(node) : observer->computed(node);
    }
    static bool on_abort(void* self) { return static_cast<EvalSwitch*>(self)->abort.load(std::memory_order_relaxed); }
};

}  // namespace hypura::engine
