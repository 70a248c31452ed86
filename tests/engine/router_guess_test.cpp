// Guesses of a later layer's experts: what is kept, and when it is believed.
#include "engine/router_guess.h"
#include "engine/router_fixture.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace hypura::engine {
namespace {

using testing::ElementsAre;
using testing::FloatNear;
using testing::Pointwise;

// Two columns, three experts, two tokens; the later norm doubles the second column.
class RouterGuessTest : public RouterFixture {
protected:
    RouterGuessTest() {
        weight_ = matrix(2, 3, {1, 0, 0, 1, -1, -1});
        here_ = matrix(2, 1, {1, 1});
        later_ = matrix(2, 1, {1, 2});
        input_ = matrix(2, 2, {3, 2, -5, -6});
    }
    Status make(const RouterTrace& later) {
        return guess_.make(compute_, {weight_, here_, nullptr}, later, input_, 2, correction_);
    }
    std::vector<uint32_t> experts() const {
        std::vector<uint32_t> experts;
        for (const ExpertGuess& guess : guess_.guesses()) experts.push_back(guess.expert);
        return experts;
    }

    ggml_tensor *weight_, *here_, *later_, *input_;
    RouterGuess guess_;
    GuessCorrection correction_;
};

TEST_F(RouterGuessTest, RanksEachTokensExpertsByTheLaterRouterAndNorm) {
    ASSERT_TRUE(make({weight_, later_, nullptr}));
    EXPECT_THAT(experts(), ElementsAre(1, 0, 2, 0));  // (3, 4, -7) and (-5, -12, 17)
    EXPECT_EQ(guess_.guesses()[1].token, 0U);
    EXPECT_EQ(guess_.guesses()[2].token, 1U);
}

TEST_F(RouterGuessTest, AMarginIsMeasuredFromTheBorderInDeviations) {
    ASSERT_TRUE(make({weight_, later_, nullptr}));
    // Token 0: the border lies at (3 - 7) / 2 = -2, the deviation of (3, 4, -7) is 4.97.
    EXPECT_NEAR(guess_.guesses()[0].margin, 6 / 4.97, 0.01);
    EXPECT_NEAR(guess_.guesses()[1].margin, 5 / 4.97, 0.01);
}

// 600 tokens, each third one of which is asked about.
TEST_F(RouterGuessTest, OfManyTokensSomeAreAskedAbout) {
    ggml_tensor* const many = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, input_->ne[0], 600);
    for (int64_t token = 0; token < 600; ++token)
        std::copy_n(static_cast<const float*>(input_->data) + (token % 2) * input_->ne[0], input_->ne[0],
                    static_cast<float*>(many->data) + token * input_->ne[0]);
    ASSERT_TRUE(guess_.make(compute_, {weight_, here_, nullptr}, {weight_, later_, nullptr}, many, 2, correction_));
    ASSERT_EQ(guess_.guesses().size(), 200U * 2);
    EXPECT_EQ(guess_.guesses()[2].token, 3U);
    EXPECT_EQ(guess_.guesses()[2].expert, 2U);  // as the second token of `input_`, since 3 is odd
    EXPECT_EQ(guess_.guesses().back().token, 597U);
    EXPECT_EQ(RouterGuess::sample_token(600), 300U);
    EXPECT_THAT(guess_.sample(), ElementsAre(3, 4, -7));  // as the first token of `input_`
}

TEST_F(RouterGuessTest, WhatWasLearnedIsAddedToTheScoresAndNotToTheSample) {
    // Of (3, 4, -7) the last expert should have had 4, and the second one -7.
    for (int token = 0; token < 8; ++token)
        correction_.learn(std::vector<float>{3, 4, -7}, std::vector<int32_t>{2, 0, 1});
    ASSERT_TRUE(make({weight_, later_, nullptr}));
    EXPECT_THAT(experts(), ElementsAre(2, 0, 2, 0));  // (3, -7, 4) and (-5, -23, 28)
    EXPECT_THAT(guess_.sample(), ElementsAre(-5, -12, 17));
}

