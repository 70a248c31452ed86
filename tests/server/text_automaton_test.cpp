// Patterns, formats and ranges of numbers as automata, judged by std::regex and by arithmetic.
#include "server/text_automaton.h"
#include "server/number_range.h"
#include "server/pattern.h"

#include <gtest/gtest.h>

#include <random>
#include <regex>

namespace hypura::server {
namespace {

TextAutomaton of(const std::string& pattern) {
    auto automaton = automaton_of_pattern(pattern);
    EXPECT_TRUE(automaton.has_value()) << pattern << ": " << automaton.error().message;
    return automaton.value_or(TextAutomaton{});
}

std::string error_of(const std::string& pattern) {
    const auto automaton = automaton_of_pattern(pattern);
    return automaton ? "none" : automaton.error().message;
}

std::string random_text(std::mt19937& random, std::string_view alphabet) {
    std::string text;
    for (size_t i = random() % 8; i > 0; --i) text += alphabet[random() % alphabet.size()];
    return text;
}

TEST(Pattern, SaysWhatTheStandardLibrarySays) {
    std::mt19937 random(1);
    for (const std::string pattern : {"a",
                                      "^a$",
                                      "^a",
                                      "a$",
                                      "ab|cd",
                                      "^(ab|cd)+$",
                                      "^a{2,3}b?$",
                                      "^[a-c]*d$",
                                      "[^a-c]",
                                      "^(?:a|b(c|d)*)$",
                                      "^$",
                                      "",
                                      "^a|b$",
                                      "(^a|^b)c",
                                      "a(b$|c)",
                                      "^a*?b+?$",
                                      "^[\\]a-]+$",
                                      "^\\d+\\.\\d{2}$",
                                      "^[\\w-]+$",
                                      "\\S\\s\\S",
                                      "^(a|)b$",
                                      "^(?=.*d)(?!a).{2,5}$",
                                      "^(?!.*aa)[a-d]*$",
                                      "a{2}",
                                      "^(a{2}){2}$",
                                      "^[a-d.]+\\.[a-d]{2,}$"}) {
        const TextAutomaton automaton = of(pattern);
        const std::regex judge(pattern, std::regex::ECMAScript);
        for (int i = 0; i < 3000; ++i) {
            const std::string text = random_text(random, "aabbccdd12. -]x{3},");
            ASSERT_EQ(automaton.accepts(text), std::regex_search(text, judge)) << pattern << " on \"" << text << '"';
        }
    }
}

TEST(Pattern, CharactersBeyondAscii) {
    EXPECT_TRUE(of("^.{2}$").accepts("äö"));
    EXPECT_FALSE(of("^.{2}$").accepts("ä"));
    EXPECT_TRUE(of("^[\\u00e4-\\u00f6]$").accepts("ö"));
    EXPECT_TRUE(of("^\\u{1F600}$").accepts("😀"));
    EXPECT_FALSE(of("^.$").accepts("\n"));
}

TEST(Pattern, RefusesWhatItCannotKeepByName) {
    EXPECT_NE(error_of("(a)\\1").find("back-reference"), std::string::npos);
    EXPECT_NE(error_of("a(?=b)").find("look-ahead"), std::string::npos);
    EXPECT_NE(error_of("(?<=a)b").find("look-behind"), std::string::npos);
    EXPECT_NE(error_of("\\bword\\b").find("word boundaries"), std::string::npos);
    EXPECT_NE(error_of("^\\p{L}+$").find("Unicode properties"), std::string::npos);
    EXPECT_NE(error_of("^a{9999}$").find("repeats too often"), std::string::npos);
    EXPECT_NE(error_of("(a").find("does not end"), std::string::npos);
    EXPECT_NE(error_of("a)").find("too many"), std::string::npos);
    EXPECT_NE(error_of("[z-a]").find("wrong order"), std::string::npos);
    EXPECT_NE(error_of("*").find("repeats nothing"), std::string::npos);
    EXPECT_NE(error_of("a^b").find("matches no text"), std::string::npos);
    EXPECT_NE(error_of(std::string(300, '(') + std::string(300, ')')).find("too deeply"), std::string::npos);
    EXPECT_NE(error_of("(a|aa)*(b{1,90}){1,90}.{50}c.{50}").find("too complicated"), std::string::npos);
}

TEST(Pattern, Formats) {
    const auto fits = [](std::string_view format, std::string_view text) {
        return of(std::string(*pattern_of_format(format))).accepts(text);
    };
    EXPECT_TRUE(fits("date", "2026-02-28"));
    EXPECT_TRUE(fits("date", "2024-02-29"));
    EXPECT_FALSE(fits("date", "2023-02-29"));
    EXPECT_FALSE(fits("date", "2026-04-31"));
    EXPECT_TRUE(fits("time", "23:59:59.5+02:00"));
    EXPECT_FALSE(fits("time", "24:00:00Z"));
    EXPECT_TRUE(fits("date-time", "2026-11-23T10:00:00Z"));
    EXPECT_FALSE(fits("date-time", "2026-11-23 10:00:00"));
    EXPECT_TRUE(fits("duration", "P1DT12H"));
    EXPECT_FALSE(fits("duration", "P"));
    EXPECT_TRUE(fits("uuid", "123e4567-e89b-12d3-a456-426614174000"));
    EXPECT_FALSE(fits("uuid", "123e4567e89b12d3a456426614174000"));
    EXPECT_TRUE(fits("email", "a.b+c@mail.example.org"));
    EXPECT_FALSE(fits("email", ".a@example.org"));
    EXPECT_FALSE(fits("email", "a@b"));
    EXPECT_TRUE(fits("ipv4", "192.168.0.255"));
    EXPECT_FALSE(fits("ipv4", "256.1.1.1"));
    for (const char* address : {"::", "::1", "fe80::1:2", "1:2:3:4:5:6:7:8", "1::8", "1:2:3:4:5:6:7::"})
        EXPECT_TRUE(fits("ipv6", address)) << address;
    for (const char* address : {":", ":::", "1:2", "1:2:3:4:5:6:7:8:9", "1::2::3", "1:2:3:4:5:6:7:8::"})
        EXPECT_FALSE(fits("ipv6", address)) << address;
    EXPECT_TRUE(fits("hostname", "a-b.example.org"));
    EXPECT_FALSE(fits("hostname", "-a"));
    EXPECT_TRUE(fits("uri", "https://example.org:80/a/b?c=d#e"));
    EXPECT_FALSE(fits("uri", "example.org"));
    EXPECT_FALSE(pattern_of_format("phone").has_value());
}

// The pattern that zod writes for z.email(), and one of the usual rules for passwords.
TEST(Pattern, LookAheadAtTheBeginning) {
    const TextAutomaton mail =
        of(R"(^(?!\.)(?!.*\.\.)([A-Za-z0-9_'+\-\.]*)[A-Za-z0-9_+-]@([A-Za-z0-9][A-Za-z0-9\-]*\.)+[A-Za-z]{2,}$)");
    EXPECT_TRUE(mail.accepts("a.b@example.org"));
    EXPECT_FALSE(mail.accepts("a..b@example.org"));
    EXPECT_FALSE(mail.accepts(".a@example.org"));
    const TextAutomaton password = of(R"(^(?=.*[A-Z])(?=.*\d).{8,12}$)");
    EXPECT_TRUE(password.accepts("abcdefG1"));
    EXPECT_FALSE(password.accepts("abcdefgh"));
    EXPECT_FALSE(password.accepts("aG1"));
}

TEST(TextAutomaton, IsAsSmallAsItCanBe) {
    EXPECT_EQ(of("^(?:ab|cb|db)$").states.size(), 3U);
    EXPECT_EQ(of("a|.*a.*|a").states.size(), 2U);
    EXPECT_EQ(texts_of_length(0, 5000)->states.size(), 5001U);
    EXPECT_EQ(complement(of("^a"))->states.size(), 2U);
    EXPECT_TRUE(intersection(of("^a"), of("^b"))->states.empty());
}

// ---- numbers -------------------------------------------------------------------------------------------------------

struct Range {
    const char *least, *most;
    bool least_excluded, most_excluded;
    const char* step;
    bool integer;
};

TEST(NumberRange, AgreesWithArithmetic) {
    std::mt19937 random(1);
    const Range ranges[] = {{"1", "5", false, false, nullptr, true},
                            {"0", nullptr, true, false, nullptr, true},
                            {"-20", "131", false, true, nullptr, true},
                            {nullptr, "-7", false, false, nullptr, true},
                            {"0", "1", false, false, nullptr, false},
                            {"-0.5", "12.25", true, true, nullptr, false},
                            {"99.5", "100.25", false, false, nullptr, false},
                            {nullptr, "0", false, true, nullptr, false},
                            {"0", "100", false, false, "5", true},
                            {"-9", "9", false, false, "0.25", false},
                            {nullptr, nullptr, false, false, "7", true},
                            {"18", "120", false, false, nullptr, true},
                            {"1e2", "1E+3", false, false, nullptr, true},
                            {nullptr, nullptr, false, false, "0.5", true},
                            {"1000000000000000000", nullptr, false, false, nullptr, true}};
    for (const Range& range : ranges) {
        NumberRange asked{
            .least_excluded = range.least_excluded, .most_excluded = range.most_excluded, .integer = range.integer};
        if (range.least != nullptr) asked.least = decimal_of(range.least);
        if (range.most != nullptr) asked.most = decimal_of(range.most);
        if (range.step != nullptr) asked.step = decimal_of(range.step);
        const auto numbers = numbers_within(asked);
        ASSERT_TRUE(numbers.has_value()) << numbers.error().message;
        for (int i = 0; i < 4000; ++i) {
            std::string text = random() % 2 == 0 ? "" : "-";
            text += std::to_string(random() % (random() % 2 == 0 ? 20 : 1200));
            if (!range.integer && random() % 2 == 0) text += "." + std::to_string(random() % 100);
            const double value = std::stod(text);
            bool fits = text != "-0" && (value != 0 || text[0] != '-');
            if (range.least != nullptr)
                fits &= range.least_excluded ? value > std::stod(range.least) : value >= std::stod(range.least);
            if (range.most != nullptr)
                fits &= range.most_excluded ? value < std::stod(range.most) : value <= std::stod(range.most);
            if (range.step != nullptr) fits &= std::fmod(value, std::stod(range.step)) == 0;
            ASSERT_EQ(numbers->accepts(text), fits) << text << " between " << (range.least ? range.least : "-")
                                                    << " and " << (range.most ? range.most : "-");
        }
        for (const char* text : {"", "-", "01", "1.", ".5", "+1", "1e3", "--1"})
            EXPECT_FALSE(numbers->accepts(text)) << text;
    }
}

TEST(NumberRange, Decimals) {
    EXPECT_EQ(decimal_of("-12.50")->whole, "12");
    EXPECT_EQ(decimal_of("-12.50")->fraction, "5");
    EXPECT_EQ(decimal_of("1.5e3")->whole, "1500");
    EXPECT_EQ(decimal_of("25e-4")->fraction, "0025");
    EXPECT_TRUE(decimal_of("-0.0")->is_zero());
    EXPECT_FALSE(decimal_of("-0.0")->negative);
    EXPECT_FALSE(decimal_of("1e300").has_value());
    EXPECT_FALSE(numbers_within({.least = decimal_of("2"), .most = decimal_of("1")}).has_value());
    EXPECT_FALSE(numbers_within({.least = decimal_of("1"),
                                 .most = decimal_of("2"),
                                 .least_excluded = true,
                                 .most_excluded = true,
                                 .integer = true})
                     .has_value());
    EXPECT_FALSE(numbers_within({.step = decimal_of("0.0000001")}).has_value());
    EXPECT_TRUE(
        numbers_within({.least = decimal_of("0"), .step = decimal_of("1000"), .integer = true})->accepts("12000"));
}

}  // namespace
}  // namespace hypura::server
