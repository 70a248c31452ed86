// Guesses of the next layer's experts: what is kept, and when it is believed.
#include "engine/router_guess.h"
#include "engine/llama_library.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace hypura::engine {
namespace {

using testing::ElementsAre;

// Two columns, three experts, two tokens; the next norm doubles the second column.
class RouterGuessTest : public testing::Test {
protected:
    RouterGuessTest()
        : context_(ggml_init({.mem_size = 1 << 16, .mem_buffer = nullptr, .no_alloc = false})),
          compute_(make_compute()) {
        weight_ = filled(ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 2, 3), {1, 0, 0, 1, -1, -1});
        here_ = filled(ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, 2), {1, 1});
        next_ = filled(ggml_new_tensor_1d(context_.get(), GGML_TYPE_F32, 2), {1, 2});
        input_ = filled(ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 2, 2), {3, 2, -5, -6});
    }
    static ExpertCompute make_compute() {
        start_llama();  // loads the CPU backend
        return ExpertCompute::create(1).value();
    }
    static ggml_tensor* filled(ggml_tensor* tensor, std::initializer_list<float> values) {
        std::ranges::copy(values, static_cast<float*>(tensor->data));
        return tensor;
    }
    Status make(const RouterTrace& next) { return guess_.make(compute_, {weight_, here_, nullptr}, next, input_, 2); }

    GgmlContextHandle context_;
    ExpertCompute compute_;
    ggml_tensor *weight_, *here_, *next_, *input_;
    RouterGuess guess_;
};

TEST_F(RouterGuessTest, RanksEachTokensExpertsByTheNextRouterAndNorm) {
    ASSERT_TRUE(make({weight_, next_, nullptr}));
    EXPECT_THAT(guess_.guesses(), ElementsAre(1, 0, 2, 0));  // (3, 4, -7) and (-5, -12, 17)
}

TEST_F(RouterGuessTest, ARouterThatWasNotTracedIsNotGuessed) {
    ASSERT_TRUE(make({}));
    EXPECT_TRUE(guess_.guesses().empty());
}

TEST_F(RouterGuessTest, OnlyRanksThatProveRightAreTrusted) {
    ASSERT_TRUE(make({weight_, next_, nullptr}));
    EXPECT_TRUE(guess_.is_worthwhile());  // not known yet, so worth trying
    EXPECT_FALSE(guess_.is_trusted(0));
    for (int i = 0; i < 100; ++i) {
        guess_.learn(0, true);
        guess_.learn(1, i % 2 == 0);
    }
    EXPECT_TRUE(guess_.is_trusted(0) && guess_.is_trusted(2));
    EXPECT_FALSE(guess_.is_trusted(1) || guess_.is_trusted(3));
    for (int i = 0; i < 300; ++i) guess_.learn(2, false);
    EXPECT_FALSE(guess_.is_worthwhile());
}

}  // namespace
}  // namespace hypura::engine
