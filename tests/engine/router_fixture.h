// Small routers in ordinary memory, and something that multiplies by them.
#pragma once

#include "engine/expert_compute.h"
#include "engine/llama_library.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <initializer_list>

namespace hypura::engine {

class RouterFixture : public testing::Test {
protected:
    RouterFixture()
        : context_(ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = false})),
          compute_(make_compute()) {}

    ggml_tensor* matrix(int64_t columns, int64_t rows, std::initializer_list<float> values) {
        ggml_tensor* const tensor = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, columns, rows);
        std::ranges::copy(values, static_cast<float*>(tensor->data));
        return tensor;
    }

    GgmlContextHandle context_;
    ExpertCompute compute_;

private:
    static ExpertCompute make_compute() {
        start_llama();  // loads the CPU backend
        return ExpertCompute::create(1).value();
    }
};

}  // namespace hypura::engine
