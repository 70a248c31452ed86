#include "engine/expert_compute.h"

#include "engine/llama_library.h"

#include <ggml-backend.h>
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <filesystem>
#include <numeric>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace hypura::engine {
namespace {

// Wide enough that the rows of one call are more than ExpertCompute gathers at a time.
constexpr int64_t kColumns = 8192, kOutputs = 32, kExperts = 4, kTokens = 300;

class ExpertComputeTest : public testing::Test {
protected:
    ExpertComputeTest() : compute_(make_compute()), context_(make_context()) {}

    static ExpertCompute make_compute() {
        start_llama();  // loads the CPU backend
        return ExpertCompute::create(2).value();
    }

    static GgmlContextHandle make_context() {
        return GgmlContextHandle(ggml_init({.mem_size = size_t{64} << 20, .mem_buffer = nullptr, .no_alloc = false}));
    }

    // Quantised blocks of 256, whose products ggml computes in another order where an expert has many rows.
    ggml_tensor* experts() {
        ggml_tensor* const weights = ggml_new_tensor_3d(context_.get(), GGML_TYPE_Q4_K, kColumns, kOutputs, kExperts);
        const std::vector<float> values = random_values(static_cast<size_t>(ggml_nelements(weights)));
        ggml_quantize_chunk(GGML_TYPE_Q4_K, values.data(), weights->data, 0, kOutputs * kExperts, kColumns, nullptr);
        return weights;
    }

    ggml_tensor* inputs() {
        ggml_tensor* const input = ggml_new_tensor_3d(context_.get(), GGML_TYPE_F32, kColumns, 1, kTokens);
        const std::vector<float> values = random_values(static_cast<size_t>(ggml_nelements(input)));
        std::memcpy(input->data, values.data(), ggml_nbytes(input));
        return input;
    }

    std::vector<float> random_values(size_t count) {
        std::vector<float> values(count);
        for (float& value : values) value = distribution_(random_);
        return values;
    }

    // Most tokens name one expert; ten each name the others, spread over the whole batch.
    ggml_tensor* routing() {
        ggml_tensor* const ids = ggml_new_tensor_2d(context_.get(), GGML_TYPE_I32, 1, kTokens);
        auto* const id = static_cast<int32_t*>(ids->data);
        for (int32_t token = 0; token < kTokens; ++token) id[token] = token % 30 < 3 ? 1 + token % 30 : 0;
        return ids;
    }

    static std::vector<RoutedRow> rows_of(const ggml_tensor* ids) {
        std::vector<RoutedRow> rows;
        for (uint32_t token = 0; token < kTokens; ++token)
            rows.push_back({static_cast<const int32_t*>(ids->data)[token], 0, token});
        return rows;
    }

    // By ggml in one call.
    std::vector<float> whole(ggml_tensor* node) {
        const BackendHandle backend = start_backend(ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU), 2);
        ggml_cgraph* const graph = ggml_new_graph(context_.get());
        ggml_build_forward_expand(graph, node);
        EXPECT_EQ(ggml_backend_graph_compute(backend.get(), graph), GGML_STATUS_SUCCESS);
        return values_of(node);
    }

    static std::vector<float> values_of(const ggml_tensor* node) {
        const auto* const data = static_cast<const float*>(node->data);
        return {data, data + ggml_nelements(node)};
    }

    ExpertCompute compute_;
    GgmlContextHandle context_;
    std::mt19937 random_{1};
    std::normal_distribution<float> distribution_;
};

TEST_F(ExpertComputeTest, ManyRowsComeOutAsInOneCall) {
    ggml_tensor* const ids = routing();
    ggml_tensor* const node = ggml_mul_mat_id(context_.get(), experts(), inputs(), ids);
    const std::vector<float> expected = whole(node);
    std::memset(node->data, 0, ggml_nbytes(node));
    ASSERT_TRUE(compute_.compute(node, rows_of(ids)).has_value());
    EXPECT_EQ(values_of(node), expected);
}

std::set<std::string> threads_of_the_process() {
    std::set<std::string> threads;
    for (const auto& thread : std::filesystem::directory_iterator("/proc/self/task"))
        threads.insert(thread.path().filename());
    return threads;
}

// How many threads a projection starts, and what it gives. On a thread of its own, for which no team waits yet. By
// their numbers, since threads of earlier teams may be ending meanwhile.
size_t threads_started(const ggml_tensor* weight, const std::vector<float>& inputs, bool team_is_busy,
                       std::vector<float>& result) {
    size_t started = 0;
    std::thread([&] {
        ExpertCompute compute = ExpertCompute::create(3, team_is_busy).value();
        const std::set<std::string> before = threads_of_the_process();
        const auto projected = compute.project(weight, inputs).value();
        for (const std::string& thread : threads_of_the_process()) started += before.contains(thread) ? 0 : 1;
        result.assign(projected.begin(), projected.end());
    }).join();
    return started;
}

TEST_F(ExpertComputeTest, ASmallProjectionIsTheCallersAloneWhereNoTeamIsBusy) {
    ggml_tensor* const router = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, kColumns, 64);
    const std::vector<float> weights = random_values(static_cast<size_t>(ggml_nelements(router)));
    std::memcpy(router->data, weights.data(), ggml_nbytes(router));
    const std::vector<float> row = random_values(kColumns), rows = random_values(kColumns * 8);
    std::vector<float> by_team, alone, many;
    EXPECT_GT(threads_started(router, row, true, by_team), 0u);
    EXPECT_EQ(threads_started(router, row, false, alone), 0u);
    EXPECT_EQ(alone, by_team);
    EXPECT_GT(threads_started(router, rows, false, many), 0u);
}

}  // namespace
}  // namespace hypura::engine
