#include "engine/text_stream.h"

#include <gtest/gtest.h>

namespace hypura::engine {
namespace {

constexpr const char* kReplacement = "\xEF\xBF\xBD";

TEST(Utf8Cutter, PassesWholeCharactersThrough) {
    Utf8Cutter cutter;
    EXPECT_EQ(cutter.push("naïve 漢字 🦊"), "naïve 漢字 🦊");
    EXPECT_EQ(cutter.flush(), "");
}

TEST(Utf8Cutter, HoldsACharacterThatComesByteByByte) {
    const std::string fox = "🦊";
    Utf8Cutter cutter;
    for (size_t i = 0; i + 1 < fox.size(); ++i) EXPECT_EQ(cutter.push(fox.substr(i, 1)), "");
    EXPECT_EQ(cutter.push(fox.substr(fox.size() - 1)), fox);
}

TEST(Utf8Cutter, AnySplitOfATextGivesTheSameText) {
    const std::string text = "aé漢🦊z";
    for (size_t cut = 0; cut <= text.size(); ++cut) {
        Utf8Cutter cutter;
        std::string whole = cutter.push(text.substr(0, cut));
        whole += cutter.push(text.substr(cut));
        whole += cutter.flush();
        EXPECT_EQ(whole, text) << cut;
    }
}

TEST(Utf8Cutter, ReplacesWhatIsNoCharacter) {
    Utf8Cutter cutter;
    EXPECT_EQ(cutter.push("a\xFFz"), std::string("a") + kReplacement + "z");
    EXPECT_EQ(cutter.push("\xE6\xBCz"), std::string(kReplacement) + "z");          // cut short by another character
    EXPECT_EQ(cutter.push("\xC0\x80"), std::string(kReplacement) + kReplacement);  // overlong
    EXPECT_EQ(cutter.push("\xED\xA0\x80").substr(0, 3), kReplacement);             // surrogate
}

TEST(Utf8Cutter, ReplacesAnUnfinishedCharacterAtTheEnd) {
    Utf8Cutter cutter;
    EXPECT_EQ(cutter.push("a\xF0\x9F"), "a");
    EXPECT_EQ(cutter.flush(), kReplacement);
    EXPECT_EQ(cutter.flush(), "");
}

TEST(StopMatcher, WithoutStopsEverythingPasses) {
    StopMatcher matcher({});
    EXPECT_EQ(matcher.push("hello").text, "hello");
    EXPECT_EQ(matcher.flush(), "");
}

TEST(StopMatcher, EndsBeforeTheStopString) {
    StopMatcher matcher({"END"});
    const auto output = matcher.push("one END two");
    EXPECT_TRUE(output.stopped);
    EXPECT_EQ(output.text, "one ");
}

TEST(StopMatcher, HoldsBackABeginningUntilItIsDecided) {
    StopMatcher matcher({"\nUser:"});
    EXPECT_EQ(matcher.push("hi\nUs").text, "hi");
    EXPECT_EQ(matcher.push("ually").text, "\nUsually");
    EXPECT_EQ(matcher.push("\nUser").text, "");
    EXPECT_TRUE(matcher.push(":").stopped);
}

TEST(StopMatcher, ABeginningMayBeginAgain) {
    StopMatcher matcher({"aab"});
    EXPECT_EQ(matcher.push("aa").text, "");
    EXPECT_EQ(matcher.push("a").text, "a");
    const auto output = matcher.push("b");
    EXPECT_TRUE(output.stopped);
    EXPECT_EQ(output.text, "");
}

TEST(StopMatcher, TheEarliestOfSeveralEndsTheText) {
    StopMatcher matcher({"two", "one"});
    EXPECT_EQ(matcher.push("zero one two").text, "zero ");
}

TEST(StopMatcher, FlushReturnsWhatWasHeld) {
    StopMatcher matcher({"END"});
    EXPECT_EQ(matcher.push("the EN").text, "the ");
    EXPECT_EQ(matcher.flush(), "EN");
}

TEST(StopMatcher, IgnoresEmptyStops) {
    StopMatcher matcher({""});
    const auto output = matcher.push("text");
    EXPECT_FALSE(output.stopped);
    EXPECT_EQ(output.text, "text");
}

}  // namespace
}  // namespace hypura::engine
