// Thinking and tool calls of every template family; each text is also fed cut at every byte, and byte by byte.
#include "server/answer_parser.h"

#include <gtest/gtest.h>

#include <format>

namespace hypura::server {
namespace {

// Parts joined and written down: "T:" thinking, "X:" text, "C:" a call.
std::string written(const std::vector<AnswerPart>& parts) {
    std::string text, last;
    for (const AnswerPart& part : parts) {
        if (const auto* call = std::get_if<ToolCall>(&part)) {
            text += std::format("|C:{}{}", call->name, call->arguments);
            last = "C";
            continue;
        }
        const bool thinking = std::holds_alternative<ThinkingPart>(part);
        const std::string kind = thinking ? "T" : "X";
        if (kind != last) text += "|" + kind + ":";
        text += thinking ? std::get<ThinkingPart>(part).text : std::get<TextPart>(part).text;
        last = kind;
    }
    return text;
}

std::string parse_pieces(const AnswerParserOptions& options, const std::vector<std::string_view>& pieces) {
    const auto parser = make_answer_parser(options);
    std::vector<AnswerPart> parts;
    for (const std::string_view piece : pieces)
        for (AnswerPart& part : parser->push(piece)) parts.push_back(std::move(part));
    for (AnswerPart& part : parser->finish()) parts.push_back(std::move(part));
    return written(parts);
}

void expect_parts(const AnswerParserOptions& options, std::string_view text, const std::string& expected) {
    EXPECT_EQ(parse_pieces(options, {text}), expected);
    for (size_t cut = 1; cut < text.size(); ++cut)
        EXPECT_EQ(parse_pieces(options, {text.substr(0, cut), text.substr(cut)}), expected) << "cut at " << cut;
    std::vector<std::string_view> bytes;
    for (size_t i = 0; i < text.size(); ++i) bytes.push_back(text.substr(i, 1));
    EXPECT_EQ(parse_pieces(options, bytes), expected) << "byte by byte";
}

AnswerParserOptions options_for(std::string_view source, bool begins_thinking = false) {
    return {template_family(source), begins_thinking, {"f", "get_weather"}};
}

constexpr std::string_view kQwen = "{{ tools }} <tool_call> <think> </think>";

TEST(AnswerParser, PlainText) {
    expect_parts(options_for(""), "a < b and <think> is a tag", "|X:a < b and <think> is a tag");
    expect_parts(options_for(kQwen), "", "");
    expect_parts(options_for(kQwen), "just text <tool", "|X:just text <tool");
}

TEST(AnswerParser, Thinking) {
    expect_parts(options_for(kQwen), "<think>\nhm, hm\n</think>\n\nHello", "|T:hm, hm\n|X:Hello");
    expect_parts(options_for(kQwen, true), "hm\n</think>\n\nHello", "|T:hm\n|X:Hello");
    expect_parts(options_for(kQwen), "<think>\n\n</think>\n\nHello", "|X:Hello");
    expect_parts(options_for(kQwen), "<think>never ends", "|T:never ends");
    expect_parts(options_for(kQwen), "The tag <think> opens it.", "|X:The tag <think> opens it.");
    expect_parts(options_for("[THINK] [/THINK]"), "[THINK]hm[/THINK]Hi", "|T:hm|X:Hi");
}

TEST(AnswerParser, HermesCalls) {
    expect_parts(options_for(kQwen),
                 "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"z\": 1, \"a\": \"}\"}}\n</tool_call>",
                 "|C:f{\"z\":1,\"a\":\"}\"}");
    expect_parts(options_for(kQwen),
                 "<think>hm</think>Let me see.\n<tool_call>{\"name\":\"f\",\"arguments\":{}}</tool_call>\n"
                 "<tool_call>{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Oslo\"}}</tool_call>",
                 "|T:hm|X:Let me see.\n|C:f{}|C:get_weather{\"city\":\"Oslo\"}");
    expect_parts(options_for(kQwen), "<tool_call>{\"name\":\"f\",\"arguments\":{}}", "|C:f{}");
}

TEST(AnswerParser, WhatIsNoCallOfAKnownToolStaysText) {
    expect_parts(options_for(kQwen), "<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call> ok",
                 "|X:<tool_call>{\"name\":\"g\",\"arguments\":{}}</tool_call> ok");
    expect_parts(options_for(kQwen), "<tool_call>oops</tool_call>", "|X:<tool_call>oops</tool_call>");
    expect_parts({template_family(kQwen), false, {}}, "<tool_call>{\"name\":\"f\"}</tool_call>",
                 "|X:<tool_call>{\"name\":\"f\"}</tool_call>");
}

TEST(AnswerParser, QwenCoderCalls) {
    expect_parts(options_for(kQwen),
                 "<tool_call>\n<function=f>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n"
                 "</function>\n</tool_call>",
                 "|C:f{\"city\":\"Oslo\",\"days\":2}");
}

TEST(AnswerParser, LlamaCalls) {
    constexpr std::string_view kLlama = "{{ tools }} ipython <|python_tag|>";
    expect_parts(options_for(kLlama), "{\"name\": \"f\", \"parameters\": {\"a\": 1}}", "|C:f{\"a\":1}");
    expect_parts(options_for(kLlama),
                 " \n{\"name\":\"f\",\"parameters\":{}}; {\"name\":\"f\",\"parameters\":{\"b\":2}}",
                 "|C:f{}|C:f{\"b\":2}");
    expect_parts(options_for(kLlama), "<|python_tag|>{\"name\":\"f\",\"parameters\":{}}", "|C:f{}");
    expect_parts(options_for(kLlama), "{\"no\": \"call\"}", "|X:{\"no\": \"call\"}");
    expect_parts(options_for(kLlama), "A set {1} is no call", "|X:A set {1} is no call");
}

TEST(AnswerParser, MistralCalls) {
    constexpr std::string_view kMistral = "{{ tools }} [TOOL_CALLS]";
    expect_parts(options_for(kMistral),
                 "[TOOL_CALLS][{\"name\":\"f\",\"arguments\":{\"a\":1}},{\"name\":\"f\",\"arguments\":{}}]",
                 "|C:f{\"a\":1}|C:f{}");
    expect_parts(options_for(kMistral), "[TOOL_CALLS]f[ARGS]{\"a\": 1}[TOOL_CALLS]get_weather[CALL_ID]x1[ARGS]{}",
                 "|C:f{\"a\": 1}|C:get_weather{}");
    expect_parts(options_for(kMistral), "Ok [1].", "|X:Ok [1].");
}

TEST(AnswerParser, FunctionaryCalls) {
    expect_parts(options_for("{{ tools }} <function="), "<function=f>{\"a\": 1}</function>", "|C:f{\"a\": 1}");
}

TEST(AnswerParser, HarmonyChannels) {
    constexpr std::string_view kHarmony = "<|start|> <|channel|> tools";
    expect_parts(options_for(kHarmony),
                 "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>Hello<|return|>",
                 "|T:hm|X:Hello");
    expect_parts(options_for(kHarmony),
                 "<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>commentary to=functions.f "
                 "<|constrain|>json<|message|>{\"a\":1}<|call|>",
                 "|T:hm|C:f{\"a\":1}");
    expect_parts(options_for(kHarmony), "{\"a\": 1}", "|X:{\"a\": 1}");
}

}  // namespace
}  // namespace hypura::server
