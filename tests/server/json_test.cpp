// Lenient reading, durations and encodings.
#include "server/json.h"
#include "server/text_util.h"

#include <gtest/gtest.h>

namespace hypura::server {
namespace {

TEST(ServerJson, AnEmptyBodyAndABrokenOneAreTheClientsMistake) {
    EXPECT_EQ(parse_body("").error().message, "missing request body");
    EXPECT_EQ(parse_body(" \n").error().status, 400);
    EXPECT_EQ(parse_body("{\"a\":").error().status, 400);
    EXPECT_EQ(parse_body("[1]").error().status, 400);
    EXPECT_TRUE(parse_body("{\"a\":1}").has_value());
}

TEST(ServerJson, NullIsAbsentAndIntegersMayBeFloats) {
    const Json json = {{"a", nullptr}, {"b", 4096.0}, {"c", "x"}, {"d", 1e300}};
    EXPECT_EQ(*read_integer(json, "a"), std::nullopt);
    EXPECT_EQ(*read_integer(json, "z"), std::nullopt);
    EXPECT_EQ(*read_integer(json, "b"), 4096);
    EXPECT_EQ(read_integer(json, "c").error().message, "option \"c\" must be of type integer");
    EXPECT_TRUE(read_integer(json, "d").has_value());
}

TEST(ServerJson, StringsMayBeOneOrMany) {
    EXPECT_EQ(*read_strings({{"s", "a"}}, "s"), std::vector<std::string>{"a"});
    EXPECT_EQ(read_strings({{"s", {"a", "b"}}}, "s")->size(), 2U);
    EXPECT_FALSE(read_strings({{"s", {1, 2}}}, "s").has_value());
}

TEST(ServerJson, DepthIsBounded) {
    const auto nested = [](int depth) {
        return R"({"a":)" + std::string(static_cast<size_t>(depth), '[') +
               std::string(static_cast<size_t>(depth), ']') + "}";
    };
    EXPECT_TRUE(parse_body(nested(kDeepestJson - 1)).has_value());
    EXPECT_EQ(parse_body(nested(kDeepestJson)).error().status, 400);
    EXPECT_FALSE(try_parse(nested(1'000'000)).has_value());
    EXPECT_TRUE(try_parse(R"({"a":"[[[[\"[[[["})").has_value());
    EXPECT_TRUE(parse_body("{\"a\":\"" + std::string(1000, '[') + "\"}").has_value());
}

TEST(ServerJson, TextThatIsNoUtf8CanStillBePrinted) { EXPECT_EQ(dump(Json("a\xff")), "\"a\xEF\xBF\xBD\""); }

TEST(KeepAliveText, TakesGoDurationsAndBareNumbers) {
    using std::chrono::milliseconds;
    EXPECT_EQ(parse_keep_alive_text("5m")->value(), milliseconds(300000));
    EXPECT_EQ(parse_keep_alive_text("1h30m")->value(), milliseconds(5400000));
    EXPECT_EQ(parse_keep_alive_text("500ms")->value(), milliseconds(500));
    EXPECT_EQ(parse_keep_alive_text("0")->value(), milliseconds(0));
    EXPECT_EQ(parse_keep_alive_text("5")->value(), milliseconds(5000));
    EXPECT_EQ(parse_keep_alive_text("-1m")->value(), milliseconds::max());
    EXPECT_EQ(parse_keep_alive_text("-1")->value(), milliseconds::max());
    EXPECT_FALSE(parse_keep_alive_text("soon").has_value());
    EXPECT_FALSE(parse_keep_alive_text("5 parsecs").has_value());
    const Json seconds = 2.5;
    EXPECT_EQ(parse_keep_alive(&seconds)->value(), milliseconds(2500));
    EXPECT_EQ(*parse_keep_alive(nullptr), std::nullopt);
}

TEST(Base64, PadsLikeTheStandard) {
    const auto encode = [](std::string_view text) {
        return base64(std::span(reinterpret_cast<const unsigned char*>(text.data()), text.size()));
    };
    EXPECT_EQ(encode(""), "");
    EXPECT_EQ(encode("f"), "Zg==");
    EXPECT_EQ(encode("fo"), "Zm8=");
    EXPECT_EQ(encode("foo"), "Zm9v");
    EXPECT_EQ(encode("foobar"), "Zm9vYmFy");
}

TEST(Timestamps, AreNanosecondsInUtc) {
    EXPECT_EQ(rfc3339(std::chrono::system_clock::time_point(std::chrono::nanoseconds(1500000001))),
              "1970-01-01T00:00:01.500000001Z");
}

}  // namespace
}  // namespace hypura::server