TEST_F(RouterGuessTest, OfNoTokensNothingIsGuessed) {
    input_ = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, 2, 0);
    ASSERT_TRUE(make({weight_, later_, nullptr}));
    EXPECT_TRUE(guess_.guesses().empty());
}

TEST_F(RouterGuessTest, ARouterThatWasNotTracedIsNotGuessed) {
    ASSERT_TRUE(make({}));
    EXPECT_TRUE(guess_.guesses().empty());
}

class GuessCorrectionTest : public testing::Test {
protected:
    std::vector<float> corrected(std::vector<float> scores) const {
        correction_.apply(scores);
        return scores;
    }
    GuessCorrection correction_;
};

TEST_F(GuessCorrectionTest, WithoutExperienceScoresStayAsTheyAre) {
    for (int token = 0; token < 8; ++token) correction_.learn(std::vector<float>{3, 4, -7}, {});  // order not known
    EXPECT_THAT(corrected({3, 4, -7}), ElementsAre(3, 4, -7));
}

TEST_F(GuessCorrectionTest, ItIsTheMeanOfWhatWasMissing) {
    const std::vector<float> scores = {4, 2, 0};
    for (int token = 0; token < 4; ++token) {
        EXPECT_THAT(corrected(scores), ElementsAre(4, 2, 0));  // too few tokens to tell
        correction_.learn(scores, std::vector<int32_t>{1, 0, 2});
        correction_.learn(scores, std::vector<int32_t>{0, 1, 2});
    }
    EXPECT_THAT(corrected(scores), Pointwise(FloatNear(1e-5F), {3.0F, 3.0F, 0.0F}));
}

TEST_F(GuessCorrectionTest, TheFirstTokensAreForgotten) {
    const std::vector<float> scores = {4, 2, 0};
    for (int token = 0; token < 1000; ++token) correction_.learn(scores, std::vector<int32_t>{2, 1, 0});
    EXPECT_GT(corrected(scores)[2], corrected(scores)[0]);
    for (int token = 0; token < 100; ++token) correction_.learn(scores, std::vector<int32_t>{0, 1, 2});
    EXPECT_GT(corrected(scores)[0], corrected(scores)[2]);
}

// A sort may leave gaps.
TEST_F(GuessCorrectionTest, WhatIsNoExpertsNumberIsPassedOver) {
    for (int token = 0; token < 8; ++token) correction_.learn(std::vector<float>{4, 2}, std::vector<int32_t>{-1, 7});
    EXPECT_THAT(corrected({4, 2}), ElementsAre(4, 2));
}

TEST_F(GuessCorrectionTest, ScoresThatAreNoNumbersTeachNothing) {
    for (int token = 0; token < 8; ++token)
        correction_.learn(std::vector<float>{NAN, 2, INFINITY}, std::vector<int32_t>{2, 1, 0});
    EXPECT_THAT(corrected({3, 4, -7}), ElementsAre(3, 4, -7));
}

TEST(GuessTrust, OnlyMarginsThatProveRightAreTrusted) {
    GuessTrust trust;
    EXPECT_TRUE(trust.is_worthwhile(1));  // not known yet, so worth trying
    EXPECT_FALSE(trust.is_trusted(1, 1.0F));
    for (int i = 0; i < 100; ++i) {
        trust.learn(1, 1.0F, true);
        trust.learn(1, 0.2F, i % 2 == 0);
    }
    EXPECT_TRUE(trust.is_trusted(1, 1.0F));
    EXPECT_FALSE(trust.is_trusted(1, 0.2F));
    EXPECT_FALSE(trust.is_trusted(2, 1.0F));  // another distance is another matter
    for (int i = 0; i < 300; ++i) trust.learn(1, 1.0F, false);
    EXPECT_FALSE(trust.is_trusted(1, 1.0F));
    EXPECT_FALSE(trust.is_worthwhile(1));
    EXPECT_TRUE(trust.is_worthwhile(2));
}

}  // namespace
}  // namespace hypura::engine
