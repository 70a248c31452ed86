// A mixture so small that each of its reads can be looked at: 2 layers of 4 experts, rows of 68 bytes.
#pragma once

#include "gguf/synthetic.h"
#include "support/temp_dir.h"

#include <gtest/gtest.h>

#include <string>

namespace hypura::test {

inline std::string write_tiny_mixture(const TempDir& dir, uint32_t vocabulary) {
    const gguf::SyntheticSpec spec{.layers = 2,
                                   .experts = 4,
                                   .experts_used = 2,
                                   .embedding = 64,
                                   .feed_forward = 64,
                                   .heads = 2,
                                   .kv_heads = 1,
                                   .head_dim = 32,
                                   .vocabulary = vocabulary,
                                   .quantization = "q8_0"};
    const gguf::SyntheticModel model = gguf::synthesize(spec).value();
    EXPECT_TRUE(gguf::write_model(dir.file("tiny.gguf"), model.metadata, model.tensors, model.fill));
    return dir.file("tiny.gguf");
}

}  // namespace hypura::test
